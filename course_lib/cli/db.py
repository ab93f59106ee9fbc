"""``course db``: the server behind the lessons."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from course_lib.commands import command, in_a_terminal
from course_lib.errors import CourseError
from course_lib.postgres import (
    Database,
    Server,
    find_server,
    list_databases,
    renew_embedded,
    running_server,
    stop_embedded,
)
from course_lib.postgres.address import libpq_environment, public_uri
from course_lib.postgres.binaries import program, wheel_installation
from course_lib.postgres.server import environment_names_a_server
from course_lib.postgres.server_folders import ServerOf, list_servers, stop_all_servers
from course_lib.postgres.watchdog import clients

db = typer.Typer(no_args_is_help=True, help="The server behind the lessons: up, down, renew, url, psql, list.")

NumberArgument = Annotated[str | None, typer.Argument(help="A lesson's number; the newest database of it is meant.")]


@db.command()
def up() -> None:
    """Start the embedded server, or check the one DATABASE_URL names."""
    server = asyncio.run(find_server())
    typer.echo(server.describe())


@db.command()
def down() -> None:
    """Stop the embedded server. Open notebooks lose their databases; their first cell brings fresh ones."""
    if beside := stop_all_servers():
        typer.echo("Stopped 1 server of a lesson." if beside == 1 else f"Stopped {beside} servers of lessons.")
        if environment_names_a_server():
            return
    _require_embedded("stop")
    typer.echo("Stopped." if stop_embedded() else "It was not running.")


@db.command()
def renew(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Make the embedded server's data anew, whatever became of them; the old ones are put aside."""
    _require_embedded("renew")
    if not yes:
        _ask_before_renewing()
    aside = renew_embedded()
    old = f"The old ones are in {aside}" if aside else "None were kept: there were none, or they went to make room."
    typer.echo(f"The course's server has new data, and runs. {old}")


def _require_embedded(what: str) -> None:
    """Raise the sentence for a command that is for the embedded server only."""
    if environment_names_a_server():
        raise CourseError(
            f"DATABASE_URL names a server that the course did not start, so the course does not {what} it.",
            f"To {what} the embedded one, unset DATABASE_URL first.",
        )


def _ask_before_renewing() -> None:
    """Say what is lost, and go on when a person agrees.

    Raises:
        CourseError: nobody is there to be asked.
    """
    typer.echo(f"{_notebooks_in_use()} Their first cell brings fresh databases.")
    if not (sys.stdin.isatty() and in_a_terminal()):  # a notebook's ! has a terminal, in which nobody can answer
        raise CourseError(
            "Making the data anew ends all databases of the course, and nobody is here to agree to it.",
            f"Run: {command('db renew --yes')}",
        )
    typer.confirm("Make the data anew?", abort=True)


def _notebooks_in_use() -> str:
    """Who loses a database, as far as a server that may be broken can tell."""
    cluster = running_server()
    if cluster is None:
        return "The server does not run; what open notebooks still have on it is lost."
    try:
        number = clients(cluster.address().dsn)
    except psycopg.Error:
        return "The server does not say how many notebooks use it; they lose their databases."
    connections = "1 connection" if number == 1 else f"{number} connections"
    return f"The server has {connections} now, and all databases of open notebooks are lost."


@db.command()
def url(number: NumberArgument = None) -> None:
    """Print the address of the server, or of a lesson's database, without its password."""
    server = asyncio.run(find_server())
    typer.echo(public_uri(server.url, _choose(server, number)))


@db.command()
def psql(number: NumberArgument = None) -> None:
    """Open psql on a lesson's database, or on the newest one."""
    server = asyncio.run(find_server())
    database = _choose(server, number, newest=True)
    typer.echo(f"{database} · leave with \\q")
    environment = libpq_environment(server.url.set(database=database))
    executable = _psql(server)
    if os.name == "nt":  # there exec returns to the prompt while the new program still runs
        raise typer.Exit(subprocess.run([executable], env=environment, check=False).returncode)
    os.execve(executable, [executable], environment)


def _psql(server: Server) -> str:
    """The wheel's psql cannot encrypt, so for another server one on the PATH is better."""
    installed = None if server.embedded else shutil.which("psql")
    return installed or str(program(wheel_installation(), "psql"))


@db.command("list")
def list_command() -> None:
    """List the databases the course has made, and whether their notebooks still run."""
    found = asyncio.run(_databases(asyncio.run(find_server())))
    table = Table("database", "what", "owner", "connections", box=None, pad_edge=False)
    for database in found:
        table.add_row(database.name, _kind(database), _owner(database), str(database.connections))
    for server in list_servers():
        table.add_row(server.name, "server of a lesson", _owner_of(server), _connections(server))
    Console().print(table if table.rows else "The course has made no database on this server yet.")


async def _databases(server: Server) -> list[Database]:
    async with server.connection() as connection:
        return await list_databases(connection)


def _choose(server: Server, number: str | None, newest: bool = False) -> str:
    """The newest database of a lesson; without a number the newest of all, or the maintenance database."""
    lessons = [d for d in asyncio.run(_databases(server)) if d.mark and d.mark.in_use_for]
    if number is not None:
        lessons = [d for d in lessons if d.mark and d.mark.in_use_for == number.zfill(2)]
        if not lessons:
            raise CourseError(f"No notebook has lesson {number} open.", "Run its first cell, then try again.")
    if lessons and (number is not None or newest):
        return lessons[-1].name
    return server.url.database or "postgres"


def _owner_of(server: ServerOf) -> str:
    return f"process {server.pid}, {'ended, swept by the next' if server.owner_ended else 'running'}"


def _connections(server: ServerOf) -> str:
    if not server.cluster.accepts_clients():
        return "stopped"
    try:
        return str(clients(server.cluster.address().dsn))
    except psycopg.Error:
        return "?"


def _kind(database: Database) -> str:
    if database.mark and database.mark.in_use_for:
        return f"lesson {database.mark.in_use_for}"
    return f"{database.mark.kind} {database.mark.subject}" if database.mark else "unfinished"


def _owner(database: Database) -> str:
    if database.mark is None or database.mark.kind == "template":
        return ""
    if database.in_pool and not database.mark.claimed:
        return "nobody, free for the next lesson or check"
    if not (database.droppable or database.in_pool):
        return "yours, since it was renamed: the course keeps it"
    state = {True: "ended, swept at the next opening", False: "running", None: "of another machine or folder"}
    return f"process {database.mark.pid} on {database.mark.host}, {state[database.maker_ended()]}"
