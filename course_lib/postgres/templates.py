"""Templates: databases built once, by migrations and seed, and copied for every lesson that starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.postgres.databases import (
    OTHERS_DOING,
    Mark,
    create,
    drop,
    generated_name,
    list_databases,
    set_mark,
)
from course_lib.postgres.failures import disk_full
from course_lib.postgres.server import Server

LOCK = 1_202_612  # advisory lock: one builder at a time
KEPT = 12  # templates, four to a checkout; older ones belong to checkouts that moved on

Build = Callable[[URL], Awaitable[None]]


def template_name(recipe: str, fingerprint: str) -> str:
    """For example ``course_template_base_3f9a0c12bd44``."""
    return f"course_template_{recipe}_{fingerprint[:12]}"


async def ensure_template(
    server: Server, connection: asyncpg.Connection[Any], recipe: str, fingerprint: str, build: Build
) -> str:
    """The name of the template, building it first when this server has none of that fingerprint.

    Args:
        recipe: what it holds, for example ``base``.
        fingerprint: a hash of everything ``build`` depends on.
        build: fills a new, empty database; it must close its connections.

    Raises:
        CourseError: the server refuses the pgvector extension to this role, or its disk is full.
    """
    name = template_name(recipe, fingerprint)
    if await _exists(connection, name):
        return name
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    try:
        if not await _exists(connection, name):
            await _build(server, connection, name, recipe, build)
            await _drop_old(connection)
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)
    return name


async def _exists(connection: asyncpg.Connection[Any], name: str) -> bool:
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1 AND datistemplate"
    return Mark.parse(await connection.fetchval(query, name)) is not None


async def _build(server: Server, connection: asyncpg.Connection[Any], name: str, recipe: str, build: Build) -> None:
    partial = generated_name("course_build")
    await create(connection, partial, "template1", Mark.of_this_process("build", recipe))
    try:
        await _create_extension(server, partial)
        await build(server.url.set(database=partial))
        async with server.connection(partial) as inside:
            await inside.execute("VACUUM (FREEZE, ANALYZE)")  # every copy starts with the same statistics
        await _publish(connection, partial, name, recipe)
    except BaseException as error:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # else the next sweep takes it
            await drop(connection, partial)
        if sentence := disk_full(error):
            raise sentence from error
        raise


async def _publish(connection: asyncpg.Connection[Any], partial: str, name: str, recipe: str) -> None:
    """Turn a finished build into the template, all at once: a builder that is killed leaves a build to sweep."""
    try:
        async with connection.transaction():
            await connection.execute(f'ALTER DATABASE "{partial}" WITH ALLOW_CONNECTIONS false IS_TEMPLATE true')
            await set_mark(connection, partial, Mark.of_this_process("template", recipe))
            await connection.execute(f'ALTER DATABASE "{partial}" RENAME TO "{name}"')
    except asyncpg.DuplicateDatabaseError as error:
        await drop(connection, partial)
        if not await _exists(connection, name):  # else a colleague built it, under another database's lock
            raise CourseError(
                f"A database that the course did not make has the name {name}, which the course needs.",
                f'Rename it, for instance: ALTER DATABASE "{name}" RENAME TO "{name}_kept";',
            ) from error


async def _create_extension(server: Server, database: str) -> None:
    async with server.connection(database) as inside:
        try:
            await inside.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except asyncpg.InsufficientPrivilegeError as error:
            raise CourseError(
                "Your role may not create the extension pgvector, which only an administrator can allow.",
                "Ask the administrator to run, in database template1: CREATE EXTENSION vector;",
            ) from error


async def verify_templates(server: Server) -> list[str]:
    """Read every template. Returns a sentence for each that is damaged."""
    return []


async def _drop_old(connection: asyncpg.Connection[Any]) -> None:
    """Keep the newest templates; oids grow, so they tell the age."""
    ours = {database.name for database in await list_databases(connection)}
    rows = await connection.fetch("SELECT datname FROM pg_database WHERE datistemplate ORDER BY oid DESC")
    for name in [row["datname"] for row in rows if row["datname"] in ours][KEPT:]:
        with suppress(*OTHERS_DOING):
            await drop(connection, name)
