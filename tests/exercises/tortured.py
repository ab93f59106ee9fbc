"""A small exercise to torture, and the verdict on answers to it."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises import Exercise, Verdict, judge_answer
from course_lib.judging.attempt import Attempt


class CountUsers(Exercise):
    """A small exercise to torture: how many users are there."""

    id = "0.9"
    title = "Count"
    answer = "count"
    hints: ClassVar = ("nudge", "nearly there")
    why = "Because."
    follow_up = "And if not?"
    seconds = 2.0
    mistakes: ClassVar = {"wrong number": "It said {said}. | Count again."}

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql("INSERT INTO users (email, name) SELECT md5(random()::text) || '@x.org', 'n'")
        async with attempt.session() as session:
            said = await attempt.call(session)
        attempt.expect(said == await attempt.value("SELECT count(*) FROM users"), "wrong number", said=said)


async def right(session: AsyncSession) -> Any:
    return await session.scalar(text("SELECT count(*) FROM users"))


async def verdict_on(answer: Any) -> Verdict:
    """The verdict on ``answer``, after which the right answer must still pass."""
    verdict = await judge_answer(CountUsers(), answer)
    after = await judge_answer(CountUsers(), right)
    assert after.passed, f"the next check was affected: {after}"
    return verdict
