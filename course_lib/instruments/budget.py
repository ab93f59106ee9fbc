"""A budget of statements: a block that sends more fails, and says which statement repeats, and from which lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.errors import CourseError
from course_lib.instruments.query_log import QueryLog, Statement
from course_lib.instruments.query_log.rendering import plural

LINES = 4  # of a project that are named in the sentence


class QueryBudgetFailed(AssertionError):
    """More statements than the budget, or none at all where some are expected."""


class QueryBudget:
    """``with QueryBudget(engine, 2) as log:`` lets the block send two statements; ``async with`` does the same.

    BEGIN, COMMIT, ROLLBACK and savepoints are not counted. A block that sends nothing fails as well unless the budget
    is 0: it may not have reached the engine at all. When the block itself raises, that error goes on.

    Args:
        engine: an AsyncEngine, an Engine, or None for all of this process.
        limit: the most statements; or the log of an earlier block, which must have been enough.

    Raises:
        CourseError: ``engine`` is no engine, or ``limit`` neither a count nor a log.
        QueryBudgetFailed: when the block ends.
    """

    def __init__(self, engine: AsyncEngine | Engine | None, limit: int | QueryLog) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int | QueryLog) or (isinstance(limit, int) and limit < 0):
            raise CourseError(
                f"A budget is a count of statements, or the log of an earlier block, and {limit!r} is neither.",
                "Write: with query_budget(2) as log:",
            )
        self._limit = limit
        self._log = QueryLog(engine)

    def __enter__(self) -> QueryLog:
        return self._log.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True  # pytest shows the line of the test instead
        self._log.__exit__()
        if kind is None and (sentence := self._failure()):
            raise QueryBudgetFailed(sentence)

    async def __aenter__(self) -> QueryLog:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.__exit__(kind, error, trace)

    def _failure(self) -> str:
        most = self._limit.count if isinstance(self._limit, QueryLog) else self._limit
        if self._log.count > most:
            enough = "were enough before" if isinstance(self._limit, QueryLog) else "is the budget"
            return f"{plural(self._log.count, 'statement')}, where {most:,} {enough}. {_repeated(self._log)}"
        if most and not self._log.count:
            return (
                f"No statement was seen, where up to {most:,} are expected: the block sends none, or not from this "
                "process, or on an engine that is not watched. If it is to send none, write query_budget(0)."
            )
        return ""


def _repeated(log: QueryLog) -> str:
    """The shape sent most often and its lines, and below that the whole log."""
    counts = Counter(statement.shape for statement in log.statements)
    shape, times = counts.most_common(1)[0]
    if times == 1:
        return f"None of them repeats:\n{log}"
    lines = _lines([statement for statement in log.statements if statement.shape == shape])
    return f"Sent {times:,} times:\n  {shape}\n  from {lines}\n{log}"


def _lines(statements: Sequence[Statement]) -> str:
    counts = Counter(statement.where or "a line that is not known" for statement in statements)
    named = [where for where, _ in counts.most_common(LINES)]
    return ", ".join(named) + (f" and {len(counts) - LINES:,} more" if len(counts) > LINES else "")
