"""An answer that was begun: it is there again when its question comes the next time."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from course_lib.exercises.book import solution_source
from course_lib.interview.drafts import draft_of, drop_draft, keep_draft
from course_lib.interview.lookup import find_question
from course_lib.interview.memory import Memory
from course_lib.interview.mock import Interview, Part
from course_lib.interview.tasks import find_task
from course_lib.judging.exercise import Drill
from tests.interview.terminal import Terminal, course
from tests.interview.test_drill_command import ID, folded, go_through, told, work

__all__ = ["work"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")


def begin(terminal: Terminal, *lines: str, unfinished: str) -> None:
    """Type so many lines, and some words after which no Enter comes."""
    terminal.wait_for("> ")
    for line in lines:
        terminal.type(f"{line}\n")
        terminal.wait_for("> ")
    terminal.type(unfinished)
    terminal.wait_for(unfinished)


def test_ctrl_c_amid_an_answer_keeps_it_with_the_line_that_was_not_ended() -> None:
    with course("drill", ID) as terminal:
        begin(terminal, "It asks once", "for each row,", unfinished="which takes über 50 ms")
        terminal.interrupt()
        left = folded(terminal.rest())
    assert "What you have written is kept, and offered when this question comes again." in left
    assert "What had been rated is kept." in left
    assert not [text for text in told(ID) if text in folded(terminal.shown)]
    assert draft_of(ID) == "It asks once\nfor each row,\nwhich takes über 50 ms"
    assert Memory.load().reviews == ()


def test_the_next_evening_offers_it_back_and_it_is_gone_once_it_is_rated() -> None:
    keep_draft(ID, "It asks once\nfor each row.")
    with course("drill", ID) as terminal:
        offered = folded(terminal.wait_for("y or n: "))
        assert "You have begun an answer. It asks once for each row. Go on below it?" in offered
        terminal.type("y\n")
        end = go_through(terminal, "y" * len(find_question(ID).points))
    assert "Kept as easy." in end
    assert draft_of(ID) == ""
    assert [review.points for review in Memory.load().reviews] == [len(find_question(ID).points)]


def test_who_begins_anew_has_the_old_one_until_something_is_written() -> None:
    keep_draft(ID, "something else")
    with course("drill", ID) as terminal:
        terminal.wait_for("Go on below it? y or n: ")
        terminal.type("n\n")
        terminal.wait_for("> ")
        terminal.interrupt()
        assert "What you have written" not in terminal.rest()
    assert draft_of(ID) == "something else"
    with course("drill", ID) as terminal:
        terminal.wait_for("Go on below it? y or n: ")
        terminal.type("n\n")
        begin(terminal, unfinished="It asks")
        terminal.interrupt()
        terminal.rest()
    assert draft_of(ID) == "It asks"


def test_what_is_skipped_is_left_as_it_was_begun() -> None:
    keep_draft(ID, "It asks once")
    with course("drill", ID) as terminal:
        terminal.wait_for("Go on below it? y or n: ")
        terminal.type("y\n")
        terminal.wait_for("> ")
        terminal.type("skip\n")
        terminal.rest()
    assert draft_of(ID) == "It asks once"
    assert Memory.load().reviews == ()


def test_an_answer_whose_points_are_not_ticked_yet_is_kept() -> None:
    with course("drill", ID) as terminal:
        begin(terminal, "It asks once for each row.", unfinished="")
        terminal.type("\n")
        terminal.wait_for("y or n: ")
        terminal.interrupt()
        assert "What you have written is kept" in folded(terminal.rest())
    assert draft_of(ID) == "It asks once for each row."


def test_lines_are_kept_when_the_terminal_is_closed() -> None:
    with course("drill", ID) as terminal:
        begin(terminal, "It asks once", unfinished="")
        os.kill(terminal.pid, signal.SIGKILL)
    assert draft_of(ID) == "It asks once"


def test_a_mock_interview_goes_on_with_it() -> None:
    part = Part(kind="question", id=ID, minutes=4)
    Interview(started=datetime(2026, 12, 7, 19, tzinfo=UTC), level="mid", minutes=45, parts=(part,)).kept()
    with course("interview", "--resume") as terminal:
        begin(terminal, unfinished="It asks once")
        terminal.interrupt()
        assert "What you had answered is kept." in folded(terminal.rest())
    with course("interview", "--resume") as terminal:
        terminal.wait_for("Go on below it? y or n: ")
        terminal.type("y\n")
        terminal.wait_for("> ")
        terminal.type("for each row.\n")
        terminal.wait_for("> ")
        terminal.type("\n")
        shown = folded(terminal.wait_for("y or n: "))
        assert "It asks once for each row." in shown
    assert draft_of(ID) == ""


def test_a_repair_that_was_begun_is_offered_back(work: Path) -> None:
    file = work / "interview" / "J1.py"
    with course("drill", "J1") as terminal:
        terminal.wait_for("give up   ")
        terminal.interrupt()
        assert "is kept, and offered" not in terminal.rest(), "as it was found"
    with course("drill", "J1") as terminal:
        terminal.wait_for("give up   ")
        file.write_text(f"# mine\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
        terminal.interrupt()
        assert "Your repair is kept, and offered when this drill comes again." in terminal.rest()
    for typed, begins, beside in (("y", "# mine\n# J1", 0), ("n", "# J1", 1)):
        with course("drill", "J1") as terminal:
            terminal.wait_for("You have begun a repair. Go on with it? y or n: ")
            terminal.type(f"{typed}\n")
            terminal.wait_for("give up   ")
            assert file.read_text(encoding="utf-8").startswith(begins)
            assert len(list(file.parent.glob("J1.*.py"))) == beside
            terminal.interrupt()
            terminal.rest()
    drill = find_task("J1")
    assert isinstance(drill, Drill)
    with course("drill", "J1") as terminal:
        terminal.wait_for("Go on with it? y or n: ")
        terminal.type("y\n")
        terminal.wait_for("give up   ")
        file.write_text(solution_source(drill), encoding="utf-8")
        terminal.type("\n")
        assert "Kept as easy." in terminal.wait_for("It comes again ")
    assert draft_of("J1") == ""


def test_a_draft_that_cannot_be_read_or_kept_is_no_trouble(work: Path) -> None:
    drop_draft(ID)
    assert draft_of(ID) == ""
    (work / "interview" / "drafts" / f"{ID}.md").mkdir(parents=True)
    assert draft_of(ID) == ""
    assert not keep_draft(ID, "It asks once")
    with course("drill", ID) as terminal:
        begin(terminal, "It asks once", unfinished="for")
        terminal.interrupt()
        left = terminal.rest()
    assert "What had been rated is kept." in left and "What you have written" not in left
