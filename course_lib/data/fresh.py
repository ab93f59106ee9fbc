"""A database of one's own, copied from a template that is built when it is first wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import URL

from course_lib.data import library
from course_lib.data.seed import build_base, fingerprint
from course_lib.db import migrate
from course_lib.errors import CourseError
from course_lib.postgres import Server, clone, drop, ensure_template, find_server, sweep
from course_lib.postgres.database_pool import Recipe, take
from course_lib.postgres.databases import give_up
from course_lib.postgres.failures import DOCTOR, disk_full
from course_lib.postgres.losing import opening_failure, says_more_when_asked_again
from course_lib.postgres.obstacles import no_room
from course_lib.postgres.server import Connection, embedded_cluster, enter_server, forget_checked
from course_lib.postgres.templates import FalseCopy, discard, look_at_copy


async def _leave_empty(_: URL) -> None:
    """Nothing but the extension pgvector, which every template has."""


RECIPES: dict[str, Callable[[URL], Awaitable[None]]] = {
    "base": build_base,
    "migrated": migrate,
    "empty": _leave_empty,
    "vectors": library.build_library,
}
"""What a database can start from: migrated and seeded, migrated only, without any table, or with many vectors."""

_FINGERPRINTS: dict[str, Callable[[], str]] = {"vectors": library.fingerprint}  # the others have the seed's


def fingerprint_of(recipe: str) -> str:
    """A hash of all that a recipe's rows depend on."""
    return _FINGERPRINTS.get(recipe, fingerprint)()


def recipe_of(name: str) -> Recipe:
    """A recipe as a pool of databases takes it."""
    return Recipe(name, fingerprint_of(name), RECIPES[name])


@dataclass(frozen=True)
class FreshDatabase:
    """A database nobody else uses, on ``server``. ``drop`` it, or let a later sweep find it.

    ``claim``: of one that was made ahead, what it is given back with, see ``postgres.database_pool``.
    """

    server: Server
    name: str
    claim: int = 0

    @property
    def url(self) -> URL:
        """The address for SQLAlchemy with asyncpg; printing it masks the password."""
        return self.server.url.set(database=self.name)

    async def drop(self) -> None:
        """Disconnect whoever uses it and drop it; where that fails, the next opening does it."""
        try:
            async with self.server.connection() as connection:
                await drop(connection, self.name, self.claim)
        except BaseException:
            give_up(self.name)
            raise


async def make_database(lesson: str, recipe: str = "base") -> FreshDatabase:
    """A fresh database for ``lesson``, after sweeping what dead kernels left.

    Raises:
        CourseError: as ``make_and_stay``.
    """
    async with make_and_stay(lesson, recipe) as (database, _):
        return database


@asynccontextmanager
async def make_and_stay(lesson: str, recipe: str = "base") -> AsyncIterator[tuple[FreshDatabase, Connection]]:
    """``make_database``, and the administrative connection that made it, for the length of a block.

    It is tried again where the server went away meanwhile, or the template turned out to be damaged.

    Raises:
        CourseError: the recipe is unknown, or no server can be had.
    """
    if recipe not in RECIPES:
        raise CourseError(f"There is no recipe {recipe!r}.", f"Choose one of: {', '.join(sorted(RECIPES))}")
    for last in (False, False, True):
        made: FreshDatabase | None = None
        async with enter_server() as (server, connection):
            try:
                made = await _make(server, connection, lesson, recipe)
            except FalseCopy as copy:
                false = copy
            except Exception as error:
                _judge_failure(error, server, last)
                false = None
            if made is not None:
                yield made, connection
                return
        forget_checked()  # it may have cost the server a restart
        if false is not None:
            await discard(await find_server(), false)
    raise CourseError(
        "A template that was built just now does not hold what was built: the server's disk may be failing.", DOCTOR
    )


async def _make(server: Server, connection: Connection, lesson: str, recipe: str) -> FreshDatabase:
    if server.pooled:
        return FreshDatabase(server, *await take(server, connection, lesson, recipe_of(recipe)))
    await sweep(connection, server.embedded)
    template = await ensure_template(server, connection, recipe, fingerprint_of(recipe), RECIPES[recipe])
    name = await clone(connection, template.name, lesson, server.settings)
    await look_at_copy(server, name, template)
    return FreshDatabase(server, name)


def _judge_failure(error: Exception, server: Server, last: bool) -> None:
    """Return when another try may succeed; otherwise raise what is to be said."""
    if server.embedded and disk_full(error):
        cluster = embedded_cluster()
        if last or not cluster.make_room():
            raise no_room(cluster.folder) from error
    elif last and (sentence := opening_failure(error)):
        raise sentence from error
    elif last or not says_more_when_asked_again(error):
        raise error


@asynccontextmanager
async def fresh_database(lesson: str, recipe: str = "base") -> AsyncIterator[FreshDatabase]:
    """``make_database`` for the length of a block."""
    database = await make_database(lesson, recipe)
    try:
        yield database
    finally:
        await database.drop()
