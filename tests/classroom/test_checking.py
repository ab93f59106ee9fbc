"""``classroom check`` sees from inside what is wrong with a class, and says nothing of a good one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from course_lib.classroom import checking
from course_lib.classroom.checking import Line, check_class
from course_lib.classroom.credentials import Credentials, class_folder
from course_lib.classroom.server import find_class_server
from course_lib.errors import CourseError
from tests.classroom.classes import Classroom, apart
from tests.postgres.places import YourServer

Create = Callable[..., Classroom]


def checked(slug: str = "a") -> list[Line]:
    async def run() -> Any:
        return await check_class(await find_class_server(), slug)

    found: list[Line] = apart(run())
    return found


def failures() -> dict[str, str]:
    return {line.title: f"{line.text} → {line.mend}" for line in checked() if not line.ok}


def test_a_good_class(classroom: Create) -> None:
    classroom("a", "Ada", "Bruno", "Chen")
    lines = checked()
    assert [line.title for line in lines if not line.ok] == []
    assert lines[0].text == "3 of 3 learners log in"


FAULTS = {
    "a door of the server": (
        ["GRANT CONNECT ON DATABASE cinema TO PUBLIC"], ["REVOKE CONNECT ON DATABASE cinema FROM PUBLIC"],
        "databases of the server", 'REVOKE CONNECT, TEMPORARY ON DATABASE "cinema" FROM PUBLIC;',
    ),
    "a door of a learner": (
        ["GRANT CONNECT ON DATABASE a_ada TO PUBLIC"], [], "databases of others", "others may enter a_ada of ada",
    ),
    "a learner who makes roles": (["ALTER ROLE a_bruno CREATEROLE"], [], "rights", "bruno can more than they should"),
    "a member of another role": (["GRANT pg_monitor TO a_bruno"], [], "rights", "a member of pg_"),
    "files of the server": (["GRANT pg_execute_server_program TO a_bruno"], [], "rights", "bruno can more"),
    "another limit": (["ALTER ROLE a_ada CONNECTION LIMIT 4"], [], "limits", "ada may not hold 20 connections"),
    "another password": (["ALTER ROLE a_ada PASSWORD 'changed'"], [], "passwords", "1 of 2 learners log in; not ada"),
    "no way into the class": (
        ["REVOKE CONNECT ON DATABASE course_class_a FROM course_class_a"], [], "database course_class_a",
        "ada, bruno cannot enter it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(classroom: Create, server_of_all: YourServer, fault: str) -> None:
    made, undone, title, text = FAULTS[fault]
    classroom("a", "Ada", "Bruno")
    server_of_all.execute(*made)
    try:
        found = failures()
        assert set(found) == {title} and text in found[title], found
    finally:
        server_of_all.execute(*undone)


def test_an_open_board_is_named(classroom: Create, server_of_all: YourServer) -> None:
    classroom("a", "Ada", "Bruno")
    server_of_all.execute(
        "GRANT USAGE ON SCHEMA board TO PUBLIC", "GRANT SELECT ON board.standings TO a_bruno", database="course_class_a"
    )
    assert failures()["database course_class_a"].startswith("bruno can touch its tables")


def test_what_create_mends(classroom: Create, server_of_all: YourServer) -> None:
    """The mends of these lines say to create the class again."""
    made = classroom("a", "Ada", "Bruno", "Chen")
    server_of_all.execute(
        "ALTER ROLE a_ada CONNECTION LIMIT 4", "REVOKE ALL ON DATABASE course_class_a FROM course_class_a",
        "DROP DATABASE a_bruno", "ALTER ROLE a_chen PASSWORD 'changed'",
    )  # fmt: skip
    assert set(failures()) == {"limits", "passwords", "database course_class_a"}
    made.create("Ada", "Bruno", "Chen")
    assert failures() == {}


HIDDEN = """
    CREATE SCHEMA own;
    CREATE FUNCTION own.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT $2';
    CREATE VIEW own.pg_roles AS SELECT 1::oid AS oid, session_user::name AS rolname, false AS rolsuper,
        false AS rolcreaterole, false AS rolreplication, false AS rolbypassrls, {limit} AS rolconnlimit;
    ALTER DATABASE a_ada SET search_path = own, pg_catalog
"""


@pytest.mark.parametrize("limit", ["20", "'many'::text", "(SELECT 20 FROM pg_catalog.pg_sleep(1000))"])
def test_a_home_does_not_answer_for_the_server(
    classroom: Create, server_of_all: YourServer, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """A learner's schema stands before the server's own, with roles that have no fault, another type, or wait."""
    monkeypatch.setattr(checking, "PATIENCE", 20.0)
    made = classroom("a", "Ada", "Bruno")
    server_of_all.execute("GRANT pg_monitor TO a_ada")
    with made.enter("ada") as ada:
        ada.execute(HIDDEN.format(limit=limit).encode())
    found = failures()
    assert set(found) == {"rights"} and "ada can more than they should: a member of pg_" in found["rights"]


def test_a_learner_who_takes_too_long_is_named_alone(classroom: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    classroom("a", "Ada", "Bruno")
    look = checking._look

    async def slowly(seen: checking.Seen, neighbour: Credentials) -> None:
        if seen.line.login == "ada":
            await asyncio.sleep(1000)
        await look(seen, neighbour)

    monkeypatch.setattr(checking, "_look", slowly)
    monkeypatch.setattr(checking, "PATIENCE", 5.0)
    found = failures()
    assert set(found) == {"passwords"} and "1 of 2 learners log in; not ada: no answer in time" in found["passwords"]


@pytest.mark.parametrize("error", [asyncpg.InterfaceError("x"), TypeError("x"), OSError("x")])
def test_what_the_driver_cannot_read_is_said_of_one(
    classroom: Create, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    classroom("a", "Ada", "Bruno")
    look = checking._look

    async def fail(seen: checking.Seen, neighbour: Credentials) -> None:
        if seen.line.login == "ada":
            raise error
        await look(seen, neighbour)

    monkeypatch.setattr(checking, "_look", fail)
    assert f"not ada: {type(error).__name__}" in failures()["passwords"]


def test_a_neighbour_who_locks_their_home_is_no_fault_of_anybody(classroom: Create) -> None:
    made = classroom("a", "Ada", "Bruno")
    with made.enter("ada") as ada:
        ada.execute("CREATE DATABASE elsewhere")
        with made.enter("ada", "elsewhere") as inside:
            inside.execute("ALTER DATABASE a_ada ALLOW_CONNECTIONS false")
            found = failures()["passwords"]
            assert "1 of 2 learners log in; not ada:" in found
            inside.execute("ALTER DATABASE a_ada ALLOW_CONNECTIONS true")
        ada.execute("DROP DATABASE elsewhere WITH (FORCE)")


def test_names_of_others_are_printed_and_quoted(classroom: Create, server_of_all: YourServer) -> None:
    made = classroom("a", "Ada", "Bruno")
    evil = "x FROM PUBLIC; DROP TABLE t; --"
    with made.enter("ada") as ada:
        ada.execute(f'CREATE DATABASE "{evil}"'.encode())
        ada.execute(b'CREATE DATABASE "\x1b[2J\nAll is well."')
    server_of_all.execute(f'ALTER DATABASE "{evil}" OWNER TO admin')
    try:
        found = failures()
        assert f'ON DATABASE "{evil}" FROM PUBLIC;' in found["databases of the server"]
        assert "others may enter ?[2J?All is well. of ada" in found["databases of others"]
    finally:
        server_of_all.execute(f'DROP DATABASE "{evil}"', 'DROP DATABASE "\x1b[2J\nAll is well."')


def test_a_class_that_cannot_be_looked_into(classroom: Create) -> None:
    made = classroom("a", "Ada")
    with pytest.raises(CourseError, match="There is no class called b"):
        checked("b")
    (class_folder("a") / "credentials.csv").unlink()
    found = failures()
    assert "it has no password of a_ada" in found["your file"]
    made.create("Ada", new_passwords=True)
