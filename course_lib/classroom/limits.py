"""What a learner's role may use, and what the server needs for a class of them.

What is fenced: connections; temporary files, where the caller may set that. What a learner can set anew, so that it
guards against a mistake and not against a will: the time of a statement, and of a transaction that nobody goes on
with. What PostgreSQL cannot limit for a role: the size of its databases (``sizes`` shows who fills the disk), memory,
and the locks of the table that all databases of a server share. Nor does a limit of a role count who has not logged in
yet: two thousand connections that said nothing kept everybody out of an embedded server for its ten seconds.

How many connections a learner needs was measured on every exercise and drill, as a learner's role over TCP with a
lesson open beside the check, on two busy cores. 5.6 holds most: it was judged in none of three tries with a limit of
13, in most with 14 to 16, in all of fifteen with 17 to 20, and was seen to hold 17, some of them closing. Next come 5.5
with 13, 3.8 with 12, 6.8 with 11; most hold four to six. A lesson whose cell had thirty sessions at once kept four
more, and the board takes one for a moment. With too few a check judges nothing and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from course_lib.errors import CourseError
from course_lib.postgres.reliance import SHORT

CONNECTIONS = 20
RESERVE = 10  # connections beside the learners': the teacher's board, checks, and a notebook
SETTINGS = {"statement_timeout": "'5min'", "idle_in_transaction_session_timeout": "'15min'"}
"""Longer than what ``reliance`` takes for short, so they hold in lessons too."""
TEMPORARY_FILES = "'1GB'"  # of one session
assert SHORT < 5 * 60_000

OTHERS = """
    SELECT coalesce(sum(rolconnlimit), 0)::int FROM pg_roles
    WHERE rolcanlogin AND rolconnlimit > 0 AND NOT rolsuper AND rolname <> ALL ($1)
"""


@dataclass(frozen=True)
class Need:
    """Connections: of the class, of other roles that have a limit, kept in reserve; and what the server allows."""

    own: int
    others: int
    reserve: int
    allowed: int

    @property
    def total(self) -> int:
        return self.own + self.others + self.reserve

    @property
    def met(self) -> bool:
        return self.total <= self.allowed


async def connections_needed(connection: asyncpg.Connection[Any], roles: list[str]) -> Need:
    """What all learners can hold at once, those of other classes too, beside what the server allows.

    Args:
        roles: those of the class as it will be.
    """
    row = await connection.fetchrow(
        """
        SELECT current_setting('max_connections')::int,
               current_setting('superuser_reserved_connections')::int + current_setting('reserved_connections')::int
        """
    )
    assert row is not None
    others = await connection.fetchval(OTHERS, roles)
    return Need(len(roles) * CONNECTIONS, others, RESERVE + row[1], row[0])


async def refuse_too_few_connections(
    connection: asyncpg.Connection[Any], roles: list[str], embedded: bool, where: str
) -> None:
    """Raise when the server allows fewer connections than the class needs.

    Args:
        where: the server, as a person names it.

    Raises:
        CourseError: with all the numbers.
    """
    need = await connections_needed(connection, roles)
    if need.met:
        return
    beside = f", {need.others} for other roles with a limit" if need.others else ""
    raise CourseError(
        f"{len(roles)} learners with {CONNECTIONS} connections each{beside} and {need.reserve} in reserve "
        f"make {need.total}; {where} has max_connections = {need.allowed}.",
        "Make the class smaller, or set DATABASE_URL to a larger server." if embedded else more_connections(need),
    )


def more_connections(need: Need) -> str:
    """What whoever runs the server does about it."""
    return f"Its administrator runs: ALTER SYSTEM SET max_connections = {need.total};   and restarts it."


async def role_settings(connection: asyncpg.Connection[Any]) -> dict[str, str]:
    """The settings that a learner's role is given: with ``temp_file_limit`` where the caller may set it."""
    may = await connection.fetchval("SELECT has_parameter_privilege(current_user, 'temp_file_limit', 'SET')")
    return SETTINGS | ({"temp_file_limit": TEMPORARY_FILES} if may else {})
