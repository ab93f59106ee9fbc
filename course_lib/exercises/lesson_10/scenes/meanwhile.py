"""What happens to a document while a worker has it in hand: a change, another worker, both."""

from __future__ import annotations

import asyncio
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises.lesson_10.scenes.carrying import agree, drain, play
from course_lib.exercises.lesson_10.scenes.second_copies import Stage
from course_lib.judging.asking import NOT_AVAILABLE, until_blocked
from course_lib.judging.moments import first_of
from course_lib.judging.trouble import sqlstate_of
from course_lib.judging.turns import Race, run_race

TURNS = 16  # more than a step takes


async def changed_meanwhile(stage: Stage, number: int, early: bool) -> None:
    """The change's entry may have been added ``early``, before the one that is carried, in an open transaction."""
    id = await stage.add()
    await drain(stage)
    async with stage.attempt.session() as writer:
        if early:
            await stage.attempt.call(writer, id, function=stage.boxes[1].enqueue)
        await stage.commit("replace", id, 4)
        hang = stage.hang(id, number)

        async def scene() -> None:
            running = asyncio.ensure_future(stage.boxes[0].carry())
            await first_of(running, hang.begun)
            try:
                await _write(stage, writer, id, early)
            finally:
                hang.goes_on.set()
                await running

        await play(stage, scene)
    stage.let_go()
    how = ", an entry with a smaller id" if early else ""
    await agree(stage, "lost meanwhile", how=how)


async def _write(stage: Stage, writer: AsyncSession, id: UUID, early: bool) -> None:
    try:
        await stage.change(writer, "change", id)
        if not early:
            await stage.boxes[1].enqueue(writer, id)
        await writer.commit()
    except Exception as error:
        if sqlstate_of(error) == NOT_AVAILABLE:
            raise stage.attempt.wrong("writer waits") from error
        raise


async def two_at_once(stage: Stage, number: int, early: bool) -> None:
    """One worker has read the passages and stands in the store; they change, and another worker comes."""
    id, other = await stage.add(), await stage.add()
    await drain(stage)
    async with stage.attempt.session() as writer:
        if early:
            await stage.attempt.call(writer, id, function=stage.boxes[1].enqueue)
        await stage.commit("replace", id, 4)
        hang = stage.hang(id, number)

        async def scene() -> None:
            running = asyncio.ensure_future(stage.boxes[0].carry())
            await first_of(running, hang.begun)
            try:
                if not running.done():
                    await _write(stage, writer, id, early)
                    await _carry_beside(stage, other)
            finally:
                hang.goes_on.set()
                await running

        await play(stage, scene)
    stage.let_go()
    await agree(stage, "older over newer")


async def _carry_beside(stage: Stage, other: UUID) -> None:
    async with stage.attempt.session() as session:
        await stage.change(session, "change", other)
        await stage.boxes[1].enqueue(session, other)
        await session.commit()
    for _ in range(3):
        beside = asyncio.ensure_future(stage.boxes[1].carry())
        await until_blocked(stage.attempt, beside, 1)
        if not beside.done():
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
            raise stage.attempt.wrong("waits")
        if not await beside:
            break
    stage.attempt.expect(not await stage.difference([other]), "stopped", count=3)


async def one_amid_another(stage: Stage) -> None:
    """A change and a step that happen while another step is after its first statement, after its second, and so on."""
    for turns in range(1, TURNS):
        id = await stage.add()

        async def script(race: Race, turns: int = turns, id: UUID = id) -> bool:
            first = race.start(stage.boxes[0].carry)
            await race.run_alone(first, turns)
            ended = first.ended
            if not ended:
                async with stage.attempt.session() as session:
                    await stage.change(session, "replace", id, 3)
                    await stage.boxes[-1].enqueue(session, id)
                    await session.commit()
                await race.run_alone(race.start(stage.boxes[1].carry))
                await race.take_turns()
            await race.results()
            return ended

        ended = await run_race(stage.attempt, script)
        await agree(stage, "between two statements", statements=turns)
        if ended:
            return
