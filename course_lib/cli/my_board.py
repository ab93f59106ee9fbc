"""``course classroom me``, ``leave`` and ``join``: what a learner sees of the board, and their switch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import typer

from course_lib.cli.screen import show
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.files import answering_for
from course_lib.judging.board.seat import Kept, Seat, change, own_seat
from course_lib.judging.board.sending import deliver, tell_wish
from course_lib.judging.board.server import Connection, am_i_shown, enter_board, own_standings
from course_lib.postgres.address import parse_url
from course_lib.settings import get_settings

SECONDS = 10.0


def run_me() -> None:
    """Print what the teacher sees of this learner.

    Raises:
        CourseError: this is nobody's seat in a class, or the board does not answer.
    """
    asyncio.run(_me(_own_seat()))


def run_switch(wanted: bool) -> None:
    """Be on the board of the class, or on it no more: at once on this side, and on the class's when it answers.

    Raises:
        CourseError: this is nobody's seat in a class, or the wish cannot be kept.
    """
    seat = _own_seat()

    def wish(kept: Kept) -> None:
        others = [other for other in kept.left if other != seat]
        kept.left = others if wanted else [*others, seat]
        kept.untold = [*(other for other in kept.untold if other != seat), seat]
        if not wanted:
            kept.waiting = [one for one in kept.waiting if one.seat != seat]

    kept = _changed(wish)
    typer.echo(
        f"From now on the board of {seat.class_name} is told of your checks."
        if wanted
        else f"From now on nothing of your checks is told to the board of {seat.class_name}."
    )
    asyncio.run(_tell(kept, seat, wanted))


async def _tell(kept: Kept, seat: Seat, wanted: bool) -> None:
    try:
        async with _board(seat) as connection:
            await tell_wish(connection, kept, seat)
    except CourseError as error:
        typer.echo(f"{error.sentence} It is told to the board with your next check, or when you run this again.")
    else:
        typer.echo("The board knows of it." if wanted else "What stood there of you is removed.")


async def _me(seat: Seat) -> None:
    async with _board(seat) as connection:
        with answering_for(get_settings().work, "COURSE_WORK"):
            await deliver()
        shown, rows = await am_i_shown(connection), await own_standings(connection)
    kept = _kept()
    show(f"{seat.role} on the board of {seat.class_name}", [("", _switch(shown, kept, seat))])
    for row in rows:
        minutes = int((row["at"] - row["first_try"]).total_seconds() // 60) if row["first_try"] else 0
        tries = f"{row['tries']} {'try' if row['tries'] == 1 else 'tries'}" if row["tries"] else ""
        since = f"first tried {minutes} min ago" if row["first_try"] else ""
        mistake = row["mistake"] if row["state"] == "wrong" else ""
        typer.echo("  " + " · ".join(filter(None, [row["exercise"], row["state"], mistake, tries, since])))
    if not rows:
        typer.echo("  Nothing stands there of you.")


def _switch(shown: bool, kept: Kept, seat: Seat) -> str:
    waiting = sum(one.seat == seat for one in kept.waiting)
    if not kept.wishes_to_stand(seat) or not shown:
        where = "" if not kept.wishes_to_stand(seat) else " on another computer"
        return f"You have left it{where}, and nothing is told. To be on it again: `{command('classroom join')}`"
    more = f" {waiting} more wait here to be sent." if waiting else ""
    return f"Your teacher sees these lines, and no code.{more} To switch it off: `{command('classroom leave')}`"


@asynccontextmanager
async def _board(seat: Seat) -> AsyncIterator[Connection]:
    url = get_settings().database_url
    if url is None:
        raise CourseError("The class's server is the one of DATABASE_URL, and that is not set.", "Your sheet has it.")
    async with enter_board(parse_url(url.get_secret_value()), seat, SECONDS) as connection:
        yield connection


def _own_seat() -> Seat:
    seat = own_seat(_kept())
    if seat is None:
        raise CourseError(
            "You are in no class here.", "Put COURSE_CLASS and DATABASE_URL of your sheet into .env beside the README."
        )
    return seat


def _kept() -> Kept:
    with answering_for(get_settings().work, "COURSE_WORK"):
        return Kept.load()


def _changed(how: Callable[[Kept], None]) -> Kept:
    with answering_for(get_settings().work, "COURSE_WORK"):
        return change(how)
