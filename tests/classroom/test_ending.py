"""Ending a class, with learners who have prepared for it: nothing of theirs runs as the teacher, and it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from course_lib.classroom import ending as ending_module
from course_lib.classroom.board.reading import enter_class
from course_lib.classroom.credentials import class_folder, read_credentials
from course_lib.errors import CourseError
from course_lib.postgres.databases import quoted
from course_lib.postgres.server import forget_checked
from course_lib.settings import get_settings
from tests.classroom.classes import Classroom, apart
from tests.classroom.test_creating import asked, end_of
from tests.postgres.places import YourServer

Create = Callable[..., Classroom]

CALLS = """
    BEGIN
        IF (SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
            ALTER ROLE a_mallory CREATEDB CREATEROLE;
            RAISE EXCEPTION 'run as %', current_user;
        END IF;
"""
EVIL = (
    "CREATE SCHEMA evil", "GRANT USAGE ON SCHEMA evil TO PUBLIC",
    f"""CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$ {CALLS}
        RETURN pg_catalog.set_config($1, $2, $3); END $$""",
    f"""CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE plpgsql AS $$ {CALLS}
        RETURN pg_catalog.current_setting($1, $2); END $$""",
    f"""CREATE FUNCTION evil.pg_has_role(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ {CALLS}
        RETURN true; END $$""",
)  # fmt: skip
TRAPS = (
    "search_path = evil, pg_catalog", "role = a_mallory", "session_authorization = a_mallory",
    "default_transaction_read_only = on", "statement_timeout = 1", "exit_on_error = on",
)  # fmt: skip


@pytest.fixture(params=["teacher", "superuser"])
def made(
    request: pytest.FixtureRequest, classroom: Create, server_of_all: YourServer, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A class that either kind of teacher has made, with nothing left of it afterwards."""
    if request.param == "superuser":
        monkeypatch.setenv("DATABASE_URL", server_of_all.url("admin", server_of_all.password))
        get_settings.cache_clear()
        forget_checked()
    made = classroom("a", "Ada", "Mallory")
    yield made
    made.destroy()
    for (name,) in asked(server_of_all, "SELECT datname FROM pg_database WHERE datdba::regrole::text ~ 'course_kept'"):
        server_of_all.execute(f"DROP DATABASE {quoted(name)}")
    server_of_all.execute("DROP ROLE IF EXISTS course_kept_a")


def own(made: Classroom, login: str, name: str, *statements: str) -> None:
    """A database that a learner makes, with something in it."""
    with made.enter(login) as learner:
        learner.execute(f"CREATE DATABASE {quoted(name)}".encode())
    with made.enter(login, name) as inside:
        for statement in statements:
            inside.execute(statement.encode())


def powers(server: YourServer, role: str) -> list[tuple[Any, ...]]:
    return asked(server, "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = %s", role)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_databases_settings_do_nothing_to_who_takes_it_over(
    made: Classroom, server_of_all: YourServer, trap: str
) -> None:
    own(made, "mallory", "mine", *EVIL, "CREATE TABLE poems AS SELECT 'roses' AS line")
    with made.enter("mallory") as mallory:
        mallory.execute(f"ALTER DATABASE mine SET {trap}".encode())
        mallory.execute("ALTER DATABASE mine CONNECTION LIMIT 0")
        mallory.execute("REVOKE ALL ON DATABASE mine FROM PUBLIC")
    end_of("a", "mallory", do=True)
    assert powers(server_of_all, "a_mallory") == []
    usual = "-c search_path=pg_catalog -c statement_timeout=0 -c role=none"
    with psycopg.connect(server_of_all.dsn("mine"), options=usual) as inside:
        assert inside.execute("SELECT line, tableowner FROM public.poems, pg_tables WHERE tablename = 'poems'"
                              ).fetchall() == [("roses", "course_kept_a")]  # fmt: skip


HOOKS = (
    f"CREATE FUNCTION hook(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ {CALLS} RETURN $1; END $$",
    "CREATE TABLE bait (id int)", "INSERT INTO bait SELECT generate_series(1, 100)",
    "CREATE INDEX ON bait (public.hook(id))",
    "CREATE VIEW words AS SELECT rolname, rolpassword FROM pg_authid", "GRANT SELECT ON words TO a_ada",
    "CREATE FUNCTION who() RETURNS name SECURITY DEFINER LANGUAGE sql RETURN current_user",
    "GRANT CONNECT ON DATABASE mine TO a_ada",
)  # fmt: skip


def test_what_runs_as_its_owner_runs_as_nobody(made: Classroom, server_of_all: YourServer) -> None:
    """An index's expression runs as the table's owner whenever PostgreSQL looks after the table; so do views."""
    own(made, "mallory", "mine", *HOOKS)
    end_of("a", "mallory", do=True)
    server_of_all.execute("ANALYZE bait", database="mine")  # as autovacuum would
    with made.enter("ada", "mine") as ada:
        assert ada.execute("SELECT who()").fetchone() == ("course_kept_a",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ada.execute("SELECT * FROM words")
    rights = "rolsuper, rolcreaterole, rolcreatedb, rolcanlogin"
    assert asked(server_of_all, f"SELECT {rights} FROM pg_roles WHERE rolname = 'course_kept_a'") == [(False,) * 4]


def test_a_home_that_was_renamed_is_kept(made: Classroom, server_of_all: YourServer) -> None:
    with made.enter("ada") as ada:
        ada.execute("CREATE TABLE notes AS SELECT 7 AS id")
    with made.enter("ada", "course_class_a") as ada:
        ada.execute("ALTER DATABASE a_ada RENAME TO my_notes")
    ending = end_of("a", "ada", do=True)
    assert (ending.dropped, ending.kept) == ([], ["my_notes"])
    with psycopg.connect(server_of_all.dsn("my_notes")) as inside:
        assert inside.execute("SELECT id FROM notes").fetchone() == (7,)


def test_names_of_the_course_without_its_marks_are_kept(made: Classroom) -> None:
    for name in ("lesson_02_4711_9f3c21aa", "a_ada_1", "a_ada_poems"):
        own(made, "ada", name)
    assert end_of("a", "ada").kept == ["lesson_02_4711_9f3c21aa", "a_ada_1", "a_ada_poems"]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_end_that_is_cut_short_is_finished_by_the_next(
    made: Classroom, server_of_all: YourServer, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """At the first, the second and the third database that is entered: the board's and two that are kept."""
    from course_lib.postgres import server as module

    before = asked(server_of_all, "SELECT rolname FROM pg_roles ORDER BY 1")
    for name in ("one", "two"):
        own(made, "mallory", name, "CREATE SCHEMA s", "CREATE TABLE s.poems ()",
            "CREATE FUNCTION s.f() RETURNS int LANGUAGE sql RETURN 1")  # fmt: skip
    real, entered = module._connect_among_strangers, []

    async def fails(*arguments: Any) -> Any:
        entered.append(arguments[1])
        if len(entered) == at:
            raise RuntimeError("the teacher's laptop is shut")
        return await real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_connect_among_strangers", fails)
        with pytest.raises(RuntimeError):
            end_of("a", "mallory", do=True)
    end_of("a", "mallory", do=True)
    assert set(read_credentials("a")) == {"ada"}
    after = asked(server_of_all, "SELECT rolname FROM pg_roles ORDER BY 1")
    assert after == sorted({*before, ("course_kept_a",)} - {("a_mallory",)})
    owners = "SELECT DISTINCT datdba::regrole::text FROM pg_database WHERE datname IN ('one', 'two')"
    assert asked(server_of_all, owners) == [("course_kept_a",)]
    assert made.create("Ada", "Mallory").made == ["a_mallory"]
    made.enter("mallory").close()


def test_a_class_whose_end_is_cut_short_before_its_roles_go(made: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ending_module, "_drop_role", fails)
        with pytest.raises(RuntimeError):
            end_of("a", do=True)
    assert not class_folder("a").exists()
    end_of("a", do=True)
    with pytest.raises(CourseError, match="no class called a"):
        end_of("a")


def test_rights_and_tables_in_a_neighbours_database(made: Classroom, server_of_all: YourServer) -> None:
    own(made, "ada", "shared", "GRANT CREATE ON SCHEMA public TO a_mallory", "CREATE TABLE t ()",
        "GRANT CONNECT ON DATABASE shared TO a_mallory", "GRANT SELECT ON t TO a_mallory")  # fmt: skip
    with made.enter("mallory", "shared") as mallory:
        mallory.execute("CREATE TABLE poems AS SELECT 'roses' AS line")
    with made.enter("ada") as ada:
        ada.execute("ALTER DATABASE shared ALLOW_CONNECTIONS false")
    end_of("a", "mallory", do=True)
    query = "SELECT datallowconn, datdba::regrole::text FROM pg_database WHERE datname = 'shared'"
    assert asked(server_of_all, query) == [(False, "a_ada")]
    server_of_all.execute("ALTER DATABASE shared ALLOW_CONNECTIONS true")
    with psycopg.connect(server_of_all.dsn("shared")) as inside:
        assert inside.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'poems'").fetchall() == [
            ("course_kept_a",)
        ]


def test_rights_alone_leave_no_role_behind(made: Classroom, server_of_all: YourServer) -> None:
    own(made, "ada", "shared", "CREATE TABLE t ()", "GRANT SELECT ON t TO a_mallory")
    end_of("a", "mallory", do=True)
    assert asked(server_of_all, "SELECT FROM pg_roles WHERE rolname IN ('a_mallory', 'course_kept_a')") == []


def test_a_right_in_a_database_that_the_teacher_may_not_enter(classroom: Create, server_of_all: YourServer) -> None:
    classroom("a", "Ada")
    server_of_all.execute("CREATE TABLE seats ()", "GRANT SELECT ON seats TO a_ada", database="cinema")
    try:
        with pytest.raises(CourseError, match=r'(?s)database cinema, which you may not enter.*DROP OWNED BY "a_ada"'):
            end_of("a", "ada", do=True)
        assert set(read_credentials("a")) == {"ada"}, "refused before anything is done"
    finally:
        server_of_all.execute('DROP OWNED BY "a_ada"', "DROP TABLE seats", database="cinema")
    end_of("a", "ada", do=True)


def test_what_the_teacher_put_beside_the_files_stays(made: Classroom) -> None:
    folder = class_folder("a")
    theirs = [folder / "notes.txt", folder / "sheets" / "map.html", folder / "sheets" / "photo.png"]
    for place in theirs:
        place.write_text("mine")
    end_of("a", "mallory", do=True)
    assert all(place.exists() for place in theirs)
    assert not (folder / "sheets" / "mallory.html").exists() and (folder / "sheets" / "ada.html").exists()
    end_of("a", do=True)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(theirs)


def test_a_database_that_calls_itself_a_class_is_not_entered(
    made: Classroom, server_of_all: YourServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((mark,),) = asked(server_of_all, "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
                       " WHERE datname = 'course_class_a'")  # fmt: skip
    own(made, "mallory", "course_class_b", *EVIL, "CREATE SCHEMA board", "GRANT USAGE ON SCHEMA board TO PUBLIC",
        f"""CREATE FUNCTION board.f() RETURNS name LANGUAGE plpgsql AS $$ {CALLS} RETURN 'x'; END $$""",
        "CREATE VIEW board.standings AS SELECT board.f() AS learner",
        "CREATE VIEW board.learners AS SELECT board.f() AS learner, '' AS shown, true AS on_board",
        "GRANT SELECT ON board.standings, board.learners TO PUBLIC",
        "COMMENT ON DATABASE course_class_b IS '{}'".format(mark.replace('"subject": "a"', '"subject": "b"')),
        "ALTER DATABASE course_class_b SET search_path = evil, pg_catalog")  # fmt: skip

    async def look(name: str) -> Any:
        async with enter_class(name) as inside:
            return await inside.fetchval("SELECT pg_catalog.current_setting('search_path')")

    with pytest.raises(CourseError, match=r"(?s)There is no class b.*Those of yours: a\."):
        apart(look("b"))
    assert apart(look("a")) == "pg_catalog, pg_temp"
    assert powers(server_of_all, "a_mallory") == [(False,)]


def test_a_name_with_a_percent_sign_is_another_name(made: Classroom, server_of_all: YourServer) -> None:
    own(made, "ada", "100%", "CREATE TABLE notes ()")
    own(made, "mallory", "100%%", "CREATE TABLE notes ()")
    assert end_of("a", "ada", do=True).kept == ["100%"]
    owners = asked(
        server_of_all, "SELECT datname, datdba::regrole::text FROM pg_database WHERE datname ~ '100' ORDER BY 1"
    )
    assert owners == [("100%", "course_kept_a"), ("100%%", "a_mallory")]
