"""An evening in the terminal: asked, answered, and only then shown what a good answer has."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from course_lib.exercises.book import solution_source
from course_lib.interview import evening
from course_lib.interview.lookup import bank, find_question
from course_lib.interview.memory import Memory, Review, remember, set_date
from course_lib.interview.tasks import all_tasks, find_task
from course_lib.judging.exercise import Drill
from course_lib.settings import get_settings
from tests.interview.terminal import Terminal, course

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")
ID = "n-plus-one"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "work"))
    get_settings.cache_clear()
    return tmp_path / "work"


def folded(text: str) -> str:
    return " ".join(text.split())


def told(id: str) -> list[str]:
    """Everything of a question that is not to be seen before the answer, in pieces that no line break divides."""
    question = find_question(id)
    said = [point.say for point in question.points] + [weak.say for weak in question.weak]
    said += [weak.wrong for weak in question.weak] + [follow_up.ask for follow_up in question.follow_ups]
    return [" ".join(text.replace("`", "").split()[:4]) for text in said]


def go_through(terminal: Terminal, ticks: str) -> str:
    """Answer, tick the points, press Enter for each follow-up."""
    terminal.wait_for("> ")
    terminal.type("It asks once for each row.\n")
    terminal.wait_for("> ")
    terminal.type("\n")
    for tick in ticks:
        terminal.wait_for("y or n: ")
        terminal.type(f"{tick}\n")
    for _ in find_question(ID).follow_ups:
        terminal.wait_for("press Enter. ")
        terminal.type("\n")
    return terminal.wait_for("It comes again ")


def test_nothing_of_a_good_answer_is_shown_before_one_is_written() -> None:
    with course("drill", ID) as terminal:
        before = folded(terminal.wait_for("> "))
        assert find_question(ID).ask.partition(",")[0] in before
        terminal.type("\n")
        before += folded(terminal.wait_for("> "))
        assert "Nothing was written" in before
        terminal.type("It asks once for each row.\n")
        before += folded(terminal.wait_for("> "))
        assert not [text for text in told(ID) if text in before]
        terminal.type("\n")
        after = terminal.wait_for("y or n: ")
        assert told(ID)[0] in folded(after)
        assert not [text for text in told(ID)[1:] if text in folded(after)], "one point after the other"


def test_ticked_points_are_the_grade_and_are_kept() -> None:
    points = len(find_question(ID).points)
    with course("drill", ID) as terminal:
        end = go_through(terminal, "y" * (points - 1) + "n") + terminal.rest()
    assert f"{points - 1} of {points} points." in folded(end)
    assert "Kept as good." in end
    assert max(map(len, terminal.shown.splitlines())) <= 80
    (review,) = Memory.load().reviews
    assert (review.id, review.grade, review.points) == (ID, "good", points - 1)


def test_paragraphs_that_are_pasted_are_one_answer_and_tick_nothing() -> None:
    with course("drill", ID) as terminal:
        terminal.wait_for("> ")
        terminal.type("It asks once for each row.\n\nyes, each one\n\ny\n\n")
        terminal.wait_for("y or n: ")
        terminal.type("n\n")
        assert "y or n: " not in terminal.wait_for("y or n: ").removesuffix("y or n: ")
        assert "\n2. " in terminal.shown and "\n3. " not in terminal.shown


def test_what_is_skipped_is_not_kept() -> None:
    with course("drill", ID) as terminal:
        terminal.wait_for("> ")
        terminal.type("skip\n")
        assert not [text for text in told(ID) if text in folded(terminal.rest())]
    assert Memory.load().reviews == ()


def test_who_leaves_keeps_what_was_answered() -> None:
    with course("drill", ID, ID.upper()) as terminal:
        go_through(terminal, "n" * len(find_question(ID).points))
        terminal.wait_for("2 of 2")
        terminal.interrupt()
        assert "What had been rated is kept" in terminal.rest()
    assert [review.grade for review in Memory.load().reviews] == ["again"]


def test_a_drill_is_repaired_in_a_file_and_judged_from_there(work: Path) -> None:
    drill = find_task("J1")
    assert isinstance(drill, Drill)
    with course("drill", "j1") as terminal:
        terminal.wait_for("judge it")
        file = work / "interview" / "J1.py"
        assert "# Reported:" in file.read_text(encoding="utf-8")
        terminal.type("\n")
        assert "returned no title" in folded(terminal.wait_for("judge it"))
        file.write_text(solution_source(drill), encoding="utf-8")
        terminal.type("\n")
        assert "Kept as easy." in terminal.wait_for("It comes again ")
    assert [(review.id, review.grade) for review in Memory.load().reviews] == [("J1", "easy")]


def test_who_sees_the_solution_meets_the_drill_again_tomorrow(work: Path) -> None:
    (work / "interview").mkdir(parents=True)
    (work / "interview" / "J1.py").write_text("mine = 1\n")
    with course("drill", "J1") as terminal:
        for typed, shown in (("h", "Hint 1"), ("s", "ask again"), ("s", "exists()")):
            terminal.wait_for("give up   ")
            terminal.type(f"{typed}\n")
            terminal.wait_for(shown)
        terminal.wait_for("give up   ")
        terminal.type("q\n")
        tomorrow = date.today() + timedelta(days=1)
        assert f"{tomorrow:%A}" in terminal.wait_for("It comes again ") + terminal.rest()
    kept = [path.read_text() for path in (work / "interview").glob("J1.*.py")]
    assert kept == ["mine = 1\n"], "what lay there"


@pytest.mark.parametrize(
    ("arguments", "sentence", "mend"),
    [
        (["n-plus"], "There is no question and no drill 'n-plus'.", "n-plus-one"),
        (["--topic", "cooking"], "There is no topic 'cooking'.", "vectors"),
        (["--level", "boss"], "There is no level 'boss'.", "junior"),
        (["--until", "soon"], "'soon' is no date.", "drill --until 2027-01-31"),
        (["--until", "2020-01-01"], "2020-01-01 is not ahead.", "none"),
        ([], "its input is not a terminal.", "drill --list"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_asked_is_two_lines(arguments: list[str], sentence: str, mend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "course_lib.cli", "drill", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2, done.stderr
    assert sentence in lines[0]
    assert mend in lines[1]


def test_the_list_says_how_much_there_is() -> None:
    until = date.today() + timedelta(days=3)
    done = subprocess.run(
        [sys.executable, "-m", "course_lib.cli", "drill", "--list", "--until", str(until)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )  # fmt: skip
    drills = sum(isinstance(task, Drill) for task in all_tasks())
    assert (
        f"{len(bank())} questions and {drills} drills, {sum(task.minutes for task in all_tasks())} minutes"
        in done.stdout
    )
    assert "3 days until the interview" in done.stdout
    assert all(f"{task.id} · {task.level}" in done.stdout for task in all_tasks())


def test_nothing_is_left_for_today_and_minutes_bring_more(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 12, 7, 19, tzinfo=UTC)
    monkeypatch.setattr(evening, "now", lambda: moment)
    set_date(moment.date() + timedelta(days=4))
    first = evening.tonight()
    remember(*(Review(id=task.id, at=moment, grade="easy", seconds=1) for task in first))
    assert evening.tonight() == []
    more = evening.tonight(minutes=20)
    assert more and not {task.id for task in more} & {task.id for task in first}
    task = more[0]
    due, _ = evening.keep(task, Review(id=task.id, at=moment, grade="easy", seconds=1))
    assert due > moment.date() + timedelta(days=4)
    assert evening.again(due) == "after the interview"
    assert evening.again(moment.date() + timedelta(days=1)) == "on Tuesday, 8 December"


def test_a_new_evening_goes_through_topics_and_brings_a_drill_now_and_then() -> None:
    first = all_tasks()[:8]
    assert len({task.topics[0] for task in first}) >= 4
    assert any(isinstance(task, Drill) for task in first)
