"""Connections that the learner's code holds, however it came by them."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.judging.attempt import Attempt

GOODBYE = 0.5  # seconds for the server to see a closed connection off; only a wrong answer makes us wait for so long


def out_of(engine: AsyncEngine) -> int:
    """How many connections are out of an engine's pool."""
    out: int = engine.pool.checkedout()  # type: ignore[attr-defined]
    return out


async def held_now(attempt: Attempt, *engines: AsyncEngine) -> int:
    """How many connections are held: out of the pools of ``engines``, or at the server and in none of these pools.

    Without ``engines`` it is the attempt's. So the connections of an engine of the answer's own count, and those that
    were detached; one that is closed does not, though the server takes a moment to see it off.
    """
    pools = [engine.pool for engine in engines or (attempt.engine,)]
    out = sum(pool.checkedout() for pool in pools)  # type: ignore[attr-defined]
    deadline = asyncio.get_running_loop().time() + GOODBYE
    while not out:
        there = attempt.connections()
        besides = there - sum(pool.checkedin() for pool in pools)  # type: ignore[attr-defined]
        if besides <= 0:
            return 0
        if asyncio.get_running_loop().time() > deadline:
            return besides
        await asyncio.sleep(0.005)
        out = sum(pool.checkedout() for pool in pools)  # type: ignore[attr-defined]
    return out
