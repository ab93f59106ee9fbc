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
from course_lib.classroom.databases import classes_of
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
    FROM pg_catalog.pg_auth_members a
    JOIN pg_catalog.pg_roles g ON g.oid = a.roleid AND g.rolname = current_database()
    JOIN pg_catalog.pg_roles m ON m.oid = a.member AND NOT a.admin_option
    LEFT JOIN board.learners l ON l.learner = m.rolname
    GROUP BY m.rolname, l.shown, l.on_board
"""
STANDINGS = "SELECT * FROM board.standings"
MAY_READ = """
    SELECT has_table_privilege(c.oid, 'SELECT')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
    WHERE nspname = 'board' AND relname = 'standings'
"""

IN_CLASS = "SELECT true FROM pg_catalog.pg_roles WHERE rolname = $1 AND pg_has_role(oid, 'MEMBER')"


@asynccontextmanager
async def enter_class(class_name: str) -> AsyncIterator[Connection]:
    """A connection to the class database, for whoever owns it.

    Raises:
        CourseError: there is no server, or no such class on it, or this role may not look at its board.
    """
    server = await find_class_server()
    async with server.connection() as connection:
        await _require_class(connection, class_name, spoken(server.url))
        async with server.connection(class_database(class_name), as_in=connection) as inside:
            await _require_class(inside, class_name, spoken(server.url))  # it may be another one by now
            if not await inside.fetchval(MAY_READ):
                raise _for_its_teacher(class_name)
            yield inside


async def _require_class(connection: Connection, class_name: str, where: str) -> None:
    there = await classes_of(connection)
    if class_name not in there:
        if await connection.fetchval(IN_CLASS, class_database(class_name)):
            raise _for_its_teacher(class_name)
        classes = f"Those of yours: {', '.join(there)}." if there else "There is none of yours yet."
        raise CourseError(
            f"There is no class {class_name} on {where}.",
            f"{classes} To make one: {command('classroom create ROSTER.csv')}",
        )


def _for_its_teacher(class_name: str) -> CourseError:
    return CourseError(
        f"The board of {class_name} is for its teacher, and this role is not.",
        f"Set DATABASE_URL to the teacher's address. What it says of you: {command('classroom me')}",
    )


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
