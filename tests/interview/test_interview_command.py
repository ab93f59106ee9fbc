"""A mock interview in the terminal: planned, answered, looked at, reported; left in the middle and gone on with."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from course_lib.errors import CourseError
from course_lib.interview.lookup import bank
from course_lib.interview.memory import Memory, Review, folder
from course_lib.interview.mock import LATELY, Interview, Part, is_near, plan, unfinished
from course_lib.interview.pages import coded, render
from course_lib.interview.report import by_topic, write_report
from course_lib.interview.schema import Level
from course_lib.interview.sheet import as_sheet
from course_lib.interview.tasks import find_task
from course_lib.judging.exercise import Drill
from course_lib.settings import get_settings
from tests.interview.terminal import Terminal, course

NOW = datetime(2026, 12, 7, 19, tzinfo=UTC)
ANSWER = "I would look at the plan & <count>."
needs_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "work"))
    get_settings.cache_clear()
    return tmp_path / "work"


def talk(terminal: Terminal, until: Callable[[str], bool] = lambda shown: False) -> str:
    """Answer whatever is asked, say yes to every second point; until the end, or what is shown meets ``until``."""
    ticks = 0
    while not until(terminal.shown):
        asked = terminal.unread
        if asked.endswith("> "):
            terminal.answer(f"{ANSWER}\n" if "ends it" in asked else "\n")
        elif asked.endswith("give up   "):
            terminal.answer("q\n" if "Not yet" in asked else "\n")
        elif asked.endswith("y or n: "):
            ticks += 1
            terminal.answer("yn"[ticks % 2] + "\n")
        elif not terminal.more():
            break
    return terminal.shown


def folded(text: str) -> str:
    return " ".join(text.split())


@needs_a_terminal
def test_points_are_shown_when_everything_was_answered_and_the_report_has_it_all(work: Path) -> None:
    with course("interview", "--level", "junior", "--minutes", "26") as terminal:
        shown = talk(terminal)
    (interview,) = [Interview.model_validate_json(file.read_bytes()) for file in folder().glob("2*.json")]
    assert interview.finished
    before = folded(shown[: shown.index("Did you say this?")])
    for part in interview.parts:
        task = find_task(part.id)
        if not isinstance(task, Drill):
            assert folded(task.ask.replace("`", "")) in before
            assert not [point for point in task.points if folded(point.say.replace("`", ""))[:30] in before]
    assert max(map(len, shown.splitlines())) <= 80
    for ending in (".md", ".html"):
        report = interview.file.with_suffix(ending).read_text(encoding="utf-8")
        assert all(topic in report for topic in by_topic(interview))
        assert "To repeat" in report
    assert f"> {ANSWER}" in interview.file.with_suffix(".md").read_text(encoding="utf-8")
    assert "plan &amp; &lt;count&gt;." in interview.file.with_suffix(".html").read_text(encoding="utf-8")
    assert {review.id for review in Memory.load().reviews} == {part.id for part in interview.parts}


@needs_a_terminal
def test_who_leaves_goes_on_where_it_was(work: Path) -> None:
    with course("interview", "--level", "junior", "--minutes", "20") as terminal:
        talk(terminal, lambda shown: "2 of" in shown and "ends it" in shown[shown.index("2 of") :])
        terminal.interrupt()
        assert "interview --resume" in folded(terminal.rest())
    left = unfinished()
    assert left is not None
    assert [part.answer for part in left.parts] == [ANSWER] + [None] * (len(left.parts) - 1)
    assert Memory.load().reviews == ()
    with course("interview", "--resume") as terminal:
        shown = talk(terminal)
    assert f"1 of {len(left.parts)}" not in shown
    assert f"2 of {len(left.parts)}" in shown
    assert unfinished() is None


@needs_a_terminal
def test_an_answer_can_be_written_in_an_editor(work: Path, tmp_path: Path) -> None:
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import sys\nfile = sys.argv[1]\ntext = open(file).read()\nopen(file, 'w').write(text + 'From afar.')\n"
    )
    with course(
        "interview", "--level", "junior", "--minutes", "15", "--editor", EDITOR=f"{sys.executable} {editor}"
    ) as terminal:
        talk(terminal, lambda shown: "Did you say this?" in shown)
    left = unfinished()
    assert left is not None
    assert {part.answer for part in left.parts} == {"From afar."}


@pytest.mark.parametrize(
    ("level", "minutes"), [("junior", 15), ("junior", 60), ("mid", 45), ("senior", 90), ("senior", 180)]
)
def test_a_plan_fits_its_minutes(level: Level, minutes: int) -> None:
    for seed in range(20):
        parts = plan(level, minutes, NOW, Random(seed), Memory()).parts
        assert sum(part.minutes for part in parts) <= minutes
        assert len({part.id for part in parts}) == len(parts)
        assert sum(part.minutes for part in parts) >= min(minutes, 60) - 10


@pytest.mark.parametrize(("level", "minutes"), [("mid", 60), ("senior", 60), ("senior", 180)])
def test_a_design_question_is_not_asked_in_two_ways(level: Level, minutes: int) -> None:
    for seed in range(40):
        parts = plan(level, minutes, NOW, Random(seed), Memory()).parts
        (design,) = [find_task(part.id) for part in parts if part.kind == "design"]
        assert not [part.id for part in parts if part.id != design.id and is_near(find_task(part.id), design)]


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("design-duplicate-requests", "duplicate-requests-and-effects", True),
        ("design-new-embedding-model", "new-embedding-model-without-downtime", True),
        ("design-serverless", "serverless-and-postgres", True),
        ("design-tenants", "tenant-isolation", True),
        ("design-hot-table", "change-a-hot-table", True),
        ("design-work-queue", "job-queue", True),
        ("design-pgvector-or-engine", "pgvector-or-a-dedicated-engine", True),
        ("design-chat-schema", "design-a-chat-assistant", True),
        ("design-serverless", "n-plus-one", False),
        ("job-queue", "poll-or-listen", False),
        ("design-serverless", "J1", False),
    ],
)
def test_what_asks_about_the_same(one: str, other: str, near: bool) -> None:
    assert is_near(find_task(one), find_task(other)) is near
    assert is_near(find_task(other), find_task(one)) is near
    assert is_near(find_task(one), find_task(one))


def test_what_was_asked_lately_is_left_out() -> None:
    first = plan("mid", 45, NOW, Random(1), Memory())
    asked = tuple(Review(id=part.id, at=NOW, grade="good", seconds=9) for part in first.parts)
    for seed in range(20):
        later = plan("mid", 45, NOW + timedelta(days=1), Random(seed), Memory(reviews=asked))
        again = {part.id for part in later.parts if part.kind == "question"} & {review.id for review in asked}
        assert not again
    long_ago = plan("mid", 45, NOW + LATELY + timedelta(days=1), Random(1), Memory(reviews=asked))
    assert long_ago.parts == first.parts


@pytest.mark.parametrize("minutes", [0, 14, 181, -5])
def test_a_talk_too_short_or_too_long_is_a_sentence(minutes: int) -> None:
    with pytest.raises(CourseError, match="takes 15 to 180 minutes"):
        plan("mid", minutes, NOW, Random(), Memory())


def test_a_report_of_nothing_answered_can_be_written(work: Path) -> None:
    parts = plan("mid", 45, NOW, Random(2), Memory()).parts
    empty = tuple(part.model_copy(update={"answer": "", "ticked": ()}) for part in parts)
    for file in write_report(Interview(started=NOW, level="mid", minutes=45, parts=empty)):
        assert "Not answered." in file.read_text(encoding="utf-8")


def test_files_that_are_no_interviews_are_left_alone(work: Path) -> None:
    folder().mkdir(parents=True)
    (folder() / "2026-01-01_00-00-00.json").write_text("[]")
    assert unfinished() is None
    kept = Interview(
        started=NOW, level="mid", minutes=45, parts=(Part(kind="question", id="n-plus-one", minutes=5),)
    ).kept()
    assert unfinished() == kept


def test_the_sheet_has_every_question_once_and_needs_nothing_else() -> None:
    sheet = as_sheet()
    assert re.findall(r'<section id="([\w-]+)">', sheet) and len(re.findall(r"<section ", sheet)) == len(bank())
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", sheet)
    assert sheet.count("<details>") == len(bank())


def test_what_comes_into_a_page_is_escaped() -> None:
    assert "<b>" not in render("page.html", title="<b>").partition("<body>")[2]
    assert coded("`a < b` & c") == "<code>a &lt; b</code> &amp; c"
    assert coded("one ` alone") == "one ` alone"


def test_nobody_to_talk_to_is_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "course_lib.cli", "interview"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("An interview is a talk")
    assert len(done.stderr.strip().splitlines()) == 2
