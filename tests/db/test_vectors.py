"""Vectors in binary: the same answers as with text, on the engine that asked for it and on no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pgvector import Vector
from pgvector.sqlalchemy import HALFVEC, SPARSEVEC
from sqlalchemy import URL, cast, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine, make_session_factory, use_binary_vectors
from course_lib.errors import CourseError
from course_lib.models import DocumentChunk

Embedding = DocumentChunk.embedding
FORMS = {
    "a list": list,
    "float32": lambda values: np.array(values, dtype=np.float32),
    "float64": np.array,
    "every second of a wider array": lambda values: np.repeat(np.array(values, dtype=np.float32), 2)[::2],
    "Vector": lambda values: Vector(list(values)),
}


async def a_chunk(engine: AsyncEngine) -> DocumentChunk:
    async with make_session_factory(engine)() as session:
        found = await session.scalar(select(DocumentChunk).order_by(DocumentChunk.id).limit(1))
    assert found is not None
    return found


def unit(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.random.default_rng(seed).standard_normal(256).astype(np.float32)
    return vector / np.linalg.norm(vector)


async def test_what_is_read_is_what_the_stock_type_reads(engine: AsyncEngine, binary: AsyncEngine) -> None:
    stock, fast = await a_chunk(engine), await a_chunk(binary)
    assert type(stock.embedding) is type(fast.embedding) is list
    assert {type(value) for value in fast.embedding} == {float}
    same = np.float32(stock.embedding) == np.float32(fast.embedding)  # bitwise, once both are what the server stores
    assert same.all() and len(same) == 256


@pytest.mark.parametrize("form", FORMS)
async def test_a_search_takes_the_question_in_every_form(form: str, engine: AsyncEngine, binary: AsyncEngine) -> None:
    question = FORMS[form](unit(1).tolist())
    distance = Embedding.cosine_distance(question)
    search = select(DocumentChunk.id, distance).order_by(distance).limit(10)
    found = []
    for one in (engine, binary):
        async with one.connect() as connection:
            found.append((await connection.execute(search)).all())
    assert [row[0] for row in found[0]] == [row[0] for row in found[1]]
    assert [row[1] for row in found[0]] == pytest.approx([row[1] for row in found[1]], abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", ["add_all", "insert", "executemany", "update"])
async def test_what_is_written_comes_back_bitwise(form: str, way: str, binary: AsyncEngine) -> None:
    there = await a_chunk(binary)
    values = [unit(seed) for seed in range(3)]
    rows = [
        {"document_id": there.document_id, "chunk_index": 1000 + n, "content": "x", "token_count": 1,
         "embedding": FORMS[form](value.tolist()), "embedding_model": "m"}
        for n, value in enumerate(values)
    ]  # fmt: skip
    async with make_session_factory(binary)() as session:
        if way == "add_all":  # several at once with ids from the server: INSERT … SELECT FROM (VALUES …)
            session.add_all([DocumentChunk(**row) for row in rows])
        elif way == "insert":
            await session.execute(insert(DocumentChunk).values(rows))
        elif way == "executemany":
            await session.execute(insert(DocumentChunk), rows)
        else:
            await session.execute(insert(DocumentChunk), [row | {"embedding": unit(9)} for row in rows])
            for row in rows:
                change = update(DocumentChunk).where(DocumentChunk.chunk_index == row["chunk_index"])
                await session.execute(change.values(embedding=row["embedding"]))
        await session.flush()
        session.expunge_all()
        stored = await session.scalars(
            select(Embedding).where(DocumentChunk.chunk_index >= 1000).order_by(DocumentChunk.chunk_index)
        )
        assert np.array_equal(np.float32(stored.all()), np.stack(values))


@pytest.mark.parametrize("bad", ["abc", (1.0, 2.0), np.zeros((2, 256)), ["a"] * 256], ids=repr)
async def test_what_is_no_vector_is_refused_as_by_the_stock_type(
    bad: object, engine: AsyncEngine, binary: AsyncEngine
) -> None:
    for one in (engine, binary):
        async with one.connect() as connection:
            with pytest.raises(StatementError) as caught:
                await connection.execute(select(Embedding.cosine_distance(bad)).limit(1))
            assert type(caught.value.orig) is ValueError


@pytest.mark.parametrize(
    ("bad", "says"),
    [([1.0, 2.0], "expected 256 dimensions, not 2"), ([float("nan")] * 256, "NaN not allowed in vector"),
     ([float("inf")] * 256, "infinite value not allowed in vector")],
)  # fmt: skip
async def test_what_the_server_refuses_is_the_servers_error(bad: list[float], says: str, binary: AsyncEngine) -> None:
    there = await a_chunk(binary)
    async with make_session_factory(binary)() as session:
        there.embedding = bad
        with pytest.raises(DBAPIError, match=says):
            await session.merge(there)
            await session.flush()


async def test_none_is_null(binary: AsyncEngine) -> None:
    async with binary.connect() as connection:
        assert (await connection.scalar(select(Embedding.cosine_distance(None)).limit(1))) is None
        assert (await connection.scalar(select(func.nullif(Embedding, Embedding)).limit(1))) is None
        with pytest.raises(IntegrityError):
            await connection.execute(update(DocumentChunk).values(embedding=None))


async def test_the_other_types_of_pgvector_travel_too(binary: AsyncEngine, engine: AsyncEngine) -> None:
    question = unit(1)
    for kind in (HALFVEC(256), SPARSEVEC(256)):
        column = cast(Embedding, kind)
        search = select(column, column.cosine_distance(question)).order_by(DocumentChunk.id).limit(1)
        found = []
        for one in (engine, binary):
            async with one.connect() as connection:
                found.append((await connection.execute(search)).one())
        assert type(found[0][0]) is type(found[1][0])
        assert found[0][1] == pytest.approx(found[1][1])
        read = [value if isinstance(value, list) else value.to_list() for value, _ in found]
        assert read[0] == pytest.approx(read[1], abs=1e-6)


async def test_statements_as_text_take_vectors_and_give_vectors(binary: AsyncEngine) -> None:
    search = text("SELECT embedding, embedding <=> :question FROM document_chunks ORDER BY 2 LIMIT 1")
    async with binary.connect() as connection:
        for form in FORMS.values():
            nearest, distance = (await connection.execute(search, {"question": form(unit(1).tolist())})).one()
            assert isinstance(nearest, Vector) and 0 < distance < 2


async def test_an_index_is_used_as_with_text(binary: AsyncEngine) -> None:
    question = unit(1)
    search = select(DocumentChunk.id).order_by(Embedding.cosine_distance(question)).limit(3)
    sql = str(search.compile(dialect=binary.dialect, compile_kwargs={"render_postcompile": True}))
    assert "$1::VECTOR(256)" in sql  # where it stands, a cast of the question must not cost the index
    async with binary.connect() as connection:
        await connection.execute(text("CREATE INDEX ON document_chunks USING hnsw (embedding vector_cosine_ops)"))
        await connection.execute(text("SET enable_seqscan = off"))
        plan = await connection.exec_driver_sql(f"EXPLAIN {sql}", (question, 3))
        assert "document_chunks_embedding_idx" in "\n".join(plan.scalars())


async def test_other_engines_of_the_process_stay_with_text(engine: AsyncEngine, binary: AsyncEngine) -> None:
    raw = text("SELECT embedding FROM document_chunks LIMIT 1")
    search = select(DocumentChunk.id).order_by(Embedding.cosine_distance(unit(1))).limit(1)
    for _ in range(2):  # each after the other
        async with binary.connect() as connection:
            assert isinstance(await connection.scalar(raw), Vector)
            found = await connection.scalar(search)
        async with engine.connect() as connection:
            assert isinstance(await connection.scalar(raw), str)
            assert await connection.scalar(search) == found
    assert "VECTOR" in str(search.compile(dialect=binary.dialect))
    assert "VECTOR" not in str(search.compile(dialect=engine.dialect))


async def test_every_connection_of_the_pool_has_the_codec(binary: AsyncEngine) -> None:
    raw = text("SELECT embedding FROM document_chunks LIMIT 1")
    async with binary.connect() as one, binary.connect() as other:
        assert isinstance(await one.scalar(raw), Vector) and isinstance(await other.scalar(raw), Vector)
    await binary.dispose()
    async with binary.connect() as again:
        assert isinstance(await again.scalar(raw), Vector)


async def test_without_a_pool(seeded_url: URL) -> None:
    engine = make_engine(seeded_url, binary_vectors=True, poolclass=NullPool)
    assert len((await a_chunk(engine)).embedding) == 256


async def test_asking_twice_changes_nothing(binary: AsyncEngine) -> None:
    before = binary.dialect.colspecs  # type: ignore[attr-defined]
    use_binary_vectors(binary)
    await a_chunk(binary)
    use_binary_vectors(binary)
    assert binary.dialect.colspecs is before  # type: ignore[attr-defined]


async def test_asking_late_is_a_sentence(engine: AsyncEngine) -> None:
    await a_chunk(engine)
    with pytest.raises(CourseError, match="connected already") as caught:
        use_binary_vectors(engine)
    assert "binary_vectors=True" in caught.value.mend
    await engine.dispose()
    use_binary_vectors(engine)
    assert len((await a_chunk(engine)).embedding) == 256


def test_another_driver_is_a_sentence(seeded_url: URL) -> None:
    engine = create_async_engine(seeded_url.set(drivername="postgresql+psycopg"))
    with pytest.raises(CourseError, match="speaks through psycopg"):
        use_binary_vectors(engine)


async def test_an_extension_in_a_schema_of_its_own(empty_url: URL) -> None:
    plain, binary = make_engine(empty_url), make_engine(empty_url, binary_vectors=True)
    async with plain.begin() as connection:
        await connection.execute(text('CREATE SCHEMA "Set apart"'))
        await connection.execute(text('ALTER EXTENSION vector SET SCHEMA "Set apart"'))
    async with binary.connect() as connection:
        await connection.execute(text('SET search_path = "Set apart"'))
        assert (await connection.scalar(text("SELECT '[1,2]'::vector"))).to_list() == [1, 2]
    await plain.dispose()
    await binary.dispose()


async def test_a_database_without_the_extension_is_a_sentence() -> None:
    async with fresh_database("99", "empty") as database:
        plain, binary = make_engine(database.url), make_engine(database.url, binary_vectors=True)
        async with plain.begin() as connection:
            await connection.execute(text("DROP EXTENSION vector"))
        with pytest.raises(CourseError, match="no extension vector") as caught:
            async with AsyncSession(binary) as session:
                await session.execute(text("SELECT 1"))
        assert "CREATE EXTENSION vector" in caught.value.mend
        await plain.dispose()
        await binary.dispose()
