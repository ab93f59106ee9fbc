"""9.8: a database for each worker of pytest, which is gone when the worker is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from course_lib.errors import CourseError
from course_lib.exercises.lesson_09.scenes.workers import COMES, STAYS
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.testing.module import TestModule, answered
from course_lib.judging.testing.report import Case, Report, Run, Tried
from course_lib.judging.testing.run import expect_tests, run_tests
from course_lib.postgres import clone, drop
from course_lib.postgres.databases import quoted

SCENES = "course_lib.exercises.lesson_09.scenes"
PLUGINS = (f"{SCENES}.given", f"{SCENES}.workers")
FAILS = "test_leaves_a_connection_and_fails"
TABLES = 3
GOODBYE_SECONDS = 5.0
TAKEN, TAKEN_AT_ONCE = "42P04", "pg_database_datname_index"
IN_USE = ("55006", "57014")  # or the statement's time was over while it waited


class WorkerDatabase(Exercise):
    """A name with the worker in it, and a DROP that comes to its end."""

    id = "9.8"
    title = "One database for each worker"
    answer = "worker_url"
    minutes = 15
    points = 3
    level = "senior"
    recipe = "migrated"
    crowded = False
    seconds = 90.0  # four processes of pytest
    hints: ClassVar = (
        "Two workers are two processes that know nothing of each other. What do they have that differs, and when is "
        "a fixture made once for all tests of a process?",
        '`@pytest.fixture(scope="session")`, and `f"{prefix}{worker_id}"` as the name: it is `gw0`, `gw1` or `master`. '
        "`CREATE DATABASE … TEMPLATE …` on `admin`, `yield admin.url.set(database=name)`, and afterwards "
        "`DROP DATABASE`.",
        "A run that was killed never came to its DROP: drop before creating too, with `IF EXISTS`. And a test that has "
        "left a connection open is no reason to stay: `DROP DATABASE … WITH (FORCE)`.",
    )
    why = (
        "The worker's id in the name is all that keeps two processes apart; the scope makes it one database for each "
        "of them, and the template spares them the migrations. DROP WITH (FORCE) ends the connections that a test has "
        "forgotten. Dropping first as well makes a run begin the same way whatever the last one left, which "
        "after `yield` nobody can promise: a process that is killed tears nothing down."
    )
    follow_up = (
        "Eight workers, forty seconds of tests, and it takes thirty-five. Where would you look, and what would you "
        "measure first?"
    )
    mistakes: ClassVar = {
        "no address": "`worker_url` gave the tests {kind}, and nobody can connect to that. "
        "| A fixture yields what its tests are to have: a `URL` or a string.",
        "the template": "The tests of {worker} ran in `{name}`, which was there before. "
        "| Who writes into the template writes into every database that is made of it: make one for the worker.",
        "wrong name": "The database of {worker} is called `{name}`, which does not begin with `{prefix}`. "
        "| What is not called that way, nobody finds who cleans up.",
        "shared": "Two workers at once, `gw1` and `gw11`, wanted the same database{name}. "
        "| They are two processes: the name has to hold what differs.",
        "not migrated": "The database of {worker} had {tables} of the {of} tables that were looked for. "
        "| A copy of the template has them all.",
        "not empty": "The database of {worker} had {users} user(s) in it when its tests began. "
        "| Whatever an earlier run has left: drop it, and make it again.",
        "one for each test": "The second test of {worker} got another database than the first. "
        "| One for each worker: what scope does the fixture have?",
        "left": "When all tests of {worker} had run, {count} database(s) of its were left: {names}. "
        "| After the `yield`, also when a test has failed.",
        "never found again": "What a killed run of `gw1` had left was still there when the next run of `gw1` was over: "
        "{names}. | Nobody else will look for it: can the next one know its name, or that nobody uses it?",
        "disturbed": "While `gw11` was at its tests, `gw1` began and ended, and then a test of `gw11` raised {said}. "
        "| What a worker drops and whose connections it ends has to be its own: `gw11` begins with `gw1` too.",
        "held open": "A test left a connection open, and `worker_url` could not drop the database: {said}. "
        "| `DROP DATABASE` can end them: which option?",
        "in the way": "A run was killed, and when {worker} began again, `worker_url` raised {said}. "
        "| What it left is in the way: a killed process tears nothing down.",
        "alone": "Without workers, where `worker_id` is `master`, `worker_url` raised {said}. "
        "| Every name that pytest-xdist gives will do as a part of the database's.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        module = answered(attempt)
        if attempt.database.server.pooled:
            raise CourseError(
                "In this task a fixture makes databases, which your role on this server may not.",
                "Unset DATABASE_URL, restart the kernel and check again: on your own machine you may.",
            )
        server, prefix = attempt.database.server, f"{attempt.database.name}_"
        before = set(await _databases(attempt))
        admin = await clone(attempt.admin, attempt.database.name, self.lesson, server.settings)
        url = server.url.set(database=admin).render_as_string(hide_password=False)
        given = {"template": attempt.database.name, "prefix": prefix, "admin": url}
        both = [Case("uses", True, {**given, "worker_id": name, "together": True}) for name in (COMES, STAYS)]
        killed = [Case("uses", True, {**given, "worker_id": "gw1", "killed": True})]
        again = [Case("uses", True, {**given, "worker_id": name}) for name in ("gw1", "master")]
        made: set[str] = set()
        try:
            await self._run(attempt, module, both, made, before)
            await self._run(attempt, module, killed, made, before)
            await _gone(attempt, admin)
            await self._run(attempt, module, again, made, before)
        finally:
            left = [name for name in await _databases(attempt) if name.startswith(prefix)]
            await drop(attempt.admin, admin)
            for name in {*left, *(made - before)}:
                await attempt.admin.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    async def _run(
        self, attempt: Attempt, module: TestModule, cases: Sequence[Case], made: set[str], before: set[str]
    ) -> None:
        there = set(await _databases(attempt))
        report = await run_tests(
            attempt, module, cases, *PLUGINS, uses=f"{SCENES}.uses_of_worker", side_by_side=len(cases)
        )
        print(report.printed, end="")
        prefix = cases[0].options["prefix"]
        now = {name for name in await _databases(attempt) if name.startswith(prefix)}
        left = now - there
        for tried in report.tried:
            made |= set(tried.noted("name"))
        killed = cases[0].options.get("killed", False)
        if killed:
            return  # it is to leave something behind
        if report.collecting or not any(tried.runs for tried in report.tried):
            expect_tests(report, module)
        self._apart(attempt, report)
        for tried in report.tried:
            self._worker(attempt, module, tried, before)
        expect_tests(report, module)
        worker = " and ".join(f"`{case.options['worker_id']}`" for case in cases)
        names = ", ".join(f"`{name}`" for name in sorted(left))
        attempt.expect(not left, "left", worker=worker, count=len(left), names=names)
        old = ", ".join(f"`{name}`" for name in sorted(now))
        attempt.expect(not now, "never found again", names=old)

    def _apart(self, attempt: Attempt, report: Report) -> None:
        if not report.tried[0].case.options.get("together"):
            return
        names = [set(tried.noted("name")) for tried in report.tried]
        common = sorted(names[0] & names[1])
        own = [name for name in common if name.startswith(report.tried[0].case.options["prefix"])]
        taken = any(run.sqlstate == TAKEN or TAKEN_AT_ONCE in run.message for run in report.runs)
        attempt.expect(not own and not taken, "shared", name=f", `{own[0]}`" if own else "")

    def _worker(self, attempt: Attempt, module: TestModule, tried: Tried, before: set[str]) -> None:
        options, names, oids = tried.case.options, tried.noted("name"), tried.noted("oid")
        worker = f"`{options['worker_id']}`"
        for name in names:
            attempt.expect(name not in before, "the template", worker=worker, name=name)
            prefix = options["prefix"]
            attempt.expect(name.startswith(prefix), "wrong name", worker=worker, name=name, prefix=prefix)
        for tables in tried.noted("tables"):
            attempt.expect(tables == TABLES, "not migrated", worker=worker, tables=tables, of=TABLES)
        for users in tried.noted("before"):
            attempt.expect(not users, "not empty", worker=worker, users=users)
        attempt.expect(len(set(oids)) < 2, "one for each test", worker=worker)
        for run in tried.runs:
            waits = run.outcome == "late" and run.test == FAILS  # DROP DATABASE does, for five seconds
            attempt.expect(not waits, "held open", said="it had not come to its end")
            if run.outcome not in ("passed", "late", "ended") and not (run.test == FAILS and run.outcome == "failed"):
                self._raised(attempt, module, tried, run)

    def _raised(self, attempt: Attempt, module: TestModule, tried: Tried, run: Run) -> None:
        worker_id, said = tried.case.options["worker_id"], f"{run.kind}: {run.message}".rstrip(". ")
        attempt.expect(run.outcome != "teardown" or run.sqlstate not in IN_USE, "held open", said=said)
        kinds = tried.noted("kind")
        if kinds and not tried.noted("name"):
            raise attempt.wrong("no address", kind=kinds[0])
        first = tried.case.options.get("together")
        attempt.expect(not (first and worker_id == STAYS and run.outcome == "raised"), "disturbed", said=said)
        attempt.expect(worker_id != "master", "alone", said=said)
        attempt.expect(bool(first), "in the way", worker=f"`{worker_id}`", said=said)
        when = {"set-up": "Before", "teardown": "After"}.get(run.outcome, "In")
        raise Wrong("set-up", f"{when} the tests, `worker_url` raised {said}.", module.line(run.line))


async def _gone(attempt: Attempt, database: str) -> None:
    """The server has seen that the killed process is: until then its locks are held."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
    end = time.monotonic() + GOODBYE_SECONDS
    while await attempt.admin.fetchval(count, database) and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def _databases(attempt: Attempt) -> list[str]:
    rows: list[Any] = await attempt.admin.fetch("SELECT datname FROM pg_database")
    return [row["datname"] for row in rows]
