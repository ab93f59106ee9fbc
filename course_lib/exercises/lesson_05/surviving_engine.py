"""5.5: a pool that has an upper bound, and hands out nothing that is dead or too old."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.exercises.lesson_05.scenes.engines import PID, backend_of, engine_of, try_out
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import kind_of

PATIENCE = 2.0  # seconds for a connection that is to be had; only a wrong answer makes us wait for so long
A_MOMENT = 0.1  # in which a pool that makes one connection too many begins to
OLD, YOUNG = 0.2, 3600.0
LIMITS = 3, 7  # on either side of the five that SQLAlchemy takes where nothing is said, and odd
TERMINATE = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid = ANY(CAST(:pids AS int[]))
"""


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
        "dead connection": "While {limit} connections were idle the server ended them, and {failed} of the next "
        "{limit} requests failed with {error}. | Have the pool ask before it hands out: is this one alive?",
        "not kept": "For {requests} requests, one after the other, {used} connections were made. "
        "| Young and living connections stay in the pool.",
        "too old": "With max_age={max_age}, a connection was handed out {age} seconds after it was made. "
        "| `pool_recycle` is the age from which on a connection is replaced.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        limit, other = LIMITS

        async def script() -> None:
            async with engine_of(attempt, attempt.url, limit, YOUNG) as engine:
                await self._has_a_bound(attempt, engine, limit)
                await self._survives(attempt, engine, limit)
                used = {await backend_of(engine) for _ in range(limit + 2)}
                attempt.expect(len(used) <= limit, "not kept", requests=limit + 2, used=len(used))
            async with engine_of(attempt, attempt.url, other, OLD) as engine:
                first = await backend_of(engine)
                await asyncio.sleep(OLD + 0.1)
                attempt.expect(await backend_of(engine) != first, "too old", max_age=OLD, age=round(OLD + 0.1, 1))
                await self._has_a_bound(attempt, engine, other)

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

    async def _survives(self, attempt: Attempt, engine: AsyncEngine, limit: int) -> None:
        """The server ends what lies in the pool, as it does when it restarts."""
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(engine.connect()) for _ in range(limit)]
            pids = [(await connection.execute(PID)).scalar_one() for connection in connections]
        await attempt.sql(TERMINATE, pids=pids)
        answers = await asyncio.gather(*(backend_of(engine) for _ in range(limit)), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        error = kind_of(errors[0]) if errors else ""
        attempt.expect(not errors, "dead connection", limit=limit, failed=len(errors), error=error)
