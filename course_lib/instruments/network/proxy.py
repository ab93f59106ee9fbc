"""A proxy that holds back what clients send, in a thread with an event loop of its own.

The whole round trip is put on the way to the server: a piece that arrives now goes on one round trip later, whatever
else is on its way. So there is one timer per round trip, order is kept, and a long transfer arrives late, not slowly.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import cast

from course_lib.instruments.network.door import Door
from course_lib.instruments.network.route import Upstream
from course_lib.instruments.network.trips import Trips

MOST_HELD = 64 * 1024 * 1024  # bytes on their way in one connection; only then a client has to wait
STOP_SECONDS = 10


class Proxy:
    """Between clients at ``door`` and the server; ``delay`` is the round trip in seconds and may be changed.

    The counters are written by the proxy's thread alone, before what they count is passed on. ``unreachable`` is why
    the server could not be reached the last time a client came; ``turned_away``, whether the door kept somebody out.
    """

    def __init__(self, upstream: Upstream, door: Door) -> None:
        self.door = door
        self.delay = 0.0
        self.round_trips = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.unreachable: OSError | ValueError | None = None
        self.turned_away = False
        self.upstream = upstream
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: Future[None] = Future()
        self._links: set[_Link] = set()
        # a daemon: an interpreter that ends does not wait for it
        self._thread = threading.Thread(target=self._run, name="network-delay", daemon=True)

    def start(self) -> None:
        """Open the door.

        Raises:
            OSError: the system allows nobody to listen there.
            CourseError: there is no place for it.
        """
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """Cut every connection, close the door and end the thread. Does nothing the second time."""
        try:
            if self._loop is not None:
                with suppress(RuntimeError):  # it is closed already
                    self._loop.call_soon_threadsafe(self._stop.set)
                self._thread.join(STOP_SECONDS)
        finally:
            self.door.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        server = await self.door.open(lambda: _Link(self))
        self._ready.set_result(None)
        await self._stop.wait()
        server.close()
        while self._links:
            for link in list(self._links):
                link.cut()
            await asyncio.sleep(0)  # the loop reports each end to the link, which then leaves the set

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """A connection to the server, handled by ``protocol``."""
        loop = asyncio.get_running_loop()
        try:
            if self.upstream.is_socket:
                await loop.create_unix_connection(lambda: protocol, self.upstream.host)
            else:
                await loop.create_connection(lambda: protocol, self.upstream.host, self.upstream.port)
        except (OSError, ValueError) as error:  # ValueError: a name that can be no host's
            self.unreachable = error
            raise

    def opened(self, link: _Link) -> None:
        self._links.add(link)
        self.round_trips += 1  # TCP's own, before the first byte

    def ended(self, link: _Link) -> None:
        self._links.discard(link)


class _Link(asyncio.Protocol):
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.trips = Trips()
        self.client: asyncio.Transport | None = None
        self.server = _ServerSide(self)
        self.server_is_full = False
        self._held: deque[tuple[float, bytes | None]] = deque()  # when it goes on, and what; None for the end
        self._bytes_held = 0

    # what the client does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        client = cast(asyncio.Transport, transport)
        if not self.proxy.door.admits(client):
            self.proxy.turned_away = True
            client.abort()
            return
        self.client = client
        self.client.pause_reading()
        self._loop = asyncio.get_running_loop()
        self._connected = self._loop.time() + self.proxy.delay  # connecting is a round trip of its own
        self.proxy.opened(self)
        self._reaching = self._loop.create_task(self._reach())

    async def _reach(self) -> None:
        try:
            await self.proxy.connect(self.server)
        except (OSError, ValueError):  # the client learns what it would learn from a server that goes away
            self.cut()
            return
        if self.client is None or self.client.is_closing():
            self.cut()
        else:
            self.client.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.proxy.bytes_sent += len(data)
        self._hold(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.client is None:  # never let in
            return
        self.client = None
        self._hold(None)
        self.leave()

    def pause_writing(self) -> None:
        if self.server.transport is not None:
            self.server.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.server.transport is not None:
            self.server.transport.resume_reading()

    # on the way to the server

    def _hold(self, data: bytes | None) -> None:
        due = max(self._loop.time(), self._connected) + self.proxy.delay
        if self._held:
            due = max(due, self._held[-1][0])  # in order, also when the delay has just been lowered
        self._held.append((due, data))
        self._bytes_held += len(data or b"")
        self.let_client_speak()
        if len(self._held) == 1:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._held and self._held[0][0] <= self._loop.time():
            _, data = self._held.popleft()
            self._bytes_held -= len(data or b"")
            if self.server.transport is None:
                continue
            if data is None:
                self.server.transport.close()
            else:
                self.trips.asked(data)
                self.server.transport.write(data)
        if self._held:
            self._loop.call_at(self._held[0][0], self._pass_on)
        self.let_client_speak()

    def let_client_speak(self) -> None:
        """Read on from the client, unless the server or the way to it takes no more."""
        if self.client is None or self.client.is_closing():
            return
        if self.server_is_full or self._bytes_held > MOST_HELD:
            self.client.pause_reading()
        elif not self.client.is_reading():
            self.client.resume_reading()

    # the end

    def cut(self) -> None:
        """Both connections end now, whatever is on its way."""
        self._held.clear()
        if not self._reaching.done() and asyncio.current_task() is not self._reaching:
            self._reaching.cancel()
        for transport in (self.client, self.server.transport):
            if transport is not None:
                transport.abort()

    def leave(self) -> None:
        if self.client is None and self.server.transport is None:
            self.proxy.ended(self)


class _ServerSide(asyncio.Protocol):
    """The connection to the server."""

    def __init__(self, link: _Link) -> None:
        self.link = link
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        proxy = self.link.proxy
        proxy.bytes_received += len(data)
        proxy.round_trips += self.link.trips.answered(data)
        if self.link.client is not None:
            self.link.client.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.link.client is not None:
            self.link.client.close()  # after what is written to it
        self.link.leave()

    def pause_writing(self) -> None:
        self.link.server_is_full = True
        self.link.let_client_speak()

    def resume_writing(self) -> None:
        self.link.server_is_full = False
        self.link.let_client_speak()
