"""Databases the course makes, marks, and, if they carry its mark, drops.

A database is the course's own when its comment says so. Between CREATE DATABASE and COMMENT there is a moment in
which a kernel can be killed, so CREATE DATABASE itself sets a connection limit nobody else would choose: that
birthmark and the exact shape of the name stand in for the comment until it is written.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from typing import Any, Literal

import asyncpg
import psutil
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.postgres.server import Server

COURSE = "databases-for-ai-engineers"
BIRTHMARK = 1_202_611  # a CONNECTION LIMIT, far above any max_connections
GENERATED_NAME = re.compile(r"^(lesson_\w{1,24}|course_build)_(\d+)_[0-9a-f]{8}$")

Kind = Literal["lesson", "template", "build"]


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
        return cls(kind, subject, socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def parse(cls, comment: str | None) -> Mark | None:
        """The mark in a database's comment, or None when the database is not the course's."""
        try:
            fields = json.loads(comment or "")
            return cls(**fields) if fields["course"] == COURSE else None
        except (ValueError, TypeError, KeyError):
            return None

    def abandoned(self) -> bool:
        """True when the process that made the database is gone, as far as this machine can tell."""
        if self.kind == "template" or self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            return not same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


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
        return match is not None and not psutil.pid_exists(int(match[2]))


def generated_name(subject: str) -> str:
    """A name nobody else has, for example ``lesson_02_4711_9f3c21aa``: subject, process, chance."""
    return f"{subject}_{os.getpid()}_{secrets.token_hex(4)}"


async def list_databases(connection: asyncpg.Connection[Any]) -> list[Database]:
    """Every database that carries the course's mark, by name."""
    rows = await connection.fetch(
        """
        SELECT datname, datconnlimit, shobj_description(oid, 'pg_database') AS comment,
               (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid) AS connections
        FROM pg_database d ORDER BY datname
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
    except asyncpg.DiskFullError as error:
        raise CourseError("The server's disk is full.", "Free some space, then run the cell again.") from error
    except asyncpg.ObjectInUseError as error:
        raise CourseError(
            f"Somebody is connected to the database {template}, so it cannot be copied.",
            "Close that connection, then run the cell again.",
        ) from error
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
        except (
            asyncpg.ObjectInUseError,
            asyncpg.InvalidCatalogNameError,
            asyncpg.InsufficientPrivilegeError,
        ):
            continue  # another sweep was faster, or the database is a colleague's
        dropped.append(database.name)
    return dropped


def lesson_url(server: Server, name: str) -> URL:
    """The asyncpg URL of one database on ``server``."""
    return server.url.set(database=name)
