"""The databases of a class: its own, which all its learners may enter, and each learner's home or pool.

Lessons' databases are made by the learners' own roles, as everywhere, and closed to others as they are made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import asyncpg

from course_lib.classroom.naming import pool_names, spoken_class
from course_lib.errors import CourseError
from course_lib.judging.board.seat import class_database
from course_lib.postgres.databases import BIRTHMARK, Database, literal, quoted
from course_lib.postgres.failures import disk_full
from course_lib.postgres.marks import LONGEST, Mark
from course_lib.texts import printable

CLASS, HOME, POOL = "class", "home", "pool"  # kinds of marks
BROKEN = -2  # datconnlimit of a database that DROP DATABASE has not finished; nobody can enter it any more

THERE = f"""
    SELECT d.oid, datname AS name, r.rolname AS owner, datconnlimit AS connections,
           left(shobj_description(d.oid, 'pg_database'), {LONGEST + 1}) AS comment
    FROM pg_database d JOIN pg_roles r ON r.oid = datdba
    WHERE datname = ANY ($1) OR r.rolname = ANY ($1) ORDER BY d.oid
"""
CLASSES = f"""
    SELECT datname AS name, left(shobj_description(d.oid, 'pg_database'), {LONGEST + 1}) AS comment
    FROM pg_database d JOIN pg_roles r ON r.oid = datdba
    WHERE starts_with(datname::text, $1) AND (r.rolsuper OR r.rolname = current_user)
        AND has_database_privilege(d.oid, 'CONNECT') ORDER BY 1
"""
"""Names are anybody's, and comments the owner's: only of these owners can a mark be believed."""


@dataclass(frozen=True)
class Owned:
    """A database by its name, with its owner and what its mark says.

    ``newborn`` is one whose making was cut short, ``broken`` one whose dropping was, by whomever.
    """

    name: str
    owner: str
    mark: Mark | None
    newborn: bool = False
    broken: bool = False

    @property
    def goes(self) -> bool:
        """True for what the course made for its owner, while it has the name that the course gave it."""
        if self.broken:
            return True
        names = {HOME: [self.owner], POOL: pool_names(self.owner)}
        if self.mark is None:
            made = self.newborn and self.name in (self.owner, *pool_names(self.owner))
            return made or (self.newborn and Database(self.name, None).droppable)
        return self.name in names.get(self.mark.kind, []) or Database(self.name, self.mark).droppable


async def databases_of(connection: asyncpg.Connection[Any], names: Iterable[str]) -> list[Owned]:
    """The databases that have one of these names, or whose owner has, oldest first."""
    return [
        Owned(
            row["name"],
            row["owner"],
            Mark.parse(row["comment"]),
            row["connections"] == BIRTHMARK,
            row["connections"] == BROKEN,
        )
        for row in await connection.fetch(THERE, list(names))
    ]


async def classes_of(connection: asyncpg.Connection[Any]) -> list[str]:
    """The short names of the classes whose database is the caller's own or a superuser's, by name."""
    prefix = class_database("")
    found = [(name.removeprefix(prefix), Mark.parse(comment))
             for name, comment in await connection.fetch(CLASSES, prefix)]  # fmt: skip
    return [slug for slug, mark in found if mark is not None and (mark.kind, mark.subject) == (CLASS, slug)]


async def refuse_strange_databases(connection: asyncpg.Connection[Any], slug: str, roles: list[str]) -> None:
    """Raise when a database that the class wants is there already and is somebody else's.

    Raises:
        CourseError: with the first of them.
    """
    me = await connection.fetchval("SELECT current_user")
    owners = {class_database(slug): me} | {name: role for role in roles for name in (role, *pool_names(role))}
    for database in await databases_of(connection, owners):
        if database.name in owners:
            _require_owner(database, owners[database.name], slug)


def _require_owner(database: Owned, owner: str, slug: str) -> None:
    """A learner can write the comment of a database of theirs, so for those the owner alone decides."""
    is_class, mark = database.name == class_database(slug), database.mark
    marked = mark is not None and (mark.kind, mark.subject) == (CLASS, slug)
    if database.owner != owner or (is_class and not marked and not database.newborn):
        raise _strange(database.name, slug, database.owner)


def _strange(name: str, slug: str, owner: str) -> CourseError:
    return CourseError(
        f"There is a database {name} on the server, and it is not of {spoken_class(slug)}: {printable(owner)} has it.",
        "Let its owner rename it, or give the class another short name: --name SLUG",
    )


async def make_class_database(connection: asyncpg.Connection[Any], slug: str) -> str:
    """The database of the class, made when there is none. Returns its name."""
    name = class_database(slug)
    await _make(connection, name, None, Mark.of_this_process(CLASS, slug))
    await connection.execute(f"GRANT CONNECT ON DATABASE {quoted(name)} TO {quoted(name)}")
    return name


async def make_learners_databases(connection: asyncpg.Connection[Any], slug: str, role: str, createdb: bool) -> None:
    """A learner's home, and the pool where the role may not make databases; what is there stays as it is."""
    await _make(connection, role, role, Mark.of_this_process(HOME, slug))
    for name in [] if createdb else pool_names(role):
        await _make(connection, name, role, Mark.of_this_process(POOL, slug))


async def _make(connection: asyncpg.Connection[Any], name: str, owner: str | None, mark: Mark) -> None:
    """Nobody can enter before it is closed to everybody else; one that was left so is finished.

    Raises:
        CourseError: somebody else has made one of that name meanwhile.
    """
    there = next((one for one in await databases_of(connection, [name]) if one.name == name), None)
    if there is not None:
        _require_owner(there, owner or await connection.fetchval("SELECT current_user"), mark.subject)
        if not there.newborn:
            return
    database = quoted(name)
    if there is None:
        who = f"OWNER {quoted(owner)}" if owner else ""
        options = f"TEMPLATE template1 ALLOW_CONNECTIONS false CONNECTION LIMIT {BIRTHMARK}"
        try:
            await connection.execute(f"CREATE DATABASE {database} {who} {options}")
        except asyncpg.DuplicateDatabaseError as error:
            raise _strange(name, mark.subject, "somebody") from error
        except asyncpg.ObjectInUseError as error:
            raise CourseError(
                "Somebody is connected to template1, so no database can be made from it.",
                "Close that connection, and create the class again: what is there already is kept.",
            ) from error
        except asyncpg.PostgresError as error:
            if sentence := disk_full(error):
                raise sentence from error
            raise
    await connection.execute(
        f"REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC;"
        f"COMMENT ON DATABASE {database} IS {literal(str(mark))};"
        f"ALTER DATABASE {database} CONNECTION LIMIT -1;"
        f"ALTER DATABASE {database} ALLOW_CONNECTIONS true"
    )
