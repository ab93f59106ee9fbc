"""■ ends a cell that waits, by signal and by message, and leaves nothing running behind it."""

from __future__ import annotations

import pytest

from tests.kernels import Kernel

FIRST = """import asyncio, sys
from course_lib import check, open_lesson
soon = lambda: asyncio.get_running_loop().call_later(0.1, print, "now")
soon()
await asyncio.sleep(600)"""
THEN = """screen = sys.stdout  # a judge redirects what an answer prints
lesson = await open_lesson("02", "migrated")"""

STOPPED = "KeyboardInterrupt: You interrupted this cell while it waited at line {}."
BUSY = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(600)'"
STATEMENT = f"""async def tell():
    while not len(await lesson.sql("{BUSY}")):
        await asyncio.sleep(0.02)
    print("now")
telling = asyncio.create_task(tell())
await lesson.sql("SELECT pg_sleep(600)")
"""
RIGHT = """from sqlalchemy import text
async def count_users(session):
    return await session.scalar(text("SELECT count(*) FROM users"))
await check("0.1")"""


def last_line(shown: str) -> str:
    return shown.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def first_cell(fresh_kernel: Kernel) -> str:
    """What the first cell showed, which imports the course and is interrupted while it waits."""
    return fresh_kernel.show(FIRST, fresh_kernel.signal)


@pytest.fixture(scope="module")
def kernel(fresh_kernel: Kernel, first_cell: str) -> Kernel:
    """With a lesson open."""
    fresh_kernel.run(THEN)
    return fresh_kernel


def test_the_first_cell_can_be_interrupted_once_it_has_imported_the_course(first_cell: str) -> None:
    assert first_cell.splitlines() == ["now", STOPPED.format(5)]


@pytest.mark.parametrize("how", ["signal", "message"])
def test_a_statement_ends_on_the_server_too(kernel: Kernel, how: str) -> None:
    shown = kernel.show(STATEMENT, getattr(kernel, how))
    assert shown.splitlines() == ["now", STOPPED.format(6)]
    assert kernel.run(f'print(len(await lesson.sql("{BUSY}")), lesson.engine.pool.checkedout())') == "0 0"


@pytest.mark.parametrize(
    "code",
    [
        "soon()\nawait asyncio.gather(asyncio.sleep(600), asyncio.sleep(600))",
        "soon()\nasync with asyncio.TaskGroup() as group:\n    group.create_task(asyncio.sleep(600))",
        "soon()\nasync with lesson.session() as session, session.begin():\n    await asyncio.sleep(600)",
        "soon()\nawait asyncio.shield(asyncio.sleep(5))",
        "async def busy():\n    print('now')\n    while True:\n        pass\nawait asyncio.gather(busy(), busy())",
    ],
    ids=["gather", "a task group", "a transaction", "a shield", "tasks that never give way"],
)
def test_whatever_a_cell_waits_for(kernel: Kernel, code: str) -> None:
    shown = kernel.show(code, kernel.signal)
    assert last_line(shown).startswith(STOPPED[:-3]), shown
    assert kernel.run("print(lesson.engine.pool.checkedout())") == "0"


@pytest.mark.parametrize(
    "code",
    ["print('now')\nwhile True:\n    pass", "await asyncio.sleep(0)\nprint('now')\nwhile True:\n    pass"],
    ids=["without await", "after an await"],
)
def test_a_cell_that_computes_shows_where(kernel: Kernel, code: str) -> None:
    shown = kernel.show(code, kernel.signal)
    assert last_line(shown) == "KeyboardInterrupt:"
    assert "while True:" in shown and "left out" not in shown


def test_a_cell_that_swallows_it_is_interrupted_again(kernel: Kernel) -> None:
    code = """soon()
try:
    await asyncio.sleep(600)
except asyncio.CancelledError:
    soon()
await asyncio.sleep(600)"""
    assert kernel.show(code, kernel.signal).splitlines() == ["now", "now", STOPPED.format(6)]


@pytest.mark.parametrize(
    "body",
    ["await asyncio.sleep(600)", "while True:\n        pass"],
    ids=["waits", "computes"],
)
def test_a_check_is_interrupted_with_the_answer_that_it_judges(kernel: Kernel, body: str) -> None:
    kernel.run(f"async def count_users(session):\n    screen.write('now\\n')\n    {body}")
    shown = kernel.show("await check('0.1')", kernel.signal)
    assert last_line(shown) == STOPPED.format(1)
    assert kernel.show(RIGHT) == "1.0"


def test_an_opening_is_interrupted_and_the_next_one_gives_a_fresh_database(kernel: Kernel) -> None:
    """A lock on the list of databases keeps it waiting."""
    kernel.run("import asyncpg\nfrom course_lib.postgres.address import libpq_uri")
    kernel.run("blocker = await asyncpg.connect(libpq_uri(lesson.server.url))")
    kernel.run("await blocker.execute('BEGIN; LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE')")
    opening = "lesson = await open_lesson('02', 'migrated')"
    assert last_line(kernel.show(f"soon()\n{opening}", kernel.signal)) == STOPPED.format(2)
    kernel.run("await blocker.close()")
    assert kernel.run(f"{opening}\nprint(len(await lesson.sql('SELECT 1')))") == "1"
