"""Opening a lesson: fresh, again and again, whatever the learner left open, and nothing anywhere else."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, text

from course_lib.errors import CourseError
from course_lib.lesson import open_lesson
from course_lib.postgres import list_databases
from course_lib.settings import REPOSITORY
from tests.postgres import conftest
from tests.postgres.places import environment, run_python

folder, home = conftest.folder, conftest.home
shared_folder, shared_home = conftest.shared_folder, conftest.shared_home


async def lesson_databases(lesson: object) -> list[str]:
    async with lesson.server.connection() as connection:  # type: ignore[attr-defined]
        return [database.name for database in await list_databases(connection) if database.name.startswith("lesson")]


async def test_a_lesson_is_a_migrated_seeded_database(shared_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lesson = await open_lesson("02")
    printed = capsys.readouterr().out
    assert printed == f"{lesson.server.describe()} · a fresh database for lesson 02\n"
    async with lesson.session() as session:
        counts = [
            (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar()
            for table in ("users", "documents", "conversations")
        ]
        missing = (await session.execute(text("SELECT count(*) FROM document_chunks WHERE embedding IS NULL"))).scalar()
    assert counts == [8, 40, 200] and missing == 0
    await lesson.close()
    assert await lesson_databases(lesson) == []


async def test_every_address_of_a_lesson_leads_to_its_database(shared_home: Path) -> None:
    lesson = await open_lesson(2, "migrated")
    async with lesson.engine.connect() as connection:
        names = [(await connection.execute(text("SELECT current_database()"))).scalar()]
    with create_engine(lesson.sync_url).connect() as sync:
        names.append(sync.execute(text("SELECT current_database()")).scalar())
    with psycopg.connect(lesson.dsn) as direct:
        names.append(direct.info.dbname)
    raw = await asyncpg.connect(lesson.dsn)
    names.append(await raw.fetchval("SELECT current_database()"))
    await raw.close()
    assert names == [lesson.database] * 4
    await lesson.close()


@pytest.mark.filterwarnings("ignore:.*non-checked-in connection.*")
@pytest.mark.parametrize("left", ["nothing", "a session", "a transaction", "a lock", "a driver's connection"])
@pytest.mark.soak(after=2)
async def test_running_it_again_gives_the_same_fresh_state(shared_home: Path, left: str) -> None:
    first = await open_lesson("02", "migrated")
    async with first.engine.begin() as connection:
        await connection.execute(text("DROP TABLE messages CASCADE"))
        await connection.execute(text("INSERT INTO users (email, name) VALUES ('a@b.example', 'A')"))
    keep: list[object] = []
    if left == "a driver's connection":
        keep.append(psycopg.connect(first.dsn))
    elif left != "nothing":
        session = first.session()
        keep.append(session)
        await session.execute(text("SELECT 1"))
        if left == "a lock":
            await session.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
        elif left == "a transaction":
            await session.execute(text("UPDATE users SET name = 'B'"))
    second = await open_lesson("02", "migrated")
    async with second.engine.connect() as connection:
        found = await connection.execute(text("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM messages)"))
        assert found.one() == (0, 0)
    assert await lesson_databases(second) == [second.database]
    await second.close()
    keep.clear()
    gc.collect()


def test_running_it_again_in_another_event_loop(shared_home: Path) -> None:
    """A plain script calls asyncio.run twice; the first loop is closed by then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")

        async def use() -> tuple[object, str]:
            lesson = await open_lesson("02", "migrated")
            async with lesson.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
            return lesson, lesson.database

        first, one = asyncio.run(use())
        second, two = asyncio.run(use())
        assert one != two
        assert asyncio.run(lesson_databases(second)) == [two]
        asyncio.run(second.close())  # type: ignore[attr-defined]
        del first, second
        gc.collect()


async def test_two_lessons_of_one_kernel_live_side_by_side(shared_home: Path) -> None:
    one, two = await open_lesson("01", "migrated"), await open_lesson("02", "migrated")
    assert set(await lesson_databases(one)) == {one.database, two.database}
    await one.close()
    assert await lesson_databases(two) == [two.database]
    await two.close()


async def test_closing_twice_is_harmless(shared_home: Path) -> None:
    lesson = await open_lesson("02", "migrated")
    await lesson.close()
    await lesson.close()


async def test_options_reach_the_engine_and_a_wrong_one_leaves_nothing_behind(shared_home: Path) -> None:
    lesson = await open_lesson("02", "migrated", pool_size=2, max_overflow=0)
    assert lesson.engine.pool.size() == 2  # type: ignore[attr-defined]
    await lesson.close()
    with pytest.raises(TypeError, match="pool_sise"):
        await open_lesson("02", "migrated", pool_sise=2)
    assert await lesson_databases(lesson) == []


async def test_a_lesson_whose_vectors_travel_in_binary(shared_home: Path) -> None:
    from pgvector import Vector

    vector = text("SELECT '[1,2,3]'::vector")
    for binary, kind in ((True, Vector), (False, str)):
        lesson = await open_lesson("04", "migrated", binary_vectors=binary)
        async with lesson.engine.connect() as connection:
            assert type(await connection.scalar(vector)) is kind
        await lesson.close()


@pytest.mark.parametrize("number", ["", "two", "2.3", "123", "-1", "²", "٢", "../x", '02"; --', None])
async def test_what_is_no_number_is_a_sentence(number: object) -> None:
    with pytest.raises(CourseError, match="A lesson has a number") as caught:
        await open_lesson(number)  # type: ignore[arg-type]
    assert caught.value.mend == 'Try: await open_lesson("00")'


async def test_an_unknown_recipe_is_a_sentence() -> None:
    with pytest.raises(CourseError, match="no recipe 'best'") as caught:
        await open_lesson("02", "best")
    assert "base" in caught.value.mend


def test_a_forked_child_that_ends_does_not_take_its_parents_database(home: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    code = """
import asyncio, os, sys
from course_lib import open_lesson
import psycopg
lesson = asyncio.run(open_lesson("02", "migrated"))
child = os.fork()
if child == 0:
    sys.exit()  # exit handlers run
os.waitpid(child, 0)
with psycopg.connect(lesson.dsn) as connection:
    print(connection.execute("SELECT count(*) FROM users").fetchone()[0])
"""
    assert run_python(home, code).splitlines()[-1] == "0"


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("home_is_set", [True, False])
@pytest.mark.soak(after=1)
def test_nothing_is_written_outside_the_courses_folder(folder: Path, home_is_set: bool) -> None:
    """A whole lesson with an empty home folder and an empty temp folder: neither keeps anything but the course's."""
    user, temporary, course = folder / "user", folder / "tmp", folder / "course"
    for path in (user, temporary):
        path.mkdir(mode=0o755)
    code = "import asyncio; from course_lib import open_lesson; lesson = asyncio.run(open_lesson('02'))"
    settings = {
        name: value for name, value in environment(course if home_is_set else None).items() if name[:4] != "XDG_"
    }
    subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True,
        env=settings | {"HOME": str(user), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    cache = Path(".cache") / "databases-for-ai-engineers"
    if home_is_set:
        assert files_below(user) == []
        assert (course / "postgres-18").is_dir()
    elif sys.platform == "linux":
        outside = [path for path in files_below(user) if not path.startswith(f"{cache}{os.sep}")]
        assert outside == [".cache", str(cache)]
    assert files_below(temporary) == []


async def test_what_could_not_be_dropped_when_a_lesson_was_closed_goes_with_the_next_opening(
    shared_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await open_lesson("02", "migrated")
    with monkeypatch.context() as patch:

        async def fails(*_: object) -> bool:
            raise asyncpg.ConnectionDoesNotExistError("the server went down with the DROP")

        patch.setattr("course_lib.data.fresh.drop", fails)
        second = await open_lesson("02", "migrated")
    assert first.database != second.database
    assert await lesson_databases(second) == [second.database]
    await second.close()
