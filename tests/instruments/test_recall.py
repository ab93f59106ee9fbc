"""recall() tells how many of the nearest rows a search finds, and cannot be fooled by the cache of plans."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import Column, MetaData, Table, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from course_lib.data.fresh import fresh_database
from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog, Recall, recall, recall_curve
from course_lib.models import Document, DocumentChunk
from course_lib.settings import REPOSITORY

DIMENSIONS, ROWS, TENANTS = 32, 4000, 100
Vectors = NDArray[np.float32]


class Base(DeclarativeBase):
    """Tables of these tests alone."""


class Point(Base):
    """A vector of one of a hundred tenants."""

    __tablename__ = "points"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    place: Mapped[list[float] | None] = mapped_column(VECTOR(DIMENSIONS))


def vectors(count: int, seed: int) -> Vectors:
    """Unit vectors about sixty centres: what an index with few links gets lost in."""
    centres = np.random.default_rng(7).normal(size=(60, DIMENSIONS))
    random = np.random.default_rng(seed)
    found = centres[random.integers(60, size=count)] + 0.6 * random.normal(size=(count, DIMENSIONS))
    unit: Vectors = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


QUERIES = vectors(30, seed=2)
INSERT = text("""
    INSERT INTO points (id, tenant, place)
    SELECT n, n % :tenants, v::vector FROM unnest(CAST(:vectors AS text[])) WITH ORDINALITY AS t (v, n)
""")
INDEX = text("CREATE INDEX poor ON points USING hnsw (place vector_cosine_ops) WITH (m = 4, ef_construction = 8)")


@pytest.fixture
async def points() -> AsyncIterator[AsyncEngine]:
    """A table of clustered vectors with an index of few links, and an engine of one connection."""
    async with fresh_database("99", "empty") as database:
        engine = make_engine(database.url, pool_size=1, max_overflow=0, pool_timeout=3)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            written = [str(vector) for vector in vectors(ROWS, seed=1).tolist()]
            await connection.execute(INSERT, {"tenants": TENANTS, "vectors": written})
            await connection.execute(INDEX)
            await connection.execute(text("ANALYZE points"))
        yield engine
        await engine.dispose()


async def naive_recall(engine: AsyncEngine, k: int = 10) -> float:
    """As it is often measured: one statement for both sides, and the index switched off for one of them."""
    shares = []
    async with engine.connect() as connection:

        async def ids(vector: Sequence[float]) -> set[int]:
            statement = select(Point.id).order_by(Point.place.cosine_distance(vector)).limit(literal_column(str(k)))
            return set((await connection.scalars(statement)).all())

        found = [await ids(vector) for vector in QUERIES.tolist()]
        await connection.execute(text("SET LOCAL enable_indexscan = off"))
        for vector, near in zip(QUERIES.tolist(), found, strict=True):
            shares.append(len(near & await ids(vector)) / k)
    return sum(shares) / len(shares)


async def numpy_recall(engine: AsyncEngine, found: Sequence[Sequence[int]], k: int = 10) -> float:
    """The truth without PostgreSQL: exact neighbours computed here."""
    near = np.argsort(-(QUERIES @ vectors(ROWS, seed=1).T), axis=1)[:, :k] + 1
    return float(np.mean([len(set(ids) & set(row)) / k for ids, row in zip(found, near.tolist(), strict=True)]))


async def test_a_cached_plan_fools_the_naive_measure_and_not_this_one(points: AsyncEngine) -> None:
    assert await naive_recall(points) == 1.0
    found = await recall(points, Point.place, QUERIES)
    assert found.recall < 0.85
    assert (found.indexes, found.vector_indexes) == (("poor",), ("poor",))
    assert found.exact_plan.indexes == []
    assert found.plan is not None and found.plan.indexes == ["poor"]
    assert (found.rows, found.short, found.k, found.queries) == (10, 0, 10, len(QUERIES))


async def test_it_agrees_with_numpy(points: AsyncEngine) -> None:
    returned: list[Sequence[int]] = []

    async def search(session: AsyncSession, vector: list[float], k: int) -> Sequence[int]:
        ids = (await session.scalars(select(Point.id).order_by(Point.place.cosine_distance(vector)).limit(k))).all()
        returned.append(ids)
        return ids

    found = await recall(points, Point.place, QUERIES, search=search)
    assert found.recall == pytest.approx(await numpy_recall(points, returned), abs=0.01)
    assert found.recall == (await recall(points, Point.place, QUERIES)).recall


async def test_more_candidates_find_more(points: AsyncEngine) -> None:
    few, many = [await recall(points, Point.place, QUERIES, ef_search=ef) for ef in (10, 200)]
    assert few.recall + 0.1 < many.recall
    assert few.milliseconds > 0 and few.exact_milliseconds > 0


async def test_nothing_stays_on_the_connection_of_the_pool(points: AsyncEngine) -> None:
    names = ["hnsw.ef_search", "hnsw.iterative_scan", "plan_cache_mode", "enable_indexscan", "enable_seqscan"]
    names += ["work_mem", "transaction_isolation"]

    async def state() -> list[Any]:
        async with points.connect() as connection:
            process = await connection.scalar(select(func.pg_backend_pid()))
            return [process, *[await connection.scalar(text(f"SHOW {name}")) for name in names]]

    async with points.connect() as connection:
        await connection.execute(text("SELECT '[1]'::vector"))  # so that pgvector's settings are known
    before = await state()
    options: dict[str, Any] = {"ef_search": 99, "iterative_scan": "strict_order", "settings": {"work_mem": "9MB"}}
    await recall(points, Point.place, QUERIES[:8], **options)
    with pytest.raises(ZeroDivisionError):
        await recall(points, Point.place, QUERIES[:8], search=divide, **options)
    with pytest.raises(CourseError):
        await recall(points, Point.place, QUERIES[:8], ef_search=5000)
    assert await state() == before
    assert points.pool.checkedout() == 0  # type: ignore[attr-defined]


async def divide(session: AsyncSession, vector: list[float], k: int) -> Sequence[int]:
    await session.execute(text("SELECT 1"))
    return [k // 0]


async def test_an_autocommit_engine_is_measured_alike(points: AsyncEngine) -> None:
    autocommit = points.execution_options(isolation_level="AUTOCOMMIT")
    low, usual = [await recall(engine, Point.place, QUERIES, ef_search=10) for engine in (autocommit, points)]
    assert low.recall == usual.recall < 0.8
    async with autocommit.connect() as connection:
        assert await connection.scalar(text("SHOW hnsw.ef_search")) == "40"


async def test_a_database_that_forbids_sequential_scans_is_measured_exactly(points: AsyncEngine) -> None:
    async with points.begin() as connection:
        name = await connection.scalar(select(func.current_database()))
        await connection.execute(text(f'ALTER DATABASE "{name}" SET enable_seqscan = off'))
    await points.dispose()
    assert (await recall(points, Point.place, QUERIES)).recall < 0.85


async def test_a_filter_leaves_searches_short_until_they_go_on(points: AsyncEngine) -> None:
    mine = Point.tenant == 7
    options: dict[str, Any] = {"where": mine, "settings": {"enable_seqscan": False}}
    short = await recall(points, Point.place, QUERIES, **options)
    assert short.vector_indexes == ("poor",)
    assert short.rows < 3 and short.recall < 0.3 and short.short > 20
    assert short.plan is not None and (short.plan.rows_removed or 0) > 20
    longer = await recall(points, Point.place, QUERIES, iterative_scan="relaxed_order", **options)
    assert longer.rows > short.rows + 3 and longer.recall > short.recall + 0.3


async def test_a_search_without_the_index_is_called_exact(points: AsyncEngine) -> None:
    async with points.begin() as connection:
        await connection.execute(text("DROP INDEX poor"))
        await connection.execute(text("CREATE INDEX by_tenant ON points (tenant)"))
    found = await recall(points, Point.place, QUERIES, where=Point.tenant == 7)
    assert (found.recall, found.rows, found.vector_indexes) == (1.0, 10, ())
    assert found.indexes == ("by_tenant",)
    assert "an exact search" in str(found)


async def test_of_a_search_on_its_own_connection_it_claims_nothing(points: AsyncEngine) -> None:
    other = make_engine(points.url)

    async def elsewhere(session: AsyncSession, vector: list[float], k: int) -> Any:
        async with AsyncSession(other) as own:
            return (await own.scalars(select(Point.id).order_by(Point.place.cosine_distance(vector)).limit(k))).all()

    async def looked_up_first(session: AsyncSession, vector: list[float], k: int) -> Any:
        await session.scalar(select(Point.tenant).limit(1))
        return await elsewhere(session, vector, k)

    try:
        for search in (elsewhere, looked_up_first):
            found = await recall(points, Point.place, QUERIES, search=search, ef_search=10)
            assert 0.3 < found.recall < 0.85, "it went through the index, whose graph is another each time"
            assert found.exact is None
            assert "exact" not in str(found)
            assert "which was not seen on the connection given" in str(found)
    finally:
        await other.dispose()


async def test_a_search_that_looks_something_up_first_is_seen_searching(points: AsyncEngine) -> None:
    async def search(session: AsyncSession, vector: list[float], k: int) -> Any:
        await session.scalar(select(Point.tenant).limit(1))
        await session.execute(text("SET LOCAL enable_indexscan = off"))
        return (await session.scalars(select(Point.id).order_by(Point.place.cosine_distance(vector)).limit(k))).all()

    found = await recall(points, Point.place, QUERIES[:3], search=search)
    assert (found.recall, found.exact, found.vector_indexes) == (1.0, True, ())
    assert found.plan is not None and "Sort" in found.plan.node_types
    assert str(found).endswith("searched by no index: an exact search")
    assert (await recall(points, Point.place, QUERIES[:3])).exact is False


@pytest.mark.parametrize("distance", ["l2", "inner_product", "l1"])
async def test_other_distances_have_no_index_here(points: AsyncEngine, distance: str) -> None:
    found = await recall(points, Point.place, QUERIES[:3], distance=distance)
    assert (found.recall, found.indexes) == (1.0, ())


async def test_what_a_search_returns_may_be_keys_rows_or_objects(points: AsyncEngine) -> None:
    order = Point.place.op("<=>")
    near = "SELECT id, tenant FROM points ORDER BY place <=> CAST(:v AS vector) LIMIT :k"

    async def keys(session: AsyncSession, vector: list[float], k: int) -> Any:
        return (await session.scalars(select(Point.id).order_by(order(vector)).limit(k))).all()

    async def objects(session: AsyncSession, vector: list[float], k: int) -> Any:
        return await session.scalars(select(Point).order_by(order(vector)).limit(k))

    async def id_not_first(session: AsyncSession, vector: list[float], k: int) -> Any:
        return (await session.execute(select(Point.tenant, Point.id).order_by(order(vector)).limit(k))).all()

    async def written_out(session: AsyncSession, vector: list[float], k: int) -> Any:
        async with session.begin():
            await session.execute(text("SET LOCAL hnsw.ef_search = 40"))
            return [(row.id, row.tenant) for row in await session.execute(text(near), {"v": str(vector), "k": k})]

    async def too_many(session: AsyncSession, vector: list[float], k: int) -> Any:
        return [*await keys(session, vector, k), *range(1, ROWS)]

    plain = await recall(points, Point.place, QUERIES)
    for search in (keys, objects, id_not_first, written_out, too_many):
        found = await recall(points, Point.place, QUERIES, search=search)
        assert (found.recall, found.rows, found.indexes) == (plain.recall, 10, ("poor",)), search.__name__
        assert found.plan is not None and found.plan.uses_index("poor")


async def test_the_settings_of_the_measure_hold_in_a_search_that_commits(points: AsyncEngine) -> None:
    async def search(session: AsyncSession, vector: list[float], k: int) -> Any:
        await session.execute(text("SELECT 1"))
        await session.commit()
        assert await session.scalar(text("SHOW hnsw.ef_search")) == "77"
        await session.rollback()
        return (await session.scalars(select(Point.id).order_by(Point.place.cosine_distance(vector)).limit(k))).all()

    assert (await recall(points, Point.place, QUERIES, search=search, ef_search=77)).indexes == ("poor",)


async def test_rows_at_the_same_distance_are_all_right(points: AsyncEngine) -> None:
    async with points.begin() as connection:
        await connection.execute(text("DROP INDEX poor"))
        await connection.execute(
            text("UPDATE points SET place = (SELECT place FROM points WHERE id = 1) WHERE id <= 50")
        )

    async def last_of_equals(session: AsyncSession, vector: list[float], k: int) -> list[int]:
        return list(range(50, 50 - k, -1))

    async def one_of_others(session: AsyncSession, vector: list[float], k: int) -> list[int]:
        return [*range(50, 51 - k, -1), 51]

    at = vectors(ROWS, seed=1)[:1]
    assert (await recall(points, Point.place, at, search=last_of_equals)).recall == 1.0
    assert (await recall(points, Point.place, at, search=one_of_others)).recall == pytest.approx(0.9)


async def test_a_row_counts_once_and_only_within_the_condition(points: AsyncEngine) -> None:
    async def again(session: AsyncSession, vector: list[float], k: int) -> list[int]:
        near = select(Point.id).order_by(Point.place.l2_distance(vector)).limit(1)
        return [await session.scalar(near) or 0] * k

    async def of_all(session: AsyncSession, vector: list[float], k: int) -> Any:
        return (await session.scalars(select(Point.id).order_by(Point.place.l2_distance(vector)).limit(k))).all()

    assert (await recall(points, Point.place, QUERIES, search=again)).recall == pytest.approx(0.1)
    assert (await recall(points, Point.place, QUERIES, search=of_all, where=Point.tenant == 3)).recall < 0.2


async def test_rows_without_an_embedding_and_zero_vectors_are_nobodys_nearest(points: AsyncEngine) -> None:
    table = Point.__tablename__
    async with points.begin() as connection:
        await connection.execute(text(f"CREATE TABLE kept AS SELECT * FROM {table}"))
        await connection.execute(text("UPDATE kept SET place = NULL WHERE id > 6"))
        await connection.execute(text("UPDATE kept SET place = :zeros WHERE id = 6"), {"zeros": str([0] * DIMENSIONS)})
        await connection.execute(text(f"TRUNCATE {table}"))  # updated in place, old versions may stay in the index
        await connection.execute(text(f"INSERT INTO {table} SELECT * FROM kept"))
    found = await recall(points, Point.place, QUERIES, k=10, settings={"enable_seqscan": False})
    assert found.vector_indexes == ("poor",)
    assert (found.recall, found.rows, found.short) == (1.0, 5, 0)
    assert (await recall(points, Point.place, QUERIES, k=2)).recall == 1.0


async def test_more_may_be_asked_for_than_there_is(points: AsyncEngine) -> None:
    found = await recall(points, Point.place, QUERIES[:2], k=100, where=Point.tenant == 1)
    assert (found.recall, found.rows, found.short) == (1.0, ROWS / TENANTS, 0)


async def test_the_products_chunks_are_measured_with_conditions_on_their_documents(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        [vector] = (await connection.scalars(select(DocumentChunk.embedding).limit(1))).all()
    found = await recall(engine, DocumentChunk.embedding, vector, 5, where=DocumentChunk.document.has(status="ready"))
    assert (found.recall, found.queries, found.rows) == (1.0, 1, 5)
    table = DocumentChunk.__table__
    assert (await recall(engine, table.c.embedding, [vector], 5)).recall == 1.0


async def test_vectors_that_travel_in_binary_are_measured_alike(points: AsyncEngine) -> None:
    binary = make_engine(points.url, binary_vectors=True)
    try:
        texts, bytes_ = [await recall(engine, Point.place, QUERIES) for engine in (points, binary)]
        assert bytes_.recall == texts.recall
        assert bytes_.indexes == ("poor",)
    finally:
        await binary.dispose()


async def test_the_log_sees_only_what_was_sent(points: AsyncEngine) -> None:
    with QueryLog(points) as log:
        await recall(points, Point.place, QUERIES[:4])
    assert sum("<=>" in statement.sql for statement in log.statements) <= 4 + 4 + 2 + 4  # both sides, plans, ties


async def test_text_and_html_say_the_same_and_the_notebooks_guard_masks_what_differs(points: AsyncEngine) -> None:
    rule = re.search(r"regex: (recall .*)", (REPOSITORY / "tests" / "sanitize.cfg").read_text(encoding="utf-8"))
    assert rule
    shown = []
    for options in ({"ef_search": 10}, {"where": Point.tenant == 7, "settings": {"enable_seqscan": False}}):
        found = await recall(points, Point.place, QUERIES, **options)  # type: ignore[arg-type]
        markup = found._repr_html_()
        assert html.unescape(re.sub(r"<[^>]*>", "", markup)) == str(found) == repr(found)
        assert len(re.findall(rule[1], markup)) == 1
        shown.append(re.sub(rule[1], "RECALL", str(found)))
    assert shown == ["RECALL\nsearched by poor\nwith hnsw.ef_search = 10",
                     "RECALL\nsearched by poor\nwith enable_seqscan = false"]  # fmt: skip
    assert re.sub(rule[1], "RECALL", "recall 0.91 at last") == "RECALL at last"


async def test_a_curve_has_a_point_for_each_value(points: AsyncEngine) -> None:
    curve = await recall_curve(points, Point.place, QUERIES, ef_search=(100, 10, 40), target=0.9)
    assert list(curve.points) == [10, 40, 100]
    assert all(isinstance(found, Recall) for found in curve.points.values())
    recalls = [found.recall for found in curve.points.values()]
    assert recalls[0] + 0.05 < recalls[2]
    assert curve.reaches(recalls[1]) == 40
    assert curve.reaches(1.1) is None
    above, below = curve.axes
    assert list(above.lines[0].get_ydata()) == recalls
    assert list(below.lines[0].get_ydata()) == [found.milliseconds for found in curve.points.values()]
    assert [label.get_text() for label in below.get_xticklabels()] == ["10", "40", "100"]
    assert repr(curve) == "Recall of the 10 nearest, and what it costs: recall and time for ef_search = 10, 40, 100"
    assert curve.png().startswith(b"\x89PNG")


async def test_a_curve_over_probes_is_of_ivfflat(points: AsyncEngine) -> None:
    async with points.begin() as connection:
        await connection.execute(text("DROP INDEX poor"))
        await connection.execute(text("CREATE INDEX lists ON points USING ivfflat (place vector_cosine_ops) "
                                      "WITH (lists = 400)"))  # fmt: skip
    curve = await recall_curve(points, Point.place, QUERIES, probes=(1, 20), iterative_scan="off")
    assert curve.points[1].recall + 0.1 < curve.points[20].recall
    assert curve.points[1].vector_indexes == ("lists",)
    assert "probes = 1, 20" in repr(curve)


NO_KEY = Table("nokey", MetaData(), Column("place", VECTOR(3)))


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((Point.place, []), {}, "at least one query"),
        ((Point.place, np.zeros((2, 3))), {}, "2 x 3 numbers, and the column place holds vectors of 32"),
        ((Point.place, np.zeros((2, 2, 32))), {}, "2 x 2 x 32 numbers"),
        ((Point.place, [[1.0], [1.0, 2.0]]), {}, "no vectors of equal length"),
        ((Point.place, "a question"), {}, "no vectors"),
        ((Point.place, np.full((1, 32), np.nan)), {}, "NaN"),
        ((Point.tenant, QUERIES), {}, "Point.tenant is no column of vectors"),
        ((Point, QUERIES), {}, "no column of vectors"),
        ((func.lower(Document.title), QUERIES), {}, "no column of vectors"),
        ((NO_KEY.c.place, np.zeros((1, 3))), {}, "primary key of one column, and that of nokey has 0"),
        ((Point.place, QUERIES, 0), {}, "k is 0"),
        ((Point.place, QUERIES), {"distance": "hamming"}, "no distance 'hamming'"),
        ((Point.place, QUERIES), {"where": Document.title == "?"}, "a table that is not joined to points"),
        ((Point.place, QUERIES), {"where": Point.tenant == 1000}, "No row of points meets the condition"),
        ((Point.place, QUERIES), {"ef_search": 5000}, "outside the valid range"),
        ((Point.place, QUERIES), {"iterative_scan": "on"}, "invalid value"),
        ((Point.place, QUERIES), {"settings": {"hnsw.colour": 1}}, "invalid configuration parameter name"),
    ],
)
@pytest.mark.soak(after=6)
async def test_what_does_not_fit_is_said_in_a_sentence(
    points: AsyncEngine, arguments: tuple[Any, ...], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CourseError, match=sentence) as caught:
        await recall(points, *arguments, **options)
    assert caught.value.mend


async def test_a_search_that_returns_something_else_is_told_so(points: AsyncEngine) -> None:
    async def nothing(session: AsyncSession, vector: list[float], k: int) -> Any:
        return None

    async def texts(session: AsyncSession, vector: list[float], k: int) -> Any:
        return ["a chunk"]

    for search, sentence in ((nothing, "returned NoneType"), (texts, "returned str, and the keys of points are int")):
        with pytest.raises(CourseError, match=sentence):
            await recall(points, Point.place, QUERIES, search=search)


async def test_a_chunk_without_index_says_so(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM document_chunks"))
    with pytest.raises(CourseError, match="No row of document_chunks has an embedding"):
        await recall(engine, DocumentChunk.embedding, np.ones((1, 256)))
