"""What PostgreSQL and the operating system answer, put into one sentence and the next command."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import asyncpg

from course_lib.errors import CourseError

DOCTOR = "Run: course doctor"

MISLEADING = {"PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE", "PGSERVICEFILE", "PGTARGETSESSIONATTRS"}
"""libpq's variables that a full address does not override."""


def connection_failure(error: BaseException, where: str, *, embedded: bool = False) -> CourseError | None:
    """The sentence for a refused connection, or None when ``error`` is about something else.

    Args:
        error: what asyncpg or the operating system raised.
        where: the server as a person names it, without a password.
        embedded: whether it is the course's own.
    """
    mend = (
        "Run: course db down, then try again." if embedded
        else "Check DATABASE_URL, or unset it to use the embedded server."
    )  # fmt: skip
    if isinstance(error, asyncpg.PostgresError):
        return _refusal(error, where, mend)
    if isinstance(error, socket.gaierror):
        return CourseError(f"There is no host of that name: {where}.", mend)
    if isinstance(error, TimeoutError):
        return CourseError(f"{where} did not answer in time.", mend)
    if isinstance(error, ssl.SSLError) or (isinstance(error, ConnectionError) and "SSL" in str(error)):
        return CourseError(
            f"{where} and this program did not agree on an encrypted connection.",
            "Check sslmode in DATABASE_URL: require asks for encryption, disable does without.",
        )
    if isinstance(error, OSError):
        return CourseError(f"No PostgreSQL answers at {where}.", mend)
    if isinstance(error, ValueError | TypeError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        if embedded:
            misleading = " ".join(sorted(name for name in os.environ if name in MISLEADING)) or "PG…"
            return CourseError(
                f"A variable of your environment keeps programs from the course's server: {misleading}.",
                f"Run: unset {misleading}",
            )
        # what it says may quote the address, and the password with it
        return CourseError(f"DATABASE_URL is not an address PostgreSQL understands, or {where} is no PostgreSQL.", mend)
    return None


def _refusal(error: asyncpg.PostgresError, where: str, mend: str) -> CourseError:
    """The sentence for what a server answered instead of letting us in."""
    if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
        return CourseError(f"{where} refused the user or the password.", mend)
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return CourseError(f"{where} has no database of that name.", mend)
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return CourseError(f"{where} has no connection left to give.", "Close some notebooks, then try again.")
    if isinstance(error, asyncpg.CannotConnectNowError):
        return CourseError(f"{where} is starting up or shutting down.", "Wait a few seconds, then try again.")
    if sentence := disk_full(error):
        return sentence
    return CourseError(f"{where} refused the connection: {error.args[0] if error.args else error}.", mend)


def disk_full(error: BaseException | None) -> CourseError | None:
    """The sentence for a full disk on the server, wherever in the chain of causes it was said."""
    seen = 0
    while error is not None and seen < 20:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or getattr(error, "sqlstate", None) == asyncpg.DiskFullError.sqlstate:
            return CourseError("The server's disk is full.", "Free some space, then run the cell again.")
        error = error.__cause__ or error.__context__
        seen += 1
    return None
