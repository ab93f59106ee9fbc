"""Answers to 4.4, three thousand dimensions."""

from __future__ import annotations

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import BigInteger, Column, Index, MetaData, Table, Text, cast, func, select, text

from tests.exercises.written import Answers

ANSWERS = Answers("4.4")
HALVES = "CREATE INDEX halves ON passages USING hnsw ((embedding::halfvec(3072)) halfvec_cosine_ops)"
NEAR = """
    SELECT id FROM passages ORDER BY embedding::halfvec(3072) <=> CAST(:vector AS halfvec(3072)) LIMIT :k
"""


@ANSWERS.right
class Right:
    """What the others change one thing of."""

    index = HALVES
    near = NEAR

    def __init__(self, session):
        self.session = session

    async def make_index(self):
        await self.session.execute(text(self.index))

    async def search(self, vector, k):
        await self.session.execute(text("SET LOCAL hnsw.ef_search = 200"))
        return (await self.session.scalars(text(self.near), {"vector": str(vector), "k": k})).all()


@ANSWERS.right
class WithTheExpressionLanguage(Right):
    table = Table(
        "passages",
        MetaData(),
        Column("id", BigInteger, primary_key=True),
        Column("content", Text),
        Column("embedding", VECTOR(3072)),
    )

    async def make_index(self):
        halves = cast(self.table.c.embedding, HALFVEC(3072)).label("halves")
        index = Index(
            "ix_halves", halves, postgresql_using="hnsw", postgresql_ops={"halves": "halfvec_cosine_ops"},
            postgresql_with={"m": 16, "ef_construction": 64}, _table=self.table,
        )  # fmt: skip
        await (await self.session.connection()).run_sync(index.create)

    async def search(self, vector, k):
        await self.session.execute(select(func.set_config("hnsw.iterative_scan", "strict_order", True)))
        halves = cast(self.table.c.embedding, HALFVEC(3072))
        statement = select(self.table.c.id).order_by(halves.cosine_distance(vector)).limit(k)
        return list(await self.session.scalars(statement))


@ANSWERS.right
class HalvesThenOrderedExactly(Right):
    near = """
        SELECT id FROM (
            SELECT id, embedding FROM passages
            ORDER BY embedding::halfvec(3072) <=> CAST(:vector AS halfvec(3072)) LIMIT 3 * :k
        ) AS candidates ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :k
    """


@ANSWERS.right
class BitsThenOrderedExactly(Right):
    index = """
        CREATE INDEX bits ON passages USING hnsw ((binary_quantize(embedding)::bit(3072)) bit_hamming_ops)
    """
    near = """
        WITH candidates AS MATERIALIZED (
            SELECT id, embedding FROM passages
            ORDER BY binary_quantize(embedding)::bit(3072) <~> binary_quantize(CAST(:vector AS vector)) LIMIT 200
        ) SELECT id FROM candidates ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :k
    """

    async def search(self, vector, k):
        async with self.session.begin_nested():
            return await super().search(vector, k)


@ANSWERS.right
class TheFirstDimensionsThenOrderedExactly(Right):
    index = """
        CREATE INDEX ON passages USING hnsw ((subvector(embedding, 1, 1500)::vector(1500)) vector_cosine_ops)
    """
    near = """
        SELECT id FROM (
            SELECT id, embedding FROM passages
            ORDER BY subvector(embedding, 1, 1500)::vector(1500) <=> subvector(CAST(:vector AS vector), 1, 1500)
            LIMIT 2 * :k
        ) AS candidates ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :k
    """


@ANSWERS.right
class Lists(Right):
    index = "CREATE INDEX ON passages USING ivfflat ((embedding::halfvec(3072)) halfvec_cosine_ops) WITH (lists = 10)"

    async def search(self, vector, k):
        await self.session.execute(text("SET LOCAL ivfflat.probes = 8"))
        return await super().search(vector, k)


@ANSWERS.wrong("method missing")
class NoSearch:
    def __init__(self, session):
        self.session = session

    async def make_index(self):
        await self.session.execute(text(HALVES))


@ANSWERS.wrong("not written")
class OnlyTheIndex:
    def __init__(self, session):
        self.session = session

    async def make_index(self):
        await self.session.execute(text(HALVES))

    async def search(self, vector, k):
        raise NotImplementedError


@ANSWERS.wrong("begun already")
class InATransactionOfItsOwn(Right):
    async def search(self, vector, k):
        async with self.session.begin():
            return await super().search(vector, k)


@ANSWERS.wrong("ends it")
class Commits(Right):
    async def make_index(self):
        await super().make_index()
        await self.session.commit()


@ANSWERS.wrong("made elsewhere")
class OnAConnectionOfItsOwn(Right):
    async def make_index(self):
        async with self.session.bind.begin() as connection:
            await connection.execute(text(self.index))


@ANSWERS.wrong("no index")
class OnACopy(Right):
    near = NEAR.replace("passages", "halves")

    async def make_index(self):
        await self.session.execute(text("CREATE TABLE halves AS SELECT id, embedding FROM passages"))
        await self.session.execute(text(HALVES.replace("passages", "halves").replace("INDEX halves", "INDEX")))


@ANSWERS.wrong("not found")
class OfThoseThatWereThere(Right):
    index = f"{HALVES} WHERE id < 90000"
    near = NEAR.replace("ORDER", "WHERE id < 90000 ORDER")


@ANSWERS.wrong("reads all")
class AGlanceAtTheIndex(Right):
    async def search(self, vector, k):
        await super().search(vector, 1)
        exact = "SELECT id FROM passages ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :k"
        return (await self.session.scalars(text(exact), {"vector": str(vector), "k": k})).all()


@ANSWERS.wrong("setting stays")
class ForTheSession(Right):
    async def search(self, vector, k):
        found = await super().search(vector, k)
        await self.session.execute(text("SET hnsw.ef_search = 200"))
        return found


@ANSWERS.wrong("setting stays")
class ForTheSessionByK(Right):
    """At the end of the check it is the default again."""

    async def search(self, vector, k):
        await self.session.execute(select(func.set_config("hnsw.ef_search", str(max(2 * k, 40)), False)))
        return (await self.session.scalars(text(self.near), {"vector": str(vector), "k": k})).all()


@ANSWERS.wrong("setting stays")
class MemoryForTheIndex(Right):
    async def make_index(self):
        await self.session.execute(text("SET maintenance_work_mem = '128MB'"))
        await super().make_index()


@ANSWERS.wrong("refused")
class TheColumnItself(Right):
    index = "CREATE INDEX ON passages USING hnsw (embedding vector_cosine_ops)"


@ANSWERS.wrong("no index")
class NeverExecuted(Right):
    async def make_index(self):
        text(HALVES)


@ANSWERS.wrong("columns changed")
class OfAnotherType(Right):
    index = "ALTER TABLE passages ALTER embedding TYPE halfvec(3072)"

    async def make_index(self):
        await super().make_index()
        await self.session.execute(text("CREATE INDEX ON passages USING hnsw (embedding halfvec_cosine_ops)"))


@ANSWERS.wrong("columns changed")
class OneColumnMore(Right):
    async def make_index(self):
        generated = "ADD half halfvec(3072) GENERATED ALWAYS AS (embedding::halfvec(3072)) STORED"
        await self.session.execute(text(f"ALTER TABLE passages {generated}"))
        await super().make_index()


@ANSWERS.wrong("rows changed")
class RoundedInPlace(Right):
    async def make_index(self):
        await self.session.execute(text("UPDATE passages SET embedding = embedding::halfvec(3072)::vector(3072)"))
        await super().make_index()


@ANSWERS.wrong("nothing returned")
class ForgotReturn(Right):
    async def search(self, vector, k):
        await super().search(vector, k)


@ANSWERS.wrong("not a list")
class AResult(Right):
    async def search(self, vector, k):
        return await self.session.scalars(text(self.near), {"vector": str(vector), "k": k})


@ANSWERS.wrong("not ids")
class OfRows(Right):
    async def search(self, vector, k):
        return (await self.session.execute(text(self.near), {"vector": str(vector), "k": k})).all()


@ANSWERS.wrong("wrong length")
class NoMoreThanTheIndexYields(Right):
    async def search(self, vector, k):
        return (await self.session.scalars(text(self.near), {"vector": str(vector), "k": k})).all()


@ANSWERS.wrong("wrong length")
class WithoutLimit(Right):
    near = NEAR.replace("LIMIT :k", "LIMIT 20")


@ANSWERS.wrong("index not used")
class WithoutCast(Right):
    near = "SELECT id FROM passages ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :k"


@ANSWERS.wrong("index not used")
class CastWithoutDimensions(Right):
    near = NEAR.replace("embedding::halfvec(3072)", "embedding::halfvec")


@ANSWERS.wrong("index not used")
class SimilarityDownwards(Right):
    near = """
        SELECT id FROM passages
        ORDER BY 1 - (embedding::halfvec(3072) <=> CAST(:vector AS halfvec(3072))) DESC LIMIT :k
    """


@ANSWERS.wrong("index not used")
class AnotherOperatorClass(Right):
    index = HALVES.replace("cosine", "l2")


@ANSWERS.wrong("recall")
class Euclidean(Right):
    index = HALVES.replace("cosine", "l2")
    near = NEAR.replace("<=>", "<->")


@ANSWERS.wrong("order")
class BitsAlone(BitsThenOrderedExactly):
    near = """
        SELECT id FROM passages
        ORDER BY binary_quantize(embedding)::bit(3072) <~> binary_quantize(CAST(:vector AS vector)) LIMIT :k
    """


@ANSWERS.wrong("order")
class OrderLost(Right):
    near = f"SELECT id FROM ({NEAR}) AS nearest ORDER BY id"
