"""A table that is not there: an error that no task speaks of, and that its caller has to learn of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from course_lib.judging.asking import ask
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import quoted

SWALLOWED = (
    "When `{table}` could not be found, no error reached the caller: it returned {said}. "
    "| Catch only what you have an answer for, and let everything else rise."
)


async def expect_errors_to_rise(
    attempt: Attempt, table: str, *arguments: Any, call: Callable[[], Awaitable[Any]] | None = None
) -> None:
    """Call the answer with these arguments, or ``call``, without ``table``. It does not come back: to be asked last.

    Raises:
        Wrong: "swallowed", which the exercise has to name.
    """
    await attempt.sql(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        said = await (call() if call else ask(attempt, *arguments))
    except Wrong as wrong:
        if wrong.mistake != "raised":
            raise
    else:
        raise attempt.wrong("swallowed", table=table, said=quoted(said))
