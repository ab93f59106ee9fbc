"""``classroom remove``, ``archive`` and ``destroy``: each can say first what it would do.

What goes are the class's own database and the databases with a mark of the course whose owner is one of its learners. A
database that a learner made without the course, or has renamed to keep, is not dropped: it is given to the teacher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from course_lib.classroom import board
from course_lib.classroom.credentials import class_folder, read_credentials, write_credentials
from course_lib.classroom.databases import CLASS, HOME, POOL, Owned, databases_of
from course_lib.classroom.naming import spoken_class
from course_lib.classroom.roles import act_as, require_class, set_login
from course_lib.classroom.sheets import write_sheets
from course_lib.errors import CourseError
from course_lib.judging.board.seat import class_database
from course_lib.postgres.databases import Database, quoted
from course_lib.postgres.files import remove_tree
from course_lib.postgres.server import Connection, Server

GOES = (HOME, POOL)


@dataclass(frozen=True)
class Ending:
    """What ends: roles, the databases that are dropped with them, and those that the teacher is given.

    ``size`` in bytes, of the dropped ones.
    """

    roles: list[str]
    dropped: list[str]
    kept: list[str]
    size: int


async def what_ends(connection: Connection, slug: str, login: str | None = None) -> Ending:
    """What ``destroy`` would do, or ``remove`` with one learner's login.

    Raises:
        CourseError: there is no such class of the caller's, or no such learner in it.
    """
    roles, groups = [role.name for role in await require_class(connection, slug)], [class_database(slug)]
    if login is not None:
        if f"{slug}_{login}" not in roles:
            names = ", ".join(role.removeprefix(f"{slug}_") for role in roles[:6])
            raise CourseError(
                f"Nobody in {spoken_class(slug)} has the login {login}.",
                f"Its logins: {names}{', …' if len(roles) > 6 else ''}",
            )
        roles, groups = [f"{slug}_{login}"], []
    owned = [one for one in await databases_of(connection, roles) if one.owner in roles]
    dropped = [one.name for one in owned if _goes(one)]
    kept = [one.name for one in owned if not _goes(one)]
    if groups:
        dropped += await _class_database(connection, slug)
    size = await connection.fetchval(
        "SELECT coalesce(sum(pg_database_size(datname)), 0)::bigint FROM pg_database WHERE datname = ANY ($1)", dropped
    )
    return Ending([*roles, *groups], dropped, kept, int(size))


def _goes(database: Owned) -> bool:
    mark = database.mark
    if mark is not None and mark.kind in GOES:
        return True
    if mark is None and database.newborn and database.name.startswith(database.owner):
        return True
    return Database(database.name, mark).droppable


async def _class_database(connection: Connection, slug: str) -> list[str]:
    me = await connection.fetchval("SELECT current_user")
    return [
        one.name
        for one in await databases_of(connection, [class_database(slug)])
        if one.name == class_database(slug)
        and (one.owner == me or await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = $1", me))
        and (one.newborn or (one.mark is not None and (one.mark.kind, one.mark.subject) == (CLASS, slug)))
    ]


async def end(server: Server, connection: Connection, ending: Ending) -> None:
    """Do it. Whoever is connected as one of the roles is disconnected, and cannot come back meanwhile."""
    await set_login(connection, ending.roles, allowed=False)
    await act_as(connection, ending.roles)
    await connection.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY ($1)", ending.roles
    )
    for name in ending.kept:
        await _hand_over(server, name, ending.roles)
    for name in ending.dropped:
        await connection.execute(f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false")
        await connection.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")
    for role in ending.roles:
        await connection.execute(f"DROP OWNED BY {quoted(role)}")  # rights on what is others'
        await connection.execute(f"DROP ROLE {quoted(role)}")


async def _hand_over(server: Server, name: str, roles: list[str]) -> None:
    """Give a database and what is in it to the role that logs in."""
    async with server.connection(name) as inside:
        for role in roles:
            await inside.execute(f"REASSIGN OWNED BY {quoted(role)} TO CURRENT_USER; DROP OWNED BY {quoted(role)}")


async def forget(server: Server, slug: str, login: str, role: str) -> None:
    """Take a learner out of the teacher's file, the sheets and the board."""
    lines = [line for known, line in read_credentials(slug).items() if known != login]
    write_credentials(slug, lines)
    write_sheets(slug, lines)
    async with server.connection(class_database(slug)) as inside:
        await board.forget_learner(inside, role)


def forget_class(slug: str) -> None:
    """Remove the teacher's file and the sheets: nobody can log in with what they say."""
    remove_tree(class_folder(slug))


async def archive(connection: asyncpg.Connection[Any], slug: str) -> list[str]:
    """Let no learner of the class log in any more, till ``create`` runs again; all databases stay. Returns the roles.

    Raises:
        CourseError: there is no such class of the caller's.
    """
    roles = [role.name for role in await require_class(connection, slug)]
    async with connection.transaction():
        await set_login(connection, roles, allowed=False)
    await connection.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY ($1)", roles)
    return roles
