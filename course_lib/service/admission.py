"""How much one client may ask for at once, so that the others are served meanwhile. Counted in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from course_lib.service import problems
from course_lib.service.problems import Refused


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
