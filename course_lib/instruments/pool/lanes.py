"""What became of one request: when it waited for a connection, when it held one, when something ran on it."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import ref

Outcome = Literal["waiting", "served", "timed out", "gave up"]
Span = tuple[float, float]  # began and ended, in seconds since the gauge was opened
Requester = asyncio.Task[Any] | threading.Thread

GIVEN_BY_A_LIBRARY = re.compile(r"Task-\d+|MainThread|Thread-\d+.*|.*_\d+|AnyIO worker thread|.*<locals>.*")


@dataclass(eq=False)
class Wait:
    """A time in which a request stood in the pool's queue."""

    began: float
    ended: float | None = None
    outcome: Outcome = "waiting"

    def span(self, now: float) -> Span:
        return self.began, now if self.ended is None else self.ended


@dataclass(eq=False)
class Hold:
    """A time in which a request had a place in the pool, from when it got it until it gave it back.

    Attributes:
        work: when the connection was opened or checked, and when a statement, COMMIT or ROLLBACK ran on it.
        proxy: what the program holds of the connection; dead when nobody refers to it any more.
        earlier: it was held before the gauge was opened.
        lost: the garbage collector found it.
    """

    began: float
    ended: float | None = None
    work: list[Span] = field(default_factory=list)
    proxy: ref[Any] | None = None
    running: float | None = None
    earlier: bool = False
    lost: bool = False

    def span(self, now: float) -> Span:
        return self.began, now if self.ended is None else self.ended

    def seconds(self, now: float) -> float:
        began, ended = self.span(now)
        return ended - began

    def rest(self, now: float) -> None:
        """What ran on the connection is over."""
        if self.running is not None:
            self.work.append((self.running, now))
            self.running = None

    def end(self, now: float) -> None:
        """The connection goes back, by the program or by the garbage collector."""
        self.rest(now)
        self.ended = now
        self.lost = self.proxy is not None and self.proxy() is None

    def spans_of_work(self, now: float) -> list[Span]:
        return self.work if self.running is None else [*self.work, (self.running, self.span(now)[1])]

    def working(self, now: float) -> float:
        """Seconds in which something ran on the connection."""
        return sum(ended - began for began, ended in self.spans_of_work(now))


@dataclass(eq=False)
class Lane:
    """One task of asyncio, or one thread, that asked for connections."""

    name: str
    waits: list[Wait] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)


def requester() -> Requester:
    """The task this runs in, else the thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop in this thread
        task = None
    return task or threading.current_thread()


def given_name(who: Requester) -> str:
    """The name that somebody gave on purpose, else nothing."""
    name = who.get_name() if isinstance(who, asyncio.Task) else who.name
    return "" if GIVEN_BY_A_LIBRARY.fullmatch(name) else name
