"""9.1: a fixture after which the database is as empty as before, whatever the test did."""

from __future__ import annotations

from typing import Any, ClassVar

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.testing.module import TestModule, answered
from course_lib.judging.testing.report import Case, Run, Tried
from course_lib.judging.testing.run import expect_tests, run_tests

SCENES = "course_lib.exercises.lesson_09.scenes"
DID = {
    "test_what_it_is": "opened two sessions and closed them",
    "test_commits": "committed",
    "test_commits_again": "committed, rolled back and committed again",
    "test_fails_after_its_commit": "committed and then failed",
    "test_fails_at_the_database": "committed and then failed with an error of the database",
    "test_two_sessions": "committed with two sessions open",
    "test_leaves_a_session_open": "committed and left one of its sessions open",
    "test_goes_on": "committed, after one that had left a session open",
}
"""What each test of ``uses_of_db`` did, in words."""
MEANT_TO_FAIL = {"test_fails_after_its_commit", "test_fails_at_the_database"}
LEAVING = {"test_leaves_a_session_open", "test_goes_on"}


class DbFixture(Exercise):
    """Real commits, and rows that are deleted afterwards."""

    id = "9.1"
    title = "A fixture that leaves nothing"
    answer = "db"
    minutes = 15
    points = 2
    level = "mid"
    recipe = "migrated"
    crowded = False
    second_process = True
    seconds = 40.0  # a process of pytest
    statement_seconds = 1  # so long does a table that is locked hold up who empties it
    hints: ClassVar = (
        "What has been committed is not undone by a rollback. What runs after the `yield` of a fixture, also when the "
        "test has failed?",
        "`async_sessionmaker(engine, expire_on_commit=False)` makes sessions with a connection each. Afterwards: "
        "`delete` of each table in `reversed(Base.metadata.sorted_tables)`, children before parents, and a commit.",
        "A session that a test has left open may hold a lock on a row you want to delete. Yield a function that makes "
        "a session and keeps it in a list; after the `yield`, close what is in the list, then delete.",
    )
    why = (
        "The commits are real, so tests may look at them from another session, race, and wait for locks; the price is "
        "the deleting afterwards. It stands after `yield`, where pytest comes to whether the test passed or failed, "
        "and closes the sessions first: a forgotten one would hold its locks against it. DELETE on small tables is "
        "faster than TRUNCATE, which makes new files."
    )
    follow_up = (
        "The recipe of an outer transaction with savepoints is faster and needs no deleting. Which bugs can a test on "
        "it not see?"
    )
    mistakes: ClassVar = {
        "no sessions": "`db` gave the test {kind}, and `db()` made no `AsyncSession` of it. "
        "| What the fixture yields is called for each session: an `async_sessionmaker`, or a function of your own.",
        "one session": "Two calls of `db()` gave the same session. "
        "| Two sessions at once are two objects, each with a transaction of its own.",
        "not committed": "A test committed, and another connection saw {seen} of its users. "
        "| A session that joins an outer transaction makes savepoints of its commits.",
        "one connection": "With two sessions open, {what}. "
        "| Both are on one connection, where nobody is kept out and nothing is hidden.",
        "rows left": "After a test that {did}, {count} row(s) were left, in {tables}. "
        "| After the `yield` all tables of the models have to be emptied, whatever the test did.",
        "version gone": "After a test that {did}, the table `alembic_version` was empty. "
        "| It says which migrations have run. Empty the tables of `Base.metadata`, no others.",
        "schema changed": "After a test that {did}, the schema was no longer the migrated one. "
        "| The tables are there once for all tests: delete rows, not tables.",
        "held up": "A test left one of its sessions open with a row locked, and {then}. "
        "| Close all sessions that the test has made, then delete.",
        "connections left": "After a test that {did}, {count} connection(s) to the database were still open. "
        "| What the fixture opens it closes: sessions, and an engine of its own by `await engine.dispose()`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        module = answered(attempt)
        case = Case("uses", right=True)
        plugins = (f"{SCENES}.given", f"{SCENES}.left_behind")
        report = await run_tests(attempt, module, [case], *plugins, uses=f"{SCENES}.uses_of_db")
        print(report.printed, end="")
        tried = report.tried[0]
        self._kind(attempt, tried)
        late = next((run for run in tried.runs if run.outcome == "late"), None)
        if late is not None and late.test in LEAVING:
            raise attempt.wrong("held up", then=f"`{late.test}` did not come to its end")
        expect_tests(report, module)
        for test in DID:  # in their order: what one has left, the next would be blamed for
            if test == "test_commits_again":
                self._two_sessions(attempt, tried)
            for run in tried.runs:
                if run.test == test:
                    self._went_well(attempt, module, run)
            for note in tried.notes:
                if note.get("after") == test:
                    self._left_nothing(attempt, note)

    def _kind(self, attempt: Attempt, tried: Tried) -> None:
        kind = next(iter(tried.noted("kind")), None)
        if kind is not None:
            attempt.expect(all(tried.noted("session")) and bool(tried.noted("session")), "no sessions", kind=kind)
        attempt.expect(not any(tried.noted("same")), "one session")

    def _two_sessions(self, attempt: Attempt, tried: Tried) -> None:
        seen = tried.noted("seen")
        attempt.expect(seen in ([], [1]), "not committed", seen=seen[0] if seen else 0)
        for early in tried.noted("early"):
            attempt.expect(not early, "one connection", what="one of them saw what the other had not committed")
        for late in tried.noted("late"):
            attempt.expect(late, "one connection", what="one of them did not see what the other had committed")
        for locked in tried.noted("locked"):
            attempt.expect(locked, "one connection", what="both locked the same row")

    def _went_well(self, attempt: Attempt, module: TestModule, run: Run) -> None:
        """Each test passed, but for those that are to fail, and so did the fixture around it."""
        if run.outcome == "passed" or (run.test in MEANT_TO_FAIL and run.outcome in ("failed", "raised")):
            return
        said = f"{run.kind}: {run.message}".rstrip(". ")
        if run.test in LEAVING:
            raise attempt.wrong("held up", then=f"what came after it raised {said}")
        when = {"set-up": "before", "teardown": "after"}.get(run.outcome, "in")
        sentence = f"{when.capitalize()} a test that {DID.get(run.test, 'used it')}, `db` raised {said}."
        raise Wrong("set-up", sentence, module.line(run.line))

    def _left_nothing(self, attempt: Attempt, note: dict[str, Any]) -> None:
        did = DID.get(note["after"], "used it")
        attempt.expect(note["whole"], "schema changed", did=did)
        attempt.expect(note["version"] == 1, "version gone", did=did)
        left: dict[str, int] = note["left"]
        tables = ", ".join(f"`{table}`" for table in left)
        attempt.expect(not left, "rows left", did=did, count=sum(left.values()), tables=tables)
        attempt.expect(not note["connections"], "connections left", did=did, count=note["connections"])
