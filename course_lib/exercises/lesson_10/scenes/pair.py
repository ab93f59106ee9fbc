"""A primary with a standby that the judge can hold back, both seen through wires by the learner's engines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.data.fresh_server import fresh_server
from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.instruments.network import Wire
from course_lib.postgres.extra_server import ExtraServer

SEGMENT = "0000000100000000000000FC"  # four of a megabyte before an LSN grows from 7 to 8 digits
LONGER = "0/10000000"
NEXT_SEGMENT = "SELECT pg_logical_emit_message(false, 'judge', '-'), pg_switch_wal()"
SECONDS = 10  # for the standby to do as it is told
POOL: dict[str, Any] = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 2}


@dataclass
class Pair:
    """Two servers, a connection of the judge's to each, and the learner's engines."""

    primary: ExtraServer
    standby: ExtraServer
    on_primary: asyncpg.Connection[Any]
    on_standby: asyncpg.Connection[Any]
    wires: tuple[Wire, Wire]
    engines: tuple[AsyncEngine, AsyncEngine]

    def held(self) -> int:
        """Connections that the learner's engines have out."""
        return sum(engine.pool.checkedout() for engine in self.engines)  # type: ignore[attr-defined]

    async def caught_up(self) -> None:
        """Wait until the standby has replayed all that the primary has written."""
        lsn = await self.on_primary.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        await self._until(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")

    async def pause(self) -> None:
        """The standby replays nothing more."""
        await self.on_standby.execute("SELECT pg_wal_replay_pause()")
        await self._until("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    async def resume(self) -> None:
        await self.on_standby.execute("SELECT pg_wal_replay_resume()")

    async def lengthen(self) -> None:
        """Write on until an LSN has a digit more than those that the standby has replayed."""
        while not await self.on_primary.fetchval(f"SELECT pg_current_wal_insert_lsn() > '{LONGER}'"):
            await self.on_primary.execute(NEXT_SEGMENT)

    async def _until(self, question: str) -> None:
        patience = time.monotonic() + SECONDS
        while not await self.on_standby.fetchval(question):
            if time.monotonic() > patience:
                raise CourseError("The standby that this check has made does not follow.", "Run the check again.")
            await asyncio.sleep(0.005)


@asynccontextmanager
async def standby_pair() -> AsyncIterator[Pair]:
    """A fresh pair with the product's rows, gone at the end of the block. It takes half a second.

    Raises:
        CourseError: servers of one's own cannot be had here.
    """
    primary = await fresh_server("judged")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(primary.remove)
        await primary.stop()
        reset = ["-l", SEGMENT, "-D", str(primary.cluster.data)]
        await asyncio.to_thread(primary.cluster.programs.run, "pg_resetwal", reset)
        await primary.start()
        standby = await primary.standby("judged_standby", max_standby_streaming_delay="0")
        stack.push_async_callback(standby.remove)
        judges = [await asyncpg.connect(server.dsn, timeout=10) for server in (primary, standby)]
        wires = [Wire.open(server.url) for server in (primary, standby)]
        engines = [make_engine(wire.url, **POOL) for wire in wires]
        try:
            yield Pair(primary, standby, judges[0], judges[1], (wires[0], wires[1]), (engines[0], engines[1]))
        finally:
            for engine in engines:
                await engine.dispose(close=engine.pool.checkedout() == 0)  # type: ignore[attr-defined]
            for wire in wires:
                wire.close()
            for connection in judges:
                connection.terminate()
