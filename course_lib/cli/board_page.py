"""``course classroom board --page``: the board for a browser, on loopback, for whoever has its address."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import typer

from course_lib.classroom.board.choosing import chosen_lessons
from course_lib.classroom.board.page import create_board_app
from course_lib.classroom.board.watching import watch
from course_lib.cli.serve import HOST, announce, listening
from course_lib.commands import command
from course_lib.service.gate import Gate
from course_lib.service.serving import DrainingServer

DRAIN = 5  # seconds for streams to see that it ends; they look more often


def run_board_page(class_name: str, lessons: str | None, port: int, root_path: str) -> None:
    """Serve the page until Ctrl-C.

    Args:
        class_name: the class.
        lessons: the columns, as they were typed.
        port: the first to try.
        root_path: the path below which a proxy shows it.

    Raises:
        CourseError: there is no such class, its board is not for this role, or no port is free.
    """
    asyncio.run(_serve(class_name, chosen_lessons(lessons) if lessons else None, port, root_path))


async def _serve(class_name: str, lessons: list[str] | None, port: int, root_path: str) -> None:
    async with aclosing(watch(class_name, lessons)) as sights:
        first = await anext(sights)
    with listening(port, f"{command('classroom board --page --port 9000')}") as listener:
        place = f"http://{HOST}:{listener.getsockname()[1]}{root_path}/"
        app = create_board_app(first, lessons, lambda: server.should_exit)
        app.root_path = root_path
        number = listener.getsockname()[1]
        gate = Gate(app, number, lambda token: announce("For another browser:", place, token))
        server = DrainingServer(app, around=gate, root_path=root_path, timeout_graceful_shutdown=DRAIN)
        announce(f"The board of {class_name} is at", place, gate.token)
        typer.echo("The address is good for one browser; it has names of learners on it. Ctrl-C ends it.\n")
        await server.serve([listener])
