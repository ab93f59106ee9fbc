"""Verdicts on their way to the board: put down at once, sent in the background, sent again after a lost connection."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import time
from datetime import UTC, datetime
from uuid import uuid4

from course_lib.errors import CourseError
from course_lib.judging.board.seat import Kept, Seat, Waiting, change, own_seat
from course_lib.judging.board.server import Connection, enter_board, send, show_me
from course_lib.judging.verdict import Verdict
from course_lib.postgres.address import parse_url
from course_lib.settings import get_settings

SECONDS = 5.0  # for one attempt to send, all in all; nobody waits for it
GOODBYE = 1.0  # seconds for which a process that ends waits for what is under way

_running: list[threading.Thread] = []
_turn = threading.Lock()


def report(verdict: Verdict) -> None:
    """Have the board of the learner's class told, if they are in one and have not left its board.

    Returns at once, and never raises: what cannot be sent now is sent after the next check.
    """
    if get_settings().class_name is None or "NBGRADER_EXECUTION" in os.environ:
        return
    with contextlib.suppress(OSError, CourseError, ValueError):  # the last of a name that no board takes
        if _put_down(verdict):
            _start_sending()


def _put_down(verdict: Verdict) -> bool:
    """Keep the verdict in the file. Returns whether there is something to be sent."""

    def add(kept: Kept) -> None:
        seat = own_seat(kept)
        if seat is None:
            return
        kept.last = seat
        if kept.wishes_to_stand(seat):
            mistake = "" if verdict.passed else verdict.mistake
            one = Waiting(
                id=uuid4(), seat=seat, exercise=verdict.exercise.id, state=verdict.state, mistake=mistake,
                at=datetime.now(UTC),
            )  # fmt: skip
            kept.waiting.append(one)

    kept = change(add)
    return bool(kept.waiting or kept.untold) and get_settings().database_url is not None


def _start_sending() -> None:
    """In a thread, since the notebook's event loop stands still between two cells' work; never two at a time."""
    with _turn:
        _running[:] = [thread for thread in _running if thread.is_alive()]
        if len(_running) < 2:  # one that is nearly done may have looked before this verdict was there
            thread = threading.Thread(target=_send_quietly, args=[[*_running]], name="course-board", daemon=True)
            _running.append(thread)
            thread.start()


def _send_quietly(before: list[threading.Thread]) -> None:
    for thread in before:
        thread.join(SECONDS * 2)
    with contextlib.suppress(Exception):  # whatever it is, the next check tries again
        asyncio.run(_deliver_quietly())


async def _deliver_quietly() -> None:
    """Within the time; of what is broken off nothing is said, least of all in somebody's notebook."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await asyncio.wait_for(deliver(), SECONDS)


async def deliver() -> None:
    """Tell the board what waits for it.

    Raises:
        CourseError: nobody answers, or there is no such class.
        OSError: the file cannot be read or written.
    """
    url, kept = get_settings().database_url, Kept.load()
    seat = own_seat(kept)
    if url is None or seat is None:
        return
    waiting = [one for one in kept.waiting if one.seat == seat]
    if not waiting and seat not in kept.untold:
        return
    async with enter_board(parse_url(url.get_secret_value()), seat, SECONDS) as connection:
        if seat in kept.untold:
            await tell_wish(connection, kept, seat)
        done = await send(connection, waiting) if waiting else set()

    def forget(now: Kept) -> None:
        now.waiting = [one for one in now.waiting if one.id not in done]

    change(forget)


async def tell_wish(connection: Connection, kept: Kept, seat: Seat) -> None:
    """Tell the board whether the learner wishes to stand on it."""
    wish = kept.wishes_to_stand(seat)
    await show_me(connection, wish)

    def told(now: Kept) -> None:
        if now.wishes_to_stand(seat) == wish:
            now.untold = [other for other in now.untold if other != seat]

    change(told)


def wait_for_sending(seconds: float = GOODBYE) -> None:
    """Until nothing is under way any more, or the time is over."""
    over = time.monotonic() + seconds
    for thread in [*_running]:
        thread.join(max(0, over - time.monotonic()))


atexit.register(wait_for_sending)
