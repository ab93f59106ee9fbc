"""Many at once: one server, one template, no error."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from course_lib.data.fresh import RECIPES
from course_lib.data.seed import fingerprint
from course_lib.lesson import open_lesson
from course_lib.postgres import clone, drop, ensure_template, find_server, list_databases, sweep
from course_lib.postgres.databases import BIRTHMARK, create
from tests.postgres.places import cluster_in, count_databases, dead_process, run_python

FORKS = """
import asyncio, os, time
from course_lib.lesson import open_lesson
from course_lib.postgres import templates
from course_lib.postgres.server import embedded_cluster

def fork(work, *arguments):
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(work(*arguments))
            os._exit(0)
        finally:
            os._exit(1)
    return child
"""
"""A program whose children are processes of their own, without the time that importing takes in each."""


def test_eight_processes_that_start_together_get_one_server_and_one_template(folder: Path) -> None:
    home = folder / "home"
    code = """
async def race():
    began = time.monotonic()
    lesson = await open_lesson("02", "migrated")
    took = time.monotonic() - began
    os.write(1, f"\\ntold {lesson.server.started} {embedded_cluster().process().pid} {took:.2f}\\n".encode())
    await lesson.close()
children = [fork(race) for _ in range(8)]
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""
    told = [line.split()[1:] for line in run_python(home, FORKS + code).splitlines() if line.startswith("told")]
    assert len(told) == 8
    assert len({pid for _, pid, _ in told}) == 1
    assert [started for started, _, _ in told].count("True") == 1
    cluster = cluster_in(home)
    assert count_databases(cluster, "course\\_template\\_%") == 1
    assert count_databases(cluster, "course\\_build\\_%") == 0
    assert count_databases(cluster, "lesson\\_%") == 0


async def test_thirty_lessons_open_at_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Thirty lessons of one process; ``asyncio.gather`` interleaves them at every await."""
    began = time.monotonic()
    lessons = await asyncio.gather(*(open_lesson(number, "migrated") for number in range(30)))
    took = time.monotonic() - began
    assert len({lesson.database for lesson in lessons}) == 30
    assert took < 20, took

    async def users(lesson: object) -> int:
        async with lesson.engine.connect() as connection:  # type: ignore[attr-defined]
            return int((await connection.exec_driver_sql("SELECT count(*) FROM users")).scalar())

    assert await asyncio.gather(*map(users, lessons)) == [0] * 30
    await asyncio.gather(*(lesson.close() for lesson in lessons))
    assert count_databases(cluster_in(home), "lesson\\_%") == 0


async def test_thirty_threads_with_loops_of_their_own(home: Path) -> None:
    with ThreadPoolExecutor(30) as threads:
        opened = list(threads.map(lambda number: asyncio.run(open_lesson(number, "migrated")), range(30)))
    assert count_databases(cluster_in(home), "lesson\\_%") == 30
    for lesson in opened:
        await lesson.engine.dispose(close=False)


async def test_sweeps_and_clones_at_the_same_time_do_not_disturb_each_other(home: Path) -> None:
    """Six sweepers meet over two dozen dead databases while new ones are made; the living stay."""
    server = await find_server()
    async with server.connection() as connection:
        template = (await ensure_template(server, connection, "migrated", fingerprint(), RECIPES["migrated"])).name
        gone = dead_process(home)
        dead = [f"lesson_07_{gone.pid}_{gone.life[:4]}{number:04x}" for number in range(24)]
        for name in dead:
            await create(connection, name, template, gone)

    async def clean() -> list[str]:
        async with server.connection() as connection:
            return await sweep(connection)

    async def make() -> str:
        async with server.connection() as connection:
            return await clone(connection, template, "08")

    results = await asyncio.gather(*(clean() for _ in range(6)), *(make() for _ in range(12)))
    made = {name for name in results if isinstance(name, str)}
    swept = [name for names in results if isinstance(names, list) for name in names]
    assert set(swept) == set(dead)
    async with server.connection() as connection:
        left = {database.name for database in await list_databases(connection) if database.name != template}
        assert left == made and len(made) == 12
        for name in made:
            await drop(connection, name)


async def test_a_builder_that_is_killed_leaves_no_half_template(home: Path) -> None:
    """Killed at each statement in turn, it leaves a build for the sweep, and the next opening builds the template."""
    code = """
execute = templates.asyncpg.Connection.execute
async def killed_after(number):
    async def counting(self, query, *args, **more):
        nonlocal number
        result = await execute(self, query, *args, **more)
        number -= any(word in query for word in ("CREATE DATABASE", "COMMENT", "VACUUM", "ALTER DATABASE"))
        if number == 0:
            os._exit(7)
        return result
    templates.asyncpg.Connection.execute = counting
    await open_lesson("02", "migrated")
for number in range(1, 7):
    assert os.waitstatus_to_exitcode(os.waitpid(fork(killed_after, number), 0)[1]) == 7, number
asyncio.run(open_lesson("02", "migrated"))
"""
    await find_server()
    run_python(home, FORKS + code)
    cluster = cluster_in(home)
    assert count_databases(cluster, "course\\_build\\_%") == 0
    assert count_databases(cluster, "course\\_template\\_%") == 1
    with psycopg.connect(cluster.address().dsn) as connection:
        query = (
            "SELECT datistemplate, datallowconn, datconnlimit FROM pg_database WHERE datname LIKE 'course_template%'"
        )
        assert connection.execute(query).fetchall() == [(True, False, BIRTHMARK)]
