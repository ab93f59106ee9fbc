"""A class is made whole or not at all, changed with its roster, and ended by its marks."""

from __future__ import annotations

import asyncio
import csv
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from course_lib.classroom import creating
from course_lib.classroom.creating import alone
from course_lib.classroom.credentials import class_folder, read_credentials, verifier
from course_lib.classroom.ending import archive, end, forget, what_ends
from course_lib.classroom.limits import CONNECTIONS
from course_lib.classroom.server import find_class_server
from course_lib.classroom.sizes import sizes
from course_lib.errors import CourseError
from course_lib.settings import get_settings
from tests.classroom.classes import Classroom, apart
from tests.postgres.places import YourServer

Create = Callable[..., Classroom]

SETTINGS = "SELECT setconfig FROM pg_db_role_setting JOIN pg_roles r ON r.oid = setrole WHERE rolname = %s"


def asked(server: YourServer, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        return connection.execute(query.encode(), values).fetchall()


def test_each_learner_gets_a_role_a_database_and_a_password(classroom: Create, server_of_all: YourServer) -> None:
    before = server_of_all.contents()
    made = classroom("a", "Ada Lovelace", "Ádám Nagy")
    with made.enter("ada_lovelace") as ada:
        assert ada.info.dbname == "a_ada_lovelace"
        ada.execute("CREATE TABLE notes (id int, what vector(3))")
        assert ada.execute("SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()").fetchone(
        ) == ("a_ada_lovelace",)  # fmt: skip
    rights = "rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit"
    query = f"SELECT {rights} FROM pg_roles WHERE rolname = 'a_adam_nagy'"
    assert asked(server_of_all, query) == [(False, False, True, False, False, CONNECTIONS)]
    ((settings,),) = asked(server_of_all, SETTINGS, "a_adam_nagy")
    assert settings == [
        "statement_timeout=5min", "idle_in_transaction_session_timeout=15min", "temp_file_limit=1GB",
    ]  # fmt: skip
    made.destroy()
    assert server_of_all.contents() == before


def test_the_file_and_the_sheets_are_the_teachers_alone(classroom: Create, capfd: pytest.CaptureFixture[str]) -> None:
    made = classroom("a", "Ada", "Bruno")
    folder = class_folder("a")
    for place in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(place.stat().st_mode) == (0o700 if place.is_dir() else 0o600), place
    lines = read_credentials("a")
    assert {path.name for path in (folder / "sheets").iterdir()} == {"ada.html", "bruno.html"}
    for login, line in lines.items():
        sheet = (folder / "sheets" / f"{login}.html").read_text(encoding="utf-8")
        assert f"DATABASE_URL={line.url}" in sheet and "COURSE_CLASS=a" in sheet
        assert [other.password in sheet for other in lines.values() if other != line] == [False]
    said = "".join(capfd.readouterr()) + "".join(made.said) + repr(lines)
    assert not any(line.password in said for line in lines.values())


def test_a_name_is_text_on_a_sheet(classroom: Create) -> None:
    classroom("a", "<script>alert('Ada')</script>")
    page = (class_folder("a") / "sheets.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page


def test_no_password_reaches_the_servers_log(classroom: Create, server_of_all: YourServer) -> None:
    server_of_all.execute("ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM SET log_min_messages = 'warning'",
                          "SELECT pg_reload_conf()")  # fmt: skip
    try:
        time.sleep(0.3)
        classroom("a", "Ada")
        log = server_of_all.cluster.log.read_text(errors="replace")
        assert 'CREATE ROLE "a_ada"' in log or "CREATE ROLE a_ada" in log
        assert read_credentials("a")["ada"].password not in log
    finally:
        server_of_all.execute("ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")


def test_again_with_a_changed_roster(classroom: Create, server_of_all: YourServer) -> None:
    made = classroom("a", "Ada", "Bruno")
    before = read_credentials("a")
    with made.enter("ada") as ada:
        ada.execute("CREATE TABLE notes ()")
        done = made.create("Ada", "Chen")
        assert (done.made, done.left) == (["a_chen"], ["a_bruno"])
        assert ada.execute("SELECT count(*) FROM notes").fetchone() == (0,), "and nobody was disconnected"
    after = read_credentials("a")
    assert (
        after["ada"] == before["ada"] and after["bruno"] == before["bruno"] and set(after) == {"ada", "bruno", "chen"}
    )
    for login in after:
        made.enter(login).close()
    server_of_all.execute("ALTER ROLE a_ada CONNECTION LIMIT 3")
    made.create("Ada", "Chen")
    assert asked(server_of_all, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'a_ada'") == [(CONNECTIONS,)]


def test_a_lost_file_is_no_reason_for_new_passwords(classroom: Create) -> None:
    made = classroom("a", "Ada", "Bruno")
    (class_folder("a") / "credentials.csv").rename(class_folder("a") / "elsewhere")
    with pytest.raises(CourseError, match=r"(?s)passwords of ada, bruno are not in your file.*--new-passwords"):
        made.create("Ada", "Bruno")
    assert made.create("Ada", "Bruno", new_passwords=True).renewed == ["ada", "bruno"]
    made.enter("ada").close()


@pytest.mark.parametrize("content", ["name,login\n", "name,login,role,password,url\nAda,ada\n", "\0\xff", '"', ""])
def test_a_file_that_a_spreadsheet_has_spoilt(classroom: Create, content: str) -> None:
    made = classroom("a", "Ada")
    (class_folder("a") / "credentials.csv").write_text(content, encoding="latin-1")
    with pytest.raises(CourseError, match=r"not as the course wrote it|not in your file"):
        made.create("Ada")


def test_what_was_lost_on_the_server_comes_back_with_the_same_passwords(
    classroom: Create, server_of_all: YourServer
) -> None:
    made = classroom("a", "Ada", "Bruno")
    before = read_credentials("a")
    server_of_all.execute("DROP DATABASE a_ada", "DROP DATABASE a_bruno", "DROP DATABASE course_class_a",
                          "DROP ROLE a_ada", "DROP ROLE a_bruno", "DROP ROLE course_class_a")  # fmt: skip
    made.create("Ada", "Bruno")
    assert read_credentials("a") == before
    made.enter("ada").close()


def test_too_few_connections_are_said_before_anything_is_made(classroom: Create, server_of_all: YourServer) -> None:
    before = server_of_all.contents()
    with pytest.raises(CourseError) as caught:
        classroom("a", *(f"Learner {letter}" for letter in "abcdefgh"))
    assert "8 learners with 20 connections each" in caught.value.sentence
    assert "max_connections = 150" in caught.value.sentence
    assert caught.value.mend.startswith("Its administrator runs: ALTER SYSTEM SET max_connections = 17")
    assert server_of_all.contents() == before and not class_folder("a").exists()
    classroom("a", "Ada", "Bruno", "Chen", "Dana")
    with pytest.raises(CourseError, match="3 learners with 20 connections each, 80 for other roles"):
        classroom("b", "Ada", "Bruno", "Chen")


@pytest.mark.parametrize(
    ("made", "undone"),
    [
        ("CREATE ROLE a_bruno LOGIN", "DROP ROLE a_bruno"),
        ("CREATE ROLE course_class_a", "DROP ROLE course_class_a"),
        ("CREATE DATABASE a_bruno", "DROP DATABASE a_bruno"),
        ("CREATE DATABASE course_class_a", "DROP DATABASE course_class_a"),
    ],
)
def test_what_is_somebody_elses_is_left_alone(
    classroom: Create, server_of_all: YourServer, made: str, undone: str
) -> None:
    server_of_all.execute(made)
    try:
        before = server_of_all.contents()
        with pytest.raises(CourseError, match="is not of the class a"):
            classroom("a", "Ada", "Bruno")
        assert server_of_all.contents() == before
    finally:
        server_of_all.execute(undone)


def test_another_teachers_class_is_left_alone(
    classroom: Create, server_of_all: YourServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = classroom("a", "Ada")
    server_of_all.execute("CREATE ROLE colleague LOGIN CREATEROLE CREATEDB PASSWORD 'word'",
                          "GRANT CONNECT ON DATABASE postgres TO colleague")  # fmt: skip
    before = server_of_all.contents()
    with monkeypatch.context() as patch:
        patch.setenv("DATABASE_URL", server_of_all.url("colleague", "word"))
        get_settings.cache_clear()
        for attempt in (lambda: made.create("Ada", "Bruno"), lambda: end_of("a", do=True), lambda: apart(_sizes())):
            with pytest.raises(CourseError, match=r"made by another role|it is not of the class"):
                attempt()
    get_settings.cache_clear()
    assert server_of_all.contents() == before
    server_of_all.execute("DROP OWNED BY colleague", "DROP ROLE colleague")
    made.enter("ada").close()


def test_a_create_that_is_cut_short_is_finished_by_the_next(
    classroom: Create, server_of_all: YourServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = creating.make_learners_databases

    async def fails_at_the_second(connection: Any, slug: str, role: str, createdb: bool) -> None:
        if role == "a_bruno":
            raise RuntimeError("the teacher's laptop is shut")
        await real(connection, slug, role, createdb)

    monkeypatch.setattr(creating, "make_learners_databases", fails_at_the_second)
    with pytest.raises(RuntimeError):
        classroom("a", "Ada", "Bruno")
    before = read_credentials("a")
    monkeypatch.setattr(creating, "make_learners_databases", real)
    server_of_all.execute(
        "CREATE DATABASE a_bruno OWNER a_bruno TEMPLATE template1 ALLOW_CONNECTIONS false CONNECTION LIMIT 1202611"
    )  # as far as one comes who is killed between two statements
    made = classroom("a", "Ada", "Bruno")
    assert read_credentials("a") == before
    for login in ("ada", "bruno"):
        made.enter(login).close()
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            made.enter(login, "a_bruno" if login == "ada" else "a_ada")


def test_roles_are_made_all_or_none(
    classroom: Create, server_of_all: YourServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = server_of_all.contents()
    words = iter([verifier("a word")])
    monkeypatch.setattr("course_lib.classroom.roles.verifier", lambda word: next(words))
    with pytest.raises(RuntimeError):  # at the second
        classroom("a", "Ada", "Bruno")
    assert server_of_all.contents()["roles"] == before["roles"]


def test_a_second_create_waits(classroom: Create) -> None:
    made = classroom("a", "Ada")
    done: list[float] = []

    async def hold() -> None:
        server = await find_class_server()
        async with server.connection() as connection, alone(connection, print):
            thread.start()
            await asyncio.sleep(1)
            assert not done and made.said == ["Somebody else is changing a class on this server; waiting for them."]

    thread = threading.Thread(target=lambda: (made.create("Ada", "Bruno"), done.append(time.monotonic())))
    apart(hold())
    thread.join()
    assert done
    made.enter("bruno").close()


def test_two_creates_at_once_make_one_class(classroom: Create, server_of_all: YourServer) -> None:
    made = classroom("a", "Ada")
    (made.folder / "second").mkdir()
    other = Classroom(server_of_all, "a", made.folder / "second")
    threads = [
        threading.Thread(target=made.create, args=("Ada", "Bruno", "Chen")),
        threading.Thread(target=other.create, args=("Ada", "Bruno", "Dana")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_credentials("a")) == {"ada", "bruno", "chen", "dana"}
    for login in read_credentials("a"):
        made.enter(login).close()


def test_two_classes_on_one_server(classroom: Create, server_of_all: YourServer) -> None:
    first = classroom("a", "Ada", "Bruno")
    before = server_of_all.contents()
    second = classroom("b", "Ada")
    assert read_credentials("a")["ada"].password != read_credentials("b")["ada"].password
    for database in ("a_ada", "course_class_a", "a_bruno"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            second.enter("ada", database)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(first.url("ada").replace("//a_ada:", "//b_ada:"))
    second.destroy()
    assert server_of_all.contents() == before
    first.enter("ada").close()
    with pytest.raises(CourseError, match="There is no class called b"):
        end_of("b")


def test_a_class_whose_names_another_class_has(classroom: Create) -> None:
    classroom("a", "Ada Lovelace")
    with pytest.raises(CourseError, match="a_ada_lovelace on the server, and it is not of the class a_ada"):
        classroom("a_ada", "Lovelace")


def test_a_class_survives_a_restart(classroom: Create, server_of_all: YourServer) -> None:
    made = classroom("a", "Ada", "Bruno")
    with made.enter("ada") as ada:
        ada.execute("CREATE TABLE notes AS SELECT 7 AS id")
    server_of_all.restart()
    with made.enter("ada") as ada:
        assert ada.execute("SELECT id FROM notes").fetchone() == (7,)
    assert made.create("Ada", "Bruno").made == []


def end_of(slug: str, login: str | None = None, do: bool = False) -> Any:
    async def run() -> Any:
        server = await find_class_server()
        async with server.connection() as connection:
            ending = await what_ends(connection, slug, login)
            if do:
                await end(server, connection, ending)
                if login:
                    await forget(server, slug, login, ending.roles[0])
            return ending

    return apart(run())


def test_removing_one(classroom: Create, server_of_all: YourServer) -> None:
    made = classroom("a", "Ada", "Bruno")
    before = server_of_all.contents()
    ending = end_of("a", "bruno")
    assert (ending.roles, ending.dropped, ending.kept) == (["a_bruno"], ["a_bruno"], [])
    assert server_of_all.contents() == before, "only told"
    with made.enter("bruno") as bruno:
        end_of("a", "bruno", do=True)
        with pytest.raises(psycopg.OperationalError):
            bruno.execute("SELECT 1")
    assert set(read_credentials("a")) == {"ada"}
    assert [path.name for path in (class_folder("a") / "sheets").iterdir()] == ["ada.html"]
    made.enter("ada").close()
    with pytest.raises(CourseError, match="Nobody in the class a has the login bruno"):
        end_of("a", "bruno")


def test_a_learners_own_database_is_given_to_the_teacher(classroom: Create, server_of_all: YourServer) -> None:
    made = classroom("a", "Ada")
    with made.enter("ada") as ada:
        ada.execute("CREATE DATABASE mine")
        with made.enter("ada", "mine") as inside:
            inside.execute("CREATE TABLE poems AS SELECT 'roses' AS line")
        ada.execute("""COMMENT ON DATABASE mine IS '{"course": "databases-for-ai-engineers", "kind": "kept"}'""")
    ending = end_of("a", do=True)
    assert ending.kept == ["mine"] and "mine" not in ending.dropped
    with psycopg.connect(server_of_all.url("teacher", "word", "mine")) as teacher:
        assert teacher.execute("SELECT line FROM poems").fetchall() == [("roses",)]
    server_of_all.execute("DROP DATABASE mine")


def test_a_forged_mark_drops_nothing_of_others(classroom: Create, server_of_all: YourServer) -> None:
    """A learner says of a database of theirs that it is another class's; and a cinema looks like a home."""
    made = classroom("a", "Ada")
    classroom("b", "Bruno")
    ((mark,),) = asked(server_of_all, "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
                       " WHERE datname = 'a_ada'")  # fmt: skip
    server_of_all.execute(f"COMMENT ON DATABASE cinema IS '{mark}'")
    try:
        with made.enter("ada") as ada:
            of_b = mark.replace('"subject": "a"', '"subject": "b"')
            ada.execute(f"COMMENT ON DATABASE a_ada IS '{of_b}'".encode())
        assert end_of("b").dropped == ["b_bruno", "course_class_b"]
        assert end_of("a").dropped == ["a_ada", "course_class_a"]
    finally:
        server_of_all.execute("COMMENT ON DATABASE cinema IS NULL")


def test_archived_and_back(classroom: Create) -> None:
    made = classroom("a", "Ada", "Bruno")
    with made.enter("ada") as ada:
        ada.execute("CREATE TABLE notes ()")

    async def run() -> list[str]:
        server = await find_class_server()
        async with server.connection() as connection:
            return await archive(connection, "a")

    assert apart(run()) == ["a_ada", "a_bruno"]
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        made.enter("ada")
    made.create("Ada", "Bruno")
    with made.enter("ada") as ada:
        assert ada.execute("SELECT count(*) FROM notes").fetchone() == (0,)


def test_a_pool_where_learners_make_no_databases(classroom: Create, server_of_all: YourServer) -> None:
    made = classroom("a", "Ada", createdb=False)
    owned = asked(server_of_all, "SELECT datname FROM pg_database WHERE datdba = 'a_ada'::regrole ORDER BY 1")
    assert [name for (name,) in owned] == ["a_ada", "a_ada_1", "a_ada_2", "a_ada_3", "a_ada_4"]
    for number in range(1, 5):
        with made.enter("ada", f"a_ada_{number}") as inside:
            inside.execute("CREATE TABLE v (v vector(2))")
    with made.enter("ada") as ada, pytest.raises(psycopg.errors.InsufficientPrivilege):
        ada.execute("CREATE DATABASE one_more")
    assert len(end_of("a").dropped) == 6


async def _sizes() -> list[Any]:
    server = await find_class_server()
    async with server.connection() as connection:
        return await sizes(connection, "a")


def test_who_fills_the_disk_is_named(classroom: Create) -> None:
    made = classroom("a", "Ada", "Bruno")
    with made.enter("bruno") as bruno:
        bruno.execute("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
        first, second = apart(_sizes())
    assert (first.role, first.databases, first.connections) == ("a_bruno", 1, 1)
    assert first.size - second.size > 20_000_000


@pytest.mark.parametrize(
    ("rights", "sentence"),
    [("NOCREATEROLE CREATEDB", "may not create roles"), ("CREATEROLE NOCREATEDB", "may not create databases")],
)
def test_a_teacher_without_a_right(classroom: Create, server_of_all: YourServer, rights: str, sentence: str) -> None:
    server_of_all.execute(f"ALTER ROLE teacher {rights}")
    try:
        with pytest.raises(CourseError, match=sentence):
            classroom("a", "Ada")
        assert not Path(class_folder("a")).exists()
    finally:
        server_of_all.execute("ALTER ROLE teacher CREATEROLE CREATEDB")


def test_the_file_is_a_table_that_a_spreadsheet_reads(classroom: Create) -> None:
    made = classroom("a", "Ada, the first", "Bruno")
    with (class_folder("a") / "credentials.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["Ada, the first", "Bruno"]
    assert rows[1]["url"] == made.url("bruno")
