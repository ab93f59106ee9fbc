"""10.4: reads from a replica that never miss what their reader has written."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, ClassVar

from sqlalchemy import Row, select, update

from course_lib.db import make_engine
from course_lib.exercises.lesson_10.scenes.pair import POOL, Pair, standby_pair
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.methods import look_for_methods
from course_lib.judging.portable import made_from, portable
from course_lib.judging.quoting import article, kind_of
from course_lib.models import Conversation

LONG, USUAL, SHORT = 4.0, 1.0, 0.4  # seconds of patience; the one in the middle when none is given
LATE = 0.25  # seconds after which the standby goes on: a wait, and less than LONG
SLACK = 1.5  # seconds, on a slow machine, beyond what a wait takes
HELD = "held by the judge"
WAITS_TO_COMMIT = f"""
    CREATE FUNCTION wait_for_the_judge() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.title = '{HELD}' THEN PERFORM pg_advisory_xact_lock(1004); END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER wait_for_the_judge AFTER UPDATE ON conversations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_the_judge();
"""
IN_COMMIT = "SELECT true FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


class ReadYourWrites(Exercise):
    """A token of how far the log had come, and a bounded wait for it."""

    id = "10.4"
    title = "Read your own writes from a replica"
    answer = "Router"
    minutes = 20
    points = 3
    level = "senior"
    recipe = "empty"
    seconds = 20.0
    hints: ClassVar = (
        "After a COMMIT, the primary can say how far its write-ahead log has come; the standby can say how far it has "
        "replayed that log. Both are in PostgreSQL's functions for administration, and both are of type `pg_lsn`.",
        "`pg_current_wal_insert_lsn()` on the primary, after the commit and not before it. On the standby "
        "`pg_last_wal_replay_lsn()` is to be no less, asked again every few milliseconds. Compared as texts, 0/FF00000 "
        "comes after 0/10000000. asyncpg reads and sends a `pg_lsn` as a number; a text goes in by two casts, "
        "`CAST(CAST(:token AS text) AS pg_lsn)`.",
        "Three things lead to the primary: the time is over, the replica cannot be reached, or it is no standby "
        "(`pg_last_wal_replay_lsn()` is NULL there). None of them is an error of the reader's.",
    )
    why = (
        "The token names one commit, so a reader waits for what he has written himself and for nobody else's rows. "
        "Most replicas have replayed it long before the next request comes, and then the wait is one short question. "
        "The bound makes a replica that lags a cost for the primary, and not an outage. Whatever carries the token, a "
        "cookie or a field in the answer, makes it work across processes."
    )
    follow_up = (
        "`synchronous_commit = remote_apply` promises that the standby has replayed before COMMIT returns. What does "
        "each write pay for it, what happens when the standby is restarted, and when would you take it all the same?"
    )
    mistakes: ClassVar = {
        "method missing": "`Router` has no `{method}`. | It has two methods: `write` and `read`.",
        "not written": "`{method}` of `Router` is not written yet. | It has two methods: `write` and `read`.",
        "no token": "`write` returned {kind}, and a `str` was asked for. | What does the next request need to know?",
        "not stored": "`write` returned, and the primary has no such change. | Commit before you return.",
        "other rows": "A read of one column of one row returned {found}, and a list of rows was asked for. "
        "| `(await connection.execute(statement)).all()` is one.",
        "primary asked": "The replica had all that the token asks for, and the primary got {count} statements for a "
        "read: {first}. | Ask the replica how far it is; the primary has enough to do.",
        "waits for others": "The replica had what its reader had written, and lacked what others wrote since; the read "
        "took {seconds:.2f} s with a patience of {patience} s. | Wait for the token, not for the end of the log.",
        "stale": "The replica had not replayed the write of the token, and a read with it returned the old row. "
        "| How far has the replica come, compared as what type?",
        "stale before commit": "Between a write's statement and the end of its COMMIT others wrote, and a read with "
        "its token returned the old row. | What the replica is asked has to be true only after that COMMIT.",
        "only here": "Another `Router` on the same engines, its class made anew from your cell, was given the token of "
        "a write that the replica lacked, and returned the old row. "
        "| The token goes along to another process, and takes with it what is needed there.",
        "gave up": "The replica had the write after {late} s of a patience of {patience} s, and the read went to the "
        "primary. | Ask the replica again until the time is over.",
        "slept on": "The replica had the write after {late} s, and the read took {seconds:.2f} s with a patience of "
        "{patience} s. | Ask again every few milliseconds.",
        "waited too long": "The replica lacked the write for longer than the patience of {patience} s, and the read "
        "took {seconds:.2f} s. | When the time is over, the primary has the row.",
        "cancelled": "A read that was cancelled while it waited {did}. "
        "| Whoever asked has left: a CancelledError goes up to him.",
        "no token, no wait": "A read without a token took {seconds:.2f} s while the replica lagged, with a patience of "
        "{patience} s. | Without a token there is nothing to wait for.",
        "fell with it": "The replica was gone, and a read raised {error}. | The primary can still be asked.",
        "no standby": "Both engines led to the one server that there is, and a read with a token {did}. "
        "| What is `pg_last_wal_replay_lsn()` on a server that replays nothing?",
        "connection held": "{held} connection(s) were not given back to the pools. | `async with engine.connect()`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        async with standby_pair() as pair:
            router = await attempt.call(*pair.engines)
            look_for_methods(attempt, router, "write", "read")
            try:
                await _Trial(attempt, pair, router).run()
            finally:
                attempt.left_open |= pair.held() > 0


class _Trial:
    def __init__(self, attempt: Attempt, pair: Pair, router: Any) -> None:
        self.attempt, self.pair, self.router = attempt, pair, router
        self.ids: list[Any] = []
        self.written = 0

    async def run(self) -> None:
        self.ids = [row["id"] for row in await self.pair.on_primary.fetch("SELECT id FROM conversations ORDER BY id")]
        await self.pair.on_primary.execute(WAITS_TO_COMMIT)
        await self._caught_up()
        await self._others_are_ahead()
        await self._comes_in_time(LONG)
        await self._comes_in_time(USUAL)
        await self._never_comes()
        await self._before_the_commit()
        held = self.pair.held()
        self.attempt.expect(not held, "connection held", held=held)
        await self._one_server()
        await self._gone()

    # -- scenes --------------------------------------------------------------------------------------------

    async def _caught_up(self) -> None:
        token, title = await self._write()
        await self.pair.caught_up()
        rows, seconds, asked = await self._read(token, LONG)
        self.attempt.expect(rows == [title], "stale")
        self._by_the_replica(asked)
        self.attempt.expect(seconds < LONG / 2, "slept on", late=0.0, seconds=seconds, patience=LONG)

    async def _others_are_ahead(self) -> None:
        token, title = await self._write()
        await self.pair.caught_up()
        await self.pair.pause()
        await self._write_of_somebody()
        rows, seconds, asked = await self._read(token, LONG)
        self.attempt.expect(rows == [title], "stale")
        self.attempt.expect(seconds < LONG / 2, "waits for others", seconds=seconds, patience=LONG)
        self._by_the_replica(asked)
        _, _ = await self._write()
        rows, seconds, asked = await self._read(None, LONG)
        self.attempt.expect(seconds < LONG / 2, "no token, no wait", seconds=seconds, patience=LONG)
        self._by_the_replica(asked)
        await self.pair.resume()

    async def _comes_in_time(self, patience: float) -> None:
        await self.pair.caught_up()
        await self.pair.pause()
        token, title = await self._write()
        reading = asyncio.ensure_future(self._read(token, patience))
        await asyncio.wait({reading}, timeout=LATE)
        await self.pair.resume()
        rows, seconds, asked = await reading
        numbers = {"late": LATE, "patience": patience}
        self.attempt.expect(rows == [title], "stale")
        self.attempt.expect(not asked, "gave up", **numbers)
        self.attempt.expect(seconds < LONG - 1, "slept on", seconds=seconds, **numbers)

    async def _never_comes(self) -> None:
        await self.pair.caught_up()
        await self.pair.pause()
        await self.pair.lengthen()
        token, title = await self._write()
        rows, seconds, _ = await self._read(token, SHORT)
        self.attempt.expect(rows == [title], "stale")
        self.attempt.expect(seconds < SHORT + SLACK, "waited too long", seconds=seconds, patience=SHORT)
        await self._leaves(token)
        elsewhere = await self.attempt.call(*self.pair.engines, function=self._made_anew())
        rows, seconds, _ = await self._read(token, USUAL, elsewhere)
        self.attempt.expect(rows == [title], "only here")
        self.attempt.expect(seconds < USUAL + SLACK, "waited too long", seconds=seconds, patience=USUAL)
        await self.pair.resume()

    async def _leaves(self, token: str) -> None:
        """The reader is cancelled while it waits."""

        async def left() -> str:
            reading = asyncio.ensure_future(self.router.read(self._title(), token, LONG))
            await asyncio.wait({reading}, timeout=SHORT)
            reading.cancel()
            await asyncio.wait({reading}, timeout=SLACK)
            if reading.cancelled():
                return ""
            if not reading.done():
                return f"went on for {SLACK} s"
            error = reading.exception()
            return f"raised {kind_of(error)}" if error else "returned rows all the same"

        did = await self.attempt.call(function=left)
        self.attempt.expect(not did, "cancelled", did=did)

    async def _before_the_commit(self) -> None:
        """The learner's COMMIT waits; somebody writes meanwhile, and the standby replays just that."""
        await self.pair.caught_up()
        await self.pair.on_primary.execute("SELECT pg_advisory_lock(1004)")

        async def write() -> Any:
            return await self.router.write(self._change(HELD))

        writing = asyncio.ensure_future(self.attempt.call(function=write))
        try:
            while not (writing.done() or await self.pair.on_primary.fetchval(IN_COMMIT)):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            await self._write_of_somebody()
            await self.pair.caught_up()
            await self.pair.pause()
        finally:
            await self.pair.on_primary.execute("SELECT pg_advisory_unlock(1004)")
        token = await writing
        rows, seconds, _ = await self._read(token, SHORT)
        self.attempt.expect(rows == [HELD], "stale before commit")
        self.attempt.expect(seconds < SHORT + SLACK, "waited too long", seconds=seconds, patience=SHORT)
        await self.pair.resume()

    async def _one_server(self) -> None:
        primary, _ = self.pair.engines
        router = await self.attempt.call(primary, primary)
        token, title = await self._write(router)
        try:
            rows, seconds, _ = await self._read(token, SHORT, router)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            raise self.attempt.wrong("no standby", did=f"raised {kind_of(wrong.__cause__)}") from wrong
        self.attempt.expect(rows == [title], "no standby", did="returned the old row")
        self.attempt.expect(seconds < SHORT + SLACK, "no standby", did=f"took {seconds:.2f} s")

    async def _gone(self) -> None:
        """First with connections in the pool that were alive a moment ago, then with none."""
        token, title = await self._write()
        await self.pair.standby.crash()
        direct = make_engine(self.pair.standby.url, **POOL)
        again = await self.attempt.call(self.pair.engines[0], direct)
        for router in (self.router, again):
            for given in (token, None):
                await self._without_replica(router, given, title)
        await direct.dispose()

    async def _without_replica(self, router: Any, token: str | None, title: str) -> None:
        try:
            rows, seconds, _ = await self._read(token, SHORT, router)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            raise self.attempt.wrong("fell with it", error=kind_of(wrong.__cause__)) from wrong
        self.attempt.expect(rows == [title], "stale")
        self.attempt.expect(seconds < SHORT + SLACK, "waited too long", seconds=seconds, patience=SHORT)

    def _made_anew(self) -> Any:
        """The class as another process has it, with nothing that the first one keeps; itself where that fails."""
        parts = portable(self.attempt.answer)
        if parts is not None:
            with suppress(Exception):  # of what the cell does when it is run again
                return made_from(parts)
        return self.attempt.answer

    # -- one thing after another -----------------------------------------------------------------------------

    def _title(self) -> Any:
        return select(Conversation.title).where(Conversation.id == self.ids[0])

    def _change(self, title: str) -> Any:
        return update(Conversation).where(Conversation.id == self.ids[0]).values(title=title)

    async def _write(self, router: Any = None) -> tuple[str, str]:
        self.written += 1
        title = f"title {self.written}"
        token = await self.attempt.call(self._change(title), function=(router or self.router).write)
        self.attempt.expect(isinstance(token, str), "no token", kind=article(token))
        stored = await self.pair.on_primary.fetchval("SELECT title FROM conversations WHERE id = $1", self.ids[0])
        self.attempt.expect(stored == title, "not stored")
        return token, title

    async def _write_of_somebody(self) -> None:
        self.written += 1
        await self.pair.on_primary.execute(
            "UPDATE conversations SET title = $1 WHERE id = $2", f"other {self.written}", self.ids[1]
        )

    async def _read(self, token: str | None, patience: float, router: Any = None) -> tuple[list[str], float, list[str]]:
        """The titles that came, how long that took, and the statements that the primary got for it."""
        waiting = () if patience == USUAL else (patience,)
        with self.pair.wires[0].log() as log:
            start = time.monotonic()
            read = (router or self.router).read
            rows = await self.attempt.call(self._title(), token, *waiting, function=read)
            seconds = time.monotonic() - start
        right = isinstance(rows, list | tuple) and len(rows) == 1
        right = right and isinstance(rows[0], list | tuple | Row) and len(rows[0]) == 1
        self.attempt.expect(right, "other rows", found=repr(rows)[:80])
        return [rows[0][0]], seconds, [statement.sql for statement in log.entries]

    def _by_the_replica(self, asked: list[str]) -> None:
        self.attempt.expect(not asked, "primary asked", count=len(asked), first=f"`{asked[0][:60]}`" if asked else "")
