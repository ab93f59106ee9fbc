"""5.3: the size of a pool, from how long connections are held and how often one is wanted."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from numbers import Integral
from statistics import fmean
from typing import Any, ClassVar

from sqlalchemy import text

from course_lib.db import make_engine
from course_lib.exercises.lesson_05.scenes.engines import try_out
from course_lib.instruments import PoolGauge
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.foreign import plain
from course_lib.judging.quoting import article

LEAST, MOST, ALWAYS = 1.5, 4.0, 5  # the band: times the average in use, and so many are never too many
RUSH, MEAN = 40, 0.03  # requests of the load that is tried out, and their mean hold in seconds
POOL_TIMEOUT = 3.0  # seconds; all of the load on a single connection takes less than half of that


@dataclass(frozen=True)
class Service:
    """What was measured, and what there is.

    Attributes:
        holds: how long connections were held, in seconds.
        per_second: how many are wanted each second, by all processes together.
        server: the server's ``max_connections``.
        others: how many of these must be left for others.
    """

    holds: Sequence[float]
    per_second: float
    processes: int
    server: int
    others: int

    @property
    def in_use(self) -> float:
        """Connections in use in one process, on average (J. Little, 1961)."""
        return self.per_second * fmean(self.holds) / self.processes

    @property
    def least(self) -> int:
        return max(1, math.ceil(round(LEAST * self.in_use, 9)))

    @property
    def most(self) -> int:
        return max(ALWAYS, math.ceil(MOST * self.in_use))

    @property
    def room(self) -> int:
        """How many one process may open at the most."""
        return (self.server - self.others) // self.processes

    @property
    def fits(self) -> bool:
        return self.least <= self.room


SKEWED = (0.010,) * 9 + (0.210,)  # mean 0.03, median 0.01
SERVICES = (
    Service(SKEWED, 200, 1, 100, 20),  # 6 in use
    Service(SKEWED, 400, 4, 100, 28),  # 3 in use, room for 18
    Service((0.020, 0.040, 0.060), 250, 5, 60, 20),  # 2 in use, room for 8
    Service((0.5, 0.5, 0.5, 2.5), 12, 2, 40, 10),  # 6 in use, room for 15
    Service((0.004, 0.006), 10, 2, 100, 10),  # hardly anything in use
    Service((0.25,), 160, 4, 100, 40),  # 10 in use, room for 15, not one more
)
TOO_MUCH = (
    Service((0.25,), 176, 4, 100, 40),  # 11 in use, 17 wanted, room for 15
    Service(SKEWED, 400, 4, 40, 21),  # 3 in use, 5 wanted, room for 4
    Service((0.010, 0.030), 100, 50, 60, 20),  # no process gets even one
)


class PoolFor(Exercise):
    """Little's law, headroom, and what the server has left."""

    id = "5.3"
    title = "Size a pool from what was measured"
    answer = "pool_for"
    minutes = 10
    points = 2
    level = "mid"
    recipe = "empty"
    hints: ClassVar = (
        "Little's law: what is in use on average is how often it is wanted per second, times how many seconds it is "
        "held. Which average of the holds is it, the mean or the median?",
        "First per process: the requests are spread over all of them. Then what the server has left, also per process.",
        "`math.ceil(1.5 * in_use)` connections are enough, and at least one. If the room per process is smaller, "
        "raise ValueError. Some of them, or none, may be overflow.",
    )
    why = (
        "Connections in use are requests per second times the mean hold: forty requests a second, held for a "
        "twentieth of one, are two. A few slow ones count in the mean as they count in the pool, and the median does "
        "not see them. What you multiply at the end is what the server sees: every process has a pool of its own."
    )
    follow_up = (
        "The autoscaler starts four more processes. Who finds out that the server has no room left, when, and where "
        "would you put a limit?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`pool_for` returned None. | Did you forget `return`?",
        "not a pair": "`pool_for` returned {kind}. | A tuple: `pool_size`, `max_overflow`.",
        "not whole": "`pool_for` returned {said}. | Two whole numbers: `math.ceil` makes one, upwards.",
        "without a bound": "For {per_second} requests a second it returned {said}, which SQLAlchemy takes for a pool "
        "without a bound. | `pool_size=0` and `max_overflow=-1` mean: as many as anybody asks for.",
        "refused": "{processes} process(es), {per_second} requests a second, holds of {mean:.3f} s on average, a "
        "server of {server} with {others} for others: it raised {error}. "
        "| That fits. Compare per process with per process.",
        "too small": "With {said} for {per_second} requests a second in {processes} process(es), up to {waiting} of "
        "{rush} requests had to wait at the same time. | Requests per second, times the mean hold, and half as much "
        "again.",
        "too large": "With {said}, one process may open {total} connections, and {in_use:.1f} are in use on average. "
        "| The mean hold, the share of one process, and not more than four times what comes out.",
        "over the budget": "{processes} process(es) with {said} may open {total} connections, and the server has "
        "{left} for you. | The sum of both, times the processes, has to fit into what others leave.",
        "mostly overflow": "With {said}, {in_use:.1f} connections are in use on average, and the pool keeps {size}. "
        "| Overflow is closed when it comes back. What is in use all the time belongs into `pool_size`.",
        "not refused": "{processes} process(es), {per_second} requests a second, holds of {mean:.3f} s, a server of "
        "{server} with {others} for others: it returned {said}. | That is too little room. Say so: raise ValueError.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        async def script() -> None:
            for service in SERVICES:
                await self._look_at(attempt, service, await _ask(attempt, service))
            for service in TOO_MUCH:
                said = await _ask(attempt, service)
                refused = isinstance(said, ValueError)
                attempt.expect(refused, "not refused", said=said, mean=fmean(service.holds), **_facts(service))
            await self._try_out(attempt, SERVICES[1])

        await try_out(attempt, script)

    async def _look_at(self, attempt: Attempt, service: Service, said: Any) -> None:
        if isinstance(said, ValueError):
            error = f"ValueError: {said}" if str(said) else "ValueError"
            raise attempt.wrong("refused", error=error, mean=fmean(service.holds), **_facts(service)) from said
        size, overflow = _pair(attempt, service, said)
        total, left = size + overflow, service.server - service.others
        if total < service.least:
            waiting = (await _rush(attempt, service, said)).most_waiting
            raise attempt.wrong("too small", said=said, waiting=waiting, rush=RUSH, **_facts(service))
        all_of_them = total * service.processes
        attempt.expect(
            all_of_them <= left, "over the budget", said=said, total=all_of_them, left=left, processes=service.processes
        )
        attempt.expect(total <= service.most, "too large", said=said, total=total, in_use=service.in_use)
        keeps = size >= math.floor(service.in_use)
        attempt.expect(keeps, "mostly overflow", said=said, size=size, in_use=service.in_use)

    async def _try_out(self, attempt: Attempt, service: Service) -> None:
        gauge = await _rush(attempt, service, await _ask(attempt, service))
        waiting = gauge.most_waiting
        attempt.expect(not gauge.timeouts, "too small", said=gauge.pool, waiting=waiting, rush=RUSH, **_facts(service))


def _pair(attempt: Attempt, service: Service, said: Any) -> tuple[int, int]:
    """``said``, if it is two numbers that make a pool with a bound."""
    attempt.expect(said is not None, "nothing returned")
    attempt.expect(isinstance(said, Sequence) and len(said) == 2, "not a pair", kind=article(said))
    whole = all(isinstance(number, Integral) and not isinstance(number, bool) for number in said)
    attempt.expect(whole, "not whole", said=said)
    size, overflow = (int(number) for number in said)
    bound = size > 0 and overflow >= 0
    attempt.expect(bound, "without a bound", said=said, per_second=service.per_second)
    return size, overflow


def _facts(service: Service) -> dict[str, object]:
    return {
        "processes": service.processes, "per_second": service.per_second, "server": service.server,
        "others": service.others,
    }  # fmt: skip


async def _ask(attempt: Attempt, service: Service) -> Any:
    """What the answer says, or the ValueError that it raises. It is a plain function; one to be awaited will do."""
    try:
        said = attempt.answer(
            list(service.holds), service.per_second, service.processes, service.server, service.others
        )
        return plain(await said if inspect.isawaitable(said) else said, attempt.exercise.answer)
    except ValueError as error:
        return error


async def _rush(attempt: Attempt, service: Service, said: Sequence[int]) -> PoolGauge:
    """One process's share of the load on a real pool of that size, on a clock on which the mean hold is ``MEAN``."""
    scale = MEAN / fmean(service.holds)
    size, overflow = said
    engine = make_engine(attempt.database.url, pool_size=size, max_overflow=overflow, pool_timeout=POOL_TIMEOUT)

    async def request(seconds: float) -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": scale * seconds})

    with PoolGauge(engine) as gauge:
        requests = []
        for seconds in islice(cycle(service.holds), RUSH):
            requests.append(asyncio.create_task(request(seconds)))
            await asyncio.sleep(scale * service.processes / service.per_second)
        await asyncio.gather(*requests, return_exceptions=True)
    await engine.dispose()
    return gauge
