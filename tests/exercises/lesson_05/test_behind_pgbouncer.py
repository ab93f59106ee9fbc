"""5.8 is judged the same with PgBouncer and without."""

from __future__ import annotations

from typing import Any

import pytest

from course_lib.exercises import judge_answer
from course_lib.exercises.lesson_05.behind_pgbouncer import BehindPgBouncer
from course_lib.exercises.lesson_05.scenes import server_connections
from course_lib.postgres.pgbouncer import pgbouncer_is_installed
from tests.exercises.lesson_05.answers_5_08 import ANSWERS

WRITTEN = [("", answer) for answer in ANSWERS.right_ones] + ANSWERS.wrong_ones


@pytest.mark.skipif(not pgbouncer_is_installed(), reason="then test_lesson_05 has judged without it already")
@pytest.mark.parametrize(("mistake", "answer"), WRITTEN, ids=[answer.__name__ for _, answer in WRITTEN])
async def test_without_pgbouncer_the_verdict_is_the_same(
    monkeypatch: pytest.MonkeyPatch, mistake: str, answer: Any
) -> None:
    monkeypatch.setattr(server_connections, "pgbouncer_is_installed", lambda: False)
    verdict = await judge_answer(BehindPgBouncer(), answer)
    assert (verdict.mistake, verdict.passed) == (mistake, not mistake), str(verdict)
