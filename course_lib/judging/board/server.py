"""The board on the class's server, as a learner reaches it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.judging.board.seat import Seat, Waiting
from course_lib.postgres.address import libpq_uri, spoken
from course_lib.postgres.failures import connection_failure
from course_lib.postgres.reliance import AT_ONCE

Connection: TypeAlias = "asyncpg.Connection[Any]"

GREETING = {"application_name": "course board", "search_path": "pg_catalog", **AT_ONCE}
"""A database's owner may have set another search_path, in which their functions are found before PostgreSQL's."""

OF_THE_CLASS = """
    SELECT count(*) >= 4 AND bool_and(
        p.prosecdef AND pg_has_role(p.proowner, g.oid, 'MEMBER WITH ADMIN OPTION')
        AND pg_has_role(d.datdba, g.oid, 'MEMBER WITH ADMIN OPTION'))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    CROSS JOIN pg_database d CROSS JOIN pg_roles g
    WHERE n.nspname = 'board' AND p.proname IN ('report', 'show_me', 'mine', 'am_i_shown')
      AND d.datname = current_database() AND g.rolname = current_database()
"""
"""A name can be anybody's. A function that does not run as its owner would run as us, whoever has written it."""


@asynccontextmanager
async def enter_board(url: URL, seat: Seat, seconds: float) -> AsyncIterator[Connection]:
    """A connection to the board of a class, which was made by whoever administers the class.

    Args:
        url: the learner's own address on that server.
        seat: who they are.
        seconds: how long it may take to be let in.

    Raises:
        CourseError: nobody answers, there is no such class on that server, or what is there is not the class's.
    """
    where = spoken(url)
    try:
        connection = await asyncpg.connect(libpq_uri(url, seat.database), timeout=seconds, server_settings=GREETING)
    except (asyncpg.InvalidCatalogNameError, asyncpg.InsufficientPrivilegeError) as error:
        raise _no_class(seat, where) from error
    except Exception as error:
        failure = connection_failure(error, where)
        if failure is None:
            raise
        raise failure from None  # its text may quote the address, and the password with it
    try:
        if not await connection.fetchval(OF_THE_CLASS):
            raise _no_class(seat, where)
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise _no_class(seat, where) from error
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=1)


def _no_class(seat: Seat, where: str) -> CourseError:
    return CourseError(
        f"On {where} there is no class {seat.class_name} in which you are.",
        "Compare DATABASE_URL and COURSE_CLASS with your sheet, or ask your teacher.",
    )


async def send(connection: Connection, waiting: Sequence[Waiting]) -> set[UUID]:
    """Tell verdicts. Returns the ids of those that need not be sent again."""
    now = datetime.now(UTC)
    rows = [
        one.model_dump(mode="json", include={"id", "exercise", "state", "mistake"})
        | {"age": (now - one.at).total_seconds()}
        for one in waiting
    ]
    return set(await connection.fetchval("SELECT board.report($1)", json.dumps(rows)))


async def show_me(connection: Connection, wanted: bool) -> None:
    """Be on the board, or be on it no more, which removes what stood there."""
    await connection.execute("SELECT board.show_me($1)", wanted)


async def am_i_shown(connection: Connection) -> bool:
    shown: bool = await connection.fetchval("SELECT board.am_i_shown()")
    return shown


async def own_standings(connection: Connection) -> list[asyncpg.Record]:
    """The caller's rows as the teacher sees them, the latest first."""
    return await connection.fetch("SELECT *, now() AS at FROM board.mine() ORDER BY seen_at DESC")
