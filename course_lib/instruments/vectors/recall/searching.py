"""One search: the plain one, or a function of somebody else's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Executable, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from course_lib.errors import CourseError
from course_lib.instruments.plan import Plan, explain
from course_lib.instruments.vectors.recall.question import Question, Vector, key_of

OPERATORS = ("<=>", "<->", "<#>", "<+>", "<~>", "<%>")  # pgvector's distances


@dataclass(frozen=True)
class Searched:
    """What one search returned: (key, distance) of each row; the distance is None where it was not told.

    ``seen``: something was sent on the connection that is watched.
    """

    rows: list[tuple[Any, float | None]]
    milliseconds: float
    seen: bool

    @property
    def keys(self) -> list[Any]:
        """Each once, nearest first."""
        return list(dict.fromkeys(key for key, _ in self.rows))


async def search_plainly(connection: AsyncConnection, question: Question, vector: Vector) -> Searched:
    began = perf_counter()
    rows = (await connection.execute(question.nearest(vector))).all()
    milliseconds = 1000 * (perf_counter() - began)
    return Searched([(key, distance) for key, distance in rows], milliseconds, seen=True)


async def search_by(
    search: Callable[[AsyncSession, Vector, int], Awaitable[Sequence[Any]]],
    connection: AsyncConnection,
    question: Question,
    vector: Vector,
    *,
    and_explain: bool,
) -> tuple[Searched, Plan | None]:
    """Search in a session on ``connection``, whose commits release a savepoint; with the plan of what it sent.

    The savepoint is part of the time: a session that was begun here could not be begun by the search.
    """
    plan = None
    async with AsyncSession(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as session:
        with _sent_on(connection) as sent:
            began = perf_counter()
            found = await search(session, vector, question.k)
            milliseconds = 1000 * (perf_counter() - began)
        keys = _keys(found, question)
        if and_explain:
            plan = await _plan_of(sent, connection, question.table)
    return Searched([(key, None) for key in keys[: question.k]], milliseconds, seen=bool(sent)), plan


def _keys(found: Any, question: Question) -> list[Any]:
    try:
        keys = [key_of(row, question.key) for row in found]
    except TypeError as error:
        raise CourseError(
            f"The search returned {type(found).__name__}, and rows were expected.",
            "Return keys, rows or objects, nearest first: (await session.scalars(…)).all()",
        ) from error
    wanted = question.key.type.python_type
    strange = [key for key in keys if not isinstance(key, wanted)]
    if strange:
        raise CourseError(
            f"The search returned {type(strange[0]).__name__}, and the keys of {question.table} are {wanted.__name__}.",
            f"Select {question.table}.{question.key.name} first.",
        )
    return keys


Sent = list[tuple[Any, Any]]


@contextmanager
def _sent_on(connection: AsyncConnection) -> Iterator[Sent]:
    """The statements that are executed on ``connection``, with their parameters."""
    sent: Sent = []

    def note(_: Connection, statement: Executable, many: Any, parameters: Any, options: Any) -> None:
        sent.append((statement, parameters))

    target = connection.sync_connection
    event.listen(target, "before_execute", note)
    try:
        yield sent
    finally:
        event.remove(target, "before_execute", note)


async def _plan_of(sent: Sent, connection: AsyncConnection, table: str) -> Plan | None:
    """The plan of the first statement that reads ``table``, under the settings that the search has made.

    One that sorts by distance comes before one that does not: a search may look something up first.
    """
    reads = None
    for statement, parameters in sent:
        try:
            plan = await explain(connection, statement, parameters)
        except CourseError:  # SET, for one, has no plan
            continue
        if plan.scans(table) and (sorts_by_distance(plan) or reads is None):
            reads = statement, parameters
            if sorts_by_distance(plan):
                break
    return None if reads is None else await explain(connection, *reads, analyze=True)


def sorts_by_distance(plan: Plan) -> bool:
    """True when a step of it puts rows in order of their distance from something, by an index or without one."""
    orders = [order for node in plan for order in (node.order_by or "", *node.sort_key)]
    return any(operator in order for order in orders for operator in OPERATORS)
