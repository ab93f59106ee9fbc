"""Answers to 10.2, as small as it can be."""

from __future__ import annotations

from sqlalchemy import text

from tests.exercises.written import Answers

ANSWERS = Answers("10.2")
BITS = "binary_quantize(embedding)::bit(256)"
BY_BITS = f"{BITS} <~> binary_quantize(CAST(:vector AS vector))"
BY_HALVES = "embedding <=> CAST(:vector AS halfvec)"


@ANSWERS.right
class Right:
    """What the others change one thing of."""

    column = "embedding::halfvec(256) AS embedding"
    source = "passages"
    key = "ALTER TABLE small ADD PRIMARY KEY (id)"
    index = f"CREATE INDEX ON small USING hnsw (({BITS}) bit_hamming_ops)"
    by, again, candidates, k = BY_BITS, BY_HALVES, 160, 10
    setting = "hnsw.ef_search"
    effort = 200

    def __init__(self, session):
        self.session = session

    async def build(self):
        await self.session.execute(text(f"CREATE TABLE small AS SELECT id, {self.column} FROM {self.source}"))
        for statement in (self.key, self.index):
            if statement:
                await self.session.execute(text(statement))

    async def search(self, vector):
        await self.session.execute(text(f"SET LOCAL {self.setting} = {self.effort}"))
        near = f"SELECT * FROM small ORDER BY {self.by} LIMIT {self.candidates}"
        statement = text(f"SELECT id FROM ({near}) AS near ORDER BY {self.again} LIMIT {self.k}")
        return (await self.session.scalars(statement, {"vector": str(vector)})).all()


@ANSWERS.right
class FewerLinks(Right):
    index = f"CREATE INDEX ON small USING hnsw (({BITS}) bit_hamming_ops) WITH (m = 8, ef_construction = 100)"
    candidates, effort = 300, 400

    async def build(self):
        await super().build()
        await self.session.commit()


@ANSWERS.right
class TheFirstNumbersAsIndex(Right):
    """No key: the table alone is enough for the ids."""

    front = "subvector(embedding, 1, 64)::halfvec(64)"
    key = ""
    index = f"CREATE INDEX ON small USING hnsw (({front}) halfvec_cosine_ops)"
    by = f"{front} <=> subvector(CAST(:vector AS halfvec), 1, 64)"
    candidates, effort = 300, 400


@ANSWERS.right
class ListsOfBits(Right):
    index = f"CREATE INDEX ON small USING ivfflat (({BITS}) bit_hamming_ops) WITH (lists = 8)"
    setting, effort = "ivfflat.probes", 8
    candidates = 300


@ANSWERS.right
class TwoTables(Right):
    """Bits in one table with the index, halves in another that is joined."""

    async def build(self):
        for statement in (
            "CREATE TABLE halves (id bigint PRIMARY KEY, h halfvec(256))",
            "INSERT INTO halves SELECT id, embedding FROM passages",
            "CREATE TABLE signs (id bigint, b bit(256))",
            "INSERT INTO signs SELECT id, binary_quantize(embedding)::bit(256) FROM passages",
            "CREATE INDEX ON signs USING hnsw (b bit_hamming_ops) WITH (m = 12)",
            "DROP TABLE passages",
        ):
            await self.session.execute(text(statement))

    async def search(self, vector):
        await self.session.execute(text("SET LOCAL hnsw.ef_search = 200"))
        near = "SELECT id FROM signs ORDER BY b <~> binary_quantize(CAST(:vector AS vector)) LIMIT 200"
        statement = f"""
            WITH near AS MATERIALIZED ({near})
            SELECT id FROM near JOIN halves USING (id) ORDER BY h <=> CAST(:vector AS halfvec) LIMIT 10
        """
        return list(await self.session.scalars(text(statement), {"vector": str(vector)}))


@ANSWERS.wrong("too large")
class EverythingWhole(Right):
    column = "embedding"
    index = "CREATE INDEX ON small USING hnsw (embedding vector_cosine_ops)"
    by = again = "embedding <=> CAST(:vector AS vector)"


@ANSWERS.wrong("too large")
class HalvesTwice(Right):
    index = "CREATE INDEX ON small USING hnsw (embedding halfvec_cosine_ops)"
    by = BY_HALVES


@ANSWERS.wrong("too large")
class WholeBehindBits(Right):
    column, again = "embedding", "embedding <=> CAST(:vector AS vector)"


@ANSWERS.wrong("too large")
class TheRestHidden(Right):
    """The copy of the originals counts, whatever its name."""

    async def build(self):
        await super().build()
        await self.session.execute(text("CREATE MATERIALIZED VIEW originals AS SELECT * FROM passages"))
        await self.session.execute(text("CREATE TABLE originals_too AS SELECT * FROM passages"))


@ANSWERS.wrong("recall")
class BitsAlone(Right):
    column = f"{BITS} AS bits"
    index = "CREATE INDEX ON small USING hnsw (bits bit_hamming_ops)"
    by = again = "bits <~> binary_quantize(CAST(:vector AS vector))"


@ANSWERS.wrong("recall")
class TooFewCandidates(Right):
    candidates = 20


@ANSWERS.wrong("recall")
class YieldsFortyOnly(Right):
    effort = 40


@ANSWERS.wrong("recall")
class TheFirstHalfAlone(Right):
    column = "subvector(embedding, 1, 128)::halfvec(128) AS first"
    index = "CREATE INDEX ON small USING hnsw (first halfvec_cosine_ops)"
    by = again = "first <=> subvector(CAST(:vector AS halfvec), 1, 128)"


@ANSWERS.wrong("recall")
class AnotherDistance(Right):
    again = "embedding <#> CAST(:vector AS halfvec)"


@ANSWERS.wrong("recall")
class HalfOfThePassages(Right):
    source = "passages WHERE id % 2 = 0"


@ANSWERS.wrong("needs passages")
class RerankedByTheOriginals(Right):
    column = f"{BITS} AS bits"
    index = "CREATE INDEX ON small USING hnsw (bits bit_hamming_ops)"

    async def search(self, vector):
        near = "SELECT id FROM small ORDER BY bits <~> binary_quantize(CAST(:vector AS vector)) LIMIT 160"
        statement = f"""
            SELECT id FROM ({near}) AS near JOIN passages USING (id)
            ORDER BY embedding <=> CAST(:vector AS vector) LIMIT 10
        """
        return (await self.session.scalars(text(statement), {"vector": str(vector)})).all()


@ANSWERS.wrong("no index")
class OnThePassages(Right):
    async def build(self):
        await self.session.execute(text(f"CREATE INDEX ON passages USING hnsw (({BITS}) bit_hamming_ops)"))


@ANSWERS.wrong("no index")
class NoIndexAtAll(Right):
    index = ""


@ANSWERS.wrong("index not used")
class AnotherExpression(Right):
    """Exact, and past the index: the cast is missing."""

    by = "binary_quantize(embedding) <~> binary_quantize(CAST(:vector AS vector))"


@ANSWERS.wrong("index not used")
class OrderedByTheHalves(Right):
    by = BY_HALVES


@ANSWERS.wrong("wrong length")
class AllCandidates(Right):
    k = 160


@ANSWERS.wrong("not ids")
class Rows(Right):
    async def search(self, vector):
        near = f"SELECT id FROM small ORDER BY {BY_HALVES} LIMIT 10"
        return (await self.session.execute(text(near), {"vector": str(vector)})).all()


@ANSWERS.wrong("not a list")
class AResult(Right):
    async def search(self, vector):
        near = f"SELECT id FROM small ORDER BY {BY_HALVES} LIMIT 10"
        return await self.session.scalars(text(near), {"vector": str(vector)})


@ANSWERS.wrong("nothing returned")
class NoReturn(Right):
    async def search(self, vector):
        await super().search(vector)


@ANSWERS.wrong("method missing")
class BuildAlone:
    def __init__(self, session):
        self.session = session

    async def build(self):
        await self.session.execute(text("CREATE TABLE small (id bigint)"))


@ANSWERS.wrong("not written")
class HalfWritten:
    def __init__(self, session):
        self.session = session

    async def build(self):
        await self.session.execute(text("CREATE TABLE small (id bigint)"))

    async def search(self, vector):
        raise NotImplementedError("your code")
