"""Measure recall: exact answers first, then the search, on one connection and of one state of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, TypeAlias

from numpy.typing import ArrayLike
from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from course_lib.errors import CourseError
from course_lib.instruments.plan import Plan, explain
from course_lib.instruments.vectors.recall.found import Recall
from course_lib.instruments.vectors.recall.question import Question, Vector, ask
from course_lib.instruments.vectors.recall.scans import IndexScans, index_scans
from course_lib.instruments.vectors.recall.searching import Searched, search_by, search_plainly, sorts_by_distance
from course_lib.instruments.vectors.recall.settings import EXACT, search_settings, under

Search: TypeAlias = Callable[[AsyncSession, Vector, int], Awaitable[Sequence[Any]]]


async def recall(
    engine: AsyncEngine,
    column: Any,
    queries: ArrayLike,
    k: int = 10,
    *,
    where: ColumnElement[bool] | None = None,
    distance: str = "cosine",
    search: Search | None = None,
    ef_search: int | None = None,
    probes: int | None = None,
    iterative_scan: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> Recall:
    """How many of the ``k`` truly nearest rows a search finds, averaged over ``queries``.

    The exact answers are sought with index scans switched off. That alone would not do: after five executions a
    prepared statement may run by a generic plan made before the switch, and the "exact" side would go through the
    index too, for a recall of 1.0. So every plan is made anew (``plan_cache_mode=force_custom_plan``), and what the
    exact side used is looked up afterwards. All settings are local to one transaction, which is rolled back.

    A row as near as the ``k``-th counts as found rightly. Rows without an embedding, and zero vectors, which have no
    cosine distance, are nobody's nearest.

    Args:
        column: the vectors, for example ``DocumentChunk.embedding``.
        queries: n x d numbers.
        where: only rows that meet it count, on both sides.
        distance: ``cosine``, ``l2``, ``inner_product`` or ``l1``.
        search: instead of the plain one, ``async def search(session, vector, k)`` that returns keys, rows that begin
            with the key, or objects, nearest first. It minds ``where`` itself.
        ef_search, probes: how much of an HNSW, or of an IVFFlat index, the search looks at.
        iterative_scan: of IVFFlat where ``probes`` are given, else of HNSW.
        settings: others, by name.

    Raises:
        CourseError: something does not fit, or no row is there to be found.
    """
    question = ask(column, queries, k, where, distance)
    [found] = await recalls(engine, question, [search_settings(ef_search, probes, iterative_scan, settings)], search)
    return found


async def recalls(
    engine: AsyncEngine, question: Question, settings: Sequence[Mapping[str, str]], search: Search | None = None
) -> list[Recall]:
    """A measurement under each of ``settings``, with the exact answers sought once.

    Raises:
        CourseError: PostgreSQL does not take a setting, or no row is there to be found.
    """
    async with _one_state(engine) as connection:
        exact = await _exact_answers(connection, question)
        return [await _compare(connection, question, exact, search, wanted) for wanted in settings]


@asynccontextmanager
async def _one_state(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction that sees one state of the database, and is rolled back."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin() as transaction:
            yield connection
            await transaction.rollback()


@dataclass(frozen=True)
class Exact:
    """The truth: for each query keys and distances, nearest first."""

    answers: list[list[tuple[Any, float]]]
    milliseconds: float
    plan: Plan


async def _exact_answers(connection: AsyncConnection, question: Question) -> Exact:
    """The nearest rows by looking at all.

    Raises:
        CourseError: no row is there to be found, or an index on vectors was used, which is not to happen.
    """
    before = await index_scans(connection)
    async with under(connection, EXACT):
        searched = [await search_plainly(connection, question, vector) for vector in question.vectors]
        used = (await index_scans(connection)).since(before)
        plan = await explain(connection, question.nearest(question.vectors[0]), analyze=True)
    if used.of_vectors or any(before.is_of_vectors(node.index) for node in plan):
        raise CourseError(
            f"The exact side went through {', '.join(used.of_vectors)}, so there is nothing to compare with.",
            "Please report this with the plan: EXPLAIN of the search with enable_indexscan = off.",
        )
    answers = [[(key, far) for key, far in one.rows if far is not None and far == far] for one in searched]
    if not any(answers):
        condition = "" if question.where is None else " meets the condition and"
        raise CourseError(
            f"No row of {question.table}{condition} has an embedding, so there is nothing to find.",
            "Count them first: select(func.count(column)).where(…)",
        )
    return Exact(answers, median(one.milliseconds for one in searched), plan)


async def _compare(
    connection: AsyncConnection, question: Question, exact: Exact, search: Search | None, settings: Mapping[str, str]
) -> Recall:
    """Search for what is known to be nearest, under ``settings``, and count."""
    before = await index_scans(connection)
    searched: list[Searched] = []
    plan: Plan | None = None
    async with under(connection, settings):
        for vector in question.vectors:
            first = not searched
            if search is None:
                searched.append(await search_plainly(connection, question, vector))
            else:
                one, seen = await search_by(search, connection, question, vector, and_explain=first)
                searched.append(one)
                plan = plan or seen
        used = (await index_scans(connection)).since(before)
        if search is None:
            plan = await explain(connection, question.nearest(question.vectors[0]), analyze=True)
    shares = await _shares(connection, question, exact, searched)
    return _sum_up(question, exact, searched, shares, used, plan, settings)


async def _shares(
    connection: AsyncConnection, question: Question, exact: Exact, searched: Sequence[Searched]
) -> list[float]:
    """The share of the truth that each query found; queries to which there is no answer are left out."""
    shares = []
    async with under(connection, EXACT):
        for vector, truth, one in zip(question.vectors, exact.answers, searched, strict=True):
            if truth:
                nearest = {key for key, _ in truth}
                others = [key for key in one.keys if key not in nearest]
                ties = await _as_near(connection, question, vector, others, truth[-1][1])
                right = sum(key in nearest for key in one.keys) + ties
                shares.append(min(right, len(truth)) / len(truth))
    return shares


async def _as_near(
    connection: AsyncConnection, question: Question, vector: Vector, keys: Sequence[Any], furthest: float
) -> int:
    """How many of ``keys`` are no further away than the last of the truth: which of equals came first is chance."""
    if not keys:
        return 0
    return len((await connection.execute(question.no_further(vector, keys, furthest))).all())


def _is_exact(searched: Sequence[Searched], used: IndexScans, plan: Plan | None) -> bool | None:
    """None where nothing shows how it was searched: no claim is better than a wrong one."""
    if used.of_vectors:
        return False
    seen = plan is not None and sorts_by_distance(plan) and all(one.seen for one in searched)
    return True if seen else None


def _sum_up(
    question: Question,
    exact: Exact,
    searched: Sequence[Searched],
    shares: Sequence[float],
    used: IndexScans,
    plan: Plan | None,
    settings: Mapping[str, str],
) -> Recall:
    return Recall(
        recall=fmean(shares),
        k=question.k,
        queries=len(searched),
        rows=fmean(len(one.keys) for one in searched),
        short=sum(len(one.keys) < len(truth) for one, truth in zip(searched, exact.answers, strict=True)),
        indexes=used.names,
        vector_indexes=used.of_vectors,
        exact=_is_exact(searched, used, plan),
        milliseconds=median(one.milliseconds for one in searched),
        exact_milliseconds=exact.milliseconds,
        plan=plan,
        exact_plan=exact.plan,
        settings=dict(settings),
    )
