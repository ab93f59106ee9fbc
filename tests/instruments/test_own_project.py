"""The instruments in a project that is not the course's: its own models, schema, address, engines and pytest."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from course_lib.errors import CourseError
from course_lib.instruments import QueryBudget, Stage, explain
from course_lib.settings import REPOSITORY

PROJECT = Path(__file__).parent / "own_project"
NOT_THEIRS = re.compile(r"lesson\b|notebook|exercise", re.I)
LOCK = "SELECT pg_advisory_xact_lock(5)"
ON_LEAVING = """
def pytest_sessionfinish(session):
    import sys
    rooms = sorted({name.split(".")[1] for name in sys.modules if name.startswith("course_lib.")})
    print("\\nrooms:", *rooms)
"""


class Project:
    """A copy of the project in a folder of its own, with a home in which nothing of the course may appear."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder / "project"
        self.home = folder / "home"
        shutil.copytree(PROJECT, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "failing" / "conftest.py").write_text("")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("COURSE_", "PYTEST_"))}
        self.environment = kept | {
            "DATABASE_URL": address,
            "OPENAI_BASE_URL": "no address at all",
            "COURSE_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join((str(self.folder), str(REPOSITORY))),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def pytest(self, *arguments: str, all_plugins: bool = False) -> str:
        """What pytest prints, in a process of its own; without the plugin of notebooks, which takes longest to load."""
        plugins = [] if all_plugins else ["-p", "no:nbval"]
        command = [sys.executable, "-m", "pytest", "--color=no", *plugins, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        return done.stdout + done.stderr


@pytest.fixture(params=["asyncpg", "psycopg"])
def project(request: pytest.FixtureRequest, tmp_path: Path, empty_url: URL) -> Project:
    address = empty_url.set(drivername=f"postgresql+{request.param}")
    return Project(tmp_path, address.render_as_string(hide_password=False))


@pytest.fixture
def sync_empty(empty_url: URL) -> Iterator[Engine]:
    engine = create_engine(empty_url.set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


# its own test suite


@pytest.mark.soak(after=1)
def test_a_projects_own_tests_use_the_fixture_and_the_instruments(project: Project) -> None:
    with (project.folder / "conftest.py").open("a") as conftest:
        conftest.write(ON_LEAVING)
    printed = project.pytest("-q", "-s", all_plugins=True)
    assert re.search(r"\n13 passed in", printed), printed
    assert not project.home.exists(), "no server of the course's"
    rooms = re.search(r"rooms: (.*)", printed)
    used = {"errors", "instruments", "lazy", "origin", "settings", "texts"}
    assert rooms and set(rooms[1].split()) - {"kernel"} == used, "kernel: where pytest has loaded ipykernel"


@pytest.mark.soak(after=1)
def test_a_budget_that_is_exceeded_says_how_often_what_was_sent_from_where(project: Project) -> None:
    printed = project.pytest("-q", "failing")
    said = _failures(printed)
    assert said["test_too_many"].startswith(
        "course_lib.instruments.budget.QueryBudgetFailed: 51 statements, where 2 is the budget. Sent 50 times: SELECT "
        "shop.customer.id, shop.customer.name FROM shop.customer WHERE shop.customer.id = $1 from shop/plain.py:13 "
    )
    assert "51 statements, where 2 were enough before. Sent 50 times:" in said["test_growth"]
    assert "from shop/plain.py:" in said["test_growth"]
    assert "1 statement, where 0 is the budget. None of them repeats:" in said["test_no_loop"]
    assert re.search(r"Sent 2 times: SELECT \$1 from failing/\S+:44, failing/\S+:45 ", said["test_two_lines"])
    assert "LookupError: the block's own" in said["test_an_error_of_the_block_goes_on"]
    assert "QueryBudget" not in said["test_an_error_of_the_block_goes_on"]
    assert "No statement was seen, where up to 2 are expected" in said["TestAnotherEngine.test_nothing_seen"]
    assert "6 failed, 1 passed in" in printed
    assert "instruments/budget.py:" not in printed, "pytest shows the line of the test"
    assert not NOT_THEIRS.search("".join(said.values())), said


def _failures(printed: str) -> dict[str, str]:
    """By the test's name, what pytest says of it, spaces folded and the source left out."""
    parts = re.split(r"\n_{3,} (\S+) _{3,}\n", printed)
    return {
        name: " ".join(" ".join(line[2:] for line in body.splitlines() if line.startswith("E ")).split())
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


# what it costs


def _printed_by(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _where_only(*packages: str) -> str:
    """Code after which nothing else that is installed can be imported."""
    return f"""
import importlib.metadata, sys
from importlib.abc import MetaPathFinder
refused = set(importlib.metadata.packages_distributions()) - {{"course_lib", *{packages!r}}}
class Guard(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"{{name}} is not installed", name=name)
sys.meta_path.insert(0, Guard())
"""


def test_the_plugin_loads_pytest_and_nothing_else() -> None:
    code = """
import sys
import pytest
before = set(sys.modules)
import course_lib.instruments.pytest_plugin
print(*sorted(set(sys.modules) - before))
"""
    assert _printed_by(code).split() == [
        "course_lib", "course_lib.instruments", "course_lib.instruments.pytest_plugin", "course_lib.lazy",
    ]  # fmt: skip


def test_the_instruments_need_sqlalchemy_a_driver_and_wcwidth(empty_url: URL) -> None:
    address = empty_url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    code = f"""
import asyncio
from sqlalchemy import create_engine, text
from course_lib.instruments import PoolGauge, QueryBudget, QueryLog, Stage, explain
engine = create_engine({address!r})
async def scene():
    async with Stage(engine) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        await ada({LOCK!r})
        print(await bruno({LOCK!r}))
with PoolGauge(engine) as gauge, QueryBudget(engine, 1) as log, engine.connect() as connection:
    connection.execute(text("SELECT 1"))
asyncio.run(scene())
print(explain(engine, "SELECT 1"), log, gauge)
"""
    guard = _where_only("sqlalchemy", "greenlet", "typing_extensions", "psycopg", "psycopg_binary", "wcwidth")
    printed = _printed_by(guard + code)
    assert printed.startswith(f"Bruno: {LOCK} · waits for Ada\n")


def test_pictures_need_matplotlib_and_pillow_besides() -> None:
    code = """
from sqlalchemy import create_engine
from course_lib.instruments import PoolGauge, QueryLog
engine = create_engine("sqlite://")
with QueryLog(engine) as log, PoolGauge(engine) as gauge, engine.connect() as connection:
    connection.exec_driver_sql("SELECT 1")
print(*[len(picture._repr_mimebundle_()[0]) for picture in (log.plot(), gauge.plot())])
"""
    of_matplotlib = ("matplotlib", "mpl_toolkits", "contourpy", "cycler", "dateutil", "fontTools", "kiwisolver")
    of_these = ("numpy", "packaging", "PIL", "pyparsing", "six")
    guard = _where_only("sqlalchemy", "greenlet", "typing_extensions", *of_matplotlib, *of_these)
    assert _printed_by(guard + code) == "2 2"


def test_no_sentence_of_the_instruments_speaks_of_lessons(sync_empty: Engine) -> None:
    from course_lib.instruments import PoolGauge, QueryLog

    for wrong in (
        lambda: QueryLog("engine"),  # type: ignore[arg-type]
        lambda: PoolGauge("engine"),  # type: ignore[arg-type]
        lambda: Stage("engine"),  # type: ignore[arg-type]
        lambda: explain("engine", "SELECT 1"),  # type: ignore[call-overload]
        lambda: QueryBudget(sync_empty, -1),
        lambda: QueryBudget(sync_empty, True),
    ):
        with pytest.raises(CourseError) as caught:
            wrong()
        assert not NOT_THEIRS.search(str(caught.value))


def test_an_app_among_the_installed_packages_is_told_by_who_calls_it(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages"
    (installed / "shop").mkdir(parents=True)
    (installed / "shop" / "__init__.py").write_text(
        "def ask(engine):\n    with engine.connect() as connection:\n        connection.exec_driver_sql('SELECT 1')\n"
    )
    (tmp_path / "calls.py").write_text(f"""
import sys, threading
sys.path[:0] = [{str(installed)!r}, {str(REPOSITORY)!r}]
from sqlalchemy import create_engine
from course_lib.instruments import QueryLog
import shop
with QueryLog() as log:
    shop.ask(create_engine("sqlite://"))
    thread = threading.Thread(target=shop.ask, args=(create_engine("sqlite://"),))
    thread.start()
    thread.join()
print([statement.where for statement in log.statements])
""")
    command = [sys.executable, "calls.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "['calls.py:8', 'shop/__init__.py:3']", done.stderr


# a stage on a synchronous engine


async def test_actors_of_a_synchronous_engine_have_threads_of_their_names(sync_empty: Engine) -> None:
    names: list[str] = []

    def note(session: Session) -> None:
        names.append(threading.current_thread().name)

    async with Stage(sync_empty) as stage:
        for actor in stage.actors("Ada", "Bruno"):
            await actor(note)
    assert names == ["Ada", "Bruno"]


async def test_a_deadlock_of_threads_ends_one_of_them(sync_empty: Engine) -> None:
    async with Stage(sync_empty) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        await ada("SELECT pg_advisory_xact_lock(1)")
        await bruno("SELECT pg_advisory_xact_lock(2)")
        first, second = await ada("SELECT pg_advisory_xact_lock(2)"), await bruno("SELECT pg_advisory_xact_lock(1)")
        assert Counter((step.sqlstate, step.state) for step in (first, second)) == {
            ("40P01", "failed"): 1,
            (None, "done"): 1,
        }
    assert "deadlock detected" in str(stage)


async def test_leaving_ends_a_thread_that_waits_for_a_session_off_stage(sync_empty: Engine) -> None:
    with sync_empty.connect() as other:
        other.exec_driver_sql(LOCK)
        async with asyncio.timeout(20):
            async with Stage(sync_empty) as stage:
                waiting = await stage.actor("Ada")(LOCK)
                assert waiting.waits_for == ("another session",)
        assert waiting.outcome == "✗ cut off: the scene was over"
        assert "╳ rolled back" in str(stage), "by the server, whose session was ended"
        assert sync_empty.pool.checkedout() == 1  # type: ignore[attr-defined]


async def test_a_synchronous_stage_rolls_back_what_is_open(sync_empty: Engine) -> None:
    async with Stage(sync_empty) as stage:
        await stage.actor("Ada", isolation_level="SERIALIZABLE")("CREATE TABLE thing (id int)")
    with sync_empty.connect() as connection:
        assert connection.exec_driver_sql("SELECT to_regclass('thing')").scalar() is None
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"


async def test_an_async_function_on_a_synchronous_stage_is_refused_in_a_sentence(sync_empty: Engine) -> None:
    async def later(session: Session) -> int:
        return 1

    async with Stage(sync_empty) as stage:
        with pytest.raises(CourseError, match="later is an async function, on a synchronous engine"):
            await stage.actor("Ada")(later)


# engines that know more than their address says


def _dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


async def test_a_stage_connects_as_an_engine_with_a_creator_does(empty_url: URL) -> None:
    dsn = _dsn(empty_url)
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    async_engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn))
    for each in (engine, async_engine):
        async with Stage(each) as stage:
            ada, bruno = stage.actors("Ada", "Bruno")
            await ada(LOCK)
            assert (await bruno(LOCK)).waits_for == ("Ada",)
    engine.dispose()
    await async_engine.dispose()


async def test_a_stage_that_finds_no_server_says_what_the_driver_says(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        async with Stage(create_async_engine(f"postgresql+asyncpg://me@/shop?host={tmp_path}")):
            pass
