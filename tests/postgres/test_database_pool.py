"""A role that may make no databases is lent those that were made ahead for it, fresh each time, and nothing else."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from course_lib.classroom.databases import make_learners_databases
from course_lib.classroom.naming import POOL, pool_names
from course_lib.errors import CourseError
from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import solution_answer
from course_lib.lesson import Lesson, open_lesson
from course_lib.postgres import database_pool, find_server
from course_lib.postgres.address import parse_url
from course_lib.postgres.database_pool import pool_of
from course_lib.postgres.databases import literal, quoted, set_mark
from course_lib.postgres.lives import UNTOLD
from course_lib.postgres.marks import Mark
from course_lib.postgres.server import connect, forget_checked
from course_lib.settings import get_settings
from tests.exercises.fairness import written
from tests.postgres.places import YourServer, run_course, start_python

SitDown = Callable[..., Awaitable[None]]
WORD = "word"


@pytest.fixture(scope="module")
def class_server(shared_folder: Path) -> YourServer:
    server = YourServer(shared_folder / "class")
    server.execute("CREATE EXTENSION vector", database="template1")
    server.execute(f"CREATE ROLE friend LOGIN PASSWORD '{WORD}'")
    return server


@pytest.fixture
async def sit_down(
    class_server: YourServer,
    shared_folder: Path,
    home: Path,
    point_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[SitDown]:
    """``await sit_down("ada", 2)``: this process works as that learner, for whom two databases were made."""
    monkeypatch.setattr(database_pool, "WAIT_SECONDS", 0.3)
    there: list[str] = []
    kept = shared_folder / "dumps"  # each test has a course folder of its own, and need not build anew
    if kept.exists():
        shutil.copytree(kept, home / "dumps")

    async def become(learner: str, count: int = POOL) -> None:
        if learner not in there:
            there.append(learner)
            class_server.execute(f"CREATE ROLE {learner} LOGIN PASSWORD '{WORD}' CONNECTION LIMIT 20")
            await make_pool(class_server, learner)
            class_server.execute(*(f"DROP DATABASE {name}" for name in pool_names(learner)[count:]))
        forget_checked()
        point_at(class_server.url(learner, WORD, learner))

    yield become
    for dump in (home / "dumps").glob("[!p]*"):
        if not (kept / dump.name).exists():
            shutil.copytree(dump, kept / dump.name)
    for learner in there:
        rows = class_server.contents()["databases"]
        for name in [quoted(str(row[0])) for row in rows if row[1] == learner]:
            class_server.execute(f"ALTER DATABASE {name} IS_TEMPLATE false", f"DROP DATABASE {name} WITH (FORCE)")
        class_server.execute(f"DROP OWNED BY {learner}", f"DROP ROLE {learner}")


async def make_pool(server: YourServer, learner: str) -> None:
    """What ``classroom create --no-createdb`` makes, where it is not there yet."""
    connection = await connect(parse_url(server.url()))
    await make_learners_databases(connection, "room", learner, createdb=False)
    await connection.close()


async def count_users(lesson: Lesson) -> int:
    ((count,),) = await lesson.sql("SELECT count(*) FROM users")
    return int(count)


# -- fresh, whatever the last one has left -------------------------------------------------------------------------

LEFT = (
    "CREATE SCHEMA private", "CREATE TABLE private.secrets (said text)", "INSERT INTO private.secrets VALUES ('mine')",
    "CREATE TYPE mood AS ENUM ('good')", "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE SEQUENCE counter", "SELECT nextval('counter')", "CREATE VIEW seen AS SELECT 1 AS one",
    "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one", "CREATE TABLE parts (id int) PARTITION BY RANGE (id)",
    "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER spy BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION spy()",
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    "CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)", "CREATE COLLATION plain FROM \"C\"",
    "CREATE CAST (mood AS int) WITH INOUT", "CREATE STATISTICS both_columns ON tier, name FROM users",
    "CREATE PUBLICATION news FOR TABLE users", "SELECT lo_from_bytea(0, 'secret')",
    "CREATE TABLE handed (id int)", "ALTER TABLE handed OWNER TO pg_database_owner",
    "CREATE SCHEMA ours", "ALTER SCHEMA ours OWNER TO pg_database_owner", "CREATE TABLE ours.more (id int)",
    "CREATE SCHEMA {role}", "CREATE FUNCTION {role}.count(text) RETURNS int LANGUAGE sql AS 'SELECT 7'",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO friend", "GRANT ALL ON ALL TABLES IN SCHEMA public TO friend",
    "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO friend WITH GRANT OPTION",
    "GRANT CONNECT ON DATABASE {database} TO PUBLIC", "GRANT ALL ON SCHEMA public TO friend, PUBLIC",
    "REVOKE USAGE ON SCHEMA public FROM PUBLIC", "COMMENT ON SCHEMA public IS 'mine'",
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY", "ALTER TABLE users FORCE ROW LEVEL SECURITY",
    "DELETE FROM messages", "DROP TABLE jobs", "ALTER SCHEMA public RENAME TO away",
    "ALTER DATABASE {database} SET default_transaction_read_only = on",
    "ALTER DATABASE {database} SET search_path = ours", "ALTER DATABASE {database} SET statement_timeout = '1ms'",
    "ALTER ROLE {role} IN DATABASE {database} SET role = friend",
)  # fmt: skip
"""What a learner can leave in a database of theirs, some of it in the way of whoever comes next."""

CLOSE = "ALTER DATABASE {database} IS_TEMPLATE true CONNECTION LIMIT 0 ALLOW_CONNECTIONS false"

OBJECTS = """
    SELECT DISTINCT i.type, i.identity FROM (
        SELECT classid, objid FROM pg_depend UNION SELECT classid, objid FROM pg_shdepend
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION SELECT 'pg_namespace'::regclass, oid FROM pg_namespace
    ) AS all_of_them (classid, objid), LATERAL pg_identify_object(classid, objid, 0) AS i
    WHERE i.identity !~ 'pg_(toast|temp)|RI_Constraint' ORDER BY 1, 2
"""
RIGHTS = """
    SELECT datacl::text, datallowconn, datconnlimit, datistemplate,
        (SELECT array_agg(setconfig::text) FROM pg_db_role_setting WHERE setdatabase = d.oid),
        (SELECT array_agg(concat(nspname, nspowner::regrole, nspacl, obj_description(oid, 'pg_namespace')) ORDER BY 1)
         FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'),
        (SELECT array_agg(concat(relname, relacl, relowner::regrole, relrowsecurity, relforcerowsecurity,
                                 relallvisible = relpages) ORDER BY relname)
         FROM pg_class WHERE relnamespace = 'public'::regnamespace),
        (SELECT count(*) FROM pg_default_acl), (SELECT count(*) FROM pg_largeobject)
    FROM pg_database AS d WHERE datname = current_database()
"""


def picture(server: YourServer, database: str) -> list[Any]:
    """All that is in a database: objects, rights, settings, rows."""
    with psycopg.connect(server.dsn(database), autocommit=True, options="-c search_path=public") as inside:
        seen: list[Any] = inside.execute(OBJECTS).fetchall() + inside.execute(RIGHTS).fetchall()
        for (name,) in inside.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            rows = f"SELECT '{name}', md5(string_agg(t::text, '' ORDER BY t::text)) FROM {name} AS t"
            seen += inside.execute(rows.encode()).fetchall()
    return seen


async def test_nothing_of_the_last_lesson_is_left(class_server: YourServer, sit_down: SitDown) -> None:
    await sit_down("ada", 1)
    lesson = await open_lesson("02")
    fresh = picture(class_server, "ada_1")
    assert len(fresh) > 300 and lesson.database == "ada_1"
    with psycopg.connect(lesson.dsn, autocommit=True) as learner:
        for statement in LEFT:
            learner.execute(statement.format(role="ada", database="ada_1").encode())
    with psycopg.connect(class_server.url("ada", WORD, "ada"), autocommit=True) as learner:
        learner.execute(CLOSE.format(database="ada_1").encode())
    lesson = await open_lesson("02")
    assert lesson.database == "ada_1" and await count_users(lesson) == 8
    again = picture(class_server, "ada_1")
    assert [one for one in again if one not in fresh] == [] and [one for one in fresh if one not in again] == []
    await lesson.close()


SAME = """
    SELECT relname, relkind, reltuples, relallvisible = relpages, pg_get_indexdef(c.oid),
        (SELECT array_agg(concat(conname, pg_get_constraintdef(o.oid)) ORDER BY conname)
         FROM pg_constraint AS o WHERE conrelid = c.oid),
        (SELECT array_agg(concat(attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid))
                          ORDER BY attnum)
         FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
         WHERE attrelid = c.oid AND attnum > 0),
        (SELECT count(*) FROM pg_stats WHERE tablename = relname)
    FROM pg_class AS c WHERE relnamespace = 'public'::regnamespace ORDER BY relname
"""


async def test_a_lesson_has_what_it_has_where_databases_are_made(class_server: YourServer, sit_down: SitDown) -> None:
    await sit_down("ada", 1)
    await (await open_lesson("02")).close()  # that one was built; the next is filled
    lesson = await open_lesson("02")
    lent = list(await lesson.sql(SAME))
    await lesson.close()
    class_server.execute("ALTER ROLE ada CREATEDB")
    await sit_down("ada")
    lesson = await open_lesson("02")
    assert lesson.database.startswith("lesson_02_")
    assert len(lent) > 30 and list(await lesson.sql(SAME)) == lent
    await lesson.close()
    class_server.drop_courses_databases()


async def test_what_was_kept_to_fill_from_is_damaged(sit_down: SitDown) -> None:
    await sit_down("ada", 1)
    await (await open_lesson("02")).close()
    (kept,) = [dump for dump in (get_settings().home / "dumps").iterdir() if dump.name.startswith("base")]
    for file in ("before.sql", "3.copy", "tables.json"):
        (kept / file).write_text("x")
        lesson = await open_lesson("02")
        assert await count_users(lesson) == 8
        await lesson.close()
        if not kept.exists():
            await (await open_lesson("02")).close()  # kept anew
        assert (kept / file).read_bytes() != b"x"


# -- whose it is ---------------------------------------------------------------------------------------------------


async def test_nothing_else_is_ever_emptied(class_server: YourServer, sit_down: SitDown) -> None:
    """Databases that lack one of three things: the owner, the name, the mark."""
    await sit_down("ada", 1)
    lesson = await open_lesson("02")
    async with (await find_server()).connection() as connection:
        ((own,),) = [[one.mark] for one in await pool_of(connection)]
    await lesson.close()
    dead = str(replace(own, pid=4194303, life="0123abcd", claimed=1))
    strange = {
        "ada_2": ("ada", None), "ada_3": ("ada", "pool"), "ada_4": ("ada", str(replace(own, kind="home"))),
        "ada_x": ("ada", str(own)), "ada_01": ("ada", str(own)), "ada_100": ("ada", str(own)),
        "adam_1": ("ada", str(own)), "ada_5": ("friend", dead), "ada_6": ("admin", str(own)),
        '"Ada_1"': ("ada", str(own)),
    }  # fmt: skip
    for name, (owner, comment) in strange.items():
        class_server.execute(f"CREATE DATABASE {name} OWNER {owner}")
        if comment:
            class_server.execute(f"COMMENT ON DATABASE {name} IS {literal(comment)}")
        class_server.execute(
            "CREATE TABLE orders (id int)", "ALTER TABLE orders OWNER TO ada", database=name.strip('"')
        )
    for number in range(1, 4):
        if number == 1:
            lesson = await open_lesson(number)
            assert lesson.database == "ada_1"
        else:
            with pytest.raises(CourseError, match="The one database that your class has given you is in use"):
                await open_lesson(number)
    await lesson.close()
    for name in strange:
        class_server.execute("SELECT * FROM orders", database=name.strip('"'))
        class_server.execute(f"DROP DATABASE {name}")


async def test_all_are_in_use(class_server: YourServer, sit_down: SitDown) -> None:
    await sit_down("ada", 2)
    first, second = await open_lesson("01"), await open_lesson("02")
    assert {first.database, second.database} == {"ada_1", "ada_2"}
    with pytest.raises(CourseError, match="Both databases that your class has given you are in use") as caught:
        await open_lesson("03")
    assert "course db list" in caught.value.mend
    url = class_server.url("ada", WORD, "ada")
    listed = run_course(get_settings().home, "db", "list", DATABASE_URL=url)
    assert listed.stdout.count("running") == 2 and "lesson 02" in listed.stdout, listed.stdout
    await first.close()
    third = await open_lesson("03")
    await first.close()  # once more: what it had is another lesson's now
    assert third.database == first.database and await count_users(third) == 8
    with pytest.raises(CourseError, match="in use"):
        await open_lesson("04")
    for lesson in (second, third):
        await lesson.close()


async def test_a_check_that_ends_soon_is_waited_for(sit_down: SitDown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_pool, "WAIT_SECONDS", 20)
    await sit_down("ada", 2)
    lesson = await open_lesson("01")
    exercise = find_exercise("1.1")
    answer = solution_answer(exercise)
    verdicts = [await judge_answer(exercise, answer)]
    verdicts += await asyncio.gather(*(_check_elsewhere("1.1") for _ in range(3)))
    assert all(verdicts)
    await lesson.close()


async def _check_elsewhere(id: str) -> bool:
    """In another notebook of the same learner."""
    code = (
        "import asyncio; from course_lib.exercises import find_exercise, judge_answer\n"
        "from course_lib.exercises.book import solution_answer\n"
        f"e = find_exercise({id!r}); print(asyncio.run(judge_answer(e, solution_answer(e))).state)"
    )
    process = start_python(get_settings().home, code, DATABASE_URL=_url())
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    assert out.splitlines()[-1:] == ["right"], out + err
    return True


def _url() -> str:
    url = get_settings().database_url
    assert url is not None
    return url.get_secret_value()


async def test_two_notebooks_at_once(sit_down: SitDown) -> None:
    """Each with a lesson open, checking: the same verdicts, and neither sees the other's rows."""
    await sit_down("ada")
    code = """
import asyncio, sys
from course_lib.lesson import open_lesson
from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import solution_answer
async def learn():
    lesson = await open_lesson("02", "migrated")
    await lesson.sql(f"INSERT INTO users (email, name) VALUES ('{sys.argv[1]}@example.org', 'me')")
    for id in ("0.1", "1.1", "3.4"):
        exercise = find_exercise(id)
        verdict = await judge_answer(exercise, solution_answer(exercise))
        assert verdict.passed, str(verdict)
        print(await lesson.sql("SELECT email FROM users"))
asyncio.run(learn())
"""
    both = [start_python(get_settings().home, f"import sys; sys.argv[1:] = [{who!r}]\n{code}", DATABASE_URL=_url())
            for who in ("one", "two")]  # fmt: skip
    for who, process in zip(("one", "two"), both, strict=True):
        out, err = await asyncio.to_thread(process.communicate, timeout=120)
        assert process.returncode == 0, err
        assert out.count(f"{who}@example.org") == out.count("@example.org") == 3
    async with (await find_server()).connection() as connection:
        assert not any(one.mark and one.mark.claimed for one in await pool_of(connection)), "all were given back"


async def test_what_a_killed_kernel_had_is_free(class_server: YourServer, sit_down: SitDown) -> None:
    await sit_down("ada", 1)
    code = (
        "import asyncio; from course_lib import open_lesson\n"
        "async def go():\n    lesson = await open_lesson('02', 'migrated')\n"
        "    async with lesson.engine.begin() as c:\n        await c.exec_driver_sql('LOCK TABLE users')\n"
        "        print('there', flush=True)\n        await asyncio.sleep(60)\nasyncio.run(go())"
    )
    process = start_python(get_settings().home, code, DATABASE_URL=_url())
    assert process.stdout is not None
    while "there" not in process.stdout.readline():
        assert process.poll() is None
    with pytest.raises(CourseError, match="in use"):
        await open_lesson("02", "migrated")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    lesson = await open_lesson("02", "migrated")
    assert lesson.database == "ada_1"
    await lesson.close()


async def test_what_another_machine_took_is_free_when_nobody_came_for_an_hour(sit_down: SitDown) -> None:
    await sit_down("ada", 1)
    server = await find_server()
    taken = Mark("pool", "room", "another-laptop", 7, "0123abcd", claimed=1)
    async with server.connection() as connection:
        await set_mark(connection, "ada_1", replace(taken, claimed=2**49))
        with pytest.raises(CourseError, match="in use"):
            await open_lesson("02", "migrated")
        for life in ("0123abcd", UNTOLD):
            await set_mark(connection, "ada_1", replace(taken, life=life))
            async with server.connection("ada_1"):
                with pytest.raises(CourseError, match="in use"):
                    await open_lesson("02", "migrated")
            await (await open_lesson("02", "migrated")).close()


# -- what an owner can spoil ---------------------------------------------------------------------------------------


async def test_one_that_is_spoiled_is_said_and_made_again(class_server: YourServer, sit_down: SitDown) -> None:
    """pgvector goes with its schema, and only an administrator can bring it back."""
    await sit_down("ada", 1)
    lesson = await open_lesson("02", "migrated")
    await lesson.sql("DROP SCHEMA public CASCADE")
    await lesson.close()
    with pytest.raises(CourseError, match="ada_1 has lost pgvector") as caught:
        await open_lesson("02", "migrated")
    assert "course classroom create" in caught.value.mend
    with psycopg.connect(class_server.url("ada", WORD, "ada"), autocommit=True) as learner:
        learner.execute(caught.value.mend.removeprefix("Run ").partition(";")[0].encode())
    with pytest.raises(CourseError, match="may not create databases"):
        forget_checked()
        await open_lesson("02", "migrated")
    await make_pool(class_server, "ada")
    await sit_down("ada")
    await (await open_lesson("02", "migrated")).close()


async def test_a_friend_who_has_made_something_in_it(class_server: YourServer, sit_down: SitDown) -> None:
    await sit_down("ada", 2)
    lesson = await open_lesson("02", "migrated")
    await lesson.sql(f"GRANT CONNECT, CREATE ON DATABASE {lesson.database} TO friend")
    class_server.execute("SET ROLE friend", "CREATE SCHEMA theirs", "CREATE TABLE theirs.rows (id int)",
                         database=lesson.database)  # fmt: skip
    spoiled = lesson.database
    await lesson.close()
    for _ in range(3):  # the other one will do
        lesson = await open_lesson("02", "migrated")
        assert lesson.database != spoiled
        await lesson.close()
    with psycopg.connect(class_server.dsn(spoiled)) as inside:
        assert inside.execute("SELECT count(*) FROM theirs.rows").fetchone() == (0,)


# -- verdicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["1.1", "3.4", "5.7", "6.3", "9.5"])
async def test_verdicts_are_the_same(sit_down: SitDown, id: str) -> None:
    await sit_down("ada", 2)
    lesson = await open_lesson("00", "migrated")
    exercise = find_exercise(id)
    assert (await judge_answer(exercise, solution_answer(exercise))).passed
    if exercise.lesson != "09":
        mistake, answer = next(one for one in written(exercise).wrong_ones if one[0] in exercise.mistakes)
        assert (await judge_answer(exercise, answer)).mistake == mistake
    await lesson.close()


async def test_an_answer_that_drops_its_database_costs_it(class_server: YourServer, sit_down: SitDown) -> None:
    """And its verdict says so, as everywhere."""
    await sit_down("ada", 2)

    async def add_user(session: Any, email: str, name: str) -> None:
        own = (await session.connection()).engine.url.database
        with psycopg.connect(class_server.url("ada", WORD, "ada"), autocommit=True) as elsewhere:
            elsewhere.execute(f"DROP DATABASE {own} WITH (FORCE)".encode())

    verdict = await judge_answer(find_exercise("3.1"), add_user)
    assert verdict.state == "wrong"
    exercise = find_exercise("1.1")
    assert (await judge_answer(exercise, solution_answer(exercise))).passed, "with the other one"


async def test_a_task_that_makes_databases_says_where_it_can_be_done(sit_down: SitDown) -> None:
    await sit_down("ada", 1)
    exercise = find_exercise("9.8")
    with pytest.raises(CourseError, match="makes databases, which your role on this server may not") as caught:
        await judge_answer(exercise, solution_answer(exercise))
    assert "Unset DATABASE_URL" in caught.value.mend
