"""Templates: databases built once, by migrations and seed, and copied for every lesson that starts.

Each role has its own, since a copy keeps the owners of what is in it. A template is known by its owner and its mark,
not by its name, which anybody could take; and what it holds is compared with what was built, since disks fail.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

import asyncpg
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.postgres.contents import WAY, digest, is_unreadable, read_all
from course_lib.postgres.databases import (
    OTHERS_DOING,
    Database,
    create,
    drop,
    generated_name,
    list_databases,
    publish,
)
from course_lib.postgres.failures import disk_full
from course_lib.postgres.losing import server_went_away
from course_lib.postgres.marks import Mark
from course_lib.postgres.server import Server

LOCK = 1_202_612  # advisory lock: one builder at a time
LOCK_SECONDS = 30  # a builder takes two; whoever holds the lock for longer is none, or has a reason we cannot know
KEPT = 12  # templates of a role, four to a checkout; older ones belong to checkouts that moved on
STATE_DIGITS = 12
SORTED_ALIKE = "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"  # on every server

_read: set[str] = set()  # templates of which this process has read a copy; names are never used twice
_suspect: set[str] = set()  # those whose copy was being read when the server went away

Build = Callable[[URL], Awaitable[None]]


async def ensure_template(
    server: Server, connection: asyncpg.Connection[Any], recipe: str, fingerprint: str, build: Build
) -> Database:
    """The template of that recipe and state, built first when this role has none.

    Args:
        recipe: what it holds, for example ``base``.
        fingerprint: a hash of everything ``build`` depends on.
        build: fills a new, empty database; it must close its connections.

    Raises:
        CourseError: the server refuses the pgvector extension to this role, or its disk is full.
    """
    if template := await _find(connection, recipe, fingerprint):
        return template
    locked = await _lock(connection)
    try:
        if (template := await _find(connection, recipe, fingerprint)) is None:
            template = await _build(server, connection, recipe, fingerprint, build)
            await _drop_old(connection)
    finally:
        if locked and not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)
    return template


async def _lock(connection: asyncpg.Connection[Any]) -> bool:
    """Wait for the other builders. False when that took too long: two templates of one kind do no harm."""
    await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    except asyncpg.LockNotAvailableError:
        return False
    finally:
        await connection.execute("SET lock_timeout = 0")
    return True


async def _templates(connection: asyncpg.Connection[Any]) -> list[Database]:
    """Those of this role, oldest first."""
    return [database for database in await list_databases(connection, clients=False) if _is_template(database)]


def _is_template(database: Database) -> bool:
    return database.template and database.droppable and database.mark is not None and database.mark.kind == "template"


async def _find(connection: asyncpg.Connection[Any], recipe: str, fingerprint: str) -> Database | None:
    for template in await _templates(connection):
        mark = template.mark
        if mark and (mark.subject, mark.state) == (recipe, _state(fingerprint)) and mark.contents:
            return template
    return None


def _state(fingerprint: str) -> str:
    """What a template depends on: how it was built, and how its contents are told."""
    return sha256(f"{fingerprint}{WAY}".encode()).hexdigest()[:STATE_DIGITS]


async def _build(
    server: Server, connection: asyncpg.Connection[Any], recipe: str, fingerprint: str, build: Build
) -> Database:
    partial = generated_name("course_build")
    mark = Mark.of_this_process("build", recipe)
    origin, options = await _origin(connection)
    await create(connection, partial, origin, mark, options, server.settings)
    try:
        await _create_extension(server, partial)
        await build(server.url.set(database=partial))
        async with server.connection(partial) as inside:
            await inside.execute("VACUUM (FREEZE, ANALYZE)")  # every copy starts with the same statistics
            contents = await digest(inside)
        mark = replace(mark, kind="template", state=_state(fingerprint), contents=contents)
        name = f"course_template_{recipe}_{secrets.token_hex(6)}"
        await publish(connection, partial, name, mark)
    except BaseException as error:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # else the next sweep takes it
            await drop(connection, partial)
        if sentence := disk_full(error):
            raise sentence from error
        raise
    return Database(name, mark, template=True)


async def _origin(connection: asyncpg.Connection[Any]) -> tuple[str, str]:
    """The database to build from, and options. template0 is as PostgreSQL made it, and lets us choose how text sorts;
    only where an administrator has to create the extension, it is template1, in which that was done."""
    allowed = await connection.fetchval(
        """
        SELECT rolsuper OR EXISTS (
            SELECT FROM pg_available_extension_versions WHERE name = 'vector' AND (trusted OR NOT superuser)
        ) FROM pg_roles WHERE rolname = current_user
        """
    )
    return ("template0", SORTED_ALIKE) if allowed else ("template1", "")


async def _create_extension(server: Server, database: str) -> None:
    async with server.connection(database) as inside:
        try:
            await inside.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except asyncpg.InsufficientPrivilegeError as error:
            raise CourseError(
                "Your role may not create the extension pgvector, which only an administrator can allow.",
                "Ask the administrator to run, in database template1: CREATE EXTENSION vector;",
            ) from error


async def _drop_old(connection: asyncpg.Connection[Any]) -> None:
    """Keep the newest templates; oids grow, so they tell the age."""
    for template in (await _templates(connection))[:-KEPT]:
        with suppress(*OTHERS_DOING):
            await drop(connection, template.name)


class FalseCopy(Exception):
    """A copy cannot be read, or does not hold what its template held when it was built."""

    def __init__(self, name: str, template: Database) -> None:
        super().__init__(name)
        self.name = name
        self.template = template


async def look_at_copy(server: Server, name: str, template: Database) -> None:
    """Read the database ``name``, unless this process has read another copy of the same template.

    Raises:
        FalseCopy: it does not hold what ``template`` held when it was built.
    """
    if template.name in _read:
        return
    try:
        whole = await _is_true_copy(server, name, template)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, CourseError) as error:
        # a damaged catalogue can end the whole server, and so can anybody else, but hardly here twice
        if server_went_away(error) and template.name not in _suspect:
            _suspect.add(template.name)
            raise
        whole = False
    if not whole:
        raise FalseCopy(name, template)
    _read.add(template.name)


async def _is_true_copy(server: Server, name: str, template: Database) -> bool:
    try:
        async with server.connection(name) as inside:
            return template.mark is not None and await digest(inside) == template.mark.contents
    except (asyncpg.PostgresError, CourseError) as error:
        if is_unreadable(error):
            return False
        raise


async def discard(server: Server, copy: FalseCopy) -> None:
    """Drop a false copy and its template, and say so; the next opening builds another."""
    async with server.connection() as connection:
        for name in (copy.name, copy.template.name):
            with suppress(*OTHERS_DOING):
                await drop(connection, name)
    print(f"The template {copy.template.name} does not hold what was built, so it is made anew.")


async def verify_templates(server: Server) -> list[str]:
    """Read each template of this role to its last value, in a copy. Returns the names of those that are damaged."""
    damaged = []
    async with server.connection() as connection:
        for template in await _templates(connection):
            name = generated_name("course_build")
            try:
                await create(connection, name, template.name, Mark.of_this_process("build", "doctor"))
                alike = template.mark is not None and template.mark.contents.startswith(WAY)
                whole = not alike or await _is_true_copy(server, name, template)
                async with server.connection(name) as inside:
                    await read_all(inside)
            except (asyncpg.PostgresError, CourseError) as error:
                if not is_unreadable(error):
                    raise
                whole = False
            finally:
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
                    await drop(connection, name)
            if not whole:
                damaged.append(template.name)
    return damaged
