"""The board's commands in ``course classroom …``: the teacher's, and a learner's side of it."""

from __future__ import annotations

from typing import Annotated

import typer

from course_lib.classroom.naming import DEFAULT

board_commands = typer.Typer()
LEARNERS, TEACHERS = "For learners", "For teachers"
Name = Annotated[str, typer.Option(help="The class's short name, where there are several.")]


@board_commands.command(rich_help_panel=LEARNERS)
def me() -> None:
    """Show what stands of you on the board of your class."""
    from course_lib.cli.my_board import run_me

    run_me()


@board_commands.command(rich_help_panel=LEARNERS)
def leave() -> None:
    """Be on the board of your class no more; what stands there of you is removed."""
    from course_lib.cli.my_board import run_switch

    run_switch(False)


@board_commands.command(rich_help_panel=LEARNERS)
def join() -> None:
    """Be on the board of your class again."""
    from course_lib.cli.my_board import run_switch

    run_switch(True)


@board_commands.command(rich_help_panel=TEACHERS)
def board(
    name: Name = DEFAULT,
    lessons: Annotated[str | None, typer.Option(help="The columns: 03-05,08 or drills; else the latest.")] = None,
    page: Annotated[bool, typer.Option("--page", help="As a page for a browser and a projector.")] = False,
    port: Annotated[int, typer.Option(help="Of the page: the first port to try.", min=1, max=65515)] = 8100,
    root_path: Annotated[str, typer.Option(help="Of the page: the path below which a proxy shows it.")] = "",
) -> None:
    """Show who has solved what, who is stuck where, and which mistakes are made now. Ctrl-C ends it."""
    if page:
        from course_lib.cli.board_page import run_board_page

        run_board_page(name, lessons, port, root_path.rstrip("/"))
    else:
        from course_lib.cli.board import run_board

        run_board(name, lessons)
