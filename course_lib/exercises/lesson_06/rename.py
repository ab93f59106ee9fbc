"""6.7: a column gets another name while the old and the new version of the program run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises.lesson_06.scenes.catalogue import Catalogue, look_at_catalogue, rows_of
from course_lib.exercises.lesson_06.scenes.environment import Environment, environment_in_steps
from course_lib.exercises.lesson_06.scenes.gates import Gates, refusal
from course_lib.exercises.lesson_06.scenes.programs import ADD_CROWD, CROWD, Failed, Names, Program
from course_lib.judging.asking import while_another_writes
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import message_of
from course_lib.judging.staging import add_user, new_email, new_name

STEPS = ("expand", "backfill", "contract")
OLD, NEW = ("column", "users.name"), ("column", "users.display_name")
NAMES = f"SELECT id, name FROM users WHERE NOT {CROWD}"
REST = """
    SELECT md5(string_agg(CAST(to_jsonb(u) - 'name' - 'display_name' AS text), '' ORDER BY id)) FROM users AS u
    WHERE id IS DISTINCT FROM CAST(:without AS uuid)
"""
BUSY = """
    WITH added AS (INSERT INTO users (id, email, name) VALUES (:added, :email, :also)),
    used AS (UPDATE users SET tokens_used = tokens_used WHERE id = :held)
    UPDATE users SET name = :name WHERE id = :id
"""
ADD_BY_NEW = "INSERT INTO users (email, display_name) VALUES (:email, :name)"


class RenameName(Exercise):
    """Expand, write both, fill in, switch, contract: no step that one of the versions cannot live with."""

    id = "6.7"
    title = "A rename, with both versions running"
    answer = "RenameName"
    minutes = 18
    points = 3
    level = "senior"
    recipe = "migrated"
    hints: ClassVar = (
        "`ALTER TABLE … RENAME COLUMN` takes a millisecond, and from then on every INSERT of the old program fails. "
        "For a while there have to be two columns. Who keeps them equal, when each program knows one?",
        "A trigger BEFORE INSERT OR UPDATE FOR EACH ROW can change NEW. On INSERT one of the two is NULL; on UPDATE "
        "the one that IS DISTINCT FROM its value in OLD is the one that was meant. It runs before NOT NULL is checked.",
        "The backfill writes `display_name` where it is NULL, in one UPDATE from the row itself: a value that was read "
        "earlier may be an old one. `contract` takes away the trigger, its function and the column, and makes the one "
        "that stays NOT NULL.",
    )
    why = (
        "Between two versions of a program there is no moment at which all processes change over, so each step has to "
        "suit the version before and the one after. Until `contract` everything can be taken back by deploying the old "
        "program: no data is in one column alone. Contract last, when no old process is left: its inserts would fail, "
        "and no lock would show it."
    )
    follow_up = (
        "Instead of a trigger the program itself could write both columns, in a version between the old and the new. "
        "How many deployments does that take, and what about rows that two versions change at once?"
    )
    mistakes: ClassVar = {
        "method missing": "`RenameName` has no method `{method}`. | `expand`, `backfill` and `contract`.",
        "not written": "`{method}` of `RenameName` is not written yet. | Three steps are asked for.",
        "old program fails": "After `{step}` the old program's {kind} failed: {said}. "
        "| It runs until `contract`, and knows of no `display_name`.",
        "new program fails": "After `{step}` the new program's {kind} failed: {said}. "
        "| It knows of no `name`. What does the table ask of a row that it adds?",
        "not filled": "After `backfill` the new program found {count} user(s) without a name. "
        "| Those from before, and those that the old program has added since `expand`.",
        "old name": "After `backfill` the new program found {count} user(s) under another name than the old program "
        "had given them last. "
        "| Since `expand` the old program has written. Who carries that over?",
        "overwritten": "While `backfill` ran, the old program gave a user another name; in the end the {which} program "
        "found {stored!r}. "
        "| What was read before is old when it is written. Take the value in the UPDATE itself.",
        "lost in the old one": "While both ran, the old program found {stored!r} for a user whom the {writer} program "
        "had given another name. "
        "| Both directions, for INSERT and for UPDATE.",
        "lost in the new one": "While both ran, the new program found {stored!r} for a user whom the {writer} program "
        "had given another name. "
        "| Both directions, for INSERT and for UPDATE.",
        "names lost": "After `{step}` the {which} program found {count} user(s) under another name than before. "
        "| A migration gives nobody another name.",
        "old column": "After `contract` the table `users` still has the column `name`. | Nobody uses it any more.",
        "another column": "After `contract` `display_name` is {now}, and `name` was {was}. "
        "| What held for the one holds for the other.",
        "new program fails meanwhile": "While `contract` ran, the new program's INSERT failed: {said}. "
        "| Steps that are committed one by one are seen one by one.",
        "left over": "After `contract` the {what}. | A trigger, and also its function: neither goes with the column.",
        "something else": "After `contract` the {what}. | A rename changes the name of a column.",
        "rows changed": "`{step}` changed rows of `{table}`. | Names are all that it is about.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(ADD_CROWD)
        before, names = await look_at_catalogue(attempt), await _names(attempt)
        old, new = Program(attempt, "old", "name", names), Program(attempt, "new", "display_name", names)
        with environment_in_steps(attempt, *STEPS) as (environment, ids):
            people = [await add_user(attempt) for _ in range(6)]
            names |= await _names(attempt)
            async with self._step(attempt, before, "expand"):
                await environment.upgrade(ids["expand"])
            await self._expand_is_over(attempt, old, names, people)
            async with self._step(attempt, before, "backfill", without=(added := uuid4())):
                await self._fill_in(attempt, environment, ids["backfill"], names, people, added)
            await self._backfill_is_over(attempt, old, new, names, people)
            await self._both_run(attempt, old, new, names, people)
            async with self._step(attempt, before, "contract"):
                refused = await self._contract(attempt, environment, ids["contract"])
            await self._contract_is_over(attempt, new, names, before)
            said = message_of(refused).rstrip(".") if refused else ""
            attempt.expect(refused is None, "new program fails meanwhile", said=said)

    @asynccontextmanager
    async def _step(
        self, attempt: Attempt, before: Catalogue, step: str, without: UUID | None = None
    ) -> AsyncIterator[None]:
        """One migration, which leaves alone what is not a name; ``without`` a user that a program adds meanwhile."""
        users, rows = await attempt.value(REST, without=without), await rows_of(attempt, before)
        yield
        others = await rows_of(attempt, before)
        changed = [table for table in rows if table != "users" and others[table] != rows[table]]
        same = await attempt.value(REST, without=without) == users
        attempt.expect(same and not changed, "rows changed", step=step, table=changed[0] if changed else "users")

    @asynccontextmanager
    async def _running(self, attempt: Attempt, program: Program, step: str) -> AsyncIterator[None]:
        try:
            yield
        except Failed as failed:
            raise attempt.wrong(
                f"{program.which} program fails", step=step, kind=failed.kind, said=failed.said
            ) from failed

    async def _expect_names(self, attempt: Attempt, program: Program, step: str, names: Names) -> None:
        async with self._running(attempt, program, step):
            wrong = _different(await program.read(), names)
        attempt.expect(not wrong, "names lost", step=step, which=program.which, count=len(wrong))

    async def _expand_is_over(self, attempt: Attempt, old: Program, names: Names, people: list[UUID]) -> None:
        """The old program goes on as before, and is the only one that runs."""
        await self._expect_names(attempt, old, "expand", names)
        async with self._running(attempt, old, "expand"):
            await old.write()
            await old.rename(people[1])
            await old.rename_many(*people[2:4])
        await self._expect_names(attempt, old, "expand", names)

    async def _fill_in(
        self, attempt: Attempt, environment: Environment, revision: str, names: Names, people: list[UUID], added: UUID
    ) -> None:
        """The old program has renamed a user, changed another one and added a third, and commits in the middle of it.

        That is, when the backfill stands at one of the rows; the statement that does so does not see the third.
        """
        busy, *_, held = people
        names[busy], names[added] = new_name(), new_name()
        values = {"name": names[busy], "id": busy, "held": held}
        values |= {"added": added, "email": new_email(), "also": names[added]}
        await while_another_writes(attempt, BUSY, values, lambda: environment.upgrade(revision))

    async def _contract(self, attempt: Attempt, environment: Environment, revision: str) -> DBAPIError | None:
        """Why an INSERT of the new program failed between its transactions; None where none did."""
        refused: list[DBAPIError | None] = []

        async def visit(session: AsyncSession) -> None:
            values = {"email": new_email(), "name": new_name()}
            refused.append(await refusal(session, ADD_BY_NEW, keep=False, **values))

        await Gates(attempt, "users", visit).let_through(lambda: environment.upgrade(revision))
        return next((error for error in refused if error is not None), None)

    async def _backfill_is_over(
        self, attempt: Attempt, old: Program, new: Program, names: Names, people: list[UUID]
    ) -> None:
        found = []
        for program in (old, new):
            async with self._running(attempt, program, "backfill"):
                found.append(await program.read())
        others = {id: name for id, name in names.items() if id != people[0]}  # of whom nobody wrote meanwhile
        lost = _different(found[0], others)
        attempt.expect(not lost, "names lost", step="backfill", which="old", count=len(lost))
        empty = [id for id in others if found[1].get(id) is None]
        attempt.expect(not empty, "not filled", count=len(empty))
        other = _different(found[1], others)
        attempt.expect(not other, "old name", count=len(other))
        for program, mistake in ((old, "names lost"), (new, "not filled")):
            async with self._running(attempt, program, "backfill"):
                count = await program.read_crowd()
            attempt.expect(not count, mistake, step="backfill", which=program.which, count=count)
        for program, seen in zip((old, new), found, strict=True):
            stored = seen.get(people[0])
            attempt.expect(stored == names[people[0]], "overwritten", which=program.which, stored=stored)

    async def _both_run(self, attempt: Attempt, old: Program, new: Program, names: Names, people: list[UUID]) -> None:
        for program in (old, new, old, new):
            async with self._running(attempt, program, "backfill"):
                await program.write()
                await self._expect_equal(attempt, old, new, names, program)
                for person in people:
                    await program.rename(person)
                await program.rename_many(*people[3:])
            await self._expect_equal(attempt, old, new, names, program)
        first = names[people[0]]
        for program, name in ((new, new_name()), (old, first), (new, first), (old, ""), (new, "x"), (old, "")):
            async with self._running(attempt, program, "backfill"):
                await program.rename(people[0], name)
            await self._expect_equal(attempt, old, new, names, program)

    async def _expect_equal(self, attempt: Attempt, old: Program, new: Program, names: Names, writer: Program) -> None:
        for program in (old, new):
            async with self._running(attempt, program, "backfill"):
                found = await program.read()
            stored = next((found.get(id) for id in _different(found, names)), None)
            right = not _different(found, names)
            attempt.expect(right, f"lost in the {program.which} one", stored=stored, writer=writer.which)

    async def _contract_is_over(self, attempt: Attempt, new: Program, names: Names, before: Catalogue) -> None:
        """The old program is gone."""
        await self._expect_names(attempt, new, "contract", names)
        async with self._running(attempt, new, "contract"):
            await new.write()
        await self._expect_names(attempt, new, "contract", names)
        after = await look_at_catalogue(attempt)
        attempt.expect(OLD not in after, "old column")
        now, was = after.get(*NEW), before.get(*OLD)
        attempt.expect(now == was, "another column", now=now, was=was)
        for difference in after.since(before, without=[OLD, NEW]):
            mistake = "left over" if difference.was is None else "something else"
            raise attempt.wrong(mistake, what=str(difference))


async def _names(attempt: Attempt) -> Names:
    return dict(map(tuple, await attempt.sql(NAMES)))


def _different(found: dict[UUID, Any], names: Names) -> list[UUID]:
    return [id for id, name in names.items() if found.get(id) != name]
