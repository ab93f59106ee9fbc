"""The record of one gauge: what the hooks tell it, put in lanes and counted."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import greenlet  # type: ignore[import-untyped]
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import Pool, QueuePool

from course_lib.instruments.pool.lanes import Hold, Lane, Requester, Wait, given_name, requester


class Sample(NamedTuple):
    """How the pool stood from one moment on."""

    at: float
    out: int
    waiting: int
    overflow: int


class Wish:
    """One call for a connection that is not answered yet."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.wait: Wait | None = None
        self.placed: float | None = None  # when it had a place in the pool


class Recorder:
    """Everything that one gauge has seen.

    Threads may tell it something at once, and the garbage collector in the midst of that: hence the lock, which a
    thread may take again.
    """

    def __init__(self, pool: Pool) -> None:
        self.lanes: list[Lane] = []
        self.checkouts = self.statements = self.timeouts = self.lost = 0
        self.waiting = self.most_waiting = self.most_overflow = 0
        self.earlier = pool.checkedout() if isinstance(pool, QueuePool) else 0  # out before, and not seen since
        self.out = self.most_out = self.earlier
        self.ended: float | None = None
        self._pool = pool
        self._zero = perf_counter()
        self.samples = [Sample(0.0, self.out, 0, overflow_of(pool))]
        self._lock = threading.RLock()
        self._lane_of: WeakKeyDictionary[Requester, Lane] = WeakKeyDictionary()
        self._unnamed = 0
        self._wishes: dict[Any, Wish] = {}  # by greenlet: the pool's methods run in one
        self._holds: dict[int, Hold] = {}  # by id of the pool's record, which outlives the hold
        self._running: dict[int, Hold] = {}  # by id of the execution context

    def now(self) -> float:
        """Seconds since the gauge was opened, or the moment it was closed."""
        return perf_counter() - self._zero if self.ended is None else self.ended

    def end(self) -> None:
        with self._lock:
            self.ended = self.now()

    # asking for a connection

    def asked(self) -> None:
        with self._lock:
            self._wishes[greenlet.getcurrent()] = Wish(self._lane())

    def waits(self) -> None:
        with self._lock:
            wish = self._wishes.get(greenlet.getcurrent())
            if wish is not None:
                wish.wait = Wait(self.now())
                wish.lane.waits.append(wish.wait)
                self._change(waiting=1)

    def waited(self) -> None:
        with self._lock:
            wish = self._wishes.get(greenlet.getcurrent())
            if wish is not None and wish.wait is not None and wish.wait.ended is None:
                wish.wait.ended, wish.wait.outcome = self.now(), "served"
                self._change(waiting=-1)

    def opens(self) -> None:
        """The wish has a place in the pool, and its connection is being opened."""
        with self._lock:
            wish = self._wishes.get(greenlet.getcurrent())
            if wish is not None:
                wish.placed = self.now()
                self._change(out=1)

    def got(self, record: Any) -> None:
        with self._lock:
            wish = self._wishes.pop(greenlet.getcurrent(), None)
            if wish is None:  # it asked before the gauge was opened
                return
            if wish.placed is None:
                wish.placed = self.now()
                self._change(out=1)
            self._begin(record, Hold(wish.placed), wish.lane)

    def refused(self, error: BaseException) -> None:
        with self._lock:
            wish = self._wishes.pop(greenlet.getcurrent(), None)
            if wish is None:
                return
            self.timeouts += isinstance(error, PoolTimeout)
            if wish.placed is not None:
                self._change(out=-1)
            elif wish.wait is not None:
                wish.wait.outcome = "timed out" if isinstance(error, PoolTimeout) else "gave up"

    # holding it

    def checked_out(self, record: Any, proxy: Any) -> None:
        """The connection is open and was found alive."""
        with self._lock:
            hold = self._holds.get(id(record))
            if hold is None:  # it asked before the gauge was opened
                hold = self._begin(record, Hold(self.now()), self._lane())
                self._change(out=1)
            self.checkouts += 1
            hold.proxy = ref(proxy)
            hold.work.append((hold.began, self.now()))

    def given_back(self, record: Any) -> None:
        with self._lock:
            hold = self._holds.pop(id(record), None)
            if hold is not None:
                hold.end(self.now())
                self.lost += hold.lost
                self._change(out=-1)
            elif self.earlier:
                self.earlier -= 1
                self._change(out=-1)

    def is_back(self) -> None:
        """The pool has it in its queue, or has closed it."""
        with self._lock:
            self._sample()

    def _begin(self, record: Any, hold: Hold, lane: Lane) -> Hold:
        self._holds[id(record)] = hold
        lane.holds.append(hold)
        return hold

    # what runs on it

    def sent(self, context: Any, record: Any) -> None:
        with self._lock:
            self.statements += 1
            if record is None:  # a connection that was taken out of the pool for good
                return
            hold = self._holds.get(id(record))
            if hold is None:  # it was held before the gauge was opened
                hold = self._begin(record, Hold(0.0, earlier=True), self._lane())
                self.earlier = max(0, self.earlier - 1)
            self._running[id(context)] = hold
            hold.running = self.now()

    def answered(self, context: Any) -> None:
        with self._lock:
            hold = self._running.pop(id(context), None)
            if hold is not None:
                hold.rest(self.now())

    def ends_transaction(self, record: Any) -> None:
        with self._lock:
            hold = self._holds.get(id(record))
            if hold is not None:
                hold.running = self.now()

    def ended_transaction(self, record: Any) -> None:
        with self._lock:
            hold = self._holds.get(id(record))
            if hold is not None:
                hold.rest(self.now())

    # lanes and counts

    def _lane(self) -> Lane:
        who = requester()
        if who not in self._lane_of:
            name = given_name(who)
            self._unnamed += not name
            self._lane_of[who] = Lane(name or f"request {self._unnamed}")
            self.lanes.append(self._lane_of[who])
        return self._lane_of[who]

    def _change(self, *, out: int = 0, waiting: int = 0) -> None:
        self.out += out
        self.waiting += waiting
        self.most_out = max(self.most_out, self.out)
        self.most_waiting = max(self.most_waiting, self.waiting)
        self._sample()

    def moved_to(self, pool: Pool) -> None:
        """The engine was disposed, and has another pool. What is out of the old one goes back to that."""
        with self._lock:
            self._pool = pool
            self._sample()

    def _sample(self) -> None:
        overflow = overflow_of(self._pool)
        self.most_overflow = max(self.most_overflow, overflow)
        self.samples.append(Sample(self.now(), self.out, self.waiting, overflow))


def overflow_of(pool: Pool) -> int:
    """How many connections are open beyond the pool's size."""
    return max(0, pool.overflow()) if isinstance(pool, QueuePool) else 0
