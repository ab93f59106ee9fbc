"""How much one client may ask for, at once and in a minute, so that the others are served meanwhile.

Counted in this process, and not in the database: it is this process that the others wait for, and a count in a table
would be a write for every request, on one row of the busiest user. Of n processes a user gets n times as much. What
costs money has its limit in the database, over all of them: see ``repositories.limits``.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from course_lib.service import problems
from course_lib.service.problems import Refused

MINUTE = 60.0  # seconds
ROUNDING = 1e-6


class Admission:
    """At most ``most`` at once for each client."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside: Counter[Hashable] = Counter()

    @contextmanager
    def enter(self, client: Hashable) -> Iterator[None]:
        """For the length of a block.

        Raises:
            Refused: there are as many as may be.
        """
        if self._inside[client] >= self._most:
            raise Refused(problems.TOO_MANY_AT_ONCE, f"At most {self._most} at once.", retry_after=1)
        self._inside[client] += 1
        try:
            yield
        finally:
            self._inside[client] -= 1
            if not self._inside[client]:
                del self._inside[client]  # clients come and go


class Rate:
    """At most ``most`` in any minute for each client, on average; all of them at once, if it has been quiet.

    Each request takes its share of a minute, and who has a whole minute ahead waits: the "generic cell rate
    algorithm", a leaky bucket in one number for each client.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._share, self._clock = MINUTE / most, clock
        self._most = most
        self._taken_until: dict[Hashable, float] = {}

    def take(self, client: Hashable) -> None:
        """Count one request.

        Raises:
            Refused: it is one too many, and is not counted; with the seconds until there is room.
        """
        now = self._clock()
        until = max(now, self._taken_until.pop(client, now))
        too_early = until + self._share - now - MINUTE
        fits = too_early < ROUNDING
        self._taken_until[client] = until + self._share if fits else until  # the latest client is last
        self._forget(now)
        if not fits:
            raise Refused(problems.TOO_MANY_A_MINUTE, f"At most {self._most} in a minute.", math.ceil(too_early))

    def _forget(self, now: float) -> None:
        """Clients come and go. The first has not been seen for longest, and blocks for a minute at most."""
        while self._taken_until:
            client = next(iter(self._taken_until))
            if self._taken_until[client] > now:
                return
            del self._taken_until[client]
