"""``course classroom``: a class of many learners on one server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from course_lib.classroom.naming import DEFAULT, keeper_name, spoken_class
from course_lib.cli.board_commands import board_commands
from course_lib.cli.screen import show
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.texts import printable

classroom = typer.Typer(
    no_args_is_help=True, help="A class: many learners on one server, and a board that shows who is stuck."
)
TEACHERS = "For teachers"
classroom.add_typer(board_commands)

Name = Annotated[str, typer.Option("--name", help="The class's short name, where there are several.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without it, only say what would be done.")]


@classroom.command(rich_help_panel=TEACHERS)
def create(
    roster: Annotated[Path, typer.Argument(help="A CSV file: a name on each line.", show_default=False)],
    name: Name = DEFAULT,
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT as learners reach the server, where that is not yours.")
    ] = None,
    no_createdb: Annotated[
        bool, typer.Option("--no-createdb", help="Make a few databases for each now; learners make none.")
    ] = False,
    new_passwords: Annotated[
        bool, typer.Option("--new-passwords", help="For those whose password your file has lost.")
    ] = False,
) -> None:
    """Make a role, databases and a sheet for each learner of a roster; again, after it has changed.

    On the server of DATABASE_URL; without one, on an embedded server for a class on this machine.
    """
    from course_lib.classroom.creating import Wishes, create_class
    from course_lib.classroom.roster import read_roster

    wishes = Wishes(name, address, not no_createdb, new_passwords)
    done = asyncio.run(create_class(read_roster(roster), wishes, typer.echo))
    kept = len(done.lines) - len(done.made) - len(done.renewed)
    paragraphs = [
        ("", f"{len(done.made)} made, {kept} were there" + (f", {len(done.renewed)} with a new password"
                                                            if done.renewed else "")),
        ("server", f"{done.address.host}:{done.address.port}"),
        ("passwords", f"{done.file}, which only you can read"),
        ("sheets", f"{done.sheets}, to print; one file each in the folder beside it"),
    ]  # fmt: skip
    if done.address.local:
        paragraphs.append(("", "The sheets name this machine, so they are good here only."))
    if done.left:
        paragraphs.append(("not in the roster", f"{printable(', '.join(done.left))}. They stay; to remove one: "
                           f"`{command('classroom remove LOGIN')}`"))  # fmt: skip
    paragraphs.append(("next", f"`{command('classroom check')}{_of(name)}`"))
    show(f"{spoken_class(name, 'The')} has {_count(len(done.lines), 'learner')}.", paragraphs)


@classroom.command(rich_help_panel=TEACHERS)
def check(name: Name = DEFAULT) -> None:
    """Log in as each learner and try what must not go: [OK] or [FAIL] and the mend, line by line."""
    from course_lib.classroom.checking import Line, check_class
    from course_lib.classroom.server import find_class_server

    async def run() -> list[Line]:
        server = await find_class_server()
        typer.echo(server.describe())
        return await check_class(server, name)

    lines = asyncio.run(run())
    for line in lines:
        typer.echo(f"[{'OK' if line.ok else 'FAIL'}]{'   ' if line.ok else ' '}{line.title}: {line.text}")
        if not line.ok and line.mend:
            typer.echo(f"       → {line.mend}")
    failed = sum(not line.ok for line in lines)
    typer.echo("\nAll is well." if not failed else f"\n{failed} to mend.")
    raise typer.Exit(1 if failed else 0)


@classroom.command(rich_help_panel=TEACHERS)
def sizes(name: Name = DEFAULT) -> None:
    """Show who has how many databases, how large they are, and how many connections are open."""
    from rich.console import Console
    from rich.table import Table

    from course_lib.classroom.server import find_class_server
    from course_lib.classroom.sizes import Share, free_bytes
    from course_lib.classroom.sizes import sizes as look

    async def run() -> tuple[list[Share], int | None]:
        server = await find_class_server()
        async with server.connection() as connection:
            return await look(connection, name), free_bytes(server)

    shares, free = asyncio.run(run())
    table = Table("learner", "databases", "MB", "connections", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for share in shares:
        table.add_row(printable(share.role.removeprefix(f"{name}_")), str(share.databases), f"{share.size / 1e6:,.0f}",
                      str(share.connections))  # fmt: skip
    table.add_section()
    columns = zip(*((one.databases, one.size, one.connections) for one in shares), strict=True)
    whole = [sum(column) for column in columns]
    table.add_row("together", str(whole[0]), f"{whole[1] / 1e6:,.0f}", str(whole[2]))
    Console().print(table)
    if free is not None:
        typer.echo(f"\n{free / 1e6:,.0f} MB are free on the server's disk.")


@classroom.command(rich_help_panel=TEACHERS)
def export(
    to: Annotated[Path, typer.Option(help="The folder for it, which must be empty or not be there.")],
    lessons: Annotated[str, typer.Option(help="An assignment for each: 01-05, or 01,03.")] = "",
    exercises: Annotated[str, typer.Option(help="One assignment with all of these: 3.3,3.8,M4.")] = "",
) -> None:
    """Make an nbgrader course from exercises: what learners get, the checks and their points."""
    from course_lib.cli.exporting import run_export

    run_export(lessons, exercises, to)


@classroom.command(rich_help_panel=TEACHERS)
def remove(
    login: Annotated[str, typer.Argument(help="The learner's login, as in your file.", show_default=False)],
    name: Name = DEFAULT,
    yes: Yes = False,
) -> None:
    """Take a learner out of the class: the role, and the databases that the course made for it."""
    _end(name, login, yes)


@classroom.command(rich_help_panel=TEACHERS)
def archive(name: Name = DEFAULT, yes: Yes = False) -> None:
    """Let no learner log in any more; all databases stay. `create` lets them in again."""
    from course_lib.classroom.creating import alone
    from course_lib.classroom.ending import archive as archive_class
    from course_lib.classroom.ending import what_ends
    from course_lib.classroom.server import find_class_server

    async def run() -> int:
        server = await find_class_server()
        async with server.connection() as connection, alone(connection, typer.echo):
            if yes:
                return len(await archive_class(connection, name))
            return len((await what_ends(connection, name)).roles) - 1

    number = asyncio.run(run())
    if not yes:
        raise _asked(
            f"{_count(number, 'learner')} of {spoken_class(name)} would be disconnected, and could not log in any "
            "more; all databases would stay.",
            f"classroom archive{_of(name)}",
        )
    again = f"`{command('classroom create')} ROSTER.csv{_of(name)}`"
    kept = [("", "All databases and passwords are kept."), ("to let them in again", again)]
    show(f"{_count(number, 'learner')} of {spoken_class(name)} cannot log in any more.", kept)


@classroom.command(rich_help_panel=TEACHERS)
def destroy(name: Name = DEFAULT, yes: Yes = False) -> None:
    """End a class: its roles, the databases that the course made for it, its board, your file and the sheets."""
    _end(name, None, yes)


@classroom.command(rich_help_panel=TEACHERS)
def up() -> None:
    """Start the embedded server of the classes, as after a restart of the machine, or check that of DATABASE_URL."""
    from course_lib.classroom.server import find_class_server

    typer.echo(asyncio.run(find_class_server()).describe())


@classroom.command(rich_help_panel=TEACHERS)
def down() -> None:
    """Stop the embedded server of the classes; what is in it stays. Learners are disconnected."""
    from course_lib.classroom.server import stop_class_server
    from course_lib.postgres.server import environment_names_a_server

    if environment_names_a_server():
        raise CourseError(
            "DATABASE_URL names a server that the course did not start, so the course does not stop it.",
            "To stop the embedded one, unset DATABASE_URL first.",
        )
    typer.echo("Stopped." if stop_class_server() else "It was not running.")


@classroom.command(rich_help_panel=TEACHERS)
def hub(
    to: Annotated[Path, typer.Option(help="The folder to write; nobody else can enter it.", show_default=False)],
    name: Name = DEFAULT,
    port: Annotated[int, typer.Option(help="Where it listens on loopback.", min=1, max=65533)] = 8000,
    trial: Annotated[bool, typer.Option("--trial", help="Without root and without limits, for a look.")] = False,
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="Values for Zero to JupyterHub instead.")] = False,
) -> None:
    """Write a JupyterHub for the class: a login, a server and a database for each learner."""
    from course_lib.cli.hub import write_hub

    write_hub(name, to, port, trial, kubernetes)


@classroom.command(hidden=True)
def seat() -> None:
    """What a hub starts for each learner."""
    from course_lib.cli.hub import sit_down

    sit_down()


def _end(name: str, login: str | None, yes: bool) -> None:
    from course_lib.classroom.creating import alone
    from course_lib.classroom.ending import Ending, end, what_ends
    from course_lib.classroom.server import find_class_server

    async def run() -> Ending:
        server = await find_class_server()
        async with server.connection() as connection, alone(connection, typer.echo):
            ending = await what_ends(connection, name, login)
            if yes:
                await end(server, connection, ending)
        return ending

    ending = asyncio.run(run())
    words = f"{_count(len(ending.dropped), 'database')} ({ending.size / 1e6:,.0f} MB)"
    kept = (
        f"Not the course's, so not dropped but given to {keeper_name(name)}, a role of yours: "
        f"{', '.join(map(printable, ending.kept))}. "
        f"Learners wrote what is in it: look at it after SET ROLE {keeper_name(name)};"
        if ending.kept
        else ""
    )
    who = (
        f"{login} of {spoken_class(name)}"
        if login
        else f"{spoken_class(name)} with {_count(len(ending.roles) - 1, 'learner')}"
    )
    if not yes:
        what = f"classroom remove {login}" if login else "classroom destroy"
        raise _asked(f"This would end {who}: {words}. {kept}".rstrip(), f"{what}{_of(name)}")
    show(f"Ended: {who}, {words}.", [("", kept)] if kept else [])


def _asked(sentence: str, words: str) -> CourseError:
    return CourseError(sentence, f"To do it: {command(words)} --yes")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _of(name: str) -> str:
    return "" if name == DEFAULT else f" --name {name}"
