"""``classroom remove``, ``archive`` and ``destroy``: each can say first what it would do.

What is dropped are the class's own database, and those of its learners that have a mark of the course and the name that
the course gave them. What a learner made without the course, has renamed to keep, or has in somebody else's database
is kept: it goes to a role without a login, see ``roles.make_keeper``, which the teacher is a member of. Roles are
dropped last, so whoever is interrupted runs it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from course_lib.classroom import board
from course_lib.classroom.credentials import read_credentials, remove_credentials, write_credentials
from course_lib.classroom.databases import CLASS, classes_of, databases_of
from course_lib.classroom.naming import keeper_name, role_name, spoken_class
from course_lib.classroom.roles import act_as, has_keeper, make_keeper, require_class, set_login
from course_lib.classroom.sheets import remove_sheets, write_sheets
from course_lib.errors import CourseError
from course_lib.judging.board.seat import class_database
from course_lib.postgres.databases import quoted
from course_lib.postgres.server import Connection, Server

WHERE = """
    SELECT datname AS name, datallowconn AS open, has_database_privilege(d.oid, 'CONNECT') AS may_enter,
           pg_has_role(datdba, 'USAGE') AS ours
    FROM pg_database d WHERE datname <> ALL ($2) AND (
        EXISTS (SELECT FROM pg_shdepend s JOIN pg_roles r ON r.oid = refobjid
                WHERE refclassid = 'pg_authid'::regclass AND rolname = ANY ($1) AND s.dbid = d.oid)
        OR datdba IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($1)))
    ORDER BY d.oid
"""
"""The databases in which a role owns something or has a right, and those that it owns."""


@dataclass(frozen=True)
class Ending:
    """What ends: roles, the databases that are dropped with them, and those that are kept, by the class's keeper.

    ``login`` of the one learner, None for the whole class; ``size`` in bytes, of the dropped ones.
    """

    slug: str
    login: str | None
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
        if role_name(slug, login) not in roles:
            names = ", ".join(role.removeprefix(f"{slug}_") for role in roles[:6])
            raise CourseError(
                f"Nobody in {spoken_class(slug)} has the login {login}.",
                f"Its logins: {names}{', …' if len(roles) > 6 else ''}",
            )
        roles, groups = [role_name(slug, login)], []
    owned = [one for one in await databases_of(connection, roles) if one.owner in roles]
    dropped = [one.name for one in owned if one.goes]
    kept = [one.name for one in owned if not one.goes]
    if groups:
        dropped += await _class_database(connection, slug)
    size = await connection.fetchval(
        "SELECT coalesce(sum(pg_database_size(datname)), 0)::bigint FROM pg_database WHERE datname = ANY ($1)", dropped
    )
    return Ending(slug, login, [*roles, *groups], dropped, kept, int(size))


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
    """Do it. Whoever is connected as one of the roles is disconnected, and cannot come back meanwhile.

    Raises:
        CourseError: a role has something in a database that the caller may not enter, or in which it may not be
            taken from it. Once that is mended, the same again finishes it.
    """
    await act_as(connection, ending.roles)
    await _refuse_shut_doors(connection, ending)
    await set_login(connection, ending.roles, allowed=False)
    await _disconnect(connection, ending.roles)
    if ending.login is None:
        forget_class(ending.slug)
    else:
        await forget(server, ending.slug, ending.login, ending.roles[0])
    for name in ending.dropped:
        await _drop(connection, name)
    if await connection.fetch(WHERE, ending.roles, []):
        await _hand_over(server, connection, ending)
    for role in ending.roles:  # the class's own last: by it the class is known
        await _drop_role(connection, role)
    await _drop_keeper_of_nothing(connection, ending.slug)


async def _disconnect(connection: asyncpg.Connection[Any], roles: list[str]) -> None:
    await connection.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY ($1)", roles)


async def _refuse_shut_doors(connection: Connection, ending: Ending) -> None:
    for name, _, may_enter, ours in await connection.fetch(WHERE, ending.roles, ending.dropped):
        if not may_enter and not ours:
            roles = "; ".join(f"DROP OWNED BY {quoted(role)}" for role in ending.roles)
            raise CourseError(
                f"In the database {name}, which you may not enter, learners who are to go have something.",
                f"Its administrator runs there: {roles};   then run it again.",
            )


async def _drop(connection: Connection, name: str) -> None:
    if await connection.fetchval("SELECT datistemplate FROM pg_database WHERE datname = $1", name):
        await connection.execute(f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false")
    await connection.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")


async def _hand_over(server: Server, connection: Connection, ending: Ending) -> None:
    """Give what is left to the class's keeper, and take all rights from the roles, in one database after the other."""
    keeper = quoted(await make_keeper(connection, ending.slug))
    for role in ending.roles:  # who takes an object must have the rights that its place in a schema needs
        await connection.execute(f"GRANT {quoted(role)} TO {keeper} WITH INHERIT TRUE, SET FALSE")
    for name, is_open, _, _ in await connection.fetch(WHERE, ending.roles, []):
        database = quoted(name)
        if name in ending.kept:
            is_open = True
            await connection.execute(
                f"ALTER DATABASE {database} OWNER TO {keeper};"
                f"REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC;"
                f"GRANT ALL ON DATABASE {database} TO {keeper};"
                f"ALTER DATABASE {database} CONNECTION LIMIT -1"
            )
        await connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
        try:
            async with server.connection(name, as_in=connection) as inside:
                for role in ending.roles:
                    owner = quoted(role)
                    await inside.execute(f"REASSIGN OWNED BY {owner} TO {keeper}; DROP OWNED BY {owner}")
        finally:
            if not is_open:
                await connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")


async def _drop_role(connection: Connection, role: str) -> None:
    await connection.execute(f"DROP OWNED BY {quoted(role)}")  # rights on what belongs to the whole server
    try:
        await connection.execute(f"DROP ROLE {quoted(role)}")
    except asyncpg.DependentObjectsStillExistError as error:
        raise CourseError(
            f"The role {role} cannot be dropped: {error.detail or error}",
            f"Who owns that takes it from {role}, then run it again.",
        ) from error


async def _drop_keeper_of_nothing(connection: Connection, slug: str) -> None:
    query = "SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1::regrole"
    if await has_keeper(connection, slug) and not await connection.fetch(query, keeper_name(slug)):
        await connection.execute(f"DROP ROLE {quoted(keeper_name(slug))}")


async def forget(server: Server, slug: str, login: str, role: str) -> None:
    """Take a learner out of the teacher's file, the sheets and the board; what is gone already is no matter."""
    lines = [line for known, line in read_credentials(slug).items() if known != login]
    write_sheets(slug, lines)
    write_credentials(slug, lines)
    async with server.connection() as connection:
        if slug in await classes_of(connection):
            async with server.connection(class_database(slug), as_in=connection) as inside:
                await board.forget_learner(inside, role)


def forget_class(slug: str) -> None:
    """Remove the teacher's file and the sheets: nobody can log in with what they say."""
    remove_sheets(slug)
    remove_credentials(slug)


async def archive(connection: asyncpg.Connection[Any], slug: str) -> list[str]:
    """Let no learner of the class log in any more, till ``create`` runs again; all databases stay. Returns the roles.

    Raises:
        CourseError: there is no such class of the caller's.
    """
    roles = [role.name for role in await require_class(connection, slug)]
    async with connection.transaction():
        await set_login(connection, roles, allowed=False)
    await _disconnect(connection, roles)
    return roles
