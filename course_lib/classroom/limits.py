"""What a learner's role may use, and what the server needs for a class of them.

What is fenced: connections; temporary files, where the caller may set that. What a learner can set anew, so that it
guards against a mistake and not against a will: the time of a statement, and of a transaction that nobody goes on
with. What PostgreSQL cannot limit for a role: the size of its databases (``sizes`` shows who fills the disk), memory,
and the locks of the table that all databases of a server share.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from course_lib.errors import CourseError
from course_lib.postgres.reliance import SHORT

CONNECTIONS = 15
RESERVE = 10  # connections beside the learners': the teacher's board, checks, and a notebook
SETTINGS = {"statement_timeout": "'5min'", "idle_in_transaction_session_timeout": "'15min'"}
"""Longer than what ``reliance`` takes for short, so they hold in lessons too."""
TEMPORARY_FILES = "'1GB'"  # of one session
assert SHORT < 5 * 60_000

OTHERS = """
    SELECT coalesce(sum(rolconnlimit), 0)::int FROM pg_roles
    WHERE rolcanlogin AND rolconnlimit > 0 AND NOT rolsuper AND rolname <> ALL ($1)
"""


async def refuse_too_few_connections(
    connection: asyncpg.Connection[Any], roles: list[str], embedded: bool, where: str
) -> None:
    """Compare what the server allows with what all learners can hold at once, those of other classes too.

    Args:
        roles: those of the class as it will be.
        where: the server, as a person names it.

    Raises:
        CourseError: the server allows fewer.
    """
    row = await connection.fetchrow(
        """
        SELECT current_setting('max_connections')::int AS allowed,
               current_setting('superuser_reserved_connections')::int
               + current_setting('reserved_connections')::int AS reserved
        """
    )
    assert row is not None
    others = await connection.fetchval(OTHERS, roles)
    needed = len(roles) * CONNECTIONS + others + RESERVE + row["reserved"]
    if needed <= row["allowed"]:
        return
    beside = f", {others} for other roles with a limit" if others else ""
    raise CourseError(
        f"{len(roles)} learners with {CONNECTIONS} connections each{beside} and {RESERVE + row['reserved']} in reserve "
        f"make {needed}; {where} has max_connections = {row['allowed']}.",
        "Make the class smaller, or set DATABASE_URL to a larger server."
        if embedded
        else f"Its administrator runs: ALTER SYSTEM SET max_connections = {needed};   and restarts it.",
    )


async def role_settings(connection: asyncpg.Connection[Any]) -> dict[str, str]:
    """The settings that a learner's role is given: with ``temp_file_limit`` where the caller may set it."""
    may = await connection.fetchval("SELECT has_parameter_privilege(current_user, 'temp_file_limit', 'SET')")
    return SETTINGS | ({"temp_file_limit": TEMPORARY_FILES} if may else {})
