"""``classroom create``: a roster becomes roles, databases, passwords and sheets; run again, it adds and changes.

Everything that can be refused is refused before anything is made. Then the passwords go to the file, the roles are made
in one transaction, and the databases one by one; whoever runs it again after a failure goes on where it ended, with the
same passwords. One ``create`` at a time: the next waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg

from course_lib.classroom import board
from course_lib.classroom.address import Address, learners_address
from course_lib.classroom.credentials import (
    FILE,
    Credentials,
    class_folder,
    new_credentials,
    read_credentials,
    write_credentials,
)
from course_lib.classroom.databases import make_class_database, make_learners_databases, refuse_strange_databases
from course_lib.classroom.limits import refuse_too_few_connections
from course_lib.classroom.naming import DEFAULT, check_slug, role_name, spoken_class
from course_lib.classroom.roles import learners_of, make_roles, marked_roles, refuse_strangers, require_class
from course_lib.classroom.roster import Learner
from course_lib.classroom.server import close_embedded, find_class_server
from course_lib.classroom.sheets import write_sheets
from course_lib.classroom.waiting import unhindered, wait_for_turn
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.files import answering_for, put_aside
from course_lib.judging.board.seat import class_database
from course_lib.postgres.address import spoken
from course_lib.postgres.server import Connection, Server

LOCK = 1_202_615  # advisory lock of the teacher's database: one who changes classes at a time


@dataclass(frozen=True)
class Created:
    """What ``create`` has done. ``left`` are roles of the class that the roster does not name: they stay."""

    slug: str
    address: Address
    lines: list[Credentials]
    made: list[str]
    renewed: list[str]
    left: list[str]
    file: Path
    sheets: Path


@dataclass(frozen=True)
class Wishes:
    """How a class is to be. ``address`` as learners are told it; ``new_passwords`` for those whose own are lost."""

    slug: str = DEFAULT
    address: str | None = None
    createdb: bool = True
    new_passwords: bool = False


async def create_class(learners: list[Learner], wishes: Wishes, say: Callable[[str], None] = print) -> Created:
    """Make the class on its server, or bring it up to what the roster says.

    Raises:
        CourseError: the server, the roster or the class's file will not do; the sentence says whether anything was
            made.
    """
    slug = check_slug(wishes.slug)
    server = await find_class_server()
    async with server.connection() as connection, alone(connection, say):
        if server.embedded:
            await close_embedded(server, connection)
        roles = [role_name(slug, learner.login) for learner in learners]
        await _refuse(server, connection, slug, roles)
        known = read_credentials(slug)
        there = {role.name for role in await learners_of(connection, slug)}
        earlier = next((line.url for line in known.values() if line.role in there), None)
        address = learners_address(server, wishes.address, earlier)
        elsewhere = earlier is None and _leads_elsewhere(known, address)
        known = {} if elsewhere else known
        lost = _lost(slug, learners, known, there, wishes.new_passwords)
        lines = [_line(learner, slug, address, known) for learner in learners]
        others = [replace_url(line, address) for login, line in known.items()
                  if role_name(slug, login) in there - set(roles)]  # fmt: skip
        if elsewhere:
            _keep_earlier_file(slug, say)
        file = write_credentials(slug, [*lines, *others])
        made = await unhindered(
            connection, {*roles, *there}, lambda: make_roles(connection, slug, lines, wishes.createdb)
        )
        await make_class_database(connection, slug)
        for role in roles:
            await make_learners_databases(connection, slug, role, wishes.createdb)
        await _furnish(server, slug, lines, {*roles, *there})
    left = sorted(there - set(roles))
    return Created(slug, address, lines, made, sorted(lost), left, file, write_sheets(slug, lines))


@asynccontextmanager
async def alone(connection: Connection, say: Callable[[str], None]) -> AsyncIterator[None]:
    """Be the only one on this server who changes classes; say so when that means to wait.

    Raises:
        CourseError: somebody has held it for a minute. Anybody who may enter the maintenance database can.
    """
    await wait_for_turn(connection, LOCK, say)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _refuse(server: Server, connection: Connection, slug: str, roles: list[str]) -> None:
    """Raise what would stop it later."""
    where = "the embedded server" if server.embedded else spoken(server.url)
    await _refuse_rights(connection, where)
    await refuse_strangers(connection, slug, roles)
    await refuse_strange_databases(connection, slug, roles)
    if class_database(slug) in {role.name for role in await marked_roles(connection)}:
        await require_class(connection, slug)  # and not another teacher's
    there = [role.name for role in await learners_of(connection, slug)]
    await refuse_too_few_connections(connection, sorted({*roles, *there}), server.embedded, where)
    try:
        async with server.connection("template1") as template:
            vector = await template.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    except CourseError:  # it is closed to us; the class's database will show what is in it
        return
    if vector is None:
        raise CourseError(
            f"Databases that are made on {where} have no pgvector, and learners may not add it.",
            "Its administrator runs, in database template1: CREATE EXTENSION vector;",
        )


async def _refuse_rights(connection: Connection, where: str) -> None:
    row = await connection.fetchrow(
        "SELECT rolsuper OR rolcreaterole AS may, quote_ident(rolname) AS name FROM pg_roles"
        " WHERE rolname = current_user"
    )
    assert row is not None
    if not row["may"]:
        raise CourseError(
            f"Your role on {where} may not create roles, and each learner needs one.",
            f"Its administrator runs: ALTER ROLE {row['name']} CREATEROLE CREATEDB;",
        )


def _lost(
    slug: str, learners: list[Learner], known: dict[str, Credentials], there: set[str], new_passwords: bool
) -> set[str]:
    """Logins of those who have a role, and whose password is not in the file."""
    lost = {one.login for one in learners if one.login not in known and role_name(slug, one.login) in there}
    if lost and not new_passwords:
        who = ", ".join(sorted(lost)[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        raise CourseError(
            f"{spoken_class(slug, 'The')} is on the server already, and the passwords of {who} are not in your file.",
            "Put credentials.csv back where it was, or make new passwords for them: --new-passwords",
        )
    return lost


def _leads_elsewhere(known: dict[str, Credentials], address: Address) -> bool:
    """A server that has lost its roles is where it was, and gets them back with the passwords that were given out."""
    places = {(was.host, was.port) for was in (Address.of(line.url) for line in known.values())}
    return bool(places) and (address.host, address.port) not in places


def _keep_earlier_file(slug: str, say: Callable[[str], None]) -> None:
    """A class of this name has been made on another server, whose passwords only the file has."""
    with answering_for(class_folder(slug), "COURSE_WORK"):
        aside = put_aside(class_folder(slug) / FILE)
    say(f"No role in your file is on this server, and its sheets lead to another: it is kept as {aside}.")


def _line(learner: Learner, slug: str, address: Address, known: dict[str, Credentials]) -> Credentials:
    line = known.get(learner.login)
    return new_credentials(learner, slug, address, line.password if line else None)


def replace_url(line: Credentials, address: Address) -> Credentials:
    """The same line with the address that holds now."""
    return replace(line, url=address.url(line.role, line.password))


async def _furnish(server: Server, slug: str, lines: list[Credentials], roles: set[str]) -> None:
    """What is in the class's database: the board, with the learners' names."""
    async with server.connection(class_database(slug)) as inside:
        await _require_vector(inside)

        async def work() -> None:
            await board.install(inside, class_database(slug))
            await board.name_learners(inside, {line.role: line.name for line in lines})

        await unhindered(inside, roles, work)


async def _require_vector(inside: asyncpg.Connection[Any]) -> None:
    if await inside.fetchval("SELECT true FROM pg_extension WHERE extname = 'vector'") is None:
        raise CourseError(
            "The class is made, but databases on its server have no pgvector, and learners may not add it.",
            f"The administrator runs, in database template1: CREATE EXTENSION vector;   then {command('classroom')} "
            "destroy and create it again.",
        )
