"""The board again and again, through restarts of the server and a network that comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import asyncpg

from course_lib.classroom.board.reading import Connection, enter_class, read_board
from course_lib.classroom.board.standing import Board
from course_lib.errors import CourseError
from course_lib.postgres.losing import server_went_away

EVERY = 2.0  # seconds between two looks
PATIENCE = 10.0  # seconds for one


@dataclass(frozen=True)
class Sight:
    """The board as it was seen last, and what keeps us from seeing it now."""

    board: Board
    trouble: str = ""


async def watch(class_name: str, lessons: Sequence[str] | None = None) -> AsyncGenerator[Sight]:
    """The board, as often as it is asked for. Whoever asks chooses the pace.

    Raises:
        CourseError: at the first look. Later ones say what is wrong in ``Sight.trouble``, and go on.
    """
    last: Board | None = None
    since = time.monotonic()
    while True:
        try:
            async with enter_class(class_name) as connection:
                while True:
                    last = await _look(connection, class_name, lessons)
                    since = time.monotonic()
                    yield Sight(last)
        except (CourseError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if last is None or not (isinstance(error, CourseError) or server_went_away(error)):
                raise
            why = error.sentence if isinstance(error, CourseError) else "The class's server does not answer."
        yield Sight(last, f"{why} This was seen {time.monotonic() - since:.0f} s ago.")


async def _look(connection: Connection, class_name: str, lessons: Sequence[str] | None) -> Board:
    """Within a time: a network that has gone says nothing, and to say goodbye on it takes as long."""
    try:
        return await asyncio.wait_for(read_board(connection, class_name, lessons), PATIENCE)
    except BaseException:
        connection.terminate()
        raise
