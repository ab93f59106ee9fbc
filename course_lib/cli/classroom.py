"""``course classroom …``: a class on one server, its board, and a learner's side of it."""

from __future__ import annotations

import typer

from course_lib.cli.board_commands import board_commands

classroom = typer.Typer(
    no_args_is_help=True, help="A class: many learners on one server, and a board that shows who is stuck."
)
classroom.add_typer(board_commands)
