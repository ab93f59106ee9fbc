"""Databases the course makes, marks, and, if they carry its mark, drops.

A database is the course's own when its comment says so. Between CREATE DATABASE and COMMENT there is a moment in
which a kernel can be killed, so CREATE DATABASE itself sets a connection limit nobody else would choose: that
birthmark and the exact shape of the name stand in for the comment until it is written.

Whether a maker still lives can only be told on its own machine. A host name is not enough for that: on one classroom
server, two laptops of the same name would sweep each other's databases.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from typing import Any, Literal

import asyncpg
import psutil
from filelock import FileLock

from course_lib.errors import CourseError
from course_lib.postgres.failures import disk_full
from course_lib.settings import get_settings

COURSE = "databases-for-ai-engineers"
BIRTHMARK = 1_202_611  # a CONNECTION LIMIT, far above any max_connections
GENERATED_NAME = re.compile(r"^(lesson_\w{1,24}|course_build)_(\d{1,9})_([0-9a-f]{4})[0-9a-f]{4}\Z")

OTHERS_DOING = (
    asyncpg.ObjectInUseError, asyncpg.InvalidCatalogNameError, asyncpg.InternalServerError,  # another was faster
    asyncpg.InsufficientPrivilegeError,  # or the database is a colleague's
)  # fmt: skip

Kind = Literal["lesson", "template", "build"]


@cache
def this_place() -> str:
    """The host, and a number that this user's course folder on it was given once: ``penguin/3f9a0c12``."""
    file, number = get_settings().home.expanduser() / "place", secrets.token_hex(4)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name("place.lock")):
            if not file.exists():
                file.write_text(number)
            number = file.read_text()
    return f"{socket.gethostname()}/{number}"


def birth(process: psutil.Process) -> float:
    """When a process began, on a clock that setting the time does not move: Linux reckons from the boot."""
    return process.create_time() - (psutil.boot_time() if sys.platform == "linux" else 0)


@dataclass(frozen=True)
class Mark:
    """Who made a database: written as JSON into the database's comment."""

    kind: Kind
    subject: str
    host: str
    pid: int
    started: float
    course: str = COURSE

    @classmethod
    def of_this_process(cls, kind: Kind, subject: str) -> Mark:
        return cls(kind, subject, this_place(), os.getpid(), birth(psutil.Process()))

    @classmethod
    def parse(cls, comment: str | None) -> Mark | None:
        """The mark in a database's comment, or None when the database is not the course's."""
        try:
            fields = json.loads(comment or "")
            mark = cls(**fields) if fields["course"] == COURSE else None
        except (ValueError, TypeError, KeyError):
            return None
        return mark if mark and isinstance(mark.pid, int) and isinstance(mark.started, float | int) else None

    def abandoned(self) -> bool:
        """True when the process that made the database is gone, as far as this machine can tell."""
        if self.kind not in ("lesson", "build") or self.host != this_place():
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(birth(process) - self.started) < 2
            return not same or process.status() == psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, OverflowError):
            return True
        except psutil.Error:  # it lives, and is somebody else's
            return False


@dataclass(frozen=True)
class Database:
    """A database with the course's mark; ``mark`` is None for one whose maker died before writing it."""

    name: str
    mark: Mark | None
    connections: int = 0

    def abandoned(self) -> bool:
        if self.mark is not None:
            return self.mark.abandoned()
        match = GENERATED_NAME.match(self.name)
        return match is not None and match[3] == _place_digits() and not psutil.pid_exists(int(match[2]))


def generated_name(subject: str) -> str:
    """A name nobody else has, for example ``lesson_02_4711_9f3c21aa``: subject, process, place and chance."""
    return f"{subject}_{os.getpid()}_{_place_digits()}{secrets.token_hex(2)}"


def _place_digits() -> str:
    return sha256(this_place().encode()).hexdigest()[:4]


async def list_databases(connection: asyncpg.Connection[Any]) -> list[Database]:
    """Every database that carries the course's mark, oldest first."""
    rows = await connection.fetch(
        """
        SELECT datname, datconnlimit, shobj_description(oid, 'pg_database') AS comment,
               (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid) AS connections
        FROM pg_database d ORDER BY oid
        """
    )
    found = []
    for row in rows:
        mark = Mark.parse(row["comment"])
        newborn = row["comment"] is None and row["datconnlimit"] == BIRTHMARK and GENERATED_NAME.match(row["datname"])
        if mark or newborn:
            found.append(Database(row["datname"], mark, row["connections"]))
    return found


async def create(connection: asyncpg.Connection[Any], name: str, template: str, mark: Mark) -> None:
    """CREATE DATABASE from ``template`` by copying files, then mark it.

    Raises:
        CourseError: the disk is full, or the template is in use or missing.
    """
    try:
        await connection.execute(
            f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY CONNECTION LIMIT {BIRTHMARK}'
        )
    except asyncpg.ObjectInUseError as error:
        raise CourseError(
            f"Somebody is connected to the database {template}, so it cannot be copied.",
            "Close that connection, then run the cell again.",
        ) from error
    except asyncpg.PostgresError as error:
        if sentence := disk_full(error):
            raise sentence from error
        raise
    await set_mark(connection, name, mark)


async def set_mark(connection: asyncpg.Connection[Any], name: str, mark: Mark) -> None:
    """Write ``mark`` into the comment of a database we have just made."""
    text = await connection.fetchval("SELECT quote_literal($1::text)", json.dumps(asdict(mark)))
    await connection.execute(f'COMMENT ON DATABASE "{name}" IS {text}')


async def clone(connection: asyncpg.Connection[Any], template: str, lesson: str) -> str:
    """A fresh database for one lesson in this process. Returns its name."""
    name = generated_name(f"lesson_{lesson}")
    await create(connection, name, template, Mark.of_this_process("lesson", lesson))
    return name


async def drop(connection: asyncpg.Connection[Any], name: str) -> bool:
    """Drop a database of the course, disconnecting whoever uses it. Returns False when it does not exist.

    Raises:
        CourseError: the database exists and is not the course's. It stays as it is.
    """
    if any(database.name == name for database in await list_databases(connection)):
        await _drop_marked(connection, name)
        return True
    if await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
        raise CourseError(f"The database {name} was not made by the course, so the course leaves it alone.")
    return False


async def _drop_marked(connection: asyncpg.Connection[Any], name: str) -> None:
    template = await connection.fetchval("SELECT datistemplate FROM pg_database WHERE datname = $1", name)
    if template:
        await connection.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
    await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def sweep(connection: asyncpg.Connection[Any]) -> list[str]:
    """Drop what dead kernels left. Returns the names."""
    dropped = []
    for database in await list_databases(connection):
        if not database.abandoned():
            continue
        try:
            await _drop_marked(connection, database.name)
        except OTHERS_DOING:
            continue
        dropped.append(database.name)
    return dropped
