"""6.4: NOT NULL on a table that is written to."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises.lesson_06.scenes.catalogue import Catalogue, look_at_catalogue, rows_of
from course_lib.exercises.lesson_06.scenes.environment import Environment, environment_of
from course_lib.exercises.lesson_06.scenes.gates import Gates, Hold, Interrupted, Step, refusal
from course_lib.judging.asking import NOT_NULL, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import kind_of, message_of
from course_lib.judging.staging import add_user

MOST = 1_000  # rows that one transaction may change, as the statement says
ROWS = 1_400
COLUMN = ("column", "messages.model")
IS_CHECKED = re.compile(r"CHECK (?!.* OR ).*\bmodel IS NOT NULL\b(?!.*\(not validated\))")

CONVERSATION = "INSERT INTO conversations (user_id, title) VALUES (:user, 'A long one') RETURNING id"
FILL = """
    INSERT INTO messages (conversation_id, seq, role, content, model)
    SELECT CAST(:conversation AS uuid), n, 'user', 'Message ' || n,
        CASE WHEN n % 40 = 0 THEN (ARRAY['model-1', '', ' '])[1 + n % 3] END
    FROM generate_series(1, :rows) AS n
"""
AS_IT_WAS = ("CREATE SCHEMA earlier", "CREATE TABLE earlier.messages AS SELECT * FROM messages")
WITNESS = """
    DO $do$
    BEGIN
        CREATE TABLE earlier.filled (xid xid8, rows bigint, mode text);
        CREATE FUNCTION earlier.write_down() RETURNS trigger LANGUAGE plpgsql AS $f$
        BEGIN
            INSERT INTO earlier.filled SELECT pg_current_xact_id(),
                (SELECT count(*) FROM became JOIN was USING (id) WHERE became.model IS DISTINCT FROM was.model),
                (SELECT max(mode) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'messages'::regclass
                    AND mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock'));
            RETURN NULL;
        END $f$;
        CREATE TRIGGER write_down AFTER UPDATE ON messages REFERENCING OLD TABLE AS was NEW TABLE AS became
            EXECUTE FUNCTION earlier.write_down();
    END $do$
"""
FILLED = """
    SELECT max(mode), sum(rows)::int AS rows FROM earlier.filled GROUP BY xid HAVING sum(rows) > 0
    ORDER BY max(mode) NULLS LAST, rows DESC
"""
COMPARED = """
    SELECT count(*) FILTER (WHERE m.id IS NULL OR to_jsonb(m) - 'model' <> to_jsonb(t) - 'model') AS changed,
        count(*) FILTER (WHERE t.model IS NOT NULL AND m.model IS DISTINCT FROM t.model) AS lost,
        count(*) FILTER (WHERE t.model IS NULL AND m.model <> 'unknown') AS wrong,
        max(m.model) FILTER (WHERE t.model IS NULL AND m.model <> 'unknown') AS stored
    FROM earlier.messages AS t LEFT JOIN messages AS m USING (id)
"""
HOLD = """
    DO $$ BEGIN
        LOCK TABLE messages IN ROW EXCLUSIVE MODE;
        UPDATE messages SET content = content
        WHERE conversation_id = '{conversation}' AND seq = {last} AND model IS NULL;
    END $$
"""
AGAIN = "UPDATE messages SET model = NULL WHERE seq IN (7, 1 + CAST(:rows AS int) / 3)"
PROGRESS = "SELECT coalesce(sum(rows), 0)::int FROM earlier.filled"
HALF_WAY = "SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'messages'::regclass AND NOT convalidated)"
NULLS = "SELECT count(*) FROM messages WHERE model IS NULL"
FILE = "SELECT pg_relation_filenode('messages')"

AS_NOW = """
    INSERT INTO messages (conversation_id, seq, role, content)
    SELECT CAST(:conversation AS uuid), coalesce(max(seq), 0) + 1, 'user', 'Written meanwhile' FROM messages
    WHERE conversation_id = CAST(:conversation AS uuid)
"""
EDIT = """
    UPDATE messages SET content = content WHERE id IN (
        SELECT id FROM messages WHERE model IS NULL AND conversation_id = CAST(:conversation AS uuid)
            AND seq IN (1, CAST(:rows AS int) / 2 + 1)
        FOR UPDATE SKIP LOCKED
    )
"""


class RequireModel(Exercise):
    """A promise about every row, made in steps that nobody has to wait for."""

    id = "6.4"
    title = "NOT NULL on a busy table"
    answer = "RequireModel"
    minutes = 20
    points = 3
    level = "senior"
    hints: ClassVar = (
        "Four steps, and each has to be committed before the next: what stops new NULLs from coming, what fills the "
        "old ones, what refuses NULL, and what makes sure that there is none. Which of them needs which lock?",
        "The revision's own transaction would hold the strongest lock to its end. Inside `with "
        "op.get_context().autocommit_block():` every statement is a transaction of its own.",
        "`ADD CONSTRAINT … NOT NULL model NOT VALID` looks at no old row. `VALIDATE CONSTRAINT` looks at all of them, "
        "and lets people write meanwhile: SHARE UPDATE EXCLUSIVE. Before that: `UPDATE … WHERE id IN (SELECT id … "
        "WHERE model IS NULL LIMIT 500)`, until its `rowcount` is 0.",
    )
    why = (
        "Each step takes a lock for as long as it works, and those that look at rows take a weak one. The default "
        "comes first, or the program writes new NULLs behind the backfill's back. The constraint comes after it: "
        "NOT VALID spares old rows a look, but whoever changes such a row is refused, whatever it is that they change."
    )
    follow_up = (
        "The backfill was interrupted after half of the rows. In which state is the database, what does Alembic say of "
        "it, and what does the next `alembic upgrade head` do?"
    )
    seconds = 12.0
    mistakes: ClassVar = {
        "method missing": "`RequireModel` has no method `{method}`. | Two are asked for: `upgrade` and `downgrade`.",
        "not written": "`{method}` of `RequireModel` is not written yet. | The way back is short here.",
        "error swallowed": "One of its statements was cancelled, and Alembic took the revision for done, although the "
        "column still takes NULL. | Let the error go on, or try again: nobody looks at a revision that is recorded.",
        "passed over": "While somebody held a message without a model, `upgrade` went on to the constraint without it. "
        "| SKIP LOCKED finds no row where all that are left are held. Wait for them.",
        "not again": "A statement of `upgrade` was cancelled while it waited for its lock; run once more, it raised "
        "{error}: {said}. | What had been committed by then is there. Look before you add, or drop it IF EXISTS.",
        "left behind": "`upgrade` raised {error}: {said}. "
        "| The program goes on writing rows without a model while you fill the old ones. What stops that first?",
        "writer refused": "While it ran, the program that runs now sent {what}, which failed with {error}: {said}. "
        "| In which order do default, backfill and constraint go? An UPDATE checks the whole row again.",
        "nulls left": "After `upgrade` {count} message(s) have no model. "
        "| Fill until there is nothing left to fill. And what sees to it that no new ones come?",
        "wrong value": "After `upgrade` {count} message(s) that had no model have {stored!r}. | `unknown`",
        "value lost": "After `upgrade` {count} message(s) do not have the model that they had. "
        "| Fill only `WHERE model IS NULL`.",
        "nullable": "After `upgrade` the column takes NULL. | The column itself is to be NOT NULL.",
        "not validated": "After `upgrade` the column is {found}: old rows were never looked at. "
        "| `ALTER TABLE … VALIDATE CONSTRAINT …`",
        "wrong default": "After `upgrade` the column is {found}. | Its default stays, for the program that runs now.",
        "something else": "After `upgrade` the {what}. | Only the column changes.",
        "rows changed": "After `{method}` {count} row(s) of `{table}` are not as they were. "
        "| Only a model is filled in.",
        "rewritten": "`upgrade` wrote the whole table anew, and nobody could read it meanwhile. "
        "| A change of the column's type with USING does that, and VACUUM FULL, and a few others.",
        "filled under a lock": "{count} rows were filled in a transaction that held {mode} on `messages`. "
        "| A lock stays until the end of its transaction. Commit between the steps.",
        "too many at once": "One transaction filled {count:,} rows, and held all of them locked until its end. "
        "| A few hundred at a time, each time with a commit.",
        "looked under a lock": "One transaction had {mode} on `messages`, and looked at every row before it let go of "
        "it. | Add the constraint NOT VALID, commit, and then VALIDATE.",
        "no way back": "`downgrade` raised {error}: {said}. | DROP NOT NULL, DROP DEFAULT.",
        "still there": "After `upgrade` and `downgrade` the {what}. | What `upgrade` made has to go, but for values.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        long, others = [await attempt.value(CONVERSATION, user=await add_user(attempt)) for _ in range(2)]
        await attempt.sql("ALTER TABLE messages ADD model text")
        await attempt.sql(FILL, conversation=str(long), rows=ROWS)
        for statement in (*AS_IT_WAS, WITNESS):
            await attempt.sql(statement)
        before, file = await look_at_catalogue(attempt), await attempt.value(FILE)
        rows = await rows_of(attempt, before)

        def expect_edit(error: DBAPIError | None) -> None:
            attempt.expect(error is None or not gates.passed_over, "passed over")
            _expect_no_refusal(attempt, "an UPDATE of an older message", error)

        async def visit(session: AsyncSession) -> None:
            """The program that runs now writes a message, and changes old ones."""
            expect_edit(await refusal(session, EDIT, keep=False, conversation=str(long), rows=ROWS))
            post = await refusal(session, AS_NOW, conversation=str(others))
            _expect_no_refusal(attempt, "an INSERT that does not name the column", post)

        hold = Hold(HOLD.format(conversation=long, last=ROWS - 1), PROGRESS, expect_edit)
        gates = Gates(attempt, "messages", visit, hold)
        with environment_of(attempt) as environment:
            await self._fails_aloud(attempt, environment)
            await self._goes_up(attempt, environment, gates)
            await self._look(attempt, before, rows)
            attempt.expect(await attempt.value(FILE) == file, "rewritten")
            await self._expect_small_steps(attempt, gates.steps)
            await self._comes_back(attempt, environment, before)
            await self._is_run_again(attempt, environment, before)

    async def _goes_up(self, attempt: Attempt, environment: Environment, gates: Gates) -> None:
        try:
            with calling_it(attempt, "left behind", saying=NOT_NULL):
                await gates.let_through(environment.upgrade)
        except Wrong as wrong:
            attempt.expect(wrong.mistake != "left behind" or not gates.passed_over, "passed over")
            raise

    async def _fails_aloud(self, attempt: Attempt, environment: Environment) -> None:
        """A statement that is cancelled is tried again, or the revision is not taken for done."""
        if not await self._is_interrupted(attempt, Interrupted(attempt, "messages"), environment):
            with calling_it(attempt, "no way back"):
                await environment.downgrade()

    async def _is_run_again(self, attempt: Attempt, environment: Environment, before: Catalogue) -> None:
        """Interrupted where something of it is in the catalogue already, and once more."""
        await attempt.sql(AGAIN, rows=ROWS)
        if await self._is_interrupted(attempt, Interrupted(attempt, "messages", HALF_WAY), environment):
            with calling_it(attempt, "not again"):
                await environment.upgrade()
        self._expect_column(attempt, await look_at_catalogue(attempt), before)

    async def _is_interrupted(self, attempt: Attempt, interrupted: Interrupted, environment: Environment) -> bool:
        """Whether it raised; if not, it has done its work."""
        await interrupted.run(environment.upgrade)
        if not interrupted.raised:
            done = _is_valid(await look_at_catalogue(attempt))
            attempt.expect(done or not interrupted.cancelled, "error swallowed")
        return interrupted.raised

    async def _look(self, attempt: Attempt, before: Catalogue, rows: dict[str, str]) -> None:
        now = await look_at_catalogue(attempt)
        found = now.get(*COLUMN) or "gone"
        changed, lost, wrong, stored = (await attempt.sql(COMPARED))[0] if found != "gone" else (0, 0, 0, "")
        nulls = await attempt.value(NULLS) if found != "gone" else 0
        attempt.expect(not lost, "value lost", count=lost)
        attempt.expect(not nulls, "nulls left", count=nulls)
        attempt.expect(not wrong, "wrong value", count=wrong, stored=stored)
        self._expect_column(attempt, now, before)
        attempt.expect(not changed, "rows changed", method="upgrade", count=changed, table="messages")
        await self._expect_rows(attempt, "upgrade", before, rows)

    def _expect_column(self, attempt: Attempt, now: Catalogue, before: Catalogue) -> None:
        found = now.get(*COLUMN) or "gone"
        attempt.expect("NOT NULL" in found, "nullable")
        attempt.expect("NOT VALID" not in found, "not validated", found=found)
        attempt.expect(found == "text NOT NULL DEFAULT 'unknown'::text", "wrong default", found=found)
        differences = now.since(before, without=[COLUMN])
        attempt.expect(not differences, "something else", what=str(differences[0]) if differences else "")

    async def _expect_rows(self, attempt: Attempt, method: str, before: Catalogue, rows: dict[str, str]) -> None:
        """Of the other tables; ``messages`` and what the judge writes down change."""
        for table, print_ in (await rows_of(attempt, before)).items():
            same = print_ == rows[table] or table in ("messages", "earlier.filled")
            attempt.expect(same, "rows changed", method=method, count="some", table=table)

    async def _expect_small_steps(self, attempt: Attempt, steps: list[Step]) -> None:
        filled = await attempt.sql(FILLED)
        mode, count = filled[0] if filled else (None, 0)
        attempt.expect(mode is None, "filled under a lock", count=count, mode=mode)
        attempt.expect(count <= MOST, "too many at once", count=count)
        for step in steps:
            attempt.expect(not (step.blocks and _looked(step)), "looked under a lock", mode=step.mode)

    async def _comes_back(self, attempt: Attempt, environment: Environment, before: Catalogue) -> None:
        rows = await rows_of(attempt, before)
        with calling_it(attempt, "no way back"):
            await environment.downgrade()
        for difference in (await look_at_catalogue(attempt)).since(before):
            raise attempt.wrong("still there", what=str(difference))
        after = await rows_of(attempt, before)
        changed = [table for table in rows if rows[table] != after[table]]
        attempt.expect(
            not changed, "rows changed", method="downgrade", count="some", table=changed[0] if changed else ""
        )


def _expect_no_refusal(attempt: Attempt, what: str, error: Any) -> None:
    if error is not None:
        said = message_of(error).rstrip(".")
        raise attempt.wrong("writer refused", what=what, error=kind_of(error.orig or error), said=said) from error


def _looked(step: Step) -> bool:
    """Whether all rows had to be looked at in it: for the column, or for a CHECK that says the same."""
    promised = _is_valid(step.after) and not (_is_valid(step.before) or _is_checked(step.before))
    return promised or (_is_checked(step.after) and not _is_checked(step.before))


def _is_valid(catalogue: Catalogue) -> bool:
    column = catalogue.get(*COLUMN) or ""
    return "NOT NULL" in column and "NOT VALID" not in column


def _is_checked(catalogue: Catalogue) -> bool:
    return any(
        kind == "constraint" and name.startswith("messages.") and IS_CHECKED.search(definition)
        for (kind, name), definition in catalogue.things.items()
    )
