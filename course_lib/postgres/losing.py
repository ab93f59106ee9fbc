"""What can go wrong between finding a server and having a database on it, told apart by the errors' classes."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
from sqlalchemy.exc import DBAPIError

from course_lib.errors import CourseError
from course_lib.postgres.failures import DOCTOR

LOST = (
    asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError, asyncpg.InternalClientError, ConnectionError, FileNotFoundError, TimeoutError,
)  # fmt: skip
CLOSED = "connection is closed"  # asyncpg has one class for every misuse of a connection


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from, the driver's own error of SQLAlchemy's too."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__


def server_went_away(error: BaseException) -> bool:
    """True when a connection to the server broke, or none was to be had, anywhere in the chain of causes."""
    return any(
        isinstance(step, LOST)
        or (isinstance(step, asyncpg.InterfaceError) and CLOSED in str(step))
        or (isinstance(step, DBAPIError) and step.connection_invalidated)
        for step in causes(error)
    )


def refuses_its_owner(error: BaseException) -> bool:
    """True when the server answered with an error that neither its load nor its end explains.

    Of a server that is ours alone: its role, a database or a setting was changed by SQL, or its files are damaged.
    """
    codes = [str(getattr(step, "sqlstate", None) or "") for step in causes(error)]
    return any(code and not code.startswith(("08", "53", "57")) for code in codes)


def says_more_when_asked_again(error: BaseException) -> bool:
    """True when trying again from the start may succeed, or finds the sentence for a right that has been taken away."""
    changed = (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)
    return server_went_away(error) or any(isinstance(step, changed) for step in causes(error))


def opening_failure(error: BaseException) -> CourseError | None:
    """The sentence for an opening that failed twice; None for a CourseError, which says it itself, and for a bug."""
    if isinstance(error, CourseError):
        return None
    if server_went_away(error):
        return CourseError("The server went away twice while a database was being made on it.", DOCTOR)
    for step in causes(error):
        if isinstance(step, asyncpg.PostgresError):
            said = step.args[0] if step.args else step
            return CourseError(f"The server refused what a lesson needs: {said}.", DOCTOR)
    return None
