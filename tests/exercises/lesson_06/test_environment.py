"""A migration runs as a real revision, and whatever it does is ended and told as that of any other answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from alembic import op

from course_lib.exercises import Exercise, Verdict, judge_answer
from course_lib.exercises.lesson_06.scenes.catalogue import look_at_catalogue, rows_of
from course_lib.exercises.lesson_06.scenes.environment import Environment, environment_in_steps, environment_of
from course_lib.judging.attempt import Attempt

Look = Callable[[Attempt, Environment], Coroutine[Any, Any, None]]


class Trial(Exercise):
    """Goes up, and lets a test look."""

    id, title, answer = "6.1", "Trial", "Migration"
    hints, why, follow_up = ("", ""), "", ""
    seconds = 0.6
    mistakes: ClassVar = {"method missing": "No `{method}`. | Two.", "not written": "`{method}`. | Two."}
    look: Look | None = None

    async def judge(self, attempt: Attempt) -> None:
        with environment_of(attempt) as environment:
            await environment.upgrade()
            if self.look is not None:
                await self.look(attempt, environment)


async def judged(upgrade: Callable[[], Any], look: Look | None = None) -> Verdict:
    class Migration:
        def upgrade(self) -> Any:
            return upgrade()

        def downgrade(self) -> None:
            op.drop_column("documents", "pages")

    trial = Trial()
    trial.look = look
    return await judge_answer(trial, Migration)


def add_pages() -> None:
    op.add_column("documents", sa.Column("pages", sa.Integer()))


async def test_the_database_is_at_the_answers_revision_and_after_the_way_back_at_the_courses_own() -> None:
    async def look(attempt: Attempt, environment: Environment) -> None:
        assert await environment.version() == environment.head
        await environment.downgrade()
        assert int(await environment.version() or 0) == int(environment.head) - 1

    assert (await judged(add_pages, look)).passed


async def test_the_attempts_log_holds_what_the_migration_said() -> None:
    async def look(attempt: Attempt, environment: Environment) -> None:
        assert "ALTER TABLE documents ADD COLUMN pages INTEGER" in [s.sql for s in attempt.log.statements]

    assert (await judged(add_pages, look)).passed


async def test_a_block_outside_of_the_transaction_can_build_an_index_concurrently() -> None:
    def upgrade() -> None:
        add_pages()
        with op.get_context().autocommit_block():
            op.create_index("ix_documents_pages", "documents", ["pages"], postgresql_concurrently=True)

    async def look(attempt: Attempt, environment: Environment) -> None:
        assert ("index", "ix_documents_pages") in await look_at_catalogue(attempt)

    assert (await judged(upgrade, look)).passed


async def test_a_migration_that_fails_is_told_by_the_servers_words() -> None:
    def upgrade() -> None:
        add_pages()
        op.execute("SELECT 1 / 0")

    verdict = await judged(upgrade)
    assert verdict.mistake == "raised"
    assert verdict.finding.sentence.startswith("`upgrade` raised D")
    assert verdict.finding.sentence.endswith("division by zero.")


async def says_nothing() -> None:
    """What Alembic would not await."""


def pieces() -> Any:
    yield add_pages()


@pytest.mark.parametrize("upgrade", [says_nothing, pieces])
async def test_what_alembic_would_never_run_is_told(upgrade: Callable[[], Any]) -> None:
    assert (await judged(upgrade)).mistake == "async migration"


def turns() -> None:
    while True:
        pass


def sleeps() -> None:
    time.sleep(60)


def asks_for_ever() -> None:
    while True:
        op.execute("SELECT 1")


@pytest.mark.parametrize("upgrade", [turns, sleeps, asks_for_ever])
async def test_what_never_ends_is_ended_and_the_next_check_is_not_touched(upgrade: Callable[[], Any]) -> None:
    assert (await judged(upgrade)).mistake == "endless"
    assert (await judged(add_pages)).passed


@pytest.mark.parametrize(
    ("change", "thing"),
    [
        ("ALTER TABLE documents ADD words integer", "column documents.words"),
        ("ALTER TABLE documents ALTER title SET DEFAULT ''", "column documents.title"),
        ("ALTER TABLE documents ALTER title DROP NOT NULL", "column documents.title"),
        ("ALTER TABLE documents ALTER title TYPE varchar(300)", "column documents.title"),
        ("COMMENT ON COLUMN documents.title IS 'as shown'", "column documents.title"),
        ("ALTER TABLE documents ALTER error SET STORAGE EXTERNAL", "column documents.error"),
        ("ALTER TABLE documents ADD CONSTRAINT long CHECK (title <> '') NOT VALID", "constraint documents.long"),
        ("CREATE INDEX ix ON documents (title) INCLUDE (source) WHERE status = 'ready'", "index ix"),
        ("CREATE TYPE mood AS ENUM ('good')", "type mood"),
        ("CREATE DOMAIN page AS integer CHECK (VALUE > 0)", "type page"),
        ("CREATE SEQUENCE pages", "sequence pages"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1", "function f()"),
        ("CREATE VIEW titles AS SELECT title FROM documents", "view titles"),
        ("ALTER TABLE documents ENABLE ROW LEVEL SECURITY", "table documents"),
        ("CREATE POLICY mine ON documents USING (true)", "policy documents.mine"),
        ("CREATE STATISTICS pair ON source, title FROM documents", "statistics pair"),
        ("CREATE SCHEMA archive", "schema archive"),
    ],
)
async def test_the_catalogue_shows_what_a_migration_has_changed(change: str, thing: str) -> None:
    async def look(attempt: Attempt, environment: Environment) -> None:
        before = await look_at_catalogue(attempt)
        assert not (await look_at_catalogue(attempt)).since(before)
        await attempt.sql(change)
        assert thing in [difference.thing for difference in (await look_at_catalogue(attempt)).since(before)]

    verdict = await judged(add_pages, look)
    assert verdict.passed, str(verdict)


async def test_an_index_whose_building_failed_is_not_the_one_that_was_there() -> None:
    async def look(attempt: Attempt, environment: Environment) -> None:
        await attempt.sql("CREATE INDEX ix ON documents (title)")
        before = await look_at_catalogue(attempt)
        await attempt.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix'::regclass")
        (difference,) = (await look_at_catalogue(attempt)).since(before)
        assert str(difference).endswith("(invalid)")

    verdict = await judged(add_pages, look)
    assert verdict.passed, str(verdict)


async def test_rows_are_compared_by_the_columns_that_were_there_before() -> None:
    async def look(attempt: Attempt, environment: Environment) -> None:
        before = await look_at_catalogue(attempt)
        rows = await rows_of(attempt, before)
        await attempt.sql("ALTER TABLE documents ADD words integer DEFAULT 3")
        assert await rows_of(attempt, before) == rows
        await attempt.sql("UPDATE users SET name = name || '.'")
        await attempt.sql("ALTER TABLE jobs DROP COLUMN kind")
        changed = {table for table, rows_then in rows.items() if (await rows_of(attempt, before))[table] != rows_then}
        assert changed == {"users", "jobs"}

    verdict = await judged(add_pages, look)
    assert verdict.passed, str(verdict)


class InSteps(Exercise):
    """Runs two methods of an answer as two revisions."""

    id, title, answer = "6.1", "In steps", "Migration"
    hints, why, follow_up = ("", ""), "", ""
    mistakes: ClassVar = {"method missing": "No `{method}`. | Two.", "not written": "`{method}`. | Two."}

    async def judge(self, attempt: Attempt) -> None:
        with environment_in_steps(attempt, "first", "second") as (environment, ids):
            await environment.upgrade(ids["first"])
            assert await environment.version() == ids["first"] < ids["second"] == environment.head
            await environment.upgrade(ids["second"])


async def test_each_step_is_a_revision_of_its_own_and_an_error_names_it() -> None:
    class Migration:
        def first(self) -> None:
            add_pages()

        def second(self) -> None:
            op.execute("SELECT 1 / 0")

    verdict = await judge_answer(InSteps(), Migration)
    assert verdict.finding.sentence.startswith("`second` raised D")


async def test_a_step_that_is_not_written_is_named() -> None:
    class Migration:
        def first(self) -> None:
            add_pages()

        def second(self) -> None:
            pass

    assert (await judge_answer(InSteps(), Migration)).finding.sentence == "`second`."
