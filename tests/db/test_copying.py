"""COPY in a session's transaction: it belongs to it, and fails like any other statement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest
from pgvector import Bit, SparseVector, Vector
from pgvector.sqlalchemy import BIT, HALFVEC, SPARSEVEC, VECTOR
from sqlalchemy import ARRAY, URL, DateTime, String, Uuid, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from course_lib.db import copy_rows, make_engine, make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog
from course_lib.models import Document, DocumentChunk, User

COLUMNS = ["document_id", "chunk_index", "content", "token_count", "embedding", "embedding_model"]
NEW = DocumentChunk.embedding_model == "new"


@pytest.fixture
async def binary(seeded_url: URL) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(seeded_url, binary_vectors=True, pool_size=2, max_overflow=0, pool_timeout=2)
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(binary: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return make_session_factory(binary)


@pytest.fixture
async def document_id(sessions: async_sessionmaker[AsyncSession]) -> UUID:
    async with sessions() as session:
        found = await session.scalar(select(Document.id).order_by(Document.id).limit(1))
    assert found is not None
    return found


def chunks(document_id: UUID, count: int, /, **instead: Any) -> list[tuple[Any, ...]]:
    """Rows for ``COLUMNS``; ``instead`` stands in the last of them."""
    vectors = np.random.default_rng(7).standard_normal((count, 256)).astype(np.float32)
    rows: list[tuple[Any, ...]] = [(document_id, 1000 + n, f"text {n}", n, vectors[n], "new") for n in range(count)]
    if instead:
        rows[-1] = tuple((dict(zip(COLUMNS, rows[-1], strict=True)) | instead)[column] for column in COLUMNS)
    return rows


async def new_chunks(sessions: async_sessionmaker[AsyncSession]) -> int:
    """As another session sees them."""
    async with sessions() as session:
        return await session.scalar(select(func.count()).where(NEW)) or 0


async def test_the_trap_a_copy_that_comes_first_stands_outside_the_transaction(
    sessions: async_sessionmaker[AsyncSession], document_id: UUID
) -> None:
    """What copy_rows is there for: BEGIN is lazy, so there is nothing yet that rollback could undo."""
    async with sessions() as session:
        raw = await (await session.connection()).get_raw_connection()
        driver: Any = raw.driver_connection
        assert session.in_transaction() and not driver.is_in_transaction()
        await driver.copy_records_to_table("document_chunks", columns=COLUMNS, records=chunks(document_id, 100))
        await session.rollback()
    assert await new_chunks(sessions) == 100


@pytest.mark.parametrize("first", [True, False], ids=["copy first", "after another statement"])
async def test_rollback_undoes_it(first: bool, sessions: async_sessionmaker[AsyncSession], document_id: UUID) -> None:
    async with sessions() as session:
        if not first:
            await session.execute(text("SELECT 1"))
        assert await copy_rows(session, DocumentChunk, COLUMNS, chunks(document_id, 100)) == 100
        assert await session.scalar(select(func.count()).where(NEW)) == 100
        assert await new_chunks(sessions) == 0
        await session.rollback()
    assert await new_chunks(sessions) == 0


async def test_commit_keeps_it_and_a_savepoint_undoes_it_alone(
    sessions: async_sessionmaker[AsyncSession], document_id: UUID
) -> None:
    async with sessions.begin() as session:
        session.add(User(email="new@example.org", name="New"))
        await session.flush()
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                await copy_rows(session, DocumentChunk, COLUMNS, chunks(document_id, 5, document_id=uuid4()))
        assert await copy_rows(session, DocumentChunk, COLUMNS, chunks(document_id, 3)) == 3
    assert await new_chunks(sessions) == 3
    async with sessions() as session:
        assert await session.scalar(select(User.name).where(User.email == "new@example.org")) == "New"


async def test_what_waits_in_the_session_goes_first(
    sessions: async_sessionmaker[AsyncSession], document_id: UUID
) -> None:
    key = uuid4()
    async with sessions() as session:
        owner = await session.scalar(select(Document.user_id).where(Document.id == document_id))
        session.add(Document(id=key, user_id=owner, source="new", title="New"))
        assert await copy_rows(session, DocumentChunk, COLUMNS, chunks(key, 3)) == 3


async def test_it_is_one_statement_in_one_transaction(
    binary: AsyncEngine, sessions: async_sessionmaker[AsyncSession], document_id: UUID
) -> None:
    with QueryLog(binary) as log:
        async with sessions.begin() as session:
            await copy_rows(session, DocumentChunk, COLUMNS, chunks(document_id, 100))
    assert (log.count, log.rows, log.transactions) == (1, 100, 1)
    assert [entry.sql.split()[0] for entry in log.entries] == ["BEGIN", "COPY", "COMMIT"]


async def test_vectors_come_back_bitwise_and_the_rest_by_default(
    sessions: async_sessionmaker[AsyncSession], document_id: UUID
) -> None:
    given = chunks(document_id, 20)
    async with sessions() as session:
        await copy_rows(session, DocumentChunk, COLUMNS, given)
        stored = list(await session.scalars(select(DocumentChunk).where(NEW).order_by(DocumentChunk.chunk_index)))
    assert [(c.document_id, c.chunk_index, c.content, c.token_count) for c in stored] == [row[:4] for row in given]
    assert np.array_equal(np.float32([c.embedding for c in stored]), np.stack([row[4] for row in given]))
    assert len({c.id for c in stored}) == 20 and {c.id.version for c in stored} == {7}


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSONB, list[str]: ARRAY(String), datetime: DateTime(timezone=True)}  # noqa: RUF012


class Odd(Base):
    """Types that need something done to them, and names that need quoting."""

    __tablename__ = "Odd table"
    __table_args__ = {"schema": "Set apart"}  # noqa: RUF012

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    tags: Mapped[list[str] | None]
    meta: Mapped[dict[str, Any] | None] = mapped_column("select", JSONB)
    at: Mapped[datetime]
    text_id: Mapped[UUID | None] = mapped_column(Uuid(native_uuid=False))
    raw: Mapped[bytes | None]


async def test_types_are_treated_as_in_an_insert(empty_url: URL) -> None:
    engine = make_engine(empty_url)
    async with engine.begin() as connection:
        await connection.execute(text('CREATE SCHEMA "Set apart"'))
        await connection.run_sync(Base.metadata.create_all)
    at = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    rows = [
        (uuid4(), ["a", 'b"{,}', "ä"], {"deep": [1, None, {"x": "ü"}]}, at, uuid4(), b"\x00\xff"),
        (uuid4(), [], {}, at, None, b""),
        (uuid4(), None, None, at, None, None),
    ]
    async with make_session_factory(engine)() as session:
        assert await copy_rows(session, Odd, ["id", "tags", "meta", "at", "text_id", "raw"], rows) == 3
        for row in rows:
            stored = await session.get(Odd, row[0])
            assert stored is not None
            assert (stored.id, stored.tags, stored.meta, stored.at, stored.text_id, stored.raw) == row
    await engine.dispose()


class Shape(Base):
    """Every type of pgvector, alone and in an array."""

    __tablename__ = "shapes"

    id: Mapped[int] = mapped_column(primary_key=True)
    many: Mapped[Any | None] = mapped_column(ARRAY(VECTOR(3)))
    halves: Mapped[Any | None] = mapped_column(ARRAY(HALFVEC(3), dimensions=1))
    sparse: Mapped[Any | None] = mapped_column(ARRAY(SPARSEVEC(3)))
    bits: Mapped[Any | None] = mapped_column(BIT(5))
    many_bits: Mapped[Any | None] = mapped_column(ARRAY(BIT(5)))


TWO = '{"[1,2,3]","[4,5,6]"}'
BITS = [True, False, True, False, True]
SHAPES = {
    "lists in a list": ("many", [[1, 2, 3], [4.0, 5.0, 6.0]], TWO),
    "arrays in a list": ("many", [np.float32([1, 2, 3]), np.float64([4, 5, 6])], TWO),
    "an array of two axes": ("many", np.float32([[1, 2, 3], [4, 5, 6]]), TWO),
    "Vectors": ("many", (Vector([1, 2, 3]), Vector([4, 5, 6])), TWO),
    "an array of arrays": ("many", [[[1, 2, 3]], [Vector([4, 5, 6])]], '{{"[1,2,3]"},{"[4,5,6]"}}'),
    "none": ("many", [], "{}"),
    "NULL in an array": ("many", [None, [1, 2, 3]], '{NULL,"[1,2,3]"}'),
    "NULL": ("many", None, None),
    "half vectors": ("halves", [[1, 2, 3], [4, 5, 6]], TWO),
    "sparse vectors": ("sparse", [SparseVector({0: 1.5}, 3), [0, 0, 2]], '{"{1:1.5}/3","{3:2}/3"}'),
    "bits as text": ("bits", "10101", "10101"),
    "Bit": ("bits", Bit("10101"), "10101"),
    "asyncpg's own": ("bits", asyncpg.BitString("10101"), "10101"),
    "bits in a list": ("bits", BITS, "10101"),
    "bits in an array": ("bits", np.array(BITS), "10101"),
    "no bits": ("bits", None, None),
    "Bits in a list": ("many_bits", [Bit("10101"), "00001", None, np.array(BITS)], "{10101,00001,NULL,10101}"),
}


@pytest.fixture
async def shapes(empty_url: URL) -> AsyncIterator[URL]:
    engine = make_engine(empty_url)
    async with engine.begin() as connection:
        await connection.run_sync(Shape.__table__.create)
    await engine.dispose()
    yield empty_url


async def test_arrays_of_vectors_and_bits_are_sent_in_every_form(shapes: URL) -> None:
    engine = make_engine(shapes, binary_vectors=True)
    async with make_session_factory(engine)() as session:
        for number, (column, value, stored) in enumerate(SHAPES.values()):
            assert await copy_rows(session, Shape, ["id", column], [(number, value)]) == 1
            found = await session.scalar(text(f"SELECT {column}::text FROM shapes WHERE id = :id"), {"id": number})
            assert found == stored, value
    await engine.dispose()


async def test_bits_need_no_binary_engine_and_arrays_of_vectors_do(shapes: URL) -> None:
    engine = make_engine(shapes)
    async with make_session_factory(engine)() as session:
        assert await copy_rows(session, Shape, ["id", "bits", "many_bits"], [(1, Bit("10101"), [Bit("00001")])]) == 1
        for column in ("many", "halves", "sparse"):
            with pytest.raises(CourseError, match=f"COPY sends {column} in binary"):
                await copy_rows(session, Shape, ["id", column], [(2, [[1, 2, 3]])])
        with pytest.raises(DBAPIError, match="row 1 cannot be sent: expected bit string"):
            await copy_rows(session, Shape, ["id", "bits"], [(3, "10102")])
    await engine.dispose()


async def test_rows_may_come_from_a_generator_of_either_kind(
    sessions: async_sessionmaker[AsyncSession], document_id: UUID
) -> None:
    async def later() -> AsyncIterator[tuple[Any, ...]]:
        async with sessions() as other:  # one more connection: the session's own is busy with COPY
            for row in chunks(document_id, 10):
                await other.execute(text("SELECT 1"))
                yield row

    async with sessions() as session:
        assert await copy_rows(session, DocumentChunk, COLUMNS, (row for row in chunks(document_id, 10))) == 10
        await session.rollback()
        assert await copy_rows(session, DocumentChunk, COLUMNS, later()) == 10
        await session.rollback()
        assert await copy_rows(session, DocumentChunk, COLUMNS, []) == 0
        assert await copy_rows(session, DocumentChunk, COLUMNS, [list(chunks(document_id, 1)[0])]) == 1


REFUSED = {
    "a document that is not there": ({"document_id": uuid4()}, IntegrityError, "fk_document_chunks_document_id"),
    "a number given twice": ({"chunk_index": 1000}, IntegrityError, "uq_document_chunks_document_id_chunk_index"),
    "no text": ({"content": ""}, IntegrityError, "ck_document_chunks_content"),
    "NULL": ({"embedding": None}, IntegrityError, "null value in column"),
    "two dimensions": ({"embedding": [1.0, 2.0]}, DBAPIError, "expected 256 dimensions, not 2"),
    "NaN": ({"embedding": [float("nan")] * 256}, DBAPIError, "NaN not allowed"),
    "no vector": ({"embedding": "abc"}, DBAPIError, "row 5 cannot be sent: expected list or ndarray"),
    "no number": ({"token_count": "5"}, DBAPIError, "row 5 cannot be sent"),
    "too large a number": ({"token_count": 2**40}, DBAPIError, "row 5 cannot be sent: value out of int32 range"),
    "no UUID": ({"document_id": "zz"}, DBAPIError, "row 5 cannot be sent: invalid UUID"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused_is_sqlalchemys_error_and_leaves_nothing(
    case: str, sessions: async_sessionmaker[AsyncSession], document_id: UUID
) -> None:
    instead, kind, says = REFUSED[case]
    async with sessions() as session:
        with pytest.raises(kind, match=says) as caught:
            await copy_rows(session, DocumentChunk, COLUMNS, chunks(document_id, 5, **instead))
        assert "COPY document_chunks" in str(caught.value)
        assert caught.value.orig.driver_exception is not None
        with pytest.raises(DBAPIError, match="current transaction is aborted"):
            await session.execute(text("SELECT 1"))
        await session.rollback()
        assert await session.scalar(select(func.count()).where(NEW)) == 0
        assert await copy_rows(session, DocumentChunk, COLUMNS, chunks(document_id, 2)) == 2


@pytest.mark.parametrize(
    ("row", "says"),
    [((1,), "row 1 cannot be sent: 1 values for 6 columns"), ((1,) * 7, "row 1 cannot be sent: 7 values for 6 columns"),
     (dict.fromkeys(COLUMNS), "row 1 cannot be sent: it is a dict"), ("abcdef", "row 1 cannot be sent: it is a text")],
)  # fmt: skip
async def test_a_row_of_the_wrong_shape(row: Any, says: str, sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        with pytest.raises(DBAPIError, match=says):
            await copy_rows(session, DocumentChunk, COLUMNS, [row])


class OwnError(Exception):
    pass


@pytest.mark.parametrize("kind", [OwnError, ValueError, OperationalError])
async def test_an_error_of_the_iterable_comes_through_and_leaves_nothing(
    kind: type[Exception], sessions: async_sessionmaker[AsyncSession], document_id: UUID
) -> None:
    own = kind("mine", None, Exception()) if kind is OperationalError else kind("mine")

    def broken() -> Iterator[tuple[Any, ...]]:
        yield from chunks(document_id, 3)
        raise own

    async def broken_later() -> AsyncIterator[tuple[Any, ...]]:
        for row in broken():
            yield row

    for rows in (broken(), broken_later()):
        async with sessions() as session:
            with pytest.raises(kind) as caught:
                await copy_rows(session, DocumentChunk, COLUMNS, rows)
            assert caught.value is own
    assert await new_chunks(sessions) == 0


async def test_a_cancelled_copy_leaves_nothing_and_gives_its_connection_back(
    binary: AsyncEngine, sessions: async_sessionmaker[AsyncSession], document_id: UUID
) -> None:
    reached = asyncio.Event()

    async def stuck() -> AsyncIterator[tuple[Any, ...]]:
        for row in chunks(document_id, 3):
            yield row
        reached.set()
        await asyncio.Event().wait()

    async def load() -> None:
        async with sessions.begin() as session:
            await copy_rows(session, DocumentChunk, COLUMNS, stuck())

    for _ in range(3):  # more often than the pool has connections
        reached.clear()
        task = asyncio.create_task(load())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await new_chunks(sessions) == 0
    assert binary.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_two_sessions_copy_at_once(sessions: async_sessionmaker[AsyncSession], document_id: UUID) -> None:
    async def load(start: int, keep: bool) -> None:
        async with sessions() as session:
            rows = [(row[0], start + row[1], *row[2:]) for row in chunks(document_id, 500)]
            assert await copy_rows(session, DocumentChunk, COLUMNS, rows) == 500
            await (session.commit() if keep else session.rollback())

    await asyncio.gather(load(0, True), load(10_000, False))
    assert await new_chunks(sessions) == 500


async def test_a_session_in_autocommit_copies_in_a_transaction_of_the_statement_alone(
    binary: AsyncEngine, document_id: UUID
) -> None:
    sessions = make_session_factory(binary.execution_options(isolation_level="AUTOCOMMIT"))
    async with sessions() as session:
        with pytest.raises(IntegrityError):
            await copy_rows(session, DocumentChunk, COLUMNS, chunks(document_id, 5, chunk_index=1000))
        assert await new_chunks(sessions) == 0
        assert await copy_rows(session, DocumentChunk, COLUMNS, chunks(document_id, 5)) == 5
    assert await new_chunks(sessions) == 5


async def test_an_engine_that_sends_text_is_a_sentence_and_unharmed(engine: AsyncEngine, document_id: UUID) -> None:
    async with make_session_factory(engine)() as session:
        with pytest.raises(CourseError, match="COPY sends embedding in binary") as caught:
            await copy_rows(session, DocumentChunk, COLUMNS, chunks(document_id, 1))
        assert "binary_vectors=True" in caught.value.mend
        owner = await session.scalar(select(User.id).limit(1))
        row = (owner, "new", "New", sha256(b"new").digest())  # no vector in it, so it may
        assert await copy_rows(session, Document, ["user_id", "source", "title", "content_hash"], [row]) == 1


async def test_another_driver_and_unknown_columns_are_sentences(
    seeded_url: URL, sessions: async_sessionmaker[AsyncSession]
) -> None:
    other = create_async_engine(seeded_url.set(drivername="postgresql+psycopg"))
    async with AsyncSession(other) as session:
        with pytest.raises(CourseError, match="sends through asyncpg"):
            await copy_rows(session, User, ["name"], [("a",)])
    await other.dispose()
    async with sessions() as session:
        with pytest.raises(CourseError, match="no column 'colour'") as caught:
            await copy_rows(session, User, ["name", "colour"], [("a", "b")])
        assert "email" in caught.value.mend
        with pytest.raises(CourseError, match="needs the names of the columns"):
            await copy_rows(session, User, [], [])
        with pytest.raises(TypeError, match="not iterable"):
            await copy_rows(session, User, ["name"], 5)  # type: ignore[arg-type]
