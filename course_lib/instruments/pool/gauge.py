"""The pool gauge itself: it opens and closes, and tells what was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import Pool, QueuePool

from course_lib.errors import CourseError
from course_lib.instruments.pool import hooks
from course_lib.instruments.pool.lanes import Hold, Lane
from course_lib.instruments.pool.recorder import Recorder, Sample
from course_lib.instruments.pool.rendering import render_html, render_text

if TYPE_CHECKING:
    from course_lib.instruments.pictures import Picture


class PoolGauge:
    """What becomes of an engine's connections while the block is open.

    ``with PoolGauge(engine) as gauge:`` sees every task of asyncio, or thread, that asks the engine's pool for a
    connection: how long it waits, how long it holds one, and when a statement runs on that. Each is a request with a
    lane of its own, under the name that its task was given, else ``request 1``, ``request 2`` in the order in which
    they asked. Opening a connection counts as work, not as waiting. After the block the engine is as it was before.

    On Python 3.11 ``asyncio.wait_for`` runs what it is given in a task of its own, which gets a lane of its own; under
    ``asyncio.timeout`` it stays in the lane.

    Args:
        engine: an AsyncEngine or an Engine. With ``NullPool`` nobody waits, and everything else is counted.

    Raises:
        CourseError: what was given is no engine, or the gauge is already open.
    """

    def __init__(self, engine: AsyncEngine | Engine) -> None:
        self._engine = _engine_to_watch(engine)
        self._describe(self._engine.pool)
        self._recorder = Recorder(self._engine.pool)
        self._recorder.end()
        self.is_open = False

    def _describe(self, pool: Pool) -> None:
        self.has_limit = isinstance(pool, QueuePool) and pool._max_overflow >= 0
        self.pool_size = pool.size() if isinstance(pool, QueuePool) else 0
        self.max_overflow = pool._max_overflow if isinstance(pool, QueuePool) else 0
        if not isinstance(pool, QueuePool):
            self.pool = f"{type(pool).__name__}: nothing to wait for"
        elif not self.has_limit:
            self.pool = "a pool without a limit"
        else:
            self.pool = f"a pool of {self.pool_size}" + (f" + {self.max_overflow}" if self.max_overflow else "")

    def __enter__(self) -> PoolGauge:
        if self.is_open:
            raise CourseError("This gauge is already open.", "Open a second one: with PoolGauge(engine) as gauge:")
        self._describe(self._engine.pool)
        self._recorder = Recorder(self._engine.pool)
        hooks.listen(self._engine, self._told)
        self.is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False
        self._recorder.end()
        hooks.stop(self._engine, self._told)

    async def __aenter__(self) -> PoolGauge:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def _told(self) -> Recorder:
        return self._recorder

    # how many

    @property
    def requests(self) -> int:
        """Tasks or threads that used the pool."""
        return len(self._recorder.lanes)

    @property
    def checkouts(self) -> int:
        """How often a connection was got."""
        return self._recorder.checkouts

    @property
    def statements(self) -> int:
        """Statements sent; BEGIN, COMMIT and ROLLBACK are none."""
        return self._recorder.statements

    @property
    def timeouts(self) -> int:
        """How often somebody waited for longer than ``pool_timeout``."""
        return self._recorder.timeouts

    @property
    def most_out(self) -> int:
        """Most connections out at once, those that were out before included."""
        return self._recorder.most_out

    @property
    def most_overflow(self) -> int:
        """Most connections open at once beyond the pool's size."""
        return self._recorder.most_overflow

    @property
    def most_waiting(self) -> int:
        """The longest queue."""
        return self._recorder.most_waiting

    @property
    def still_out(self) -> int:
        """Connections out now, or when the block ended."""
        return self._recorder.out

    @property
    def lost(self) -> int:
        """Connections that nobody gave back: nothing referred to them any more, and the garbage collector came."""
        return self._recorder.lost

    # how long, in seconds

    @property
    def waits(self) -> list[float]:
        """How long each wait for the pool took, in vain or not. Who was served at once did not wait."""
        now = self._recorder.now()
        spans = sorted(wait.span(now) for lane in self._recorder.lanes for wait in lane.waits)
        return [ended - began for began, ended in spans]

    @property
    def holds(self) -> list[float]:
        """How long each checkout kept its place in the pool, in the order in which they got it."""
        now = self._recorder.now()
        spans = sorted(hold.span(now) for hold in self._holds if not hold.earlier)
        return [ended - began for began, ended in spans]

    @property
    def longest_wait(self) -> float:
        return max(self.waits, default=0.0)

    @property
    def longest_hold(self) -> float:
        return max(self.holds, default=0.0)

    @property
    def held_seconds(self) -> float:
        """All holds together."""
        return sum(self.holds)

    @property
    def held_idle(self) -> float:
        """The share of the held time in which nothing ran on the connection, 0 to 1.

        A connection is not idle while it is opened, while a statement runs, and at COMMIT or ROLLBACK.
        """
        now = self._recorder.now()
        held = sum(hold.seconds(now) for hold in self._holds)
        worked = sum(hold.working(now) for hold in self._holds)
        return max(0.0, 1 - worked / held) if held else 0.0

    @property
    def _holds(self) -> list[Hold]:
        """Without those whose connection could not be opened."""
        return [hold for lane in self._recorder.lanes for hold in lane.holds if hold.proxy or hold.earlier]

    # how it looks

    @property
    def lanes(self) -> list[Lane]:
        """The requests, in the order in which they asked."""
        return list(self._recorder.lanes)

    @property
    def samples(self) -> list[Sample]:
        """How the pool stood, from each change to the next."""
        return list(self._recorder.samples)

    @property
    def seconds(self) -> float:
        """How long the block has been open."""
        return self._recorder.now()

    def __str__(self) -> str:
        return render_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render_html(self)

    def plot(self, title: str | None = None, seconds: float | None = None) -> Picture:
        """The requests as lanes over time, and below them how many were out and waiting.

        Args:
            title: what stands above; by default how many requests on which pool.
            seconds: where the clock ends, for pictures that are compared; by default with what was last seen.
        """
        from course_lib.instruments.pool.picture import draw

        return draw(self, title, seconds)


def _engine_to_watch(engine: object) -> Engine:
    if isinstance(engine, AsyncEngine):
        engine = engine.sync_engine
    if not isinstance(engine, Engine):
        raise CourseError(
            f"PoolGauge watches an engine, and {type(engine).__name__} is none.",
            "Write: with PoolGauge(engine) as gauge:",
        )
    while isinstance(owner := getattr(engine, "_proxied", None), Engine):
        engine = owner  # of execution_options(): it shares the pool of the engine it was made from
    return engine
