"""``await drill(…)``: the same evening in a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib import drill
from course_lib.errors import CourseError
from course_lib.exercises.book import answer_of, cell_source, solution_answer
from course_lib.interview import notebook
from course_lib.interview.evening import tonight
from course_lib.interview.lookup import find_question
from course_lib.interview.memory import Memory
from course_lib.interview.tasks import find_task
from course_lib.judging.exercise import Drill
from course_lib.settings import get_settings

ID = "n-plus-one"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "work"))
    get_settings.cache_clear()
    notebook._began.clear()
    notebook._answered.clear()
    notebook._ticked.clear()


def points() -> list[str]:
    question = find_question(ID)
    return [point.say for point in question.points] + [weak.wrong for weak in question.weak]


async def test_a_question_stands_alone_until_it_is_answered() -> None:
    shown = [await drill(), await drill(ID), await drill(ID, "   ")]
    assert find_question(ID).ask in shown[1]
    assert not [text for text in points() if any(text in page for page in shown)]
    page = await drill(ID, "It asks\nonce for each row.")
    assert page.startswith("> It asks\n> once for each row.")
    assert all(text in page for text in points())


async def test_what_the_answer_had_is_kept() -> None:
    await drill(ID, "It asks once for each row.")
    assert "Kept as again" in await drill(ID, said=[1])
    (review,) = Memory.load().reviews
    assert (review.id, review.grade, review.points) == (ID, "again", 1)
    with pytest.raises(CourseError, match="not answered this one yet"):
        await drill(ID, said=[1])


async def test_points_that_are_none_are_a_sentence() -> None:
    await drill(ID, "It asks once for each row.")
    with pytest.raises(CourseError, match="There is no point 9"):
        await drill(ID, said=[1, 9])
    assert "Kept as" in await drill(ID, said=[])


async def test_a_repair_is_judged_and_kept() -> None:
    task = find_task("J1")
    assert isinstance(task, Drill)
    assert "J1_the_translators" in await drill("J1")
    given = answer_of(task, cell_source(task, "given-J1"))
    assert "returned no title" in await drill("J1", given)
    assert Memory.load().reviews == ()
    page = await drill("J1", solution_answer(task))
    assert "Right." in page
    assert "Kept as easy" in page


async def test_a_repair_without_a_clock_is_not_called_quick() -> None:
    task = find_task("J1")
    assert isinstance(task, Drill)
    assert "Kept as good" in await drill("J1", solution_answer(task))


async def test_what_was_asked_today_is_not_offered_again() -> None:
    first = next(task for task in tonight() if not isinstance(task, Drill))
    assert f'drill("{first.id}")' in await drill()
    await drill(first.id, "As I would say it.")
    await drill(first.id, said=[])
    assert f'drill("{first.id}")' not in await drill()
