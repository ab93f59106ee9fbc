"""The relay's process: how it starts, whom it serves, and when it ends."""

from __future__ import annotations

import asyncio
import marshal
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import URL

from course_lib.errors import CourseError
from course_lib.instruments.network import Wire, relay_process
from course_lib.instruments.network.relay_process import ROOT
from course_lib.postgres.address import libpq_uri
from tests.postgres.places import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="by a Unix socket")

HOLD = """
import sys, time
from sqlalchemy import make_url
from course_lib.instruments.network import Wire, relay_process
wire = Wire.open(make_url(sys.argv[1]))
{more}
print(wire.url.query["host"], relay_process.relay_process()._process.pid, flush=True)
time.sleep(300)
"""


class Interrupt(BaseException):
    """What a signal raises, wherever the program is."""


def relay() -> psutil.Process:
    return psutil.Process(relay_process.relay_process()._process.pid)


def mode_of(wire: Wire) -> int | None:
    """The mode of the folder in which a wire's socket lies; None when there is none."""
    folder = Path(str(wire.url.query["host"]))
    return folder.stat().st_mode & 0o777 if folder.exists() else None


def holding(url: URL, more: str = "") -> tuple[subprocess.Popen[str], Path, int]:
    """A process that has a wire open, the wire's folder, and its relay."""
    command = [sys.executable, "-c", HOLD.format(more=more), url.render_as_string(False)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder, pid = process.stdout.readline().split()
    return process, Path(folder), int(pid)


async def one(url: URL) -> int:
    connection = await asyncpg.connect(libpq_uri(url))
    try:
        number: int = await connection.fetchval("SELECT 1")
        return number
    finally:
        await connection.close()


def test_it_imports_nothing_that_takes_time() -> None:
    code = f"import sys; sys.path.append({str(ROOT)!r}); import course_lib.instruments.network.relay.loop as loop; "
    code += "loaded = {name.partition('.')[0] for name in sys.modules if name != '__main__'}; "
    code += "print(*sorted(loaded - sys.stdlib_module_names))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["course_lib"]


async def test_all_wires_of_a_process_share_one_and_each_sees_its_own(seeded_url: URL) -> None:
    first, second = Wire.open(seeded_url), Wire.open(seeded_url)
    assert first.url != second.url
    with first.log() as here, second.log() as there:
        await one(first.url)
    assert (here.count, there.count, there.connections) == (1, 0, 0)
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert len([child for child in living if "relay" in " ".join(child.cmdline())]) == 1
    assert mode_of(first) == 0o700
    first.close()
    assert mode_of(first) is None
    with pytest.raises(OSError):
        await one(first.url)
    assert await one(second.url) == 1
    second.close()


@pytest.mark.parametrize("end", ["killed", "ends", "killed while a fork lives on"])
def test_it_ends_with_its_process_and_leaves_no_folder(seeded_url: URL, end: str) -> None:
    fork = "import os\nif os.fork() == 0: time.sleep(300)" if "fork" in end else ""
    process, folder, pid = holding(seeded_url, fork)
    children = psutil.Process(process.pid).children()
    assert folder.exists() and psutil.pid_exists(pid)
    process.send_signal(signal.SIGKILL if "killed" in end else signal.SIGINT)
    process.wait()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert not folder.exists()
    for child in children:
        if child.is_running() and child.pid != pid:
            child.kill()
    assert process.stdout is not None
    process.stdout.close()


def test_an_interrupt_from_the_keyboard_does_not_reach_it(seeded_url: URL) -> None:
    assert os.getpgid(relay().pid) != os.getpgid(0)


async def test_a_fork_has_one_of_its_own_and_leaves_its_parents_alone(seeded_url: URL) -> None:
    wire = Wire.open(seeded_url)
    log = wire.log()
    ours, (reading, writing) = relay().pid, os.pipe()
    if (child := os.fork()) == 0:
        try:
            mine = Wire.open(seeded_url)
            said = (relay().pid, mine.log().count, mode_of(mine))
            mine.close()
            wire.close()  # the parent's stays
            os.write(writing, marshal.dumps(said))
        finally:
            os._exit(0)
    theirs, count, mode = marshal.loads(os.read(reading, 1000))
    await asyncio.to_thread(os.waitpid, child, 0)
    assert (theirs != ours, count, mode) == (True, 0, 0o700)
    assert await one(wire.url) == 1 and log.count == 1
    wire.close()


async def test_an_interrupt_in_the_middle_of_a_question_loses_nothing(seeded_url: URL) -> None:
    wire = Wire.open(seeded_url)
    connection = await asyncpg.connect(libpq_uri(wire.url))
    log, interrupted = wire.log(), 0

    def interrupt(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(200):
            await connection.fetchval(f"SELECT {number}")
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + number * 1e-6)
                while True:
                    wire.traffic()
            except Interrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 200
    assert [statement.sql for statement in log.statements] == [f"SELECT {number}" for number in range(200)]
    await connection.close()
    wire.close()


async def test_when_it_is_killed_the_next_wire_has_another(seeded_url: URL) -> None:
    wire = Wire.open(seeded_url)
    relay().kill()
    with pytest.raises(CourseError, match="has ended"):
        wire.log()
    wire.close()
    assert mode_of(wire) is None
    wire = Wire.open(seeded_url)
    assert await one(wire.url) == 1
    wire.close()


@pytest.mark.parametrize(
    "gone", [lambda url: url.set(query={"host": "/nowhere"}), lambda url: url.set(host="127.0.0.1", port=1, query={})]
)
async def test_a_server_that_cannot_be_reached(seeded_url: URL, gone: Callable[[URL], URL]) -> None:
    wire = Wire.open(gone(seeded_url))
    with pytest.raises(asyncpg.PostgresConnectionError, match="cannot be reached"):
        await one(wire.url)
    wire.close()
    with pytest.raises(CourseError, match="no way through"):
        Wire.open(seeded_url.set(host="no.such.host.invalid", port=1, query={}))


async def test_thousands_of_statements_are_read_once(seeded_url: URL) -> None:
    wire = Wire.open(seeded_url)
    connection = await asyncpg.connect(libpq_uri(wire.url))
    with wire.log() as log:
        for number in range(3000):
            await connection.execute("SELECT $1::int", number)
        assert log.count == 3000
        wire.traffic()
        news = relay_process.relay_process().ask("read", wire._door, wire._taken)
        assert news[2:5] == ([], [], []), "nothing of it is told twice"
    await connection.close()
    wire.close()
