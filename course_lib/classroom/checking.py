"""``classroom check``: log in as each learner, with the password of the sheet, and try what must not go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg

from course_lib.classroom.credentials import Credentials, read_credentials
from course_lib.classroom.limits import CONNECTIONS, Need, connections_needed, more_connections
from course_lib.classroom.naming import spoken_class
from course_lib.classroom.roles import require_class
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.judging.board.seat import class_database
from course_lib.postgres.address import libpq_uri, parse_url
from course_lib.postgres.databases import quoted
from course_lib.postgres.server import Connection, Server, connect
from course_lib.texts import printable

AT_ONCE = 8  # learners
PATIENCE, FAREWELL = 60.0, 5.0  # seconds for one of them, and to leave
NAMED = 5  # things or people that a line names

FORBIDDEN = {
    "create a role": "CREATE ROLE course_intruder",
    "read a file of the server": "SELECT pg_read_file('PG_VERSION')",
    "run a program on the server": "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'",
}
"""What is tried as each learner, in a transaction that is taken back."""

INSIDE = """
    SELECT rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls
           OR has_parameter_privilege('work_mem', 'ALTER SYSTEM') AS too_much, rolconnlimit AS connections,
           ARRAY (SELECT g.rolname::text FROM pg_roles g
                  WHERE g.oid <> r.oid AND g.rolname <> 'pg_database_owner'
                  AND pg_has_role(r.oid, g.oid, 'MEMBER')) AS memberships,
           EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') AS vector,
           ARRAY (SELECT datname::text FROM pg_database
                  WHERE datallowconn AND datdba <> r.oid AND has_database_privilege(oid, 'CONNECT')) AS doors
    FROM pg_roles r WHERE rolname = session_user
"""
CLOSED = (
    asyncpg.InsufficientPrivilegeError, asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError, TimeoutError,  # its owner has shut it, or holds it locked
)  # fmt: skip
STRANGE = (
    CourseError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TypeError, ValueError, LookupError,
    AssertionError,
)  # fmt: skip
"""What may come of one learner's database or line of the file, and is said of that learner alone."""
OWNERS = "SELECT datname::text, rolname::text FROM pg_database JOIN pg_roles r ON r.oid = datdba"


@dataclass(frozen=True)
class Line:
    """One line of the report; ``mend`` is what to do where it is not ``ok``."""

    ok: bool
    title: str
    text: str
    mend: str = ""


@dataclass
class Seen:
    """What one learner met. ``doors`` are the databases of others that let the learner in."""

    line: Credentials
    refused: str = ""
    powers: list[str] = field(default_factory=list)
    doors: list[str] = field(default_factory=list)
    limit: int = CONNECTIONS
    vector: bool = True
    into_class: bool = True
    board_is_open: bool = False
    into_neighbour: str = ""


async def check_class(server: Server, slug: str) -> list[Line]:
    """Look at a class from inside each of its roles.

    Raises:
        CourseError: there is no such class of the caller's, or nobody in it can log in.
    """
    async with server.connection() as connection:
        roles = {role.name for role in await require_class(connection, slug) if role.may_log_in}
        owners = dict(await connection.fetch(OWNERS))
        need = await connections_needed(connection, sorted(roles))
    if not roles:
        raise CourseError(
            f"Nobody of {spoken_class(slug)} can log in: it is archived, or all have been removed.",
            f"To go on with it: {command('classroom create ROSTER.csv')}",
        )
    lines = [line for line in read_credentials(slug).values() if line.role in roles]
    gate = asyncio.Semaphore(AT_ONCE)
    seen = await asyncio.gather(*(_guarded(gate, line, lines[place - 1]) for place, line in enumerate(lines)))
    lost = sorted(roles - {line.role for line in lines})
    report = [*_about_learners(slug, list(seen), lost), *_about_doors(slug, list(seen), owners),
              _about_connections(need)]  # fmt: skip
    # names of databases and roles are whatever somebody has called them
    return [replace(line, text=printable(line.text), mend=printable(line.mend)) for line in report]


async def _guarded(gate: asyncio.Semaphore, line: Credentials, neighbour: Credentials) -> Seen:
    async with gate:
        seen = Seen(line)
        try:
            await asyncio.wait_for(_look(seen, neighbour), PATIENCE)
        except TimeoutError:
            seen.refused = "no answer in time"
        except STRANGE as error:
            seen.refused = error.sentence if isinstance(error, CourseError) else type(error).__name__
        return seen


async def _enter(url: Any, database: str | None = None) -> Connection:
    """As a learner; whatever their database has for a search_path, what is asked is answered by the server's own."""
    connection = await connect(url, database)
    try:
        await connection.execute("SET search_path = pg_catalog")
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _look(seen: Seen, neighbour: Credentials) -> None:
    url, slug = parse_url(seen.line.url), seen.line.role.removesuffix(f"_{seen.line.login}")
    connection = await _enter(url)
    try:
        row = await connection.fetchrow(INSIDE)
        assert row is not None
        seen.limit, seen.vector = row["connections"], row["vector"]
        others = [name for name in row["memberships"] if name != class_database(slug)]
        seen.powers += ["more than a learner's rights"] * row["too_much"] + [f"a member of {name}" for name in others]
        seen.doors = [name for name in row["doors"] if name != class_database(slug)]
        for what, statement in FORBIDDEN.items():
            if not await _is_denied(connection, statement):
                seen.powers.append(what)
    finally:
        await connection.close(timeout=FAREWELL)
    seen.into_class, seen.board_is_open = await _look_at_class(url, slug)
    if neighbour.role != seen.line.role and await _enters(url, neighbour.role):
        seen.into_neighbour = neighbour.role


async def _is_denied(connection: asyncpg.Connection[Any], statement: str) -> bool:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    except asyncpg.PostgresError:
        return False
    finally:
        await transaction.rollback()
    return False


async def _look_at_class(url: Any, slug: str) -> tuple[bool, bool]:
    """Whether the class's database lets the learner in, and whether its tables do."""
    try:
        connection = await _enter(url, class_database(slug))
    except CourseError:
        return False, False
    try:
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'p') AND oid >= 16384"
            " AND has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(oid,"
            " 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')"
        )
        makes = await connection.fetchval(
            "SELECT count(*) FROM pg_namespace WHERE nspname !~ '^pg_' AND has_schema_privilege(oid, 'CREATE')"
        )
        return True, bool(tables or makes)
    finally:
        await connection.close(timeout=FAREWELL)


async def _enters(url: Any, database: str) -> bool:
    try:
        connection = await asyncpg.connect(libpq_uri(url, database), timeout=10)
    except CLOSED:
        return False
    await connection.close(timeout=FAREWELL)
    return True


def _about_learners(slug: str, seen: list[Seen], lost: list[str]) -> Iterator[Line]:
    """What concerns each of them alone."""
    out = {one.line.login: one.refused for one in seen if one.refused}
    inside = [one for one in seen if not one.refused]
    why = next(iter(out.values()), "")
    yield Line(
        not out,
        "passwords",
        f"{len(inside)} of {len(seen)} learners log in" + (f"; not {_few(out)}: {why}" if out else ""),
        "Create the class again with the same roster.",
    )
    if lost:
        yield Line(False, "your file", f"it has no password of {_few(lost)}", "Put the file back, or --new-passwords.")
    powers = {one.line.login: one.powers[0] for one in inside if one.powers}
    what = f"{_few(powers)} can more than they should: {next(iter(powers.values()), '')}"
    yield Line(
        not powers,
        "rights",
        what if powers else "no roles, no files and no programs of the server, no settings",
        "Take it from them, or remove and create them again.",
    )
    bare = [one.line.login for one in inside if not one.vector]
    yield Line(
        not bare,
        "pgvector",
        f"not in the database of {_few(bare)}" if bare else "in the databases of all",
        "In template1: CREATE EXTENSION vector;   then remove these learners and create the class again.",
    )
    shut = [one.line.login for one in inside if not one.into_class]
    writes = [one.line.login for one in inside if one.board_is_open]
    text = (
        f"{_few(shut)} cannot enter it"
        if shut
        else f"{_few(writes)} can touch its tables"
        if writes
        else "all enter it, and nobody reads or writes its tables"
    )
    yield Line(
        not shut and not writes,
        f"database {class_database(slug)}",
        text,
        "Create the class again with the same roster.",
    )
    other = [one.line.login for one in inside if one.limit != CONNECTIONS]
    text = f"{_few(other)} may not hold {CONNECTIONS} connections" if other else f"{CONNECTIONS} connections each"
    yield Line(not other, "limits", text, "Create the class again with the same roster.")


def _about_doors(slug: str, seen: list[Seen], owners: dict[str, str]) -> Iterator[Line]:
    """Databases that let in whom they do not belong to."""
    tried = [one for one in seen if not one.refused]
    roles = {one.line.role: one.line.login for one in seen}
    of_learners = {name for one in tried for name in one.doors if owners.get(name) in roles}
    of_learners |= {one.into_neighbour for one in tried if one.into_neighbour}
    names = [f"{name} of {roles.get(owners.get(name, name), '?')}" for name in sorted(of_learners)]
    yield Line(
        not names,
        "databases of others",
        f"others may enter {_few(names)}" if names else "nobody enters a neighbour's, nor any other learner's",
        "A learner may let others in; if that was not meant, its owner runs: REVOKE ALL ON DATABASE … FROM PUBLIC;",
    )
    rest = sorted({name for one in tried for name in one.doors} - of_learners)
    yield Line(
        not rest,
        "databases of the server",
        f"learners may enter {_few(rest)}" if rest else "nobody enters them",
        f"Its administrator runs: REVOKE CONNECT, TEMPORARY ON DATABASE {', '.join(map(quoted, rest))} FROM PUBLIC;",
    )


def _about_connections(need: Need) -> Line:
    others = f", {need.others} for other roles" if need.others else ""
    text = f"{need.own} for the class{others}, {need.reserve} in reserve; the server allows {need.allowed}"
    return Line(need.met, "connections", text, more_connections(need))


def _few(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
