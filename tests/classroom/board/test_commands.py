"""``course classroom board`` in a terminal, and a learner's own side: ``me``, ``leave`` and ``join``."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console, Group
from typer.testing import CliRunner

from course_lib.classroom.board.names import readable
from course_lib.classroom.board.watching import Sight
from course_lib.cli.app import app
from course_lib.cli.board import rows, screen
from course_lib.judging.board.seat import Kept
from course_lib.settings import REPOSITORY, get_settings
from tests.classroom.board.classes import Class, SitDown, tell, verdict
from tests.classroom.board.test_reporting import judged, note
from tests.classroom.board.test_standing import EXERCISES, NOW, Board, Learner, standing

COURSE = [sys.executable, "-c", "from course_lib.cli import main; main()"]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NAMES = ["\x1b[2JEve", "[bold]Bo[/bold]", "田中さくら田中さくら田中さくら", "Anne-Marie Łukasiewicz-Ó Briain"]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["classroom", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return " ".join(result.output.split())


def full(number: int) -> Board:
    """A class of so many and thirty exercises, everybody at work."""
    names = [*map(readable, NAMES), *(f"Learner {place}" for place in range(4, number))]
    learners = [Learner(f"friday_{place}", name) for place, name in enumerate(names)]
    exercises = [one for one in EXERCISES.values() if one.lesson in ("01", "03", "04")]
    standings = {
        (learner.role, one.id): standing(
            "right" if place < 20 else "wrong", place % 12, 30, 2 if place < 21 else 1, "nothing returned"
        )
        for learner in learners
        for place, one in enumerate(exercises[:22])
    }
    return Board("friday", NOW, learners, exercises, standings, EXERCISES)


def shown(renderable: object, width: int, colour: bool = False) -> list[str]:
    console = Console(width=width, height=40, force_terminal=colour, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get().splitlines()


# -- the teacher's -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120, 200])
def test_thirty_learners_and_thirty_exercises_have_room(width: int) -> None:
    lines = shown(Group(*rows(full(30), width)), width)
    assert max(map(len, lines)) <= width
    grid = lines[3:33]
    assert all(line.count("✓") == 20 for line in grid)
    assert all(line.rstrip().endswith(("8 9!", "8  9!")) for line in grid), "how often is said in numbers"
    assert "10" in lines[2] and lines[1].split() == ["1", "3", "4"]


def test_no_name_does_anything_but_stand_there() -> None:
    lines = shown(Group(*rows(full(4), 80)), 80)
    assert not any("\x1b" in line for line in lines)
    assert any("[bold]Bo[/bold]" in line for line in lines)
    coloured = "\n".join(shown(Group(*rows(full(4), 80)), 80, colour=True))
    assert {code for code in CONTROL.findall(coloured) if not code.endswith("m")} == set()


def test_who_is_stuck_has_a_line_where_not_everybody_has_room() -> None:
    board = full(30)
    whole = "\n".join(shown(screen(Sight(board, "The server does not answer."), 100, 30), 100))
    assert "The server does not answer." in whole
    assert "not shown: learners 2" in whole and "Stuck, the first 5 of 30" in whole
    assert "Mistakes now" in "\n".join(whole.splitlines()[:30]) and "say: " in "\n".join(whole.splitlines()[:30])


def test_where_it_is_no_terminal_the_board_is_printed_once(friday: Class, sit_down: SitDown) -> None:
    asyncio.run(filled(friday))
    sit_down("teacher")
    said = run("board", "--name", "friday", "--lessons", "03")
    assert "friday · 3 learners · 1 right" in said and "Ada Lovelace" in said
    assert "3.2 · nothing returned · 1 learner" in said and "say: " in said


async def filled(friday: Class) -> None:
    ada = await friday.enter("ada")
    await tell(ada, [verdict("3.1", "right", age=60), *(verdict("3.2") for _ in range(4))])
    await ada.close()


@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
def test_in_a_terminal_it_follows_the_class_until_ctrl_c(friday: Class, sit_down: SitDown) -> None:
    import pty

    sit_down("teacher")
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COURSE, "classroom", "board", "--name", "friday"], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}, cwd=REPOSITORY,
    )  # fmt: skip
    os.close(theirs)
    until(mine, "3 learners · 0 right")
    asyncio.run(filled(friday))
    until(mine, "4!")
    process.send_signal(signal.SIGINT)
    os.set_blocking(mine, False)
    assert process.wait(30) == 0 and process.stderr is not None and process.stderr.read() == b""
    os.close(mine)


def until(terminal: int, words: str) -> None:
    deadline, seen = time.monotonic() + 60, ""
    while words not in CONTROL.sub("", seen):
        assert time.monotonic() < deadline, seen
        seen += os.read(terminal, 65536).decode(errors="replace")


# -- a learner's -------------------------------------------------------------------------------------------


def test_a_learner_sees_what_the_teacher_sees(friday: Class, sit_down: SitDown) -> None:
    sit_down("ada")
    assert "Nothing stands there of you." in run("me")
    note(judged("1.3", mistake="endless"), judged("1.3", mistake="raised"), judged("1.4", "right"))
    said = run("me")
    assert "friday_ada on the board of friday" in said and "no code" in said
    assert "1.3 · wrong · raised · 2 tries · first tried 0 min ago" in said and "1.4 · right · 1 try" in said
    sit_down("bruno")
    assert "1.3" not in run("me")


def test_leaving_removes_what_stood_there_and_tells_nothing_more(friday: Class, sit_down: SitDown) -> None:
    sit_down("ada")
    note(judged())
    assert "What stood there of you is removed." in run("leave")
    note(judged("1.4"))
    assert friday.standings() == {} and Kept.load().waiting == []
    assert "You have left it, and nothing is told." in run("me")
    assert "The board knows of it." in run("join")
    note(judged("1.5"))
    assert set(friday.standings()) == {("ada", "1.5")}


def test_leaving_without_a_network_is_told_when_there_is_one(
    friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_down("ada")
    note(judged())
    monkeypatch.setenv("DATABASE_URL", friday.url("ada").replace(str(friday.server.port), "1"))
    get_settings.cache_clear()
    note(judged("1.4"))
    said = run("leave")
    assert "nothing of your checks is told" in said and "It is told to the board with your next check" in said
    assert Kept.load().waiting == [], "what had not been sent never is"
    sit_down("ada")
    assert set(friday.standings()) == {("ada", "1.3")}
    note(judged("1.5"))
    assert friday.standings() == {} and Kept.load().untold == []


def test_who_left_on_another_computer_is_told_so(
    friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sit_down("ada")
    run("leave")
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "another"))
    get_settings.cache_clear()
    assert "You have left it on another computer" in run("me")
    note(judged())
    assert friday.standings() == {}


@pytest.mark.parametrize("words", ["me", "leave", "join"])
def test_who_is_in_no_class_is_told_what_is_missing(
    words: str, friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_down("ada")
    monkeypatch.delenv("COURSE_CLASS")
    get_settings.cache_clear()
    with pytest.raises(Exception, match="You are in no class here") as caught:
        run(words)
    assert "COURSE_CLASS" in str(caught.value)


def test_a_class_of_another_name_is_a_sentence(
    friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_down("ada")
    monkeypatch.setenv("COURSE_CLASS", "tuesday")
    get_settings.cache_clear()
    with pytest.raises(Exception, match=r"On 127\.0\.0\.1:\d+ there is no class tuesday in which you are"):
        run("me")


@pytest.mark.parametrize("name", ["Friday", "fri-day", "x" * 25, "1st", "a b", "friday\n", "é"])
def test_a_class_has_a_name_of_small_letters(
    name: str, friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_down("ada")
    monkeypatch.setenv("COURSE_CLASS", name)
    get_settings.cache_clear()
    with pytest.raises(Exception, match="The variable COURSE_CLASS cannot be used"):
        run("me")
    monkeypatch.delenv("COURSE_CLASS")
    get_settings.cache_clear()
