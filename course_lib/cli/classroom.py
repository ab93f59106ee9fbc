"""``course classroom …``: a class on one server, its board, and a learner's side of it."""

from __future__ import annotations

from typing import Annotated

import typer

classroom = typer.Typer(
    no_args_is_help=True, help="A class: many learners on one server, and a board that shows who is stuck."
)
Name = Annotated[str, typer.Option(help="The class.")]
LEARNERS, TEACHERS = "For learners", "For teachers"


@classroom.command(rich_help_panel=LEARNERS)
def me() -> None:
    """Show what stands of you on the board of your class."""
    from course_lib.cli.my_board import run_me

    run_me()


@classroom.command(rich_help_panel=LEARNERS)
def leave() -> None:
    """Be on the board of your class no more; what stands there of you is removed."""
    from course_lib.cli.my_board import run_switch

    run_switch(False)


@classroom.command(rich_help_panel=LEARNERS)
def join() -> None:
    """Be on the board of your class again."""
    from course_lib.cli.my_board import run_switch

    run_switch(True)


@classroom.command(rich_help_panel=TEACHERS)
def board(
    name: Name = "class",
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
