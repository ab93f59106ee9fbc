"""What PostgreSQL and the operating system answer, put into one sentence and the next command."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import asyncpg

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.masking import masked, short

DOCTOR = f"Run: {command('doctor')}"

MISLEADING = {
    "PGGSSLIB", "PGSERVICE", "PGSERVICEFILE", "PGSSLCERT", "PGSSLCRL", "PGSSLKEY", "PGSSLMAXPROTOCOLVERSION",
    "PGSSLMINPROTOCOLVERSION", "PGSSLMODE", "PGSSLNEGOTIATION", "PGSSLROOTCERT", "PGTARGETSESSIONATTRS",
}  # fmt: skip
"""libpq's variables that asyncpg reads, and that a full address does not override."""


def connection_failure(
    error: BaseException, where: str, *, embedded: bool = False, sslmode: str = ""
) -> CourseError | None:
    """The sentence for a refused connection, or None when ``error`` is about something else.

    Args:
        error: what asyncpg or the operating system raised.
        where: the server as a person names it, without a password.
        embedded: whether it is the course's own.
        sslmode: what the address asks for, where that is known.
    """
    where = short(where)
    mend = (
        f"Run: {command('db down')}, then try again." if embedded
        else "Check DATABASE_URL, or unset it to use the embedded server."
    )  # fmt: skip
    if isinstance(error, asyncpg.PostgresError):
        return _refusal(error, where, mend)
    if isinstance(error, OSError):
        return _unreached(error, where, mend, may_do_without=sslmode in ("allow", "prefer"))
    if isinstance(error, UnicodeError):  # no name of a host: a label is empty or longer than 63 signs
        return CourseError(f"There is no host of that name: {where}.", mend)
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return CourseError(f"{where} is not of the kind that target_session_attrs asks for.", mend)
    if isinstance(error, asyncpg.InternalClientError):
        return CourseError(f"{where} is no PostgreSQL: what it answers is not PostgreSQL's protocol.", mend)
    if isinstance(error, ValueError | TypeError | asyncpg.InterfaceError):
        # what it says may quote the address, and the password with it
        if misleading := " ".join(sorted(name for name in os.environ if name in MISLEADING)):
            kept = "the course's server" if embedded else where
            return CourseError(
                f"A variable of your environment keeps programs from {kept}: {misleading}.", f"Run: unset {misleading}"
            )
        return CourseError(f"asyncpg cannot connect to {where} in the way that it is asked to.", mend)
    return None


def _unreached(error: OSError, where: str, mend: str, *, may_do_without: bool) -> CourseError:
    """The sentence for a connection that did not come about; each kind is an exception of its own."""
    if isinstance(error, socket.gaierror):
        return CourseError(f"There is no host of that name: {where}.", mend)
    if isinstance(error, TimeoutError):
        return CourseError(f"{where} did not answer in time.", mend)
    if isinstance(error, ssl.SSLCertVerificationError):
        return CourseError(
            f"The certificate of {where} could not be verified: {short(error.verify_message, 200)}.",
            "Name the certificate of its authority as sslrootcert in DATABASE_URL, and the host as it stands there.",
        )
    encryption = "Check sslmode in DATABASE_URL: require asks for encryption, disable does without."
    if isinstance(error, ssl.SSLError):
        return CourseError(f"{where} and this program did not agree on an encrypted connection.", encryption)
    if type(error) is ConnectionError:  # asyncpg's own: the answer was not yes; and a plain no would have done here
        if may_do_without:
            return CourseError(f"{where} is no PostgreSQL: asked for encryption, it says neither yes nor no.", mend)
        return CourseError(f"{where} does not offer the encrypted connection that it is asked for.", encryption)
    if isinstance(error, ConnectionResetError):
        return CourseError(f"{where} closed the connection without a word.", mend)
    if isinstance(error, PermissionError):
        return CourseError(f"This user of the system may not connect to {where}.", mend)
    return CourseError(f"No PostgreSQL answers at {where}.", mend)


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
    if isinstance(error, asyncpg.ConnectionDoesNotExistError):  # asyncpg's own: no server says that
        return CourseError(f"{where} closed the connection without a word.", mend)
    if sentence := disk_full(error):
        return sentence
    said = short(masked(str(error.args[0] if error.args else error)), 200)
    if isinstance(error, asyncpg.UndefinedObjectError | asyncpg.InvalidParameterValueError):
        mend = "Take that option out of DATABASE_URL, or give it a value that the server takes."
    return CourseError(f"{where} refused the connection: {said}.", mend)


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
