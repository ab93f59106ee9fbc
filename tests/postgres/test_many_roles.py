"""Everybody can work on one server, and nobody sees, hurts or believes another there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from course_lib.errors import CourseError
from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import solution_answer
from course_lib.lesson import Lesson, open_lesson
from course_lib.postgres import find_server, list_databases, sweep
from course_lib.postgres.server import forget_checked
from course_lib.settings import REPOSITORY
from tests.postgres.places import YourServer, dead_process, start_python

PointAt = Callable[[str], None]


@pytest.fixture(scope="module")
def class_server(shared_folder: Path) -> YourServer:
    """A server with a teacher, who is a superuser, and learners who may create databases."""
    server = YourServer(shared_folder / "class")
    server.execute("CREATE EXTENSION vector", database="template1")
    for learner in ("ada", "bruno", "mallory"):
        server.execute(f"CREATE ROLE {learner} LOGIN CREATEDB PASSWORD 'word'")
    return server


@pytest.fixture
def sit_down(class_server: YourServer, point_at: PointAt) -> Iterator[Callable[[str], None]]:
    """``sit_down("ada")``: this process works as that role."""

    def become(role: str) -> None:
        forget_checked()
        point_at(class_server.url() if role == "admin" else class_server.url(role, "word"))

    yield become
    class_server.drop_courses_databases()


async def count_users(lesson: Lesson) -> int:
    ((count,),) = await lesson.sql("SELECT count(*) FROM users")
    return int(count)


@pytest.mark.parametrize("order", [("ada", "bruno", "admin"), ("admin", "bruno", "ada")], ids=" ".join)
@pytest.mark.soak(after=1)
async def test_lessons_and_checks_of_three_roles(sit_down: Callable[[str], None], order: tuple[str, ...]) -> None:
    for role in order:
        sit_down(role)
        lesson = await open_lesson("02")
        assert await count_users(lesson) == 8
        await lesson.sql("ALTER TABLE users ADD COLUMN nickname text")  # one's own, down to the tables
        await lesson.sql("DROP TABLE jobs")
        for id in ("1.1", "3.4", "4.2"):
            exercise = find_exercise(id)
            assert (await judge_answer(exercise, solution_answer(exercise))).passed, (role, id)
        await lesson.close()


async def test_twenty_roles_at_once(class_server: YourServer, sit_down: Callable[[str], None], home: Path) -> None:
    """As twenty programs would: each with its own address, all building and copying at the same time."""
    roles = [f"learner_{number}" for number in range(20)]
    class_server.execute(*(f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'word'" for role in roles))
    code = """
import asyncio, os, sys
from course_lib.settings import get_settings
from course_lib.lesson import open_lesson
def learn(url):
    os.environ["DATABASE_URL"] = url
    get_settings.cache_clear()
    async def whole():
        lesson = await open_lesson("02", "migrated")
        await lesson.sql("DROP TABLE jobs")
        ((count,),) = await lesson.sql("SELECT count(*) FROM users")
        await lesson.close()
        return count
    return asyncio.run(whole())
children = []
for url in sys.stdin.read().split():
    child = os.fork()
    if child == 0:
        try:
            os._exit(learn(url))
        finally:
            os._exit(77)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
    process = start_python(home, code)
    out, err = process.communicate("\n".join(class_server.url(role, "word") for role in roles), timeout=60)
    assert out.splitlines()[-1] == str([0] * 20), out + err
    sit_down("admin")
    class_server.drop_courses_databases()
    class_server.execute(*(f"DROP ROLE {role}" for role in roles))


async def test_nobody_enters_anothers_database(class_server: YourServer, sit_down: Callable[[str], None]) -> None:
    sit_down("ada")
    lesson = await open_lesson("02", "migrated")
    for role in ("bruno", "mallory"):
        for database in class_server.courses_databases():
            with pytest.raises(psycopg.OperationalError, match=r"permission denied|not currently accepting"):
                psycopg.connect(class_server.url(role, "word", database))
    await lesson.close()


async def test_a_login_that_acts_as_another_role_opens_lessons(
    class_server: YourServer, sit_down: Callable[[str], None]
) -> None:
    class_server.execute(
        "CREATE ROLE course_owner CREATEDB", "CREATE ROLE visitor LOGIN NOINHERIT PASSWORD 'word'",
        "GRANT course_owner TO visitor", "ALTER ROLE visitor SET role = course_owner",
    )  # fmt: skip
    sit_down("visitor")
    lesson = await open_lesson("02")
    assert await count_users(lesson) == 8
    await lesson.close()


HOSTILE = 'x"; ALTER ROLE mallory SUPERUSER; --'


async def test_no_name_of_a_neighbour_is_run_as_sql(
    class_server: YourServer, sit_down: Callable[[str], None], home: Path
) -> None:
    """A database whose name is SQL, and whose mark says that the teacher's own dead kernel made it."""
    mark = str(dead_process(home, DATABASE_URL=class_server.url()))
    with psycopg.connect(class_server.url("mallory", "word"), autocommit=True) as mallory:
        for name in (HOSTILE, 'one"quote', "one'quote", "new\nline"):
            quoted = '"' + name.replace('"', '""') + '"'
            mallory.execute(f"CREATE DATABASE {quoted}".encode())
            mallory.execute(f"COMMENT ON DATABASE {quoted} IS '{mark}'".encode())
        before = class_server.contents()
        for role in ("admin", "ada", "mallory"):
            sit_down(role)
            server = await find_server()
            async with server.connection() as connection:
                assert await sweep(connection, embedded=True) == []
            await (await open_lesson("02", "migrated")).close()
        after = class_server.contents()
        assert after["roles"] == before["roles"]
        names = {row[0] for row in before["databases"]}
        assert names <= {row[0] for row in after["databases"]}
        for name in (HOSTILE, 'one"quote', "one'quote", "new\nline"):
            mallory.execute(("DROP DATABASE " + '"' + name.replace('"', '""') + '"').encode())


async def test_a_neighbours_template_is_never_copied(
    class_server: YourServer, sit_down: Callable[[str], None], home: Path
) -> None:
    """Everything is as in a template of the course but the owner: name, mark, tables, and a trigger more."""
    sit_down("ada")
    await (await open_lesson("02", "migrated")).close()
    server = await find_server()
    async with server.connection() as connection:
        (true,) = [database for database in await list_databases(connection) if database.template]
    false = f"{true.name[:-1]}{'0' if true.name[-1] != '0' else '1'}"
    with psycopg.connect(class_server.url("mallory", "word"), autocommit=True) as mallory:
        mallory.execute(f"CREATE DATABASE {false}".encode())
        with psycopg.connect(class_server.url("mallory", "word", false), autocommit=True) as inside:
            inside.execute(b"CREATE TABLE users (id int)")
        mallory.execute(f"COMMENT ON DATABASE {false} IS '{true.mark}'".encode())
        mallory.execute(f"ALTER DATABASE {false} IS_TEMPLATE true".encode())
    for role in ("bruno", "admin"):
        sit_down(role)
        lesson = await open_lesson("02", "migrated")
        ((columns,),) = await lesson.sql("SELECT count(*) FROM information_schema.columns WHERE table_name = 'users'")
        assert columns > 1
        await lesson.close()


async def test_a_lock_that_somebody_holds_for_ever_does_not_stop_an_opening(
    class_server: YourServer, sit_down: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from course_lib.postgres import templates

    monkeypatch.setattr(templates, "LOCK_SECONDS", 0.2)
    with psycopg.connect(class_server.url("mallory", "word"), autocommit=True) as mallory:
        mallory.execute(b"SELECT pg_advisory_lock(1202612)")
        sit_down("ada")
        async with asyncio.timeout(20):
            lesson = await open_lesson("02", "migrated")
    await lesson.close()


async def test_a_limit_that_is_over_at_once(class_server: YourServer, sit_down: Callable[[str], None]) -> None:
    class_server.execute("CREATE ROLE hasty LOGIN CREATEDB PASSWORD 'word'")
    class_server.execute("ALTER ROLE hasty SET statement_timeout = '1ms'")
    sit_down("hasty")
    lesson = await open_lesson("02", "migrated")
    await lesson.sql("SELECT pg_sleep(0.01)")
    exercise = find_exercise("1.1")
    assert (await judge_answer(exercise, solution_answer(exercise))).passed
    await lesson.close()


HURTFUL = {
    "default_transaction_read_only": "on",
    "statement_timeout": "'20ms'",
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'50ms'",
    "search_path": "''",
    "datestyle": "'German'",
    "default_transaction_isolation": "'serializable'",
    "standard_conforming_strings": "off",
    "timezone": "'Asia/Kolkata'",
}


async def test_settings_of_a_role_do_not_reach_its_lessons(
    class_server: YourServer, sit_down: Callable[[str], None]
) -> None:
    """Nor those of a database; the role itself stays as its administrator wants it."""
    class_server.execute(
        "CREATE ROLE limited LOGIN CREATEDB PASSWORD 'word'",
        *(f"ALTER ROLE limited SET {name} = {value}" for name, value in HURTFUL.items()),
    )
    sit_down("limited")
    lesson = await open_lesson("02")
    assert await count_users(lesson) == 8
    await lesson.sql("UPDATE users SET name = 'Ada' WHERE email = 'nobody'")
    with psycopg.connect(lesson.dsn) as connection:  # a learner's own connection
        shown = {name: (connection.execute(f"SHOW {name}".encode()).fetchone() or ("",))[0] for name in HURTFUL}
    assert shown == {
        "default_transaction_read_only": "off", "statement_timeout": "0", "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0", "search_path": '"$user", public', "datestyle": "ISO, MDY",
        "default_transaction_isolation": "read committed", "standard_conforming_strings": "on", "timezone": "UTC",
    }  # fmt: skip
    await lesson.close()
    with psycopg.connect(class_server.url("limited", "word")) as connection:
        assert (connection.execute("SHOW statement_timeout").fetchone() or ("",))[0] == "20ms"


async def test_a_long_limit_of_an_administrator_stands(
    class_server: YourServer, sit_down: Callable[[str], None]
) -> None:
    class_server.execute("CREATE ROLE patient LOGIN CREATEDB PASSWORD 'word'")
    class_server.execute("ALTER ROLE patient SET statement_timeout = '5min'")
    sit_down("patient")
    lesson = await open_lesson("02", "migrated")
    assert list(await lesson.sql("SHOW statement_timeout")) == [("5min",)]
    await lesson.close()


@pytest.mark.parametrize("limit", [1, 4, 17])
async def test_a_role_with_too_few_connections_is_told_how_many(
    class_server: YourServer, sit_down: Callable[[str], None], limit: int
) -> None:
    class_server.execute(f"CREATE ROLE few LOGIN CREATEDB CONNECTION LIMIT {limit} PASSWORD 'word'")
    sit_down("few")
    with pytest.raises(CourseError, match=f"may hold {limit} connections? at once") as caught:
        await open_lesson("02", "migrated")
    class_server.execute(caught.value.mend.partition(": ")[2])  # the SQL that it names
    sit_down("few")
    await (await open_lesson("02", "migrated")).close()
    class_server.drop_courses_databases()
    class_server.execute("DROP ROLE few")


async def test_a_right_that_is_taken_away_between_two_openings(
    class_server: YourServer, sit_down: Callable[[str], None]
) -> None:
    """What was found out about a server is remembered, and looked at again when it seems to have changed."""
    sit_down("bruno")
    await (await open_lesson("02", "migrated")).close()
    class_server.execute("ALTER ROLE bruno NOCREATEDB")
    with pytest.raises(CourseError, match="may not create databases"):
        await open_lesson("02", "migrated")
    class_server.execute("ALTER ROLE bruno CREATEDB")
    await (await open_lesson("02", "migrated")).close()


async def test_a_server_that_can_only_be_read(folder: Path, point_at: PointAt) -> None:
    server = YourServer(folder / "read_only", settings={"wal_level": "replica"})
    before = server.contents()
    point_at(server.url())
    server.restart(default_transaction_read_only="on")
    with pytest.raises(CourseError, match="is set to read only by who runs it"):
        await open_lesson("02", "migrated")
    (server.cluster.data / "standby.signal").touch()
    server.restart()
    with pytest.raises(CourseError, match="is a standby"):
        await open_lesson("02", "migrated")
    assert server.contents() == before


async def test_what_the_readme_asks_an_administrator_for_is_enough(folder: Path, point_at: PointAt) -> None:
    (sql,) = re.findall(r"```sql\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    server = YourServer(folder / "yours")
    server.psql(sql)
    point_at(server.url("learner", "a word of theirs"))
    lesson = await open_lesson("02")
    assert await count_users(lesson) == 8
    await lesson.close()
