"""Every engine says in one sentence that the server has gone, and only then."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from course_lib.errors import CourseError
from course_lib.instruments import Stage, Traffic
from course_lib.lesson import Lesson, open_lesson
from course_lib.postgres.server import embedded_cluster
from tests.postgres.places import has_ended, wait_until

POOLS = {"pool": {}, "no pool": {"poolclass": NullPool}, "ping": {"pool_pre_ping": True}}
SENTENCE = "The course's PostgreSQL has stopped"


def kill_the_server() -> None:
    process = embedded_cluster().process()
    assert process is not None
    children = process.children()
    process.kill()
    process.wait(5)
    wait_until(lambda: all(map(has_ended, children)))


@pytest.fixture
async def lesson(shared_home: Path) -> Lesson:
    return await open_lesson("02", "migrated")


@pytest.mark.parametrize(
    "options", [{}, {"poolclass": NullPool}, {"pool_pre_ping": True}], ids=["pool", "no pool", "ping"]
)
async def test_an_async_engine_of_the_learner(lesson: Lesson, options: dict[str, object]) -> None:
    engine = create_async_engine(lesson.url, **options)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    kill_the_server()
    for _ in range(2):  # a connection from the pool, then a new one
        with pytest.raises(CourseError, match=SENTENCE):
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
    with pytest.raises(CourseError, match=SENTENCE):
        async with create_async_engine(lesson.url).connect():
            pass
    await engine.dispose()


@pytest.mark.parametrize(
    "options", [{}, {"poolclass": NullPool}, {"pool_pre_ping": True}], ids=["pool", "no pool", "ping"]
)
async def test_a_sync_engine_of_the_learner(lesson: Lesson, options: dict[str, object]) -> None:
    engine = create_engine(lesson.sync_url, **options)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    kill_the_server()
    for _ in range(2):
        with pytest.raises(CourseError, match=SENTENCE), engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    engine.dispose()


async def test_in_the_middle_of_a_transaction_and_of_a_statement(lesson: Lesson) -> None:
    async with lesson.session() as session:
        await session.execute(text("CREATE TABLE note (line text)"))
        waiting = asyncio.create_task(_sleep(lesson))
        await asyncio.sleep(0.2)
        kill_the_server()
        with pytest.raises(CourseError, match=SENTENCE):
            await session.execute(text("INSERT INTO note VALUES ('lost')"))
        with pytest.raises(CourseError, match=SENTENCE):
            await waiting


async def _sleep(lesson: Lesson) -> None:
    async with lesson.engine.connect() as connection:
        await connection.execute(text("SELECT pg_sleep(30)"))


async def test_the_cause_stays_reachable(lesson: Lesson) -> None:
    async with lesson.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        kill_the_server()
        with pytest.raises(CourseError) as caught:
            await connection.execute(text("SELECT 1"))
    assert caught.value.__cause__ is not None
    assert "Connection" in "".join(traceback.format_exception(caught.value.__cause__))


async def test_opening_the_lesson_again_mends_it(lesson: Lesson) -> None:
    kill_the_server()
    again = await open_lesson("02", "migrated")
    assert again.server.started
    async with again.session() as session:
        assert (await session.execute(text("SELECT count(*) FROM users"))).scalar() == 0
    await again.close()


async def test_one_terminated_backend_keeps_the_drivers_own_error(lesson: Lesson) -> None:
    """Lessons are taught with it: the server is well, one connection is gone."""
    async with lesson.engine.connect() as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar()
        with psycopg.connect(lesson.dsn, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("SELECT 1"))
    assert caught.value.connection_invalidated
    async with lesson.engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar() == 1
    await lesson.close()


async def test_an_ordinary_error_stays_what_it_is(lesson: Lesson) -> None:
    async with lesson.engine.connect() as connection:
        with pytest.raises(DBAPIError, match="division by zero"):
            await connection.execute(text("SELECT 1/0"))
    await lesson.close()


async def test_another_server_that_is_down_is_not_taken_for_the_courses(lesson: Lesson, folder: Path) -> None:
    kill_the_server()
    with pytest.raises(OSError):
        async with create_async_engine(f"postgresql+asyncpg://postgres@/x?host={folder}").connect():
            pass


async def test_a_stage_whose_server_goes_in_the_middle_of_a_scene(lesson: Lesson) -> None:
    async with Stage(lesson.engine) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        await ada("LOCK TABLE users")
        await bruno("LOCK TABLE users")
        kill_the_server()
        with pytest.raises(CourseError, match=SENTENCE):
            await ada("SELECT 1")
    assert lesson.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    with pytest.raises(CourseError, match=SENTENCE):
        async with Stage(lesson.engine):
            pass


async def test_traffic_ends_with_its_block_and_has_counted_what_failed(lesson: Lesson) -> None:
    async with Traffic(lesson.engine, "jobs", inserters=0) as traffic:
        kill_the_server()
        await asyncio.sleep(0.3)
    for kind in ("reader", "writer"):
        assert set(traffic.errors[kind]) & {"08001", "08003"}, traffic.errors
    assert "≈" in str(traffic)


async def test_traffic_does_not_begin_without_a_server(lesson: Lesson) -> None:
    kill_the_server()
    with pytest.raises(CourseError, match=SENTENCE):
        async with Traffic(lesson.engine, "jobs"):
            pass
