"""The gate of 3.8: connections that stand just before their INSERT of a message until they are let through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.db import make_engine
from course_lib.judging.attempt import POOL, Attempt

AT_ONCE = 20
GATE = 20_260_308  # the first half of the keys of advisory locks; the second half is the number of the arrival
HELD = "held"  # the application_name of connections that stand at the gate
BUILD_GATE = f"""
    DO $do$ BEGIN
        CREATE SEQUENCE arrivals;
        CREATE FUNCTION stand_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS $stand$
        DECLARE
            arrival int := nextval('arrivals');
            longest int := setting FROM pg_settings WHERE name = 'lock_timeout';
        BEGIN
            IF longest > 0 THEN PERFORM set_config('lock_timeout', '0', true); END IF;
            PERFORM pg_advisory_lock_shared({GATE}, arrival);
            PERFORM pg_advisory_unlock_shared({GATE}, arrival);
            IF longest > 0 THEN PERFORM set_config('lock_timeout', longest::text, true); END IF;
            RETURN NEW;
        END $stand$;
        CREATE TRIGGER gate BEFORE INSERT ON messages FOR EACH ROW
        WHEN (current_setting('application_name') = '{HELD}') EXECUTE FUNCTION stand_at_the_gate();
    END $do$
"""
CLOSE_GATE = f"""
    SELECT setval('arrivals', 1, false), count(pg_advisory_lock({GATE}, arrival))
    FROM generate_series(1, {AT_ONCE}) AS arrival
"""


class Gate:
    """Advisory locks, one for each time that a held connection comes to an INSERT of a message.

    All are taken beforehand and released one after the other: taking one again could come too late.
    """

    def __init__(self, judge: AsyncSession) -> None:
        self.judge = judge
        self.arrivals = 0

    async def let_through(self) -> None:
        """Who stands there goes on, and stands again at the next INSERT."""
        self.arrivals += 1
        await self.judge.execute(text(f"SELECT pg_advisory_unlock({GATE}, {self.arrivals})"))

    async def open(self) -> None:
        await self.judge.execute(text("SELECT pg_advisory_unlock_all()"))


@asynccontextmanager
async def closed_gate(attempt: Attempt) -> AsyncIterator[Gate]:
    """A gate that is open again when the block ends. ``BUILD_GATE`` is to be run before."""
    async with attempt.judge_session() as judge:
        await judge.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        await judge.execute(text(CLOSE_GATE))
        gate = Gate(judge)
        try:
            yield gate
        finally:
            await gate.open()


@asynccontextmanager
async def held_engine(attempt: Attempt) -> AsyncIterator[AsyncEngine]:
    """An engine like the attempt's, whose connections stand at the gate."""
    settings = {"server_settings": {"application_name": HELD}}
    engine = make_engine(attempt.url, connect_args=settings, **POOL)
    try:
        yield engine
    finally:
        await engine.dispose()
