"""Open a lesson: a server, a fresh database on it, and an engine to talk to it."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import asyncpg
import psycopg
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.data.fresh import FreshDatabase, make_database
from course_lib.db import make_engine, make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments.rows import Rows
from course_lib.postgres import Server
from course_lib.postgres.address import libpq_options, libpq_uri
from course_lib.postgres.databases import leave
from course_lib.postgres.lost import explain_lost_server

_open: dict[str, Lesson] = {}
_PROCESS = os.getpid()
MAY = """
    SELECT quote_ident(rolname), rolsuper OR (rolcreaterole AND :attribute = 'CREATEROLE')
    FROM pg_roles WHERE rolname = current_user
"""


@dataclass
class Lesson:
    """A fresh database and what reaches it.

    ``await open_lesson("00")`` makes one. Learners use ``engine``, ``session()`` and ``url``.
    """

    number: str
    fresh: FreshDatabase
    engine: AsyncEngine = field(repr=False)

    @property
    def server(self) -> Server:
        """The server the database is on."""
        return self.fresh.server

    @property
    def database(self) -> str:
        """The database's name."""
        return self.fresh.name

    @property
    def url(self) -> URL:
        """The address for SQLAlchemy with asyncpg; printing it masks the password."""
        return self.fresh.url

    @property
    def sync_url(self) -> URL:
        """The address for SQLAlchemy with psycopg, the synchronous driver."""
        return self.url.set(drivername="postgresql+psycopg", query=libpq_options(self.url))

    @property
    def dsn(self) -> str:
        """The address for asyncpg and psycopg themselves. It holds the password: do not print it."""
        return libpq_uri(self.url)

    @cached_property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        return make_session_factory(self.engine)

    def session(self) -> AsyncSession:
        """A new session: ``async with lesson.session() as session``."""
        return self.sessions()

    async def sql(self, statement: str, **values: Any) -> Rows:
        """Run one statement on a connection of its own, commit, and return what came back as a table.

        Args:
            statement: SQL; ``:name`` stands for a value.
            values: the values, sent apart from the SQL.
        """
        async with self.engine.begin() as connection:
            return Rows.of(await connection.execute(text(statement), values))

    async def require(self, attribute: Literal["SUPERUSER", "CREATEROLE"]) -> None:
        """Go on only where your role has what this section needs beyond CREATEDB. A superuser has all.

        Raises:
            CourseError: on a server of your own, it has not.
        """
        ((role, has_it),) = await self.sql(MAY, attribute=attribute)
        if not has_it:
            raise CourseError(
                f"The role {role} lacks the attribute {attribute}, which this section needs and no other does.",
                f"Go on with the next section, unset DATABASE_URL, or ask for: ALTER ROLE {role} {attribute};",
            )

    async def close(self) -> None:
        """Give the connections back and drop the database. Opening the lesson again does this first."""
        await self.engine.dispose()
        await self.fresh.drop()
        if _open.get(self.number) is self:
            del _open[self.number]

    def __str__(self) -> str:
        return f"{self.server.describe()} · a fresh database for lesson {self.number}"


async def open_lesson(number: str | int, recipe: str = "base", **engine_options: Any) -> Lesson:
    """Give this kernel a fresh, seeded database for a lesson, and print one line saying on which server.

    Running it again drops the earlier database and gives the same fresh state. The database goes when the kernel ends.

    Args:
        number: the lesson's number, ``"02"`` or ``2``.
        recipe: what the database starts from, see ``course_lib.data.fresh.RECIPES``.
        engine_options: passed on to ``make_engine``, for example ``pool_size=2`` or ``binary_vectors=True``.

    Raises:
        CourseError: no server can be had; the sentence says what to do.
    """
    name = _lesson_number(number)
    await _close_earlier(name)
    fresh = await make_database(name, recipe)
    try:
        engine = make_engine(fresh.url, **engine_options)
    except BaseException:  # an option that create_async_engine does not know
        await fresh.drop()
        raise
    lesson = Lesson(name, fresh, engine)
    explain_lost_server()
    _open[name] = lesson
    print(lesson)
    return lesson


def _lesson_number(number: str | int) -> str:
    text = str(number).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise CourseError(f"A lesson has a number, like '02'; {text!r} is none.", 'Try: await open_lesson("00")')
    return text.zfill(2)


async def _close_earlier(number: str) -> None:
    earlier = _open.pop(number, None)
    if earlier is None:
        return
    await earlier.engine.dispose(close=False)  # its event loop, or its server, may be gone
    try:
        await earlier.fresh.drop()
    except (CourseError, asyncpg.PostgresError, OSError):
        return  # that server is gone, and the database with it, or a sweep takes it when this process has ended


@atexit.register
def _drop_at_exit() -> None:
    """The kernel ends: drop its databases. What a killed kernel leaves, the next one sweeps."""
    if os.getpid() != _PROCESS:
        return  # a forked child ends; its parent goes on with them
    for lesson in _open.values():
        try:
            leave(libpq_uri(lesson.server.url), lesson.database)
        except psycopg.Error:
            continue  # the next sweep finds it
