"""Run a learner's tests on right code and on mutants: for each a process and a database of its own.

The processes are forks of a pytest that has collected the tests, where the system can fork; elsewhere one process runs
pytest again and again.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom
from typing import Any

from course_lib.errors import CourseError
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.kept_process import KeptProcess
from course_lib.judging.testing.copies import copies_of
from course_lib.judging.testing.module import TestModule
from course_lib.judging.testing.plugin import CONFIGURATION, CONFTEST, FILE
from course_lib.judging.testing.report import Case, Report, Run, Tried

MODULE = "course_lib.judging.testing.process"
TEST_SECONDS = 8.0  # for each test on each case
START_SECONDS = 20.0  # until pytest is there
SETTINGS = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
"""


async def run_tests(
    attempt: Attempt,
    module: TestModule,
    cases: Sequence[Case],
    *plugins: str,
    uses: str = "",
    side_by_side: int = 1,
) -> Report:
    """Every test of ``module`` on every case, in an order of cases that is another one each time.

    Each case has a copy of the attempt's database, which nobody may be connected to, see ``copies``. After a test that
    does not come to its end in ``TEST_SECONDS``, the rest is not run.

    Args:
        plugins: names of modules whose fixtures and hooks pytest is given: the engine, the subject of the tests.
        uses: a module of tests of the judge's own, for an answer that is a fixture: then the cell is their conftest.
        side_by_side: how many cases at once, for tests that mostly wait.

    Raises:
        CourseError: the process did not start, or did not come to its end although no test was late.
    """
    report = Report([Tried(case) for case in cases], TEST_SECONDS)
    order = SystemRandom().sample(report.tried, len(cases))
    process = KeptProcess(MODULE)  # it starts meanwhile
    end = time.monotonic() + attempt.exercise.seconds
    try:
        async with copies_of(attempt, len(cases)) as copies, _folder(module, uses) as folder:
            job = {
                "folder": folder, "home": CONFTEST if uses else FILE, "plugins": plugins, "seconds": TEST_SECONDS,
                "side_by_side": side_by_side,
            }  # fmt: skip
            numbered = list(enumerate(order))
            for first in range(0, len(order), len(copies.databases)):
                if first:
                    await process.close()
                    process = KeptProcess(MODULE)
                    await copies.renew()
                told = [
                    {**asdict(tried.case), "number": number, "url": database.url.render_as_string(hide_password=False)}
                    for (number, tried), database in zip(numbered[first:], copies.databases, strict=False)
                ]
                await _try(process, {**job, "cases": told}, end, order, report)
                if report.over:
                    break
    finally:
        await process.close()
    return report


def expect_tests(report: Report, module: TestModule) -> None:
    """Pytest found tests, and they came to their end.

    Raises:
        Wrong: "not collected", "nothing collected", "ended", "endless", "skipped".
    """
    if report.collecting:
        sentence = f"pytest could not collect `{module.name}`: {report.collecting.rstrip('.')}."
        raise Wrong("not collected", sentence, module.line(report.line))
    runs = list(report.runs)
    if not runs:
        raise Wrong(
            "nothing collected", f"pytest collected nothing of `{module.name}`.",
            "Functions and methods are called `test_…`, classes `Test…` and without `__init__`.",
        )  # fmt: skip
    ended = next((run for run in runs if run.outcome == "ended"), None)
    if ended is not None:
        raise Wrong("ended", f"`{ended.test or module.name}` tried to end the program.")
    late = next((run for run in runs if run.outcome == "late"), None)
    if late is not None:
        sentence = f"`{late.test or module.name}` had not come to an end after {TEST_SECONDS:.0f} seconds."
        look = module.line(late.line) or "A loop that never ends, or an `await` on something that never comes?"
        raise Wrong("endless", sentence, look)
    if all(run.outcome == "skipped" for run in runs):
        reason = f": {runs[0].message}" if runs[0].message else ""
        raise Wrong("skipped", f"pytest skipped `{runs[0].test}`{reason}.", "A test that is skipped tests nothing.")


def expect_no_error(report: Report, module: TestModule) -> None:
    """On right code no fixture failed, and no test raised what is no assertion.

    Raises:
        Wrong: "set-up", "raised", "only in one order".
    """
    for tried in report.right:
        run = tried.first_trouble
        if run is None or run.outcome == "failed":
            continue
        said = f"{run.kind}: {run.message}" if run.message else run.kind
        if run.outcome == "raised":
            raise Wrong("raised", f"`{run.test}` raised {said.rstrip('.')}, for right code.", module.line(run.line))
        where = "setting up" if run.outcome == "set-up" else "tearing down"
        sentence = f"For right code, {where} `{run.test}` raised {said.rstrip('.')}."
        raise Wrong("set-up", sentence, module.line(run.line))
    forwards = [tried.green for tried in report.right if not tried.case.backwards]
    backwards = [tried for tried in report.right if tried.case.backwards and not tried.green]
    if backwards and all(forwards):
        failed = backwards[0].first_trouble
        name = failed.test if failed else module.name
        sentence = f"`{name}` failed for right code when the tests ran in the opposite order."
        raise Wrong("only in one order", sentence, "A test makes what it needs, and bears with what others have left.")


# -- the process ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _folder(module: TestModule, uses: str) -> AsyncIterator[str]:
    files = {CONFIGURATION: SETTINGS, FILE: module.text}
    if uses:
        files |= {CONFTEST: module.text, FILE: _source_of(uses)}
    with tempfile.TemporaryDirectory(prefix="course-tests-", ignore_cleanup_errors=True) as name:
        for file, text in files.items():
            (Path(name) / file).write_text(text, encoding="utf-8")
        yield name


def _source_of(module: str) -> str:
    found = find_spec(module)
    assert found is not None and found.origin is not None
    return Path(found.origin).read_text(encoding="utf-8")


async def _try(process: KeptProcess, job: dict[str, Any], end: float, order: list[Tried], report: Report) -> None:
    """All cases: what the process says of them, until it is done, has ended, or its time is over."""
    if not await process.says(START_SECONDS) or not process.send(json.dumps(job).encode()):
        raise CourseError("pytest did not start, so nothing was judged.", "Run the check again.")
    begun = {-1: ("", time.monotonic())}  # the test that each case is at, and since when; first it collects
    while (what := await process.says(end - time.monotonic())) is not None:
        if "failed" in what:
            raise RuntimeError(what["failed"])
        if "case" in what:
            _note(what, order[what["case"]], begun, report)
        elif "done" in what:
            return
        elif "died" in what:
            order[0].runs.append(Run("", "ended"))
            return
        process.go_on()
    late = {number: test for number, (test, since) in begun.items() if time.monotonic() - since >= TEST_SECONDS}
    if not late:
        raise CourseError("There was no time for all the tests: this machine is too slow.", "Run the check again.")
    for number, test in late.items():
        order[max(number, 0)].runs.append(Run(test, "late"))


def _note(what: dict[str, Any], tried: Tried, begun: dict[int, tuple[str, float]], report: Report) -> None:
    """What was said of a case."""
    begun.pop(-1, None)
    if "begins" in what:
        begun[what["case"]] = what["begins"], time.monotonic()
    if "note" in what:
        tried.notes.append(what["note"])
    if "run" in what:
        tried.runs.append(Run(**what["run"]))
        if tried.case.right and not report.printed:
            report.printed = what["printed"]
    if "collecting" in what:
        report.collecting, report.line = what["collecting"]["message"], what["collecting"]["line"]
    if "died" in what:
        tried.runs.append(Run(begun.get(what["case"], ("", 0.0))[0], "ended"))
    if "over" in what or "died" in what:
        begun.pop(what["case"], None)
