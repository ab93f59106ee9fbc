"""6.8: four instances start at once, and each of them wants to migrate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from course_lib.db import make_engine
from course_lib.exercises.lesson_06.scenes.environment import private_environment
from course_lib.exercises.lesson_06.scenes.start_ups import (
    LOCK,
    LOCKED,
    LONGEST_PAUSE,
    STANDS,
    THERE,
    FailsOnce,
    MakesIndex,
    MakesTable,
    Mishap,
    OtherInstance,
    SleepsOnce,
    Upgrade,
    paces,
    start,
)
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import kind_of
from course_lib.judging.races import Intruder
from course_lib.judging.trouble import behind

POOL: dict[str, Any] = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 2}
WAITS, LOOKS = 0.35, 20  # seconds, and looks at the least, after which a transaction was not open by chance
QUIET = 3  # looks of ours without a statement of its, within a pause
PAUSE, PATIENCE = 0.04, 2.0  # seconds between two tries; the task says .05 and 1
GONE = 6.0  # seconds for a statement of a minute to be cancelled, on a machine that may be busy


class MigrateAtStartUp(Exercise):
    """One at a time by a lock that is asked for again and again, and waited for by nobody."""

    id = "6.8"
    title = "Four instances start at once"
    answer = "migrate"
    minutes = 18
    points = 3
    level = "senior"
    recipe = "migrated"
    seconds = 15.0
    hints: ClassVar = (
        "A statement that waits has a snapshot, and CREATE INDEX CONCURRENTLY of the one you wait for waits for yours. "
        "Which function asks for the lock and comes back at once, with it or without?",
        'The lock belongs to a session, that is, to a connection: keep one for it, with `isolation_level="AUTOCOMMIT"` '
        "so that no transaction begins, and `await asyncio.sleep(…)` between two tries of `pg_try_advisory_lock`.",
        "`await connection.run_sync(upgrade)` on a second connection, fresh, within `try`, and in `finally` "
        "`pg_advisory_unlock`: the pool gives back the connection, and with it whatever its session still holds.",
    )
    why = (
        "`pg_advisory_lock` waits inside a statement, and CONCURRENTLY waits for every older snapshot: two start-ups "
        "and one such index are a deadlock. Asked for again and again, the lock is waited for outside the database. It "
        "belongs to the session: whoever is killed gives it back with the connection, and whoever returns the "
        "connection to a pool does not. Who comes second finds the version at head and does nothing."
    )
    follow_up = (
        "Ten instances wait for a migration of twenty minutes while the orchestrator kills what is not ready after "
        "one. Where would you run migrations instead, and what do instances check when they start?"
    )
    mistakes: ClassVar = {
        "not a connection": "`upgrade` was called with {kind}. | It takes what `run_sync` hands over, a `Connection`.",
        "nothing migrated": "It returned, and `upgrade` had {did}. | Whoever gets the lock migrates.",
        "without the lock": f"`upgrade` was called, and nobody held the lock {LOCK}. "
        "| Is it a lock of the session, on a connection that you keep until the end?",
        "in a transaction": "`upgrade` was called while a transaction was open {whose}. "
        "| With SQLAlchemy the first statement begins one, also a SELECT; CONCURRENTLY cannot run in it, or waits "
        "for it.",
        "did not wait": f"Another instance held the lock {LOCK}, and meanwhile it {{did}}. "
        "| The other one may be half-way. Wait until the lock can be had.",
        "gave up": f"Another instance held the lock {LOCK}, and it raised {{error}}. | However long it takes: wait.",
        "stands in line": f"While another instance held the lock {LOCK}, a statement waited for it. "
        "| It has a snapshot meanwhile, and CONCURRENTLY of the other one waits for that. Which function does not "
        "wait?",
        "open while it waits": f"While another instance held the lock {LOCK}, a transaction stayed open. "
        "| AUTOCOMMIT for the connection that asks, or a rollback after each try.",
        "hammers": "While it waited, it sent {count} statements in {seconds} seconds. "
        "| `await asyncio.sleep(0.1)` between two tries.",
        "looks seldom": "While it waited, it paused for {seconds} seconds. "
        "| At least once a second: whoever starts is not there yet.",
        "short pauses": "While it waited, {count} of its pauses were shorter than .05 seconds. "
        "| `await asyncio.sleep(0.1)` between two tries.",
        "too late": f"The instance that held the lock {LOCK} had ended, and in {{seconds}} seconds it did not look. "
        "| Ask again at least once a second.",
        "given back": f"When `upgrade` was over, the lock {LOCK} was not held any more. "
        "| Hold it until `upgrade` has come to its end: another instance may have begun by then.",
        "failed at once": "Four instances started at once, and one of them failed with {error}. "
        "| None may fail: they take turns, and the later ones find nothing to do.",
        "lock left": f"It had {{ended}}, and the lock {LOCK} was still held. "
        "| A pool keeps the connection, and the connection keeps the lock. What is done also after an error, and "
        "after a cancellation, which is no `Exception`?",
        "connections left": "It had {ended}, and {count} connection(s) were not given back. "
        "| `async with engine.connect()`",
        "swallowed": "A migration failed with an error, and `migrate` returned. | The instance must not start then.",
        "wrapped": "A migration failed with {one}, and `migrate` raised {other}. | Let it through as it is.",
        "half done": "A migration failed half-way, and the table that it had made is there. "
        "| On an AUTOCOMMIT connection its transaction is none. One connection for the lock, another for `upgrade`.",
        "not again": "A migration had failed; called again, `migrate` raised {error}. | What did the first call leave?",
        "not cancelled": "It was cancelled while it {did}, and it went on. "
        "| CancelledError has to reach whoever has cancelled.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        with private_environment(attempt) as environment, Intruder(attempt) as eyes:
            upgrade = Upgrade(attempt, environment, eyes)
            environment.add(MakesTable("first"))
            environment.add(MakesIndex("first"))
            await self._runs(attempt, upgrade)
            environment.add(MakesTable("second"))
            await self._waits(attempt, upgrade)
            environment.add(MakesTable("third"))
            environment.add(MakesIndex("third"))
            await self._four_at_once(attempt, upgrade)
            environment.add(FailsOnce("fourth"))
            await self._fails(attempt, upgrade)
            environment.add(SleepsOnce("fifth"))
            await self._is_cancelled(attempt, upgrade)

    async def _runs(self, attempt: Attempt, upgrade: Upgrade, options: dict[str, Any] = POOL) -> None:
        """One instance, nobody else."""
        engine, upgrade.calls = make_engine(attempt.url, **options), 0
        try:
            await attempt.call(engine, upgrade)
            await self._expect_done(attempt, upgrade)
            await self._expect_clean(attempt, "returned", engine)
        except Wrong as wrong:
            if upgrade.found is not None:
                raise upgrade.found from wrong
            raise
        finally:
            await engine.dispose()

    async def _waits(self, attempt: Attempt, upgrade: Upgrade) -> None:
        """Another instance is at it, and is killed."""
        engine, upgrade.calls = make_engine(attempt.url, poolclass=NullPool), 0

        async def beside_another() -> None:
            with OtherInstance(attempt) as other:
                other.lock()
                running = start(attempt, engine, upgrade)
                with paces(attempt) as asked:
                    await self._keeps_waiting(attempt, running, upgrade, asked)
            await self._comes_to_its_turn(attempt, running)

        await self._scene(attempt, beside_another)
        await self._expect_done(attempt, upgrade)
        await self._expect_clean(attempt, "returned", engine)

    async def _keeps_waiting(
        self, attempt: Attempt, running: asyncio.Future[Any], upgrade: Upgrade, asked: dict[int, float]
    ) -> None:
        """Nothing of it stands in the way of the instance that it waits for."""
        start, looks, calls = time.monotonic(), 0, upgrade.calls
        opened: dict[str, int] = {}
        while time.monotonic() - start < WAITS or looks < LOOKS:
            stands, transactions, _ = (await attempt.sql(STANDS))[0]
            attempt.expect(not stands, "stands in line")
            for one in transactions:
                opened[one] = opened.get(one, 0) + 1
            attempt.expect(upgrade.calls == calls, "did not wait", did="called `upgrade`")
            if running.done():
                error = running.exception()
                attempt.expect(error is None, "gave up", error=kind_of(error))
                raise attempt.wrong("did not wait", did="returned")
            looks += 1
            await asyncio.wait({running}, timeout=0.01)
        attempt.expect(max(opened.values(), default=0) < looks / 2, "open while it waits")
        *pauses, _ = asked.values() or [0.0]
        seconds, count = time.monotonic() - start + 0.9 * sum(pauses), len(attempt.log.statements)
        longest, short = max(asked.values(), default=0.0), sum(pause < PAUSE for pause in pauses)
        attempt.expect(longest <= LONGEST_PAUSE, "looks seldom", seconds=f"{longest:.1f}")
        attempt.expect(short < 2, "short pauses", count=short)
        attempt.expect(count <= 4 + 2 * seconds / PAUSE, "hammers", count=count, seconds=f"{seconds:.1f}")

    async def _comes_to_its_turn(self, attempt: Attempt, running: asyncio.Future[Any]) -> None:
        sent, start, looks = len(attempt.log.statements), time.monotonic(), 0
        while not running.done() and len(attempt.log.statements) == sent:
            looks += 1
            seconds = time.monotonic() - start
            attempt.expect(seconds < PATIENCE or looks < 5 * LOOKS, "too late", seconds=f"{seconds:.1f}")
            await asyncio.wait({running}, timeout=0.01)
        await running

    async def _four_at_once(self, attempt: Attempt, upgrade: Upgrade) -> None:
        engines = [make_engine(attempt.url, **POOL), make_engine(attempt.url, **POOL)]
        engines += [make_engine(attempt.url, poolclass=NullPool), make_engine(attempt.url, poolclass=NullPool)]
        upgrade.calls, upgrade.alone = 0, False

        async def four() -> list[Any]:
            calls = [start(attempt, engine, upgrade) for engine in engines]
            return await asyncio.gather(*calls, return_exceptions=True)

        outcomes = await self._scene(attempt, four)
        if upgrade.found is not None:
            raise upgrade.found
        for outcome in outcomes:
            attempt.expect(not isinstance(outcome, BaseException), "failed at once", error=kind_of(outcome))
        await self._expect_done(attempt, upgrade)
        await self._expect_clean(attempt, "returned", *engines)
        upgrade.alone = True

    async def _fails(self, attempt: Attempt, upgrade: Upgrade) -> None:
        engine = make_engine(attempt.url, **POOL)
        try:
            await attempt.call(engine, upgrade)
        except Wrong as wrong:
            if not any(isinstance(error, Mishap) for error in behind(wrong.__cause__)):
                raise
            other = wrong.__cause__
            attempt.expect(isinstance(other, Mishap), "wrapped", one=Mishap.__name__, other=kind_of(other))
        else:
            raise attempt.wrong("swallowed")
        await self._expect_clean(attempt, "raised what `upgrade` had raised", engine)
        attempt.expect(not await attempt.value(THERE, name="fourth"), "half done")
        try:
            await self._runs(attempt, upgrade)
        except Wrong as wrong:
            attempt.expect(wrong.mistake != "raised", "not again", error=kind_of(wrong.__cause__))
            raise

    async def _is_cancelled(self, attempt: Attempt, upgrade: Upgrade) -> None:
        engine = make_engine(attempt.url, **POOL)

        async def while_it_waits() -> None:
            with OtherInstance(attempt) as other:
                other.lock()
                running = start(attempt, engine, upgrade)
                await self._between_two_looks(attempt, running)
                await self._cancel(attempt, running, "waited")

        async def while_it_migrates() -> None:
            running = start(attempt, engine, upgrade)
            while not running.done() and not (await attempt.sql(STANDS))[0][2]:
                await asyncio.wait({running}, timeout=0.01)
            await self._cancel(attempt, running, "migrated")

        await self._scene(attempt, while_it_waits)
        await self._expect_clean(attempt, "been cancelled while it waited", engine)
        await self._scene(attempt, while_it_migrates)
        await self._expect_clean(attempt, "been cancelled while it migrated", engine)
        await self._runs(attempt, upgrade)

    async def _between_two_looks(self, attempt: Attempt, running: asyncio.Future[Any]) -> None:
        """Until it has looked more than once and pauses: no statement is under way, nor was any for some looks."""
        start, sent, quiet = time.monotonic(), 0, 0
        while not running.done() and quiet < QUIET:
            statements = attempt.log.statements
            looked = len(statements) > 3 or (statements and time.monotonic() - start > 1)
            pauses = looked and len(statements) == sent and statements[-1].seconds is not None
            sent, quiet = len(statements), quiet + 1 if pauses else 0
            if quiet < QUIET:
                await asyncio.wait({running}, timeout=0.008)

    async def _cancel(self, attempt: Attempt, running: asyncio.Future[Any], did: str) -> None:
        running.cancel()
        await asyncio.wait({running}, timeout=GONE)
        ended = running.done() and (running.cancelled() or running.exception() is not None)
        running.cancel()
        attempt.expect(ended, "not cancelled", did=did)

    async def _scene(self, attempt: Attempt, script: Callable[[], Awaitable[Any]]) -> Any:
        """``script`` within the limits of a call."""

        async def scene() -> Any:
            return await script()

        scene.__name__ = attempt.exercise.answer  # the name that a message gives
        return await attempt.call(function=scene)

    async def _expect_done(self, attempt: Attempt, upgrade: Upgrade) -> None:
        if upgrade.found is not None:
            raise upgrade.found
        attempt.expect(upgrade.calls > 0, "nothing migrated", did="not been called")
        behind_head = await upgrade.environment.version() != upgrade.environment.head
        attempt.expect(not behind_head, "nothing migrated", did="not come to its end")

    async def _expect_clean(self, attempt: Attempt, ended: str, *engines: AsyncEngine) -> None:
        """No lock, no connection: looked at for a while, as the server takes a moment to see somebody off."""
        patience = time.monotonic() + PATIENCE
        while await attempt.value(LOCKED):
            attempt.expect(time.monotonic() < patience, "lock left", ended=ended)
            await asyncio.sleep(0.01)
        for engine in engines:
            await engine.dispose()
        while count := attempt.connections():
            attempt.expect(time.monotonic() < patience, "connections left", ended=ended, count=count)
            await asyncio.sleep(0.01)
