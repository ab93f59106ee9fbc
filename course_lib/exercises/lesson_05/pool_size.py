"""5.3: the size of a pool, from how long connections are held and how often one is wanted."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from numbers import Integral
from random import Random
from secrets import randbelow
from typing import Any, ClassVar

from course_lib.exercises.lesson_05.scenes.engines import try_out
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.foreign import plain
from course_lib.judging.quoting import article, sentence_of

LEAST, MOST, ALWAYS = Fraction(3, 2), 4, 5  # the band: times the average in use, and so many are never too many


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
    per_second: int
    processes: int
    server: int
    others: int

    @property
    def mean(self) -> Fraction:
        """Seconds."""
        return sum(map(Fraction, self.holds), Fraction()) / len(self.holds)

    @property
    def in_use(self) -> Fraction:
        """Connections in use in one process, on average (J. Little, 1961)."""
        return self.per_second * self.mean / self.processes

    @property
    def least(self) -> int:
        return max(1, math.ceil(LEAST * self.in_use))

    @property
    def most(self) -> int:
        return max(ALWAYS, math.ceil(MOST * self.in_use))

    @property
    def left(self) -> int:
        return self.server - self.others

    @property
    def fits(self) -> bool:
        return self.least <= self.left // self.processes

    @property
    def facts(self) -> dict[str, object]:
        return {
            "processes": self.processes, "per_second": self.per_second, "server": self.server, "others": self.others,
            "mean": float(self.mean),
        }  # fmt: skip


SPREADS = (1.0,), (0.5, 1.5), (0.5,) * 14 + (4.5,) * 2  # holds, as multiples of their mean; of the last, few are long
MEANS = 0.25, 0.125, 0.0625  # seconds; powers of two, so that whole results come out whole in any order of reckoning
ROOM = 60, 3, 1, 0, -1  # more than the smallest pool of each process needs
RARE, SLOW = ((1, 4), (3, 8), (13, 8)), 8.0  # requests a second for so many processes, and seconds that they hold
IN_USE = 0.0, 0.0625, 0.5, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.75, 4.0, 6.0, 9.0, 10.25, 11.0


def services() -> Iterator[Service]:
    """Each average in use with too little room, with just enough, with some, and with plenty.

    Of slow requests that are rare, the share of one process is no whole number, and each has its weight.
    """
    random = Random(randbelow(1 << 62))
    for in_use, more in product(IN_USE, ROOM):
        processes = random.randint(1, 8)
        mean = random.choice([mean for mean in MEANS if (in_use * processes / mean).is_integer()])
        yield _service(random, mean, int(in_use * processes / mean), processes, more)
    for (per_second, processes), more in product(RARE, ROOM):
        yield _service(random, SLOW, per_second, processes, more)


def _service(random: Random, mean: float, per_second: int, processes: int, more: int) -> Service:
    """One whose processes have room for ``more`` connections than the smallest pool has."""
    holds = [mean * times for times in random.choice(SPREADS)]
    random.shuffle(holds)
    room = Service(holds, per_second, processes, 0, 0).least + more
    others = random.randint(3, 40)
    rest = random.randrange(processes)  # a share rounded up is one too many
    return Service(holds, per_second, processes, others + room * processes + rest, others)


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
        "too large": "With {said}, one process may open {total} connections, and {in_use:.2f} are in use on average. "
        "| The mean hold, the share of one process, and four times what comes out at the most, rounded up then.",
        "too small": "With {said}, one process may open {total} connection(s), and {in_use:.2f} are in use on average. "
        "| Requests per second, times the mean hold, and half as much again, rounded up.",
        "mostly overflow": "With {said}, {in_use:.2f} connections are in use on average, and the pool keeps {size}. "
        "| Overflow is closed when it comes back. What is in use all the time belongs into `pool_size`.",
        "without a bound": "For {per_second} requests a second it returned {said}, and a pool with a bound has a size "
        "of at least 1 and an overflow of at least 0. "
        "| `pool_size=0` and `max_overflow=-1` mean: as many as anybody asks for.",
        "refused": "{processes} process(es), {per_second} requests a second, holds of {mean:.3f} s on average, a "
        "server of {server} with {others} for others: it raised {error}. "
        "| The smallest pool that the task allows fits there. What does one process need, and what is its share?",
        "over the budget": "{processes} process(es) with {said} may open {total} connections, and the server has "
        "{left} for you. | The sum of both, times the processes, has to fit into what others leave.",
        "not refused": "{processes} process(es), {per_second} requests a second, holds of {mean:.3f} s, a server of "
        "{server} with {others} for others: it returned {said}. | That is too little room. Say so: raise ValueError.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        async def script() -> None:
            found: dict[str, Wrong] = {}
            for service in services():
                said = await _ask(attempt, service)
                try:
                    self._look_at(attempt, service, said)
                except Wrong as wrong:
                    found.setdefault(wrong.mistake, wrong)
            if found:  # what is said does not hang on the numbers that came up
                raise found[min(found, key=list(self.mistakes).index)]

        await try_out(attempt, script)

    def _look_at(self, attempt: Attempt, service: Service, said: Any) -> None:
        if not service.fits:
            attempt.expect(isinstance(said, ValueError), "not refused", said=said, **service.facts)
            return
        if isinstance(said, ValueError):
            raise attempt.wrong("refused", error=sentence_of(said), **service.facts) from said
        size, overflow = _pair(attempt, service, said)
        total, in_use = size + overflow, float(service.in_use)
        attempt.expect(total >= service.least, "too small", said=said, total=total, in_use=in_use)
        together, processes = total * service.processes, service.processes
        within = together <= service.left
        attempt.expect(within, "over the budget", said=said, total=together, left=service.left, processes=processes)
        attempt.expect(total <= service.most, "too large", said=said, total=total, in_use=in_use)
        keeps = size >= math.floor(service.in_use)
        attempt.expect(keeps, "mostly overflow", said=said, size=size, in_use=in_use)


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


async def _ask(attempt: Attempt, service: Service) -> Any:
    """What the answer says, or the ValueError that it raises. It is a plain function; one to be awaited will do."""
    try:
        said = attempt.answer(
            list(service.holds), service.per_second, service.processes, service.server, service.others
        )
        return plain(await said if inspect.isawaitable(said) else said, attempt.exercise.answer)
    except ValueError as error:
        return error
