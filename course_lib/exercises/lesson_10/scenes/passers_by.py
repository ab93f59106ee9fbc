"""Somebody reads the table and somebody writes to it before each statement and each COMMIT of the job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import choice, randbelow
from typing import Any

from sqlalchemy import text

from course_lib.exercises.lesson_10.scenes.months import COUNT, INSERT, Month, Night, values_of
from course_lib.judging.asking import BLOCKED, LONGEST, LONGEST_HOLD
from course_lib.judging.attempt import Attempt
from course_lib.judging.turns import Call, Race, run_race

STEPS = 60  # statements of a job; the rest it does alone
LOOK = 0.003  # seconds
THEIRS = "written meanwhile"


@dataclass
class PassersBy:
    """One reader and one writer at a time; who has to wait is waited for, and no other comes meanwhile."""

    attempt: Attempt
    night: Night
    fresh: Sequence[Month]
    """The months that have no partition yet: two of three writers write there."""
    seen: list[int] = field(default_factory=list)
    """How many rows each reader found, of those that are kept and were there before."""
    stored: list[datetime] = field(default_factory=list)
    """What writers have committed."""
    at_work: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def walk_through(self, *arguments: Any) -> None:
        """Call the answer with these arguments while they come and go.

        Raises:
            Wrong: it raised.
            DBAPIError: a reader or a writer was refused.
        """

        async def script(race: Race) -> None:
            job = race.start(self.attempt.answer, *arguments)
            steps = 0
            while not job.ended and steps < STEPS:
                if await self._comes_to_a_turn(job):
                    await self._come()
                    job.go_on()
                    steps += 1
            race.run_freely()
            await race.results()

        await run_race(self.attempt, script)
        for task in self.at_work.values():
            await task

    async def _comes_to_a_turn(self, job: Call) -> bool:
        """False once it has ended, or waits for longer than anybody here may let it wait."""
        until = asyncio.get_running_loop().time() + LONGEST + LONGEST_HOLD
        while not (job.ended or job.waits_for_turn):
            if asyncio.get_running_loop().time() > until:
                return False
            await asyncio.sleep(LOOK)
        return job.waits_for_turn

    async def _come(self) -> None:
        for who, comes in (("reader", self._read), ("writer", self._write)):
            task = self.at_work.get(who)
            if task is None or task.done():
                if task is not None:
                    task.result()
                self.at_work[who] = asyncio.ensure_future(comes())
        async with self.attempt.judge_session() as eyes:
            await eyes.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            while waiting := [task for task in self.at_work.values() if not task.done()]:
                if await eyes.scalar(text(BLOCKED)) >= len(waiting):
                    return
                await asyncio.wait(waiting, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)

    async def _read(self) -> None:
        async with self.attempt.judge_session() as session:
            arguments = {"first": self.night.oldest, "but": THEIRS}
            self.seen.append(int(await session.scalar(text(COUNT), arguments) or 0))

    async def _write(self) -> None:
        month = choice(self.fresh) if randbelow(3) else choice(self.night.months)
        moment = month.first + timedelta(days=2, microseconds=randbelow(10**11))
        async with self.attempt.judge_session() as session:
            await session.execute(text(INSERT), values_of([moment], THEIRS))
            await session.commit()
        self.stored.append(moment)
