"""Databases the course makes, marks, and, if they are its own, drops.

A database is the course's own when its name has the course's shape, its comment is a mark of the same process, and
its owner is the role that asks: names and comments alone can be anybody's. Between CREATE DATABASE and COMMENT there
is a moment in which a kernel can be killed, so CREATE DATABASE itself sets a connection limit nobody else would
choose: that birthmark and the shape of the name stand in for the comment until it is written.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import asyncpg
import psycopg

from course_lib.errors import CourseError
from course_lib.postgres.failures import disk_full
from course_lib.postgres.lives import ended, forget_own_life, own_life
from course_lib.postgres.marks import LONGEST, Mark

BIRTHMARK = 1_202_611  # a CONNECTION LIMIT, far above any max_connections
GENERATED_NAME = re.compile(r"^(lesson_[0-9a-z_]{1,24}|course_build)_(\d{1,10})_([0-9a-f]{4})[0-9a-f]{4}\Z")
TEMPLATE_NAME = re.compile(r"^course_template_[0-9a-z_]{1,24}_[0-9a-f]{12}\Z")

OTHERS_DOING = (
    asyncpg.ObjectInUseError, asyncpg.InvalidCatalogNameError, asyncpg.InternalServerError,  # another was faster
    asyncpg.InsufficientPrivilegeError,  # a client of another role is connected, whom ours may not disconnect
)  # fmt: skip

OWN = f"""
    SELECT datname, datconnlimit, left(shobj_description(d.oid, 'pg_database'), {LONGEST + 1}) AS comment,
        datistemplate,
        starts_with(datname::text, rolname || '_')
            AND substr(datname, length(rolname) + 2) ~ '^[1-9][0-9]?$' AS numbered
    FROM pg_database d JOIN pg_roles r ON r.oid = datdba AND rolname = current_user
"""

DISCONNECT = """
    SELECT pg_terminate_backend(pid, {wait}) FROM pg_stat_activity
    WHERE datname = {name} AND pid <> pg_backend_pid() AND usename IN (current_user, session_user)
"""

_made: set[str] = set()  # by this process, and not dropped yet
_given_up: set[str] = set()  # of these, those that could not be dropped when they were no longer needed


def quoted(name: str) -> str:
    """A name as it stands in SQL, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Database:
    """A database of the course. ``mark`` is None for one whose maker died before writing it.

    ``in_pool``: it was made ahead for the role that owns it and has that role's name with a number: never dropped,
    but emptied when it is taken again, see ``database_pool``.
    """

    name: str
    mark: Mark | None
    template: bool = False
    connections: int = 0
    in_pool: bool = False

    @property
    def droppable(self) -> bool:
        """True while it has the name that the course gave it. One that was renamed is meant to be kept."""
        match = GENERATED_NAME.match(self.name)
        if self.mark is None:
            return match is not None
        if self.mark.kind == "template":
            return TEMPLATE_NAME.match(self.name) is not None
        return match is not None and int(match[2]) == self.mark.pid and self.mark.kind in ("lesson", "build")

    def maker_ended(self) -> bool | None:
        """Whether the process that made it has ended; None when this course folder never knew it."""
        if self.mark is not None:
            return self.mark.maker_ended()
        match = GENERATED_NAME.match(self.name)
        return ended(int(match[2]), match[3]) if match else None

    def abandoned(self, embedded: bool) -> bool:
        """True when its maker is surely gone. All who use the embedded server have their file in this folder."""
        if self.mark is not None and self.mark.kind not in ("lesson", "build"):
            return False
        if self.name in _given_up:
            return True
        over = self.maker_ended()
        return embedded if over is None else over


_NUMBERS = count(secrets.randbelow(2**16))  # by chance alone two in a few hundred would be the same


def generated_name(subject: str) -> str:
    """A name nobody else has, for example ``lesson_02_4711_9f3c21aa``: subject, process, its life, and a number."""
    return f"{subject}_{os.getpid()}_{own_life()[:4]}{next(_NUMBERS) % 2**16:04x}"


async def list_databases(connection: asyncpg.Connection[Any], clients: bool = True) -> list[Database]:
    """Every database of the course that belongs to the role of ``connection``, oldest first.

    Args:
        clients: count those who are connected, which takes a question more.
    """
    query = f"{OWN} WHERE {BIRTHMARK} = datconnlimit OR shobj_description(d.oid, 'pg_database') <> '' ORDER BY d.oid"
    found = [database for row in await connection.fetch(query) if (database := _of(row))]
    if not found or not clients:
        return found
    used = await connection.fetch("SELECT datname, count(*) AS clients FROM pg_stat_activity GROUP BY datname")
    number = {row["datname"]: row["clients"] for row in used}
    return [replace(database, connections=number.get(database.name, 0)) for database in found]


def _of(row: Any) -> Database | None:
    name, limit, comment, template, numbered = row
    mark = Mark.parse(comment)
    newborn = comment is None and limit == BIRTHMARK and GENERATED_NAME.match(name)
    in_pool = numbered and mark is not None and mark.kind == "pool"
    return Database(name, mark, template, in_pool=in_pool) if mark or newborn else None


async def create(
    connection: asyncpg.Connection[Any],
    name: str,
    template: str,
    mark: Mark,
    options: str = "",
    settings: Mapping[str, str] | None = None,
) -> None:
    """CREATE DATABASE from ``template`` by copying files; nobody else may connect, and it carries ``mark``.

    Args:
        options: of CREATE DATABASE, beyond the course's own.
        settings: what holds in it for the role that logs in, see ``reliance``.

    Raises:
        CourseError: the disk is full, or somebody is connected to the template.
    """
    _made.add(name)
    ours = f"STRATEGY FILE_COPY ALLOW_CONNECTIONS false CONNECTION LIMIT {BIRTHMARK}"
    try:
        await connection.execute(f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(template)} {ours} {options}")
    except asyncpg.ObjectInUseError as error:
        raise CourseError(
            f"Somebody is connected to the database {template}, so it cannot be copied.",
            "Close that connection, then run the cell again.",
        ) from error
    except asyncpg.PostgresError as error:
        if sentence := disk_full(error):
            raise sentence from error
        raise
    await _let_its_owner_in(connection, name, mark, settings or {})


async def _let_its_owner_in(
    connection: asyncpg.Connection[Any], name: str, mark: Mark, settings: Mapping[str, str]
) -> None:
    """Mark a database that has just been made and open it, all at once. CREATE DATABASE copies no rights."""
    database = quoted(name)
    await connection.execute(
        "".join(f"ALTER ROLE SESSION_USER IN DATABASE {database} SET {key} = {text};" for key, text in settings.items())
        + f"REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC;"
        # the role that logs in may be set to act as another, which then is the owner
        f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO SESSION_USER;"
        f"COMMENT ON DATABASE {database} IS {literal(str(mark))};"
        f"ALTER DATABASE {database} ALLOW_CONNECTIONS true"
    )


def literal(text: str) -> str:
    """A string constant; ``E''`` reads the same whatever standard_conforming_strings says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


async def set_mark(connection: asyncpg.Connection[Any], name: str, mark: Mark) -> None:
    """Write ``mark`` into the comment of a database of ours."""
    await connection.execute(f"COMMENT ON DATABASE {quoted(name)} IS {literal(str(mark))}")


async def publish(connection: asyncpg.Connection[Any], partial: str, name: str, mark: Mark) -> None:
    """Turn a finished build into a template, all at once: a builder that is killed leaves a build to sweep."""
    async with connection.transaction():
        await connection.execute(f"ALTER DATABASE {quoted(partial)} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true")
        await set_mark(connection, partial, mark)
        await connection.execute(f"ALTER DATABASE {quoted(partial)} RENAME TO {quoted(name)}")
    _made.discard(partial)


async def clone(
    connection: asyncpg.Connection[Any], template: str, lesson: str, settings: Mapping[str, str] | None = None
) -> str:
    """A fresh database for one lesson in this process. Returns its name."""
    name = generated_name(f"lesson_{lesson}")
    await create(connection, name, template, Mark.of_this_process("lesson", lesson), settings=settings)
    return name


def dropped(name: str) -> None:
    """A database that this process has made is no more."""
    _made.discard(name)
    _given_up.discard(name)


def taken(name: str) -> None:
    """This process has a database of a pool."""
    _made.add(name)
    _given_up.discard(name)


def is_given_up(name: str) -> bool:
    """True when this process needs a database of its own no more."""
    return name in _given_up


def give_up(name: str) -> None:
    """This process needs a database of its own no more, and cannot drop it now: the next sweep does."""
    if name in _made:
        _given_up.add(name)


async def drop(connection: asyncpg.Connection[Any], name: str, claim: int = 0) -> bool:
    """Drop a database of the course, disconnecting whoever uses it; one of a pool is given back instead.

    Returns False when there is none, or it was taken from the pool again meanwhile.

    Args:
        claim: of a pool's, what its mark said when it was taken; by default whatever this process's mark says.

    Raises:
        CourseError: the database exists and is not the course's. It stays as it is.
    """
    row = await connection.fetchrow(f"{OWN} WHERE datname = $1", name)
    database = _of(row) if row else None
    if database and database.droppable:
        await _drop(connection, database)
        return True
    if database and database.in_pool:
        if (statements := _giving_back(database, claim)) is None:
            return False
        dropped(name)
        await connection.execute(statements)
        return True
    if await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
        raise CourseError(f"The database {name} was not made by the course, so the course leaves it alone.")
    return False


async def _drop(connection: asyncpg.Connection[Any], database: Database) -> None:
    if database.template:
        await connection.execute(f"ALTER DATABASE {quoted(database.name)} IS_TEMPLATE false")
    await connection.execute(f"DROP DATABASE IF EXISTS {quoted(database.name)} WITH (FORCE)")
    dropped(database.name)


def _giving_back(database: Database, claim: int = 0) -> str | None:
    """Statements that give it back to its pool; None where it is not this process's, or a dead one's, to give."""
    mark = database.mark
    assert mark is not None
    ours = (mark.pid, mark.life) == (os.getpid(), own_life()) or mark.maker_ended()
    if not (ours and mark.claimed and mark.claimed == (claim or mark.claimed)):
        return None
    return (
        f"{DISCONNECT.format(name=literal(database.name), wait=0)};"
        f"COMMENT ON DATABASE {quoted(database.name)} IS {literal(str(replace(mark, claimed=0)))}"
    )


async def sweep(connection: asyncpg.Connection[Any], embedded: bool = False) -> list[str]:
    """Drop what dead kernels left, and give up what a learner has renamed. Returns the names of the dropped.

    Args:
        embedded: the server is the course's own, so that a maker without a file in this folder is dead.
    """
    dropped = []
    for database in await list_databases(connection, clients=False):
        if not database.abandoned(embedded):
            continue
        with suppress(*OTHERS_DOING):
            if database.droppable:
                await _drop(connection, database)
                dropped.append(database.name)
            else:
                await _keep(connection, database)
    return dropped


async def _keep(connection: asyncpg.Connection[Any], database: Database) -> None:
    """A learner has given a lesson's database a name of their own: from now on it is theirs."""
    if database.mark is None or database.mark.kind != "lesson":
        return
    await set_mark(connection, database.name, replace(database.mark, kind="kept"))
    await connection.execute(f"ALTER DATABASE {quoted(database.name)} CONNECTION LIMIT -1")
    print(f"The database {database.name} is yours now, since it was renamed: the course will not drop it.")


def leave(uri: str, name: str) -> None:
    """Drop a lesson's database while the interpreter ends, when no event loop can be had any more."""
    with psycopg.connect(uri, autocommit=True, connect_timeout=2) as connection:
        row = connection.execute(f"{OWN} WHERE datname = %s".encode(), (name,)).fetchone()
        database = _of(row) if row else None
        if database and database.droppable:
            connection.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)".encode())
        elif database and database.in_pool and (statements := _giving_back(database)):
            connection.execute(statements.encode())
    _made.discard(name)
    if not _made:  # else the file has to tell the next sweep that this process has ended
        forget_own_life()
