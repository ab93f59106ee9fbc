"""M8: a foreign key that is added in one go, and a queue behind it."""

from __future__ import annotations

import asyncio
import inspect
import re
from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from course_lib.judging.asking import BLOCKED, NOT_AVAILABLE, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import kind_of, message_of
from course_lib.judging.races import Intruder, listening
from course_lib.judging.staging import add_user, new_email
from course_lib.judging.trouble import QUERY_CANCELED, sqlstate_of
from course_lib.judging.turns import Race, run_race

NO_SUCH_USER, PATIENCE, LOOKS = "23503", 0.8, 100  # SQLSTATE; seconds and looks, for it to stand at a lock
WAITS = 1.2  # seconds that somebody signing up is ready to wait; the task says half of one
TRIES = 4
VISITS = 12  # of the product, which writes a value that refers to nobody each time
COLUMN = "ALTER TABLE documents ADD reviewed_by uuid"
ADD = """
    INSERT INTO documents (user_id, source, title, reviewed_by)
    SELECT :user, CAST(:mark AS text) || n, 'Draft', CASE n % 3 WHEN 0 THEN :user WHEN 1 THEN gen_random_uuid() END
    FROM generate_series(1, 30) AS n
"""
VISIT = "INSERT INTO documents (user_id, source, title, reviewed_by) VALUES (:user, :mark, 'Draft', :nobody)"
SIGN_UP = "INSERT INTO users (email, name) VALUES (:email, 'New')"
KEY = """
    SELECT pg_get_constraintdef(c.oid) AS definition, c.convalidated AS valid, EXISTS (
        SELECT FROM pg_trigger AS t WHERE t.tgconstraint = c.oid AND t.xmin = c.xmin
    ) AS in_one_go
    FROM pg_constraint AS c WHERE c.conrelid = 'documents'::regclass AND c.conname = 'fk_documents_reviewed_by'
"""
"""VALIDATE makes the constraint's row anew, and not those of its triggers: their xmin tells when it was added."""
RIGHT = "FOREIGN KEY (reviewed_by) REFERENCES users(id) ON DELETE SET NULL"
DROP = "ALTER TABLE documents DROP CONSTRAINT IF EXISTS fk_documents_reviewed_by"
HALF_WAY = f"ALTER TABLE documents ADD CONSTRAINT fk_documents_reviewed_by {RIGHT} NOT VALID"
TO_CLEAN = "source LIKE %s AND reviewed_by IS NOT NULL AND NOT EXISTS (SELECT FROM users WHERE users.id = reviewed_by)"
HOLD = f"""
    UPDATE documents SET title = 'Slow' WHERE id = (
        SELECT id FROM documents WHERE {TO_CLEAN} ORDER BY ctid {{order}} LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) RETURNING id
"""
HELD = """
    WITH free AS (SELECT id FROM documents WHERE source LIKE :these FOR NO KEY UPDATE SKIP LOCKED)
    SELECT id FROM documents WHERE source LIKE :these AND id <> :slow AND id NOT IN (SELECT id FROM free) LIMIT 1
"""
TOUCH = "UPDATE documents SET title = 'Corrected' WHERE id = :id"
CLEANS = re.compile(
    r"\bUPDATE\s+(ONLY\s+)?(public\.)?\"?documents\b|\bdocuments\b.*\bFOR\s+(NO\s+KEY\s+)?UPDATE",
    re.IGNORECASE | re.DOTALL,
)
WITNESS = """
    DO $do$
    BEGIN
        CREATE SCHEMA judged;
        CREATE TABLE judged.updates (rows bigint, mode text, relation text);
        CREATE FUNCTION judged.write_down() RETURNS trigger LANGUAGE plpgsql AS $f$
        BEGIN
            INSERT INTO judged.updates
            SELECT (SELECT count(*) FROM was), mode, relation::regclass FROM pg_locks
            WHERE pid = pg_backend_pid() AND relation IN ('documents'::regclass, 'users'::regclass)
                AND mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock');
            RETURN NULL;
        END $f$;
        CREATE TRIGGER write_down AFTER UPDATE ON documents REFERENCING OLD TABLE AS was
            EXECUTE FUNCTION judged.write_down();
    END $do$
"""
REST = """
    SELECT md5(string_agg((to_jsonb(d) - 'reviewed_by' - 'updated_at')::text, '' ORDER BY id)) AS rest,
        count(*) FILTER (WHERE EXISTS (SELECT FROM users WHERE users.id = reviewed_by)) AS reviewed
    FROM documents AS d
"""


class ReviewerKey(Drill):
    """NOT VALID first, then what is to be mended, then VALIDATE; and nobody queues behind it."""

    id = "M8"
    title = "Sign-ups stopped for a minute"
    answer = "add_reviewer_key"
    minutes = 18
    points = 2
    level = "mid"
    topics: ClassVar = ("migrations", "postgres", "operations")
    faults: ClassVar = ("sign-ups wait", "left behind", "looked under a lock")
    hints: ClassVar = (
        "Which lock does ADD FOREIGN KEY take, and on which tables? Who stands behind a statement that waits for such "
        "a lock?",
        "SHARE ROW EXCLUSIVE on both tables. `lock_timeout` limits how long it waits for it, and so how long others "
        "wait behind it. What it does under the lock is the other half: which variant looks at no row?",
        "Three transactions: ADD CONSTRAINT … NOT VALID, under a `lock_timeout` and only where it is not there yet; "
        "then the UPDATE, as no new values come now that refer to nobody, under a limit of its own, since it keeps the "
        "rows it has changed while it waits for the next; then VALIDATE CONSTRAINT.",
    )
    why = (
        "A lock is waited for in a queue: behind a statement that wants SHARE ROW EXCLUSIVE on `users` stands "
        "everybody who signs up, for as long as somebody else's transaction takes. `lock_timeout` gives up instead. "
        "NOT VALID keeps the lock short, and comes before the clean-up, since only the key stops new values. The "
        "clean-up waits for rows, and holds others meanwhile, so it needs a limit as well. VALIDATE looks at all rows "
        "under a lock that lets others write, if it is in a transaction of its own."
    )
    follow_up = "Somebody deletes a user now. What does ON DELETE SET NULL look for in `documents`, and how long?"
    mistakes: ClassVar = {
        "sign-ups wait": "While another transaction had changed a user, it stood at a lock, and somebody who signed up "
        "had waited behind it for {seconds} seconds. | That is what was reported. How long may it wait for its lock?",
        "uploads wait": "While another transaction had changed a user, it stood at a lock, and somebody who uploaded a "
        "document had waited behind it for {seconds} seconds. | How long may it wait for its lock?",
        "rows held": "While another transaction had changed one document, the clean-up stood at that row, and somebody "
        "who corrected a document that it had updated before had waited for {seconds} seconds. "
        "| An UPDATE keeps each row that it has changed until its transaction ends. How long may it wait for the next?",
        "never done": "Nobody was in its way any more, and after {tries} more calls it raised {error}: {said}. "
        "| Called again, it goes on where it was.",
        "left behind": "While it ran, the product wrote a document reviewed by nobody it knows, and it raised {error}: "
        "{said}. | What stops new values of that kind, and what comes before it?",
        "not there": "When it was over, there was no `fk_documents_reviewed_by`. | On `documents`, committed.",
        "wrong key": "When it was over, the key was {found}. | To users (id), ON DELETE SET NULL.",
        "not valid": "When it was over, the key was not valid. | `ALTER TABLE … VALIDATE CONSTRAINT …`",
        "looked under a lock": "The key was added and all rows were looked at in one transaction. "
        "| Its lock keeps writers out until it ends. NOT VALID, commit, and then VALIDATE.",
        "cleaned under a lock": "{rows} rows were updated in a transaction that held {mode} on `{table}`. "
        "| A lock stays until the end of its transaction. Commit between the steps.",
        "values lost": "{count} documents lost a reviewer who is there, or a document. "
        "| Only values that refer to nobody become NULL.",
        "changed": "Documents have changed in something else than `reviewed_by`. | Only that column.",
        "not again": "{when}, and it raised {error}: {said}. | Look what is there before you add.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(COLUMN)
        await attempt.sql(WITNESS)
        user = await add_user(attempt)
        await self._behind_a_slow_transaction(attempt, user)
        await attempt.sql(DROP)
        await self._among_writers(attempt, user)
        for order in ("ASC", "DESC"):
            await attempt.sql(DROP)
            await self._cleans_behind_a_slow_transaction(attempt, user, order)
        for when, statement in (("It was done", "SELECT 1"), ("A call had been ended half-way", f"{DROP}; {HALF_WAY}")):
            for one in statement.split("; "):
                await attempt.sql(one)
            with calling_it(attempt, "not again", DBAPIError, when=when):
                await attempt.call(attempt.engine)
            await self._look(attempt)

    async def _behind_a_slow_transaction(self, attempt: Attempt, user: UUID) -> None:
        await attempt.sql(ADD, user=user, mark=token_hex(4))

        async def scene() -> BaseException | None:
            async with attempt.judge_session() as slow:
                await slow.execute(text("UPDATE users SET name = 'Slow' WHERE id = :id"), {"id": user})
                running = asyncio.ensure_future(_run(attempt))
                try:
                    await _until_it_stands(attempt, running)
                    await self._visit(attempt, "sign-ups wait", SIGN_UP, email=new_email())
                    new = {"user": user, "mark": token_hex(6), "nobody": None}
                    await self._visit(attempt, "uploads wait", VISIT, **new)
                    await slow.rollback()
                    await asyncio.wait({running})
                finally:
                    running.cancel()
            return running.exception()

        await self._come_to_its_end(attempt, await self._call(attempt, scene))

    async def _cleans_behind_a_slow_transaction(self, attempt: Attempt, user: UUID, order: str) -> None:
        """Which has changed a row that is to be cleaned, when the clean-up begins: the first or the last of the table.

        Whichever the UPDATE comes to at first, there it may stand: it holds no other row yet.
        """
        mark, slow = token_hex(4), None
        await attempt.sql(ADD, user=user, mark=mark)

        def hold(_: Any, __: Any, statement: str, *___: Any) -> None:
            nonlocal slow
            if slow is None and CLEANS.search(statement):
                slow = other.keep_open(HOLD.format(order=order), f"{mark}%")

        async def scene() -> BaseException | None:
            running = asyncio.ensure_future(_run(attempt))
            try:
                await _until_it_stands(attempt, running)
                held = await attempt.value(HELD, these=f"{mark}%", slow=slow) if slow else None
                if held:
                    await self._visit(attempt, "rows held", TOUCH, id=held)
                other.roll_back()
                await asyncio.wait({running})
            finally:
                running.cancel()
            return running.exception()

        with Intruder(attempt) as other, listening(attempt, "before_cursor_execute", hold):
            error = await self._call(attempt, scene)
        await self._come_to_its_end(attempt, error)

    async def _come_to_its_end(self, attempt: Attempt, error: BaseException | None) -> None:
        """Nobody is in its way any more; it is called again where it has raised that it did not get its lock."""
        for tries in range(TRIES):
            if error is None:
                return
            attempt.expect(tries < TRIES - 1, "never done", tries=tries, error=kind_of(error), said=message_of(error))
            if sqlstate_of(error) not in (NOT_AVAILABLE, QUERY_CANCELED):
                said = {"error": kind_of(error), "said": message_of(error).rstrip(".")}
                again = attempt.wrong("not again", when="A call had given up at a lock", **said)
                raise (again if tries else attempt.raised(self.answer, error)) from error
            error = await self._call(attempt, lambda: _outcome(attempt))

    async def _call(self, attempt: Attempt, scene: Any) -> Any:
        async def play() -> Any:
            return await scene()

        play.__name__ = self.answer  # the name that a message gives
        return await attempt.call(function=play)

    async def _visit(self, attempt: Attempt, mistake: str, statement: str, **values: Any) -> None:
        """The product writes a row, and is ready to wait for a while."""
        async with attempt.judge_session() as visitor:
            await visitor.execute(text(f"SET LOCAL lock_timeout = '{WAITS}s'"))
            try:
                await visitor.execute(text(statement), values)
            except DBAPIError as error:
                attempt.expect(sqlstate_of(error) != NOT_AVAILABLE, mistake, seconds=WAITS)
                raise
            await visitor.commit()

    async def _among_writers(self, attempt: Attempt, user: UUID) -> None:
        await attempt.sql(ADD, user=user, mark=token_hex(4))
        await attempt.sql("TRUNCATE judged.updates")
        before = (await attempt.sql(REST))[0]
        visitors: list[str] = []

        async def script(race: Race) -> None:
            call = race.start(attempt.answer, attempt.engine)
            while not call.ended:
                if not await race.settle():
                    race.run_freely()
                    break
                if len(visitors) < VISITS and not await attempt.sql(KEY):
                    await _write(attempt, user, visitors)
                call.go_on()
            await race.results()

        with calling_it(attempt, "left behind", DBAPIError, saying=NO_SUCH_USER):
            await run_race(attempt, script)
        await self._look(attempt)
        _, _, in_one_go = (await attempt.sql(KEY))[0]
        attempt.expect(not in_one_go, "looked under a lock")
        under = await attempt.sql("SELECT rows, mode, relation FROM judged.updates WHERE rows > 0 LIMIT 1")
        for rows, mode, table in under:
            raise attempt.wrong("cleaned under a lock", rows=rows, mode=mode, table=table)
        await attempt.sql("DELETE FROM documents WHERE source = ANY(CAST(:marks AS text[]))", marks=visitors)
        rest, reviewed = (await attempt.sql(REST))[0]
        attempt.expect(reviewed == before[1], "values lost", count=before[1] - reviewed)
        attempt.expect(rest == before[0], "changed")

    async def _look(self, attempt: Attempt) -> None:
        found = await attempt.sql(KEY)
        attempt.expect(bool(found), "not there")
        definition, valid, _ = found[0]
        attempt.expect(definition.removesuffix(" NOT VALID") == RIGHT, "wrong key", found=definition)
        attempt.expect(valid, "not valid")


async def _run(attempt: Attempt) -> None:
    said = attempt.answer(attempt.engine)
    if inspect.isawaitable(said):
        await said


async def _outcome(attempt: Attempt) -> BaseException | None:
    try:
        await _run(attempt)
    except DBAPIError as error:
        return error
    return None


async def _until_it_stands(attempt: Attempt, running: asyncio.Future[None]) -> None:
    """At a lock, or has come to its end; or it never will."""
    clock, looks = asyncio.get_running_loop().time, 0
    start = clock()
    while not running.done() and (clock() - start < PATIENCE or looks < LOOKS) and not await attempt.value(BLOCKED):
        looks += 1
        await asyncio.wait({running}, timeout=0.004)


async def _write(attempt: Attempt, user: UUID, visitors: list[str]) -> None:
    """The product uploads a document, reviewed by somebody who is gone, unless a lock is in the way."""
    mark = token_hex(6)
    async with attempt.judge_session() as visitor:
        await visitor.execute(text("SET LOCAL lock_timeout = '30ms'"))
        try:
            await visitor.execute(text(VISIT), {"user": user, "mark": mark, "nobody": uuid4()})
            await visitor.commit()
            visitors.append(mark)
        except DBAPIError as error:
            if sqlstate_of(error) not in (NOT_AVAILABLE, NO_SUCH_USER):
                raise
