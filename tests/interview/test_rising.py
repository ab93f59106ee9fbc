"""Which level new questions and drills are of, by how the last ones went."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from course_lib.interview import evening
from course_lib.interview.evening import rising, tonight
from course_lib.interview.memory import Grade, Memory, Review, remember
from course_lib.interview.tasks import all_tasks, tasks_for
from course_lib.settings import get_settings

FIRST = datetime(2026, 12, 7, 19, tzinfo=UTC)


def levels(memory: Memory) -> list[str]:
    """In the order in which new ones come."""
    return list(dict.fromkeys(task.level for task in rising(all_tasks(), memory)))


def asked(level: str, *grades: Grade, begins: datetime = FIRST) -> tuple[Review, ...]:
    ids = [task.id for task in tasks_for(level=level)]
    return tuple(
        Review(id=id, at=begins + timedelta(minutes=place), grade=grade, seconds=60)
        for place, (id, grade) in enumerate(zip(ids, grades, strict=False))
    )


def test_the_next_level_comes_when_four_of_the_last_five_were_known() -> None:
    assert levels(Memory()) == ["junior", "mid", "senior"]
    assert levels(Memory(reviews=asked("junior", "good", "easy", "good"))) == ["junior", "mid", "senior"]
    known: tuple[Grade, ...] = ("again", "again", "good", "easy", "hard", "good", "good")
    assert levels(Memory(reviews=asked("junior", *known[:-1]))) == ["junior", "mid", "senior"]
    juniors = asked("junior", *known)
    assert levels(Memory(reviews=juniors)) == ["mid", "senior", "junior"]
    mids = asked("mid", "good", "good", "good", "easy", begins=FIRST + timedelta(days=1))
    assert levels(Memory(reviews=juniors + mids)) == ["senior", "junior", "mid"]


def test_it_falls_back_when_what_was_known_is_forgotten() -> None:
    juniors = asked("junior", "good", "good", "good", "good")
    forgotten = asked("junior", "again", "hard", begins=FIRST + timedelta(days=3))
    assert levels(Memory(reviews=juniors)) == ["mid", "senior", "junior"]
    assert levels(Memory(reviews=juniors + forgotten)) == ["junior", "mid", "senior"]
    assert levels(Memory(reviews=forgotten[::-1] + juniors[::-1])) == ["junior", "mid", "senior"], "by their times"


def test_three_evenings_of_somebody_who_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_WORK", str(tmp_path))
    get_settings.cache_clear()
    brought = []
    for day in range(3):
        moment = FIRST + timedelta(days=day)
        monkeypatch.setattr(evening, "now", lambda moment=moment: moment)
        tasks = tonight()
        brought.append(tasks[0].level)
        assert sum(task.minutes for task in tasks) <= evening.MINUTES
        remember(*(Review(id=task.id, at=moment, grade="easy", seconds=1) for task in tasks))
    assert brought == ["junior", "mid", "senior"]
    assert {task.level for task in tonight(level="junior", minutes=20)} == {"junior"}
