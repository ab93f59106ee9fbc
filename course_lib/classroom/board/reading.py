"""Reading a class's board off its database, as the teacher."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg

from course_lib.classroom.board.choosing import all_exercises, columns
from course_lib.classroom.board.names import shown_names
from course_lib.classroom.board.standing import Board, Learner, Standing
from course_lib.classroom.server import find_class_server
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.judging.board.seat import class_database
from course_lib.postgres.address import spoken

Connection: TypeAlias = "asyncpg.Connection[Any]"

LATELY = timedelta(hours=12)  # what was tried before is no longer on today's board, if nobody asks for it

# whoever creates a role becomes a member of it with ADMIN OPTION, and so the teacher of the group
LEARNERS = """
    SELECT m.rolname AS role, coalesce(l.shown, '') AS shown, coalesce(l.on_board, true) AS on_board
    FROM pg_auth_members a
    JOIN pg_roles g ON g.oid = a.roleid AND g.rolname = current_database()
    JOIN pg_roles m ON m.oid = a.member AND NOT a.admin_option
    LEFT JOIN board.learners l ON l.learner = m.rolname
    GROUP BY m.rolname, l.shown, l.on_board
"""
STANDINGS = "SELECT * FROM board.standings"
MAY_READ = """
    SELECT has_table_privilege(c.oid, 'SELECT') FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = 'board' AND relname = 'standings'
"""
CLASSES = r"""
    SELECT substr(datname, 14) FROM pg_database
    WHERE datname LIKE 'course\_class\_%' AND has_database_privilege(oid, 'CONNECT') ORDER BY 1
"""


@asynccontextmanager
async def enter_class(class_name: str) -> AsyncIterator[Connection]:
    """A connection to the class database, for whoever owns it.

    Raises:
        CourseError: there is no server, or no such class on it, or this role may not look at its board.
    """
    server = await find_class_server()
    async with server.connection() as connection:
        there = [str(row[0]) for row in await connection.fetch(CLASSES)]
    if class_name not in there:
        classes = f"Those there are: {', '.join(there)}." if there else "There is none yet."
        raise CourseError(
            f"There is no class {class_name} on {spoken(server.url)}.",
            f"{classes} To make one: {command('classroom create ROSTER.csv')}",
        )
    async with server.connection(class_database(class_name)) as connection:
        if not await connection.fetchval(MAY_READ):
            raise CourseError(
                f"The board of {class_name} is for its teacher, and this role is not.",
                f"Set DATABASE_URL to the teacher's address. What it says of you: {command('classroom me')}",
            )
        yield connection


async def read_board(connection: Connection, class_name: str, lessons: Sequence[str] | None = None) -> Board:
    """What stands on the board at this moment.

    Args:
        connection: to the class database, as its owner.
        lessons: the columns, see ``choosing.columns``.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        people = await connection.fetch(LEARNERS)
        rows = await connection.fetch(STANDINGS)
        at = await connection.fetchval("SELECT now()")
    names = shown_names({row["role"]: row["shown"] for row in people}, class_name)
    learners = [Learner(row["role"], names[row["role"]], row["on_board"]) for row in people]
    standings = {
        (row["learner"], row["exercise"]): Standing(
            row["state"], row["mistake"], row["tries"], row["first_try"], row["seen_at"]
        )
        for row in rows
    }
    tried = {id for (_, id), standing in standings.items() if at - standing.seen_at <= LATELY}
    return Board(
        class_name, at, sorted(learners, key=lambda one: one.name.casefold()), columns(lessons, tried), standings,
        all_exercises(),
    )  # fmt: skip
