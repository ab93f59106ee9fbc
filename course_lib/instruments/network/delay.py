"""The instrument: an engine like the given one whose way to the server is longer."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast, overload

import psycopg
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.instruments.network.cancelling import cancel_in_python
from course_lib.instruments.network.door import LOCAL, PortDoor, SocketDoor
from course_lib.instruments.network.proxy import Proxy
from course_lib.instruments.network.route import through_proxy, upstream_of
from course_lib.postgres.failures import DOCTOR, connection_failure

DISPOSE_SECONDS = 5
HOW_TO_WRITE_IT = "Write: async with network_delay(engine, round_trip_ms=5) as network:"

E = TypeVar("E", bound=AsyncEngine | Engine)
S = TypeVar("S", bound=AsyncSession | Session)


@overload
def network_delay(
    engine: AsyncEngine, round_trip_ms: float = 0, **engine_options: Any
) -> Network[AsyncEngine, AsyncSession]: ...
@overload
def network_delay(engine: Engine, round_trip_ms: float = 0, **engine_options: Any) -> Network[Engine, Session]: ...
def network_delay(engine: AsyncEngine | Engine, round_trip_ms: float = 0, **engine_options: Any) -> Network[Any, Any]:
    """Reach the server of ``engine`` over a network with the given round trip, and count what travels.

    ``async with network_delay(engine, round_trip_ms=5) as network:`` gives a ``Network``. With a synchronous
    engine a plain ``with`` does too. Latency is added, bandwidth is not limited.

    Args:
        engine: its address, with the password in it, and its execution options are taken over, nothing else: neither
            its pool nor its ``connect_args``. It is not touched. Nobody but this user's programs gets in by the way
            that is opened to its server.
        round_trip_ms: milliseconds that pass at least between a question and its answer; 0 only counts. It really
            takes a little more, for timers and threads: half a millisecond for each round trip where this was
            measured (5.6 for 5, 20.6 for 20), one or two on a busy machine, up to 16 by the timers of Windows.
        engine_options: for the engine that is made, as for ``make_engine``: ``pool_size``, ``connect_args``, ``echo``.

    ``cancel()`` of a psycopg connection that was opened by hand, on the address of ``network.engine``, stands still
    for good: it keeps the interpreter from the proxy. Its ``cancel_safe()`` does not, nor do the engine's connections.

    Raises:
        CourseError: what was given is no engine or no number of milliseconds. On entering: the address names no
            single host, the server does not answer, its certificate cannot be checked through the proxy, or there is
            no folder for the proxy's socket that is private.
    """
    if not isinstance(engine, AsyncEngine | Engine):
        raise CourseError(
            f"network_delay stands in front of an engine's server, and {type(engine).__name__} is no engine.",
            HOW_TO_WRITE_IT,
        )
    if not isinstance(round_trip_ms, int | float) or not 0 <= round_trip_ms < math.inf:
        raise CourseError(
            f"A round trip takes a number of milliseconds, and {round_trip_ms!r} is none.", "Try: round_trip_ms=5"
        )
    return Network(engine, round_trip_ms, engine_options)


class Network(Generic[E, S]):
    """The engine behind the proxy, and what passed. Made by ``network_delay``.

    On entering, a first connection is opened without delay and lies in the pool; then the counters start at zero. A
    further connection costs its own round trips: TCP's, and those of PostgreSQL's greeting.

    Attributes:
        round_trip_ms: the delay asked for.
    """

    def __init__(self, engine: AsyncEngine | Engine, round_trip_ms: float, engine_options: dict[str, Any]) -> None:
        self.round_trip_ms = round_trip_ms
        self._given = engine
        self._options = engine_options
        self._engine: E | None = None
        self._proxy: Proxy | None = None  # while the block is open
        self._zero = self._last = (0, 0, 0)

    @property
    def engine(self) -> E:
        """Of the same kind as the one given, on the address of the proxy; disposed at the end of the block.

        Raises:
            CourseError: the block was not entered yet.
        """
        if self._engine is None:
            raise CourseError("This network is open inside its block only.", HOW_TO_WRITE_IT)
        return self._engine

    def session(self) -> S:
        """A new session on ``engine``; its objects stay readable after commit.

        Raises:
            CourseError: the block is not open.
        """
        if self._proxy is None:
            raise CourseError("This network is open inside its block only.", HOW_TO_WRITE_IT)
        kind: Any = AsyncSession if isinstance(self.engine, AsyncEngine) else Session
        session: S = kind(self.engine, expire_on_commit=False)
        return session

    # what was counted

    @property
    def round_trips(self) -> int:
        """How often a client waited for the server: BEGIN, COMMIT and ROLLBACK travel too, and so does preparing."""
        return self._counted()[0] - self._zero[0]

    @property
    def bytes_sent(self) -> int:
        """Bytes that clients sent to the server.

        asyncpg numbers its prepared statements for the whole process, so their names can be a digit longer next time.
        """
        return self._counted()[1] - self._zero[1]

    @property
    def bytes_received(self) -> int:
        """Bytes that the server sent to clients."""
        return self._counted()[2] - self._zero[2]

    def reset(self) -> None:
        """Count from zero again."""
        self._zero = self._counted()

    def _counted(self) -> tuple[int, int, int]:
        if (proxy := self._proxy) is not None:
            self._last = (proxy.round_trips, proxy.bytes_sent, proxy.bytes_received)
        return self._last

    def __str__(self) -> str:
        trips = f"{self.round_trips:,} round trip" + ("" if self.round_trips == 1 else "s")
        return f"{trips}, {self.bytes_sent:,} bytes sent, {self.bytes_received:,} bytes received"

    __repr__ = __str__

    # the block

    async def __aenter__(self) -> Network[E, S]:
        if isinstance(self._given, Engine):
            return self.__enter__()
        proxy = self._open()
        try:
            async with cast(AsyncEngine, self.engine).connect():
                pass
        except BaseException as error:
            await self.__aexit__()
            if (failure := self._explained(error, proxy)) is None:
                raise
            raise failure from error
        self._begin(proxy)
        return self

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._given, Engine):
            self.__exit__()
            return
        proxy = self._end()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(DISPOSE_SECONDS):
                    await cast(AsyncEngine, self.engine).dispose()
        finally:
            proxy.stop()

    def __enter__(self) -> Network[E, S]:
        if isinstance(self._given, AsyncEngine):
            raise CourseError(
                "An asynchronous engine needs an asynchronous block.",
                HOW_TO_WRITE_IT,
            )
        proxy = self._open()
        try:
            with cast(Engine, self.engine).connect():
                pass
        except BaseException as error:
            self.__exit__()
            if (failure := self._explained(error, proxy)) is None:
                raise
            raise failure from error
        self._begin(proxy)
        return self

    def __exit__(self, *_: object) -> None:
        proxy = self._end()
        try:
            cast(Engine, self.engine).dispose()
        finally:
            proxy.stop()

    def _open(self) -> Proxy:
        if self._proxy is not None:
            raise CourseError("This network is already open.", "Make a second one: network_delay(engine, …)")
        upstream = upstream_of(self._given.url)
        proxy = Proxy(upstream, SocketDoor() if upstream.is_socket else PortDoor())
        try:
            proxy.start()
            self._engine = self._make_engine(through_proxy(self._given.url, proxy.door.host, proxy.door.port))
        except BaseException as error:
            proxy.stop()
            if isinstance(error, OSError):
                raise CourseError(
                    f"This system does not let the proxy listen {proxy.door}: {error.strerror or error}.", DOCTOR
                ) from error
            raise
        self._proxy = proxy
        return proxy

    def _make_engine(self, url: URL) -> Any:
        given = self._given.sync_engine if isinstance(self._given, AsyncEngine) else self._given
        options = {"execution_options": dict(given.get_execution_options()), **self._options}
        engine = make_engine(url, **options) if isinstance(self._given, AsyncEngine) else create_engine(url, **options)
        cancel_in_python(engine.sync_engine if isinstance(engine, AsyncEngine) else engine)
        return engine

    def _begin(self, proxy: Proxy) -> None:
        self.reset()
        proxy.delay = self.round_trip_ms / 1000

    def _end(self) -> Proxy:
        """Stop counting and delaying: what follows is only the connections' goodbye."""
        assert self._proxy is not None
        self._counted()
        proxy, self._proxy = self._proxy, None
        proxy.delay = 0.0
        return proxy

    def _explained(self, error: BaseException, proxy: Proxy) -> CourseError | None:
        """The sentence for a server that cannot be reached, or None when ``error`` is about something else."""
        if proxy.turned_away and not proxy.round_trips:
            return CourseError(
                f"The proxy on {LOCAL} lets in this program only, and the system did not show whose connection came.",
                "Run it outside this container or sandbox.",
            )
        cause = proxy.unreachable or getattr(error, "orig", None) or error
        mend = "See whether the engine itself connects: the proxy only passes on what it hears."
        if isinstance(cause, psycopg.OperationalError):
            reason = (str(cause).strip().splitlines() or ["no reason given"])[0]
            return CourseError(f"There is no connection to {proxy.upstream} through the proxy: {reason}", mend)
        failure = connection_failure(cause, str(proxy.upstream))
        return CourseError(failure.sentence, mend) if failure is not None else None
