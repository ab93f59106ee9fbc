"""What PostgreSQL and the operating system answer, put into one sentence and the next command."""

from __future__ import annotations

import socket
from pathlib import Path

import asyncpg

from course_lib.errors import CourseError

DOCTOR = "Run: course doctor"


def startup_failure(text: str, folder: Path) -> CourseError:
    """Why the embedded server could not be made or started, from what initdb, postgres or the system said.

    Args:
        text: an error message, or a whole server log.
        folder: where the server was to live.
    """
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return CourseError(
            f"There is not enough room in {folder}: the course needs about 300 MB.",
            "Free some space, or set COURSE_HOME to a folder on another disk.",
        )
    if "Permission denied" in text or "Read-only file system" in text or "Not a directory" in text:
        return CourseError(
            f"The course cannot write to {folder}.",
            "Set COURSE_HOME to a folder that you own.",
        )
    if "could not map anonymous shared memory" in text or "Cannot allocate memory" in text:
        return CourseError("There is not enough free memory for PostgreSQL.", "Close something large and try again.")
    if "GLIBC_" in text or "cannot execute" in text or "Exec format error" in text:
        return CourseError(
            "The embedded PostgreSQL does not run on this system.",
            "Set DATABASE_URL to a PostgreSQL 18 with pgvector, for instance with: docker compose up -d",
        )
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
    return CourseError(f"The embedded PostgreSQL did not start: {last.strip()}", DOCTOR)


def connection_failure(error: BaseException, where: str) -> CourseError | None:
    """The sentence for a refused connection, or None when ``error`` is about something else.

    Args:
        error: what asyncpg or the operating system raised.
        where: the server as a person names it, without a password.
    """
    mend = "Check DATABASE_URL, or unset it to use the embedded server."
    if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
        return CourseError(f"{where} refused the user or the password.", mend)
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return CourseError(f"{where} has no database of that name.", mend)
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return CourseError(f"{where} has no connection left to give.", "Close some notebooks, then try again.")
    if isinstance(error, asyncpg.CannotConnectNowError):
        return CourseError(f"{where} is starting up or shutting down.", "Wait a few seconds, then try again.")
    if isinstance(error, socket.gaierror):
        return CourseError(f"There is no host of that name: {where}.", mend)
    if isinstance(error, TimeoutError):
        return CourseError(f"{where} did not answer in time.", mend)
    if isinstance(error, FileNotFoundError | ConnectionError | OSError):
        return CourseError(f"No PostgreSQL answers at {where}.", mend)
    if isinstance(error, ValueError | TypeError | asyncpg.InterfaceError | asyncpg.ClientConfigurationError):
        return CourseError(f"DATABASE_URL is not an address PostgreSQL understands: {error}.", mend)
    return None
