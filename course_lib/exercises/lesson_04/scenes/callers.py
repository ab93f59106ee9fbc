"""The caller of a search: has begun a transaction, and goes on with it afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises.lesson_04.scenes.server_counts import REPORT
from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import message_of, one_line
from course_lib.judging.trouble import sqlstate_of

SYNTAX_ERROR = "42601"  # a SQLSTATE
BEGUN = text("SELECT now()")  # the moment at which the transaction began

BEGUN_ALREADY = (
    "It raised {error}, because the caller had begun the transaction already. "
    "| `session.begin()` is for who owns the transaction; a part of one is `begin_nested`."
)
ENDS_IT = (
    "It ended the transaction that its caller had begun. "
    "| Whether that is committed or rolled back is the caller's to say. A setting of `SET LOCAL` ends with it too."
)


NO_PARAMETERS = (
    "The server refused `{statement}`: {said}. "
    "| `SET` takes no parameters. `set_config(name, value, true)` is a function, and takes them."
)


@contextmanager
def setting_without_parameters(attempt: Attempt) -> Iterator[None]:
    """A syntax error in a SET that was given a parameter is the mistake "no parameters"; no other one is."""
    try:
        yield
    except Wrong as wrong:
        error = wrong.__cause__
        statement = one_line(str(getattr(error, "statement", "")), 80)
        if error and sqlstate_of(error) == SYNTAX_ERROR and statement.upper().startswith("SET ") and "$1" in statement:
            raise attempt.wrong("no parameters", statement=statement, said=message_of(error)) from error
        raise


async def call_within(attempt: Attempt, session: AsyncSession, call: Callable[[], Awaitable[Any]]) -> Any:
    """Let ``call`` call the answer in a transaction that has begun; the server reports its counts when that ends.

    Raises:
        Wrong: "begun already" or "ends it", which the exercise has to name.
    """
    begun = await session.scalar(BEGUN)
    with calling_it(attempt, "begun already", InvalidRequestError, saying="already begun"):
        found = await call()
    try:
        goes_on = await session.scalar(BEGUN) == begun
        await session.execute(REPORT)
    except (DBAPIError, PendingRollbackError) as error:
        sentence = f"After `{attempt.exercise.answer}` its caller's transaction goes no further: {message_of(error)}."
        raise Wrong("transaction aborted", sentence, "Which of its statements failed, and who caught that?") from error
    attempt.expect(goes_on, "ends it")
    return found
