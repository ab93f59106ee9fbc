"""Databases made ahead for a role that may make none: one is taken, emptied, filled anew, and later given back.

Three things make a database one of the pool: the role that asks owns it, its name is the role's with a number, and its
mark says ``pool``. Nothing else is ever emptied. Whoever takes one writes the process into the mark, in the transaction
that empties and fills the database, so that a moment's crash leaves all as it was; what a killed process has taken is
free again (``lives``).
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import URL

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.postgres.databases import Database, drop, is_given_up, list_databases, quoted, set_mark, taken
from course_lib.postgres.dumping import Dump, FalseDump, NoDump, dump, freeze
from course_lib.postgres.emptying import EXTENSION, NotEmpty, make_empty
from course_lib.postgres.failures import disk_full
from course_lib.postgres.files import make_folder, remove_tree, require_ours
from course_lib.postgres.lives import UNTOLD
from course_lib.postgres.marks import Mark
from course_lib.postgres.server import Connection, Server, connect
from course_lib.settings import get_settings

LOCK = 1_202_613  # advisory lock in a database of the pool, while it is being taken
WAIT_SECONDS = 10  # for a check that may end; lessons stay open for longer
YOUNG_SECONDS = 60  # since it was taken: until then it may be a check's
FORGOTTEN_SECONDS = 3_600  # nobody is connected for so long to what a process took of whom nothing can be known here
KEPT = 8  # dumps
STATE_DIGITS = 12


@dataclass(frozen=True)
class Recipe:
    """What a database is filled with: as ``templates.ensure_template`` takes it."""

    name: str
    fingerprint: str
    build: Callable[[URL], Awaitable[None]]


async def take(
    server: Server, connection: Connection, lesson: str, recipe: Recipe, wait: float | None = None
) -> tuple[str, int]:
    """A fresh database of the pool, for this process until it is given back. Returns its name, and the claim on it.

    Args:
        connection: to the server's own database.
        lesson: for which it is taken.
        wait: seconds for a check to end, where all are in use; by default ``WAIT_SECONDS``.

    Raises:
        CourseError: all are in use, or none can be made empty.
    """
    dumps = True
    patience = time.monotonic() + (WAIT_SECONDS if wait is None else wait)
    while True:
        pool = await pool_of(connection)
        troubles: dict[str, str] = {}
        for database in secrets.SystemRandom().sample(pool, len(pool)):
            try:
                if is_free(database) and (claim := await _take(server, connection, database, lesson, recipe, dumps)):
                    return database.name, claim
            except NotEmpty as error:
                troubles[database.name] = str(error)
            except FalseDump as error:
                remove_tree(Path(str(error)))
                dumps = False
                break
        else:
            if time.monotonic() > patience or not any(_may_end_soon(database) for database in pool):
                raise _none_left(pool, troubles)
        await asyncio.sleep(0.1)


async def pool_of(connection: Connection) -> list[Database]:
    """The databases that were made ahead for the role of ``connection``."""
    return [database for database in await list_databases(connection) if database.in_pool]


def is_free(database: Database) -> bool:
    """True when nobody has taken it, or whoever has is gone."""
    mark = database.mark
    assert mark is not None
    if not mark.claimed or is_given_up(database.name):
        return True
    over = None if mark.life == UNTOLD else mark.maker_ended()
    if over is None:
        return not database.connections and _age(mark) > FORGOTTEN_SECONDS
    return over


def _may_end_soon(database: Database) -> bool:
    return database.mark is not None and _age(database.mark) < YOUNG_SECONDS


def _age(mark: Mark) -> float:
    """Seconds since it was taken."""
    return time.time() - mark.claimed / 1000


def _none_left(pool: list[Database], troubles: Mapping[str, str]) -> CourseError:
    used = [database for database in pool if database.name not in troubles]
    if not used:
        name, trouble = next(iter(troubles.items()), ("", ""))
        what = f"The database {name} {trouble}" if name else "The databases that were made for your role are gone"
        mend = f"Run DROP DATABASE {quoted(name)}; and ask" if name else "Ask"
        return CourseError(f"{what}.", f"{mend} your teacher to run {command('classroom create')} again.")
    number = {1: "The one database", 2: "Both databases"}.get(len(used), f"All {len(used)} databases")
    lost = f" ({', '.join(troubles)} cannot be used any more)" if troubles else ""
    verb = "is" if len(used) == 1 else "are"
    return CourseError(
        f"{number} that your class has given you {verb} in use by notebooks and checks of yours{lost}.",
        f"Shut down a notebook's kernel, then run the cell again. Who uses them: {command('db list')}",
    )


async def _take(
    server: Server, connection: Connection, database: Database, lesson: str, recipe: Recipe, dumps: bool
) -> int:
    """Take that one; returns 0 when somebody else is faster."""
    inside = await _enter(server, connection, database.name)
    try:
        async with inside.transaction():
            if not await _lock(inside, database):
                return 0
            await make_empty(inside, await connection.fetchval("SELECT current_user"), server.settings)
            place = _folder(server, recipe, await inside.fetchrow(VECTOR)) if dumps else None
            kept = Dump(place) if place is not None and place.exists() else None
            if kept:
                await kept.load(inside)
            assert database.mark is not None
            claim = int(time.time() * 1000)
            mark = replace(Mark.of_this_process("pool", database.mark.subject), lesson=lesson, claimed=claim)
            await set_mark(inside, database.name, mark)
        taken(database.name)
        if kept:
            await freeze(inside, kept.tables())
    except asyncpg.PostgresError as error:
        if sentence := disk_full(error):
            raise sentence from error
        raise
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await inside.close()
    if not kept:
        await _build(server, connection, database.name, recipe, place)
    return claim


VECTOR = f"SELECT extversion, ({EXTENSION}) AS schema FROM pg_extension WHERE extname = 'vector'"


async def _enter(server: Server, connection: Connection, name: str) -> Connection:
    """Its owner may have closed it."""
    try:
        return await connect(server.url, name)
    except CourseError:
        await connection.execute(f"ALTER DATABASE {quoted(name)} ALLOW_CONNECTIONS true CONNECTION LIMIT -1")
        return await connect(server.url, name)


async def _lock(inside: Connection, database: Database) -> bool:
    """Nobody else is taking it, and nobody has since it was looked at."""
    if not await inside.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK):
        return False
    now = await list_databases(inside, clients=False)
    return database.mark in [one.mark for one in now if one.name == database.name]


async def _build(server: Server, connection: Connection, name: str, recipe: Recipe, place: Path | None) -> None:
    """Fill it as a template is built, and keep what it then holds for the next time."""
    try:
        await recipe.build(server.url.set(database=name))
        if place is not None:
            await _keep(server, name, place)
    except BaseException:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await drop(connection, name)
        raise


# -- what is kept --------------------------------------------------------------------------------------------------


def _folder(server: Server, recipe: Recipe, vector: Any) -> Path:
    """Where a recipe's dump lies. Rows travel in binary, so it holds for one version of server and extension."""
    state = f"{recipe.fingerprint} {server.version} {vector['extversion']} {vector['schema']}"
    return _dumps() / f"{recipe.name}-{sha256(state.encode()).hexdigest()[:STATE_DIGITS]}"


def _dumps() -> Path:
    return get_settings().home / "dumps"


async def _keep(server: Server, name: str, place: Path) -> None:
    """Without a pg_dump that suits, or room, it is built anew the next time."""
    partial = place.with_name(f"partial-{secrets.token_hex(6)}")
    try:
        make_folder(place.parent, None)
        require_ours(place.parent, None)
        partial.mkdir(mode=0o700)
        kept = await dump(server, name, partial)
        async with server.connection(name) as inside:
            await freeze(inside, kept.tables())
        partial.rename(place)
        _remove_old(place.parent)
    except (OSError, NoDump, CourseError):
        shutil.rmtree(partial, ignore_errors=True)


def _remove_old(folder: Path) -> None:
    """Those that belong to checkouts that moved on, or whose writer was killed."""
    with suppress(OSError):
        by_age = sorted(folder.iterdir(), key=lambda place: place.stat().st_mtime)
        for place in by_age[:-KEPT]:
            remove_tree(place)


async def refill(server: Server, name: str, contents: Dump) -> None:
    """Empty a database that this process has taken, and fill it with what another one held.

    Raises:
        CourseError: it cannot be made empty any more.
    """
    async with server.connection() as connection:
        owner = await connection.fetchval("SELECT current_user")
        inside = await _enter(server, connection, name)
    try:
        async with inside.transaction():
            await make_empty(inside, owner, server.settings)
            await contents.load(inside)
        await freeze(inside, contents.tables())
    except NotEmpty as error:
        raise _none_left([], {name: str(error)}) from error
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await inside.close()
