"""What a learner tries with the role of their own sheet, and the server does not let them do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from course_lib.classroom.limits import CONNECTIONS
from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import solution_answer
from course_lib.lesson import open_lesson
from course_lib.postgres.server import forget_checked
from course_lib.settings import get_settings
from tests.classroom.classes import Classroom
from tests.postgres.places import YourServer

Create = Callable[..., Classroom]
DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture
def made(classroom: Create) -> Classroom:
    return classroom("a", "Ada", "Mallory")


@pytest.fixture
def sit_down(made: Classroom, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``sit_down("ada")``: this process's course is that learner's."""

    def become(login: str) -> None:
        monkeypatch.setenv("DATABASE_URL", made.url(login))
        get_settings.cache_clear()
        forget_checked()

    return become


@contextmanager
def refused(made: Classroom, login: str, database: str) -> Iterator[None]:
    with pytest.raises(psycopg.OperationalError, match=r"permission denied for database|not currently accepting"):
        made.enter(login, database)
    yield


async def test_no_database_of_another_can_be_entered(made: Classroom, sit_down: Callable[[str], None]) -> None:
    """Neither the home nor what the other's lesson and check have made meanwhile, the templates among it."""
    sit_down("ada")
    lesson = await open_lesson("02")
    exercise = find_exercise("1.1")
    assert (await judge_answer(exercise, solution_answer(exercise))).passed
    with made.enter("mallory") as mallory:
        of_ada = "SELECT datname FROM pg_database WHERE datdba = 'a_ada'::regrole"
        names = [str(name) for (name,) in mallory.execute(of_ada).fetchall()]
        assert len(names) >= 3 and lesson.url.database in names
        for name in [*names, "postgres", "template1", "cinema"]:
            with refused(made, "mallory", name):
                pass
        templates = [name for name in names if name.startswith("course_template")]
        for name in names:
            for statement in (
                f'DROP DATABASE "{name}"', f'GRANT CONNECT ON DATABASE "{name}" TO a_mallory',
                f'ALTER DATABASE "{name}" IS_TEMPLATE true', f"SELECT pg_database_size('{name}')",
                *([] if name in templates else [f'CREATE DATABASE a_copy TEMPLATE "{name}"']),
            ):  # fmt: skip
                with pytest.raises(DENIED):
                    mallory.execute(statement.encode())
        # PostgreSQL lets everybody copy a template, whose tables stay their owner's
        mallory.execute(f'CREATE DATABASE a_copy TEMPLATE "{templates[0]}"'.encode())
        with made.enter("mallory", "a_copy") as copy, pytest.raises(DENIED):
            copy.execute("SELECT * FROM users")
        mallory.execute("DROP DATABASE a_copy")
    await lesson.close()


ATTACKS = (
    "CREATE ROLE friend", "CREATE ROLE friend SUPERUSER LOGIN", "ALTER ROLE a_mallory SUPERUSER",
    "ALTER ROLE a_mallory CREATEROLE", "ALTER ROLE a_mallory CONNECTION LIMIT -1", "ALTER ROLE a_ada PASSWORD 'x'",
    "ALTER ROLE a_ada SET statement_timeout = 1", "GRANT a_ada TO a_mallory", "SET ROLE a_ada", "SET ROLE teacher",
    "SET ROLE course_class_a", "SET SESSION AUTHORIZATION a_ada", "GRANT course_class_a TO a_mallory",
    "GRANT pg_read_all_data TO a_mallory", "DROP ROLE a_ada", "DROP OWNED BY a_ada",
    "REASSIGN OWNED BY a_ada TO a_mallory",
    "COMMENT ON ROLE a_ada IS 'not of the class'", "COMMENT ON ROLE a_mallory IS 'not of the class'",
    "ALTER DATABASE course_class_a RENAME TO x", "ALTER DATABASE a_ada OWNER TO a_mallory",
    "DROP DATABASE course_class_a",
    "SELECT pg_read_file('PG_VERSION')", "SELECT pg_ls_dir('.')", "SELECT lo_import('/etc/passwd')",
    "COPY (SELECT 1) TO '/tmp/x'", "CREATE TEMP TABLE t (l text); COPY t FROM '/etc/passwd'",
    "CREATE TEMP TABLE t (l text); COPY t FROM PROGRAM 'id'", "COPY (SELECT 1) TO PROGRAM 'id'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc', 'abs'", "DROP EXTENSION vector", "LOAD '/tmp/x.so'",
    "ALTER SYSTEM SET work_mem = '1GB'", "SELECT pg_reload_conf()", "SELECT pg_rotate_logfile()",
    "SET temp_file_limit = -1", "CREATE TABLESPACE t LOCATION '/tmp'",
    "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p", "SELECT pg_create_physical_replication_slot('s')",
    "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    "SELECT rolpassword FROM pg_authid", "SELECT * FROM pg_hba_file_rules", "SET session_replication_role = replica",
    "CREATE EVENT TRIGGER t ON login EXECUTE FUNCTION f()", "SELECT pg_stat_reset()", "CHECKPOINT",
)  # fmt: skip


def test_what_needs_a_right_is_denied(made: Classroom, server_of_all: YourServer) -> None:
    """Each in a session of its own."""
    before, through = server_of_all.contents(), []
    for statement in ATTACKS:
        with made.enter("mallory") as mallory:
            try:
                for part in statement.split("; "):
                    mallory.execute(part.encode())
            except DENIED:
                continue
            except psycopg.Error as error:
                through.append(f"{statement}: {error}")
            else:
                through.append(statement)
    assert through == []
    assert server_of_all.contents() == before


def test_nobody_ends_or_sees_the_sessions_of_others(made: Classroom, server_of_all: YourServer) -> None:
    teacher = psycopg.connect(server_of_all.url("teacher", "word"))
    with made.enter("ada") as ada, made.enter("mallory") as mallory, teacher:
        ada.execute("SELECT 'the answer is 42'")
        for pid in (ada.info.backend_pid, teacher.info.backend_pid):
            for function in ("pg_terminate_backend", "pg_cancel_backend"):
                with pytest.raises(DENIED):
                    mallory.execute(f"SELECT {function}({pid})".encode())
        seen = mallory.execute("SELECT query FROM pg_stat_activity WHERE usename = 'a_ada'").fetchall()
        assert seen == [("<insufficient privilege>",)]
        assert ada.execute("SELECT 1").fetchone() == (1,)


def test_one_learner_cannot_take_the_others_connections(made: Classroom) -> None:
    with ExitStack() as held:
        for number in range(CONNECTIONS):
            held.enter_context(made.enter("mallory", "course_class_a" if number % 2 else None))
        with pytest.raises(psycopg.OperationalError, match='too many connections for role "a_mallory"'):
            made.enter("mallory")
        made.enter("ada").close()


def test_a_disk_is_not_filled_by_a_query(made: Classroom) -> None:
    """By tables it can be, and ``sizes`` says whose they are."""
    with made.enter("mallory") as mallory:
        mallory.execute("SET work_mem = '64kB'")
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="temporary file size exceeds"):
            mallory.execute("SELECT count(*) FROM (SELECT repeat('x', 900) || g AS t FROM generate_series(1, 2000000) g"
                            " ORDER BY 1 OFFSET 1) AS sorted")  # fmt: skip


def test_the_classs_own_database_takes_nothing_from_learners(made: Classroom) -> None:
    with made.enter("mallory", "course_class_a") as mallory:
        for statement in (
            "CREATE TABLE board.t ()", "CREATE TEMP TABLE t ()", "CREATE SCHEMA s", "SELECT * FROM board.standings",
            "INSERT INTO board.learners (learner) VALUES ('a_ada')", "UPDATE board.standings SET tries = 0",
            "DELETE FROM board.standings", "TRUNCATE board.standings", "DROP SCHEMA board CASCADE",
            "ALTER FUNCTION board.mine() RENAME TO yours", "CREATE TABLE public.t ()",
            "CREATE FUNCTION board.f() RETURNS int LANGUAGE sql RETURN 1",
            "ALTER DATABASE course_class_a SET work_mem = '1MB'", "COMMENT ON DATABASE course_class_a IS 'x'",
            "CREATE PUBLICATION p FOR ALL TABLES",
        ):  # fmt: skip
            with pytest.raises(DENIED):
                mallory.execute(statement.encode())


def test_a_learner_who_lets_a_friend_in_does_so_for_one_database(made: Classroom) -> None:
    with made.enter("ada") as ada:
        ada.execute("GRANT CONNECT ON DATABASE a_ada TO a_mallory")
        ada.execute("CREATE DATABASE another")
        ada.execute("REVOKE CONNECT ON DATABASE another FROM PUBLIC")
        made.enter("mallory", "a_ada").close()
        with refused(made, "mallory", "another"):
            ada.execute("DROP DATABASE another")
