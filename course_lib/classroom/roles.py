"""The roles of a class: one that everybody of it is a member of, and one for each learner; made all at once or not.

A role is the class's when its comment is a mark of that class, which only its maker can write, and its name is such as
the class gives. Names alone prove nothing, nor does a mark on a role that somebody has called otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import asyncpg

from course_lib.classroom.credentials import Credentials, verifier
from course_lib.classroom.limits import CONNECTIONS, role_settings
from course_lib.classroom.naming import keeper_name, spoken_class
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.judging.board.seat import class_database
from course_lib.postgres.databases import literal, quoted
from course_lib.postgres.marks import LONGEST, Mark
from course_lib.texts import printable

GROUP, LEARNER, KEEPER = "group", "learner", "keeper"  # kinds of marks

MARKED = f"""
    SELECT rolname AS name, rolcanlogin AS may_log_in,
           left(shobj_description(oid, 'pg_authid'), {LONGEST + 1}) AS comment
    FROM pg_roles WHERE shobj_description(oid, 'pg_authid') <> '' ORDER BY rolname
"""


@dataclass(frozen=True)
class Role:
    """A role of a class. ``kind`` as in its mark; ``may_log_in`` is False for a group, and once archived."""

    name: str
    slug: str
    kind: str
    may_log_in: bool


async def marked_roles(connection: asyncpg.Connection[Any]) -> list[Role]:
    """Every role of every class on the server, by name."""
    found = []
    for name, may_log_in, comment in await connection.fetch(MARKED):
        mark = Mark.parse(comment)
        if mark is not None and _fits(name, mark):
            found.append(Role(name, mark.subject, mark.kind, may_log_in))
    return found


def _fits(name: str, mark: Mark) -> bool:
    if mark.kind in (GROUP, KEEPER):
        return name == (class_database if mark.kind == GROUP else keeper_name)(mark.subject)
    return mark.kind == LEARNER and name.startswith(f"{mark.subject}_")


async def learners_of(connection: asyncpg.Connection[Any], slug: str) -> list[Role]:
    """The learners' roles of a class, by name."""
    return [role for role in await marked_roles(connection) if (role.slug, role.kind) == (slug, LEARNER)]


async def require_class(connection: asyncpg.Connection[Any], slug: str) -> list[Role]:
    """The learners' roles of a class that is the caller's, by name.

    Raises:
        CourseError: there is no such class on this server, or another role has made it.
    """
    roles = await marked_roles(connection)
    group = next((role.name for role in roles if (role.slug, role.kind) == (slug, GROUP)), None)
    if group is None:
        there = sorted({role.slug for role in roles if role.kind == GROUP})
        raise CourseError(
            f"There is no class called {slug} on this server.",
            f"There is: {printable(', '.join(there))}. Name it: --name SLUG"
            if there
            else f"Make it: {command('classroom create ROSTER.csv')}",
        )
    if not await connection.fetchval("SELECT pg_has_role($1::name, 'MEMBER WITH ADMIN OPTION')", group):
        raise CourseError(
            f"{spoken_class(slug, 'The')} was made by another role than the one that DATABASE_URL names.",
            "Let DATABASE_URL name the server with the teacher's role.",
        )
    return [role for role in roles if (role.slug, role.kind) == (slug, LEARNER)]


async def refuse_strangers(connection: asyncpg.Connection[Any], slug: str, names: Iterable[str]) -> None:
    """Raise when a role that the class wants is there already and is somebody else's.

    Raises:
        CourseError: with the first of them.
    """
    ours = {role.name for role in await marked_roles(connection) if role.slug == slug}
    wanted = [class_database(slug), *names]
    for (name,) in await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname = ANY ($1)", wanted):
        if name not in ours:
            raise CourseError(
                f"There is a role {name} on the server, and it is not of {spoken_class(slug)}.",
                "Give the class another short name: --name SLUG",
            )


async def make_roles(
    connection: asyncpg.Connection[Any], slug: str, lines: list[Credentials], createdb: bool
) -> list[str]:
    """Make what is missing and set what differs; within the caller's transaction. Returns the names of those made.

    Args:
        lines: the whole class; each gets the password that stands there, since that is on the sheet.
        createdb: learners may make databases.
    """
    group, there = class_database(slug), {role.name for role in await marked_roles(connection) if role.slug == slug}
    if group not in there:
        await connection.execute(f"CREATE ROLE {quoted(group)} NOLOGIN; {_comment(group, GROUP, slug)}")
    settings = await role_settings(connection)
    limits = f"LOGIN {'' if createdb else 'NO'}CREATEDB CONNECTION LIMIT {CONNECTIONS}"
    made = []
    for line in lines:
        name = quoted(line.role)
        password = f"PASSWORD {literal(verifier(line.password))}"
        if line.role not in there:
            made.append(line.role)
            await connection.execute(
                f"CREATE ROLE {name} NOSUPERUSER NOCREATEROLE INHERIT {limits} {password};"
                f"{_comment(line.role, LEARNER, slug)}"
            )
        else:
            await connection.execute(f"ALTER ROLE {name} {limits} {password}")
        await connection.execute(
            f"GRANT {quoted(group)} TO {name} WITH INHERIT TRUE, SET FALSE, ADMIN FALSE;"
            + ";".join(f"ALTER ROLE {name} SET {key} = {text}" for key, text in settings.items())
        )
    await act_as(connection, made)
    return made


async def act_as(connection: asyncpg.Connection[Any], roles: Iterable[str]) -> None:
    """Let the role that logs in make databases for these, drop them, and drop what else they have.

    A superuser can. Another role is a member with ADMIN OPTION of those it has made, which is not enough for that.
    """
    if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        for name in roles:
            await connection.execute(f"GRANT {quoted(name)} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE")


async def make_keeper(connection: asyncpg.Connection[Any], slug: str) -> str:
    """The role that owns what learners leave behind, made when there is none. Returns its name.

    PostgreSQL runs what hangs on a table (index expressions, rules, views, functions with SECURITY DEFINER) as the
    table's owner, at times by itself: what learners wrote must not belong to the teacher, who may be a superuser.

    Raises:
        CourseError: there is a role of that name, and it is somebody else's.
    """
    name = keeper_name(slug)
    there = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name)
    if not there:
        async with connection.transaction():
            await connection.execute(
                f"CREATE ROLE {quoted(name)} NOSUPERUSER NOCREATEROLE NOLOGIN; {_comment(name, KEEPER, slug)}"
            )
    elif not await has_keeper(connection, slug):
        raise CourseError(
            f"There is a role {name} on the server, and it is not of {spoken_class(slug)}.",
            "Its maker gives it another name: ALTER ROLE … RENAME TO …;",
        )
    await act_as(connection, [name])
    return name


async def has_keeper(connection: asyncpg.Connection[Any], slug: str) -> bool:
    """Whether that role is there and the caller's."""
    name = keeper_name(slug)
    if not any((role.name, role.slug, role.kind) == (name, slug, KEEPER) for role in await marked_roles(connection)):
        return False
    ours: bool = await connection.fetchval("SELECT pg_has_role($1::name, 'MEMBER WITH ADMIN OPTION')", name)
    return ours


def _comment(role: str, kind: str, slug: str) -> str:
    return f"COMMENT ON ROLE {quoted(role)} IS {literal(str(Mark.of_this_process(kind, slug)))}"


async def set_login(connection: asyncpg.Connection[Any], roles: Iterable[str], allowed: bool) -> None:
    """Let learners log in, or no longer."""
    word = "LOGIN" if allowed else "NOLOGIN"
    await connection.execute(";".join(f"ALTER ROLE {quoted(name)} {word}" for name in roles))
