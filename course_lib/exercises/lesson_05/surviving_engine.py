"""5.5: a pool that has an upper bound, and hands out nothing that is dead or too old."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import psycopg
from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.exercises.lesson_05.scenes.engines import PID, backend_of, engine_of, try_out
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import kind_of
from course_lib.postgres.address import libpq_uri

PATIENCE = 2.0  # seconds for a connection that is to be had; only a wrong answer makes us wait for so long
A_MOMENT = 0.02  # seconds, in which a pool that makes one connection too many begins to
WAITS = 10.0  # seconds that the next request has to be ready to wait, by the statement
AGES = 0.16, 0.5, 2.0  # seconds: fractions, and the longer ones only where a machine is too slow for the shorter
NEARLY = 0.92  # of the age, at which a connection is used once more
YOUNG = 3600.0
LIMIT, OTHER = 3, 7  # on either side of the five that SQLAlchemy takes where nothing is said, and odd
TERMINATE = "SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) AS pid"


class SurvivingEngine(Exercise):
    """Pre-ping, an upper bound, an age."""

    id = "5.5"
    title = "An engine that survives a restarted server"
    answer = "make_engine_for"
    minutes = 8
    points = 2
    level = "mid"
    recipe = "empty"
    hints: ClassVar = (
        "Everything here is an option of `create_async_engine`. Four of them are needed.",
        "The bound is the sum of two numbers: `pool_size`, and what `max_overflow` adds when all of them are out.",
        "`pool_pre_ping` asks a connection whether it is alive before it is handed out. `pool_recycle` is an age in "
        "seconds.",
    )
    why = (
        "A pool finds out that a connection is dead when somebody uses it. With pre-ping it is the pool itself that "
        "asks, one short round trip per checkout, and a dead one is replaced before a request sees it. The bound is "
        "size plus overflow, per process. Recycling keeps ahead of proxies and firewalls that forget idle connections."
    )
    follow_up = (
        "The server restarts in the middle of a transaction. What does pre-ping do for that request, and who can mend "
        "it?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`make_engine_for` returned None. | Did you forget `return`?",
        "not an engine": "`make_engine_for` returned {kind}, and an AsyncEngine was asked for. "
        "| `create_async_engine(url, …)` makes one.",
        "too few": "With limit={limit}, only {held} requests had a connection at the same time. "
        "| `pool_size` and `max_overflow` together are the limit.",
        "too many": "With limit={limit}, {held} requests had a connection at the same time. "
        "| A full pool still makes `max_overflow` more, ten of them if nothing is said.",
        "gave up": "All {limit} connections were in use, and the next request failed with {error}. "
        "| It can wait for one: that is what `pool_timeout` is for.",
        "impatient": "All {limit} connections were in use, and the next request would have waited for {seconds} s "
        "at the most, as `engine.pool.timeout()` says. | `pool_timeout`: ten seconds at the least.",
        "dead connection": "While {limit} connections were idle the server ended them, and {failed} of the next "
        "{limit} requests failed with {error}. | Have the pool ask the server before it hands out: is this one alive?",
        "not kept": "{limit} connections were given back, and of the next {limit} requests {other} got another one. "
        "| Young and living connections stay in the pool. Overflow does not: it is closed when it comes back.",
        "too early": "With max_age={max_age}, a connection less than {age:.3f} seconds old was not used again. "
        "| Only the one that is too old is replaced, not the one that soon will be, and fractions of a second count.",
        "too old": "With max_age={max_age}, a connection was handed out more than {age:.2f} seconds after it was made. "
        "| `pool_recycle` is the age from which on a connection is replaced, however often it was used meanwhile.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        async def script() -> None:
            url = attempt.url
            async with engine_of(attempt, url, LIMIT, YOUNG) as engine:
                await self._has_a_bound(attempt, engine, LIMIT)
                await self._keeps(attempt, engine, await _at_once(engine, LIMIT))
                await self._survives(attempt, engine, LIMIT)
                kept = await _at_once(engine, LIMIT)
                for max_age in AGES:
                    async with engine_of(attempt, url, OTHER, max_age) as aging:
                        if max_age == AGES[0]:
                            await self._has_a_bound(attempt, aging, OTHER)
                            await aging.dispose()
                        told = await self._ages(attempt, aging, max_age)
                    if told:
                        break
                await self._keeps(attempt, engine, kept)  # whatever became of the other engine
            async with engine_of(attempt, url, 1, YOUNG) as engine:
                await self._has_a_bound(attempt, engine, 1)

        await try_out(attempt, script)

    async def _has_a_bound(self, attempt: Attempt, engine: AsyncEngine, limit: int) -> None:
        """As many as the limit at once, and one more, which has to wait."""
        connecting: list[Any] = []
        async with AsyncExitStack() as stack:
            held = set()
            try:
                for _ in range(limit):
                    entering = stack.enter_async_context(engine.connect())
                    connection = await asyncio.wait_for(entering, PATIENCE)
                    held.add((await connection.execute(PID)).scalar_one())
            except (TimeoutError, PoolTimeout):
                raise attempt.wrong("too few", limit=limit, held=len(held)) from None
            attempt.expect(len(held) == limit, "too few", limit=limit, held=len(held))
            event.listen(engine.sync_engine, "do_connect", lambda *about: connecting.append(about))
            more = asyncio.ensure_future(backend_of(engine))
            await asyncio.wait({more}, timeout=A_MOMENT)
            early = connecting or more.done()
        (served,) = await asyncio.gather(more, return_exceptions=True)
        error = kind_of(served)
        attempt.expect(not isinstance(served, PoolTimeout), "gave up", limit=limit, error=error)
        attempt.expect(not early, "too many", limit=limit, held=limit + 1)
        seconds = engine.pool.timeout() if hasattr(engine.pool, "timeout") else None
        attempt.expect(seconds is None or seconds >= WAITS, "impatient", limit=limit, seconds=seconds)

    async def _keeps(self, attempt: Attempt, engine: AsyncEngine, known: list[int]) -> None:
        found = await _at_once(engine, len(known))
        other = len(set(found) - set(known))
        attempt.expect(not other, "not kept", limit=len(known), other=other)

    async def _survives(self, attempt: Attempt, engine: AsyncEngine, limit: int) -> None:
        """The server ends what lies in the pool, as it does when it restarts; nobody has noticed yet.

        So nothing here may wait: the driver would be told.
        """
        pids = await _at_once(engine, limit)
        with psycopg.connect(libpq_uri(attempt.database.url), autocommit=True) as judge:
            judge.execute(TERMINATE, [pids])
        answers = await asyncio.gather(*(backend_of(engine) for _ in range(limit)), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        error = kind_of(errors[0]) if errors else ""
        attempt.expect(not errors, "dead connection", limit=limit, failed=len(errors), error=error)

    async def _ages(self, attempt: Attempt, engine: AsyncEngine, max_age: float) -> bool:
        """One connection grows too old while it is used again and again, and another one does not.

        False if this machine was too slow to tell: what is called young here was so by the clock.
        """
        clock = asyncio.get_running_loop().time
        connecting: list[float] = []
        event.listen(engine.sync_engine, "do_connect", lambda *_: connecting.append(clock()))
        begun = clock()
        old = await backend_of(engine)
        made = clock()
        while clock() < made + 0.6 * max_age:
            await asyncio.sleep(max_age / 8)
            if not self._is_young(attempt, max_age, begun, old, [await backend_of(engine)]):
                return False
        begun_later = clock()
        two = await _at_once(engine, 2)
        if not self._is_young(attempt, max_age, begun, old, two):
            return False
        await asyncio.sleep(max(0, max([begun, *connecting[:1]]) + NEARLY * max_age - clock()))
        if not self._is_young(attempt, max_age, begun, old, await _at_once(engine, 2)):
            return False
        await asyncio.sleep(max(0, made + 1.1 * max_age - clock()))
        age = clock() - made
        later = await _at_once(engine, 2)
        attempt.expect(old not in later, "too old", max_age=max_age, age=age)
        (young,) = set(two) - {old}
        both = later, await _at_once(engine, 2)  # what was done to the old one may reach the other a request later
        return all(self._is_young(attempt, max_age, begun_later, young, found) for found in both)

    def _is_young(self, attempt: Attempt, max_age: float, begun: float, young: int, found: list[int]) -> bool:
        """Whether a connection is younger than ``max_age`` for sure; then it has to be among those just found."""
        age = asyncio.get_running_loop().time() - begun
        if age >= max_age:
            return False
        attempt.expect(young in found, "too early", max_age=max_age, age=age)
        return True


async def _at_once(engine: AsyncEngine, count: int) -> list[int]:
    """So many requests that have a connection at the same time; which processes of the server answered."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(engine.connect()) for _ in range(count)]
        return [(await connection.execute(PID)).scalar_one() for connection in connections]
