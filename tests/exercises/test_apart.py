"""Answers judged in a process of their own: what they do to it is a sentence, and costs nobody else anything."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

import course_lib.judging.judge
from course_lib.errors import CourseError
from course_lib.exercises.lesson_00 import CountUsers
from course_lib.judging.apart.asides import is_aside
from course_lib.judging.apart.changes import changed, picture
from course_lib.judging.apart.process import Child, Outcome
from course_lib.judging.apart.verdicts import judge_apart
from course_lib.judging.apart.wire import listen, writer
from course_lib.judging.verdict import Verdict
from course_lib.notebooks.kernels import private_transport
from course_lib.postgres.databases import list_databases
from course_lib.postgres.server import enter_server
from tests.exercises.quick import QuickCount

IMPORTS = "import asyncio, ctypes, itertools, os, signal, time\nfrom sqlalchemy import text"
RIGHT = """
async def count_users(session):
    return (await session.execute(text("SELECT count(*) FROM users"))).scalar_one()
"""


def answer(*lines: str) -> str:
    return "\n    ".join(["async def count_users(session):", *lines])


async def judged(*cells: str, silence: float | None = None) -> Verdict:
    return await judge_apart(QuickCount(), [IMPORTS, *cells], silence)


async def left_behind() -> list[str]:
    """Databases whose maker has ended."""
    async with enter_server() as (_, connection):
        return [found.name for found in await list_databases(connection) if found.maker_ended()]


SWALLOW = ("while True:", "    try:", "        while True: pass", "    except BaseException: pass")
HOSTILE: dict[str, tuple[list[str], str]] = {
    "swallows everything": ([answer(*SWALLOW)], "`count_users` had not come to an end after"),
    "ignores the alarm": (
        [answer("signal.signal(signal.SIGALRM, signal.SIG_IGN)", *SWALLOW)],
        "`count_users` had not come to an end after",
    ),
    "os._exit": ([answer("os._exit(3)")], "The process in which `count_users` was judged ended with exit code 3."),
    "os._exit(0)": ([answer("os._exit(0)")], "judged ended with exit code 0."),
    "segfault": ([answer("ctypes.string_at(0)")], "was judged was ended by SIGSEGV."),
    "killed": ([answer("os.kill(os.getpid(), signal.SIGKILL)")], "was judged was ended by SIGKILL."),
    "killed with its group": ([answer("os.killpg(0, signal.SIGTERM)")], "was judged was ended by SIGTERM."),
    "closed": (
        [answer("os.closerange(3, 256)", "time.sleep(9)")],
        "was judged closed the file by which it tells its verdict, and was ended.",
    ),
    "killed before": (["os._exit(4)", RIGHT], "A cell above the check ended with exit code 4, so `count_users`"),
    "a patched judge": (
        ["import course_lib.judging.attempt as a\na.Attempt.expect = lambda *_, **__: None", answer("return 1")],
        "The answer changed the judge: `course_lib.judging.attempt.Attempt.expect` is not what it was.",
    ),
    "patched while it is called": (
        [answer("from course_lib.exercises.lesson_00 import CountUsers", "CountUsers.mistakes.clear()", "return 1")],
        "The answer changed the judge: `course_lib.exercises.lesson_00.count_users.CountUsers.mistakes` is not",
    ),
    "another code": (
        [
            "from course_lib.judging import judge\nasync def right(*_): return judge.Finding('right')\n"
            "judge._find.__code__ = right.__code__",
            answer("return 1"),
        ],
        "The answer changed the judge: `course_lib.judging.judge._find` is not what it was.",
    ),
}


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("cells", "sentence"), HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.soak(after=6)
async def test_what_ends_keeps_or_spoils_a_process_is_a_sentence(cells: list[str], sentence: str) -> None:
    before = set(await left_behind())
    verdict = await judged(*cells)
    assert verdict == 0.0 and sentence in verdict.finding.sentence, str(verdict)
    assert set(await left_behind()) <= before


async def test_code_in_c_that_never_returns_is_ended() -> None:
    before = set(await left_behind())
    verdict = await judged(answer("all(itertools.repeat(True))"), silence=2)
    assert verdict == 0.0
    assert "was judged ran no line of Python for 2 seconds and was ended." in verdict.finding.sentence
    assert set(await left_behind()) <= before


async def test_settings_of_the_role_are_put_back_for_a_process_that_is_gone() -> None:
    change = 'await session.execute(text("ALTER ROLE CURRENT_USER SET deadlock_timeout = 1234"))'
    async with enter_server() as (_, connection):
        verdict = await judged(answer(change, "await session.commit()", "os._exit(1)"))
        settings = await connection.fetchval("SELECT array_agg(s.setconfig::text) FROM pg_db_role_setting s")
    said = str(verdict._repr_markdown_())
    assert "Your answer changed settings of the server or its roles: `deadlock_timeout`" in said
    assert "deadlock_timeout" not in str(settings)


RIGHT_ONES: dict[str, list[str]] = {
    "plain": [RIGHT],
    "magic": [f"%%time\n{RIGHT}"],
    "a line magic before it": [f"%matplotlib inline\n{RIGHT}\nexit"],
    "in two cells": ['QUERY = text("SELECT count(*) FROM users")', answer("return await session.scalar(QUERY)")],
    "a helper that is awaited above": [
        'async def query():\n    return text("SELECT count(*) FROM users")',
        "QUERY = await query()\nLOOP = asyncio.get_running_loop()",
        answer("assert LOOP is asyncio.get_running_loop()", "return await session.scalar(QUERY)"),
    ],
    "cells that raise": ["1 / 0", "def f(:", RIGHT, "await asyncio.sleep(0); exit()", "raise KeyboardInterrupt"],
    "defined beside its check": [f"from course_lib import check\n{RIGHT}\nassert not await check('0.1')"],
    "whatever is written anywhere": [
        "for number in range(9):\n    try: os.write(number, b'[0, \"found\", {}]' * 9_999)\n    except OSError: pass",
        "print('x' * 100_000, flush=True)",
        RIGHT,
    ],
    "a lesson that stays open": ["import course_lib\nlesson = await course_lib.open_lesson('02', 'migrated')", RIGHT],
}


@pytest.mark.parametrize("cells", RIGHT_ONES.values(), ids=RIGHT_ONES.keys())
@pytest.mark.soak(after=4)
async def test_a_right_answer_is_right_however_a_notebook_comes_to_it(cells: list[str]) -> None:
    before = set(await left_behind())
    verdict = await judge_apart(CountUsers(), [IMPORTS, *cells])
    assert verdict.passed, str(verdict)
    assert set(await left_behind()) <= before


async def test_an_answer_that_is_missing_since_its_cell_raised() -> None:
    verdict = await judged("1 / 0\n" + RIGHT)
    assert verdict.state == "not attempted"
    assert verdict.finding.remarks == ["A cell above it raised ZeroDivisionError: division by zero"]


@pytest.mark.skipif(os.name == "nt", reason="zones of POSIX")
async def test_the_process_is_in_another_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    show = answer("print(time.localtime().tm_gmtoff)", "return 0")
    seen = set()
    for zone in ("UTC", "Asia/Kathmandu"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        seen.add((await judged(show)).finding.printed.split()[0])
        assert time.localtime().tm_gmtoff == {"UTC": 0}.get(zone, 20700)
    monkeypatch.undo()
    time.tzset()
    assert seen == {"20700", "-12600"}


async def test_no_server_is_said_and_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    with pytest.raises(CourseError, match="No PostgreSQL answers"):
        await judged(RIGHT)


def run(*cells: str, seconds: float = 60) -> list[Outcome]:
    with Child() as child:
        return list(child.follow(cells, {}, silence=60, seconds=seconds))


STUBBORN = """
import signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
for number in (signal.SIGINT, signal.SIGALRM):
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        while True: time.sleep(.1)
    except BaseException: pass
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_cell_that_heeds_nothing_is_ended_with_what_it_started() -> None:
    me = psutil.Process()
    before = set(me.children(recursive=True))
    *_, outcome = run("1", STUBBORN, "2", seconds=1)
    assert (outcome.number, outcome.late, outcome.ended) == (1, True, "SIGKILL")
    assert not [p for p in set(me.children(recursive=True)) - before if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("cell", ["while True: pass", "import asyncio\nawait asyncio.sleep(1000)"])
@pytest.mark.soak(after=1)
def test_a_cell_that_heeds_an_interrupt_costs_only_itself(cell: str) -> None:
    first, second = run(cell, "x = 6 * 7", seconds=1)
    assert first.late and not first.ended and first.error in ("KeyboardInterrupt", "CancelledError")
    assert (second.late, second.error, second.ended) == (False, "", "")


def heard(*lines: bytes) -> list[tuple[str, dict[str, Any]]]:
    """What is taken for messages of ``writer`` with the secret ``b"ours"``."""
    out, into = os.pipe()
    os.write(into, b"".join(lines))
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        messages = listen(stream, b"ours")
        return [(said.kind, said.values) for said in iter(messages.get, None)]


def written(secret: bytes, *kinds: str) -> bytes:
    out, into = os.pipe()
    say = writer(into, secret)
    for kind in kinds:
        say(kind, number=1)
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        return stream.read()


def test_a_message_that_is_not_sealed_or_was_heard_before_is_none() -> None:
    true = written(b"ours", "a", "b")
    assert heard(b"half a line", true) == [("a", {"number": 1}), ("b", {"number": 1})]
    assert heard(written(b"theirs", "x"), true, true) == heard(true)
    assert heard(true.replace(b'"b"', b'"x"')) == [("a", {"number": 1})]


def test_each_change_of_the_judge_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = course_lib.judging.judge
    before = picture()
    assert changed(before) == ""
    changes: list[tuple[Any, str, Any]] = [
        (judge, "JUDGE_SECONDS", 1), (judge, "is_stub", lambda _: False), (judge.Attempt, "sql", judge.Attempt.value),
        (CountUsers, "judge", None), (CountUsers, "mistake", lambda *_: None), (Verdict, "passed", True),
        (judge.judge_answer, "__kwdefaults__", {"prepared": None}),
    ]  # fmt: skip
    for where, name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(where, name, value, raising=False)
            assert changed(before), name
        assert changed(before) == "", name


def test_cells_that_only_ask_the_course_something() -> None:
    for source in ('await check("0.1")', 'check("0.1")', "# now\nhint()", 'solution("0.1");progress()'):
        assert is_aside(source), source
    for source in ("", "%time", "x = await check('0.1')", "check", "def check(): ...", "print(hint())", "x.check()"):
        assert not is_aside(source), source


def test_a_graded_notebook_goes_on_after_an_answer_that_ends_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a real kernel, as nbgrader runs it."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "work"))
    sources = [
        "from course_lib import check, hint", IMPORTS, answer("os._exit(3)"), 'await check("0.1")', "hint()",
        RIGHT, 'await check("0.1")', "import time; time.localtime().tm_gmtoff",
    ]  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    with private_transport() as transport:
        manager = AsyncKernelManager(kernel_name="python3", **transport)
        NotebookClient(notebook, manager, allow_errors=True, timeout=60).execute(cwd=str(tmp_path))
    outputs = [cell.outputs for cell in notebook.cells]
    assert [output.ename for output in outputs[3]] == ["CheckFailed"] and "exit code 3" in outputs[3][0].evalue
    assert [output.data["text/plain"] for output in outputs[6]] == ["1.0"]
    assert [output.data["text/plain"] for output in outputs[7]] == [str(time.localtime().tm_gmtoff)]
    assert not (tmp_path / "work").exists()
