"""Workers that carry entries: one step, all that is due, several rounds, and a storm of changes and failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any
from uuid import UUID

from course_lib.exercises.lesson_10.scenes.second_copies import MOST_CALLS, Stage
from course_lib.instruments.second_store import StoreFailed
from course_lib.judging.asking import calling_it
from course_lib.judging.quoting import article

DOCUMENTS, CHANGES, WEATHER = 8, 40, 0.35
CANCELLED = 0.3  # the share of steps that are cancelled in a storm
ROUNDS = 6


async def carry(stage: Stage, worker: int = 0) -> bool:
    """One step of a worker; what it said."""
    attempt = stage.attempt
    with calling_it(attempt, "failure came out", StoreFailed):
        said = await attempt.call(function=stage.boxes[worker].carry)
    attempt.expect(isinstance(said, bool), "not a bool", kind=article(said))
    held = attempt.engine.pool.checkedout()  # type: ignore[attr-defined]
    attempt.expect(held == 0, "connection held", count=held)
    return bool(said)


async def play(stage: Stage, scene: Callable[[], Awaitable[None]]) -> None:
    """Several steps at once, within the limits of a single call."""
    scene.__name__ = stage.attempt.exercise.answer  # the name that a message gives
    await stage.attempt.call(function=scene)


async def drain(stage: Stage, worker: int = 0) -> int:
    """Steps until there is nothing to be taken; how many there were, MOST_CALLS at the most."""
    for steps in range(MOST_CALLS):
        if not await carry(stage, worker):
            return steps
    return MOST_CALLS


async def agree(stage: Stage, mistake: str, **told: Any) -> None:
    """Rounds until the outbox is empty, and then the stores are compared.

    Raises:
        Wrong: ``mistake``, with the ``difference`` and the ``left`` entries.
    """
    before = await stage.fingerprint()
    for _ in range(ROUNDS):
        await stage.make_due()
        await drain(stage)
        if not await stage.entries():
            break
    difference, left = await stage.difference(), len(await stage.entries())
    stage.attempt.expect(await stage.fingerprint() == before, "passages changed")
    said = f"of the copied passages {difference}" if difference else "the stores agree"
    stage.attempt.expect(not difference and not left, mistake, difference=said, left=left, **told)


async def storm(stage: Stage) -> None:
    """Changes, some rolled back, while two workers carry, the store fails at random, and workers are cancelled."""
    documents = [await stage.add(3) for _ in range(DOCUMENTS)]
    over, random = asyncio.Event(), Random()

    async def write() -> None:
        for _ in range(CHANGES):
            id = random.choice(documents)
            how, more = random.choice([("replace", [1 + random.randrange(4)]), ("replace", [2]), ("delete", [])])
            async with stage.attempt.session() as session:
                first = random.random() < 0.5
                if first:
                    await stage.boxes[-1].enqueue(session, id)
                await stage.change(session, how, id, *more)
                if not first:
                    await stage.boxes[-1].enqueue(session, id)
                await (session.rollback() if random.random() < 0.2 else session.commit())
            await asyncio.sleep(random.random() * 0.004)
        over.set()

    async def work(worker: int) -> None:
        while not over.is_set():
            step = asyncio.ensure_future(stage.boxes[worker].carry())
            if random.random() < CANCELLED:
                await asyncio.wait({step}, timeout=random.random() * 0.01)
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)  # a dead worker may say what it likes
            elif not await step:
                await asyncio.sleep(0.003)
                await stage.make_due()

    async def scene() -> None:
        stage.weather = WEATHER
        tasks = [asyncio.ensure_future(one) for one in (write(), work(0), work(1))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            stage.weather = 0

    with calling_it(stage.attempt, "failure came out", StoreFailed):
        await play(stage, scene)
    await _outage(stage, documents)
    await agree(stage, "never agreed", changes=CHANGES)


async def _outage(stage: Stage, documents: list[UUID]) -> None:
    """For a while the store refuses each document."""
    for id in documents:
        await stage.commit("replace", id, 2)
    stage.refused.update(documents)
    for _ in range(2):
        await stage.make_due()
        await drain(stage)
    stage.refused.clear()
