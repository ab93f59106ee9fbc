"""``course update``: what the learner left as it was is renewed, and what they wrote is there at every moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import course_lib.notebooks
from course_lib.cli.app import app
from course_lib.cli.running_lab import noted
from course_lib.errors import CourseError
from course_lib.notebooks import Workspace
from tests.test_carried_answers import ANSWER, given, publish, read
from tests.test_carried_answers import write as answer
from tests.test_workspace import beside, edit, sources, write

TOUCHING = [
    (Path, "open"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (Path, "rename"), (shutil, "copy2"),
]  # fmt: skip
"""What a renewal calls to change anything in the folder."""


def pulled(folder: Path) -> Workspace:
    """A newer edition of four lessons and a book: one left, one changed, one changed with the newer one beside it,
    where they wrote, too; one that was deleted; and answers.
    """
    lessons = [f"0{number}_lesson.ipynb" for number in range(4)]
    workspace = Workspace(folder / "work", folder)
    for edition in ("first", "second", "third"):
        for lesson in lessons if edition != "second" else lessons[2:3]:
            write(folder / "notebooks" / lesson, edition, "x")
        publish(folder, given(1, f"The {edition} one."), given(2))
        if edition == "third":
            return Workspace(folder / "work", folder)
        workspace.prepare()
        for lesson in lessons[1:3]:
            edit(workspace.folder / lesson, "mine")
        answer(workspace, answer_1_1=ANSWER)
    raise AssertionError


def with_more(folder: Path) -> Workspace:
    workspace = pulled(folder)
    edit(beside(workspace.folder / "02_lesson.ipynb"), "mine, beside")
    (workspace.folder / "03_lesson.ipynb").unlink()
    return workspace


def theirs(workspace: Workspace) -> set[str]:
    """What of the learner's stands in some whole notebook; all that is not hidden must be whole."""
    notebooks = [path for path in workspace.folder.rglob("*.ipynb") if not path.name.startswith(".")]
    cells = [cell for path in notebooks for cell in json.loads(path.read_bytes())["cells"]]
    return {text for cell in cells if (text := "".join(cell["source"])) in ("mine", "mine, beside", ANSWER)}


def assert_up_to_date(workspace: Workspace) -> None:
    left, changed, beside_too, deleted = (workspace.folder / f"0{number}_lesson.ipynb" for number in range(4))
    assert sources(left) == sources(deleted) == ["third", "x"]
    assert sources(changed) == sources(beside_too) == ["mine", "x"]
    assert sources(beside(changed)) == sources(beside(beside_too)) == ["third", "x"]
    book = read(workspace.folder / "exercises" / "01_more.ipynb")
    assert (book["answer-1-1"], book["statement-1-1"]) == (ANSWER, "## 1.1 · The third one.")
    assert theirs(workspace) == {"mine", "mine, beside", ANSWER}


def killed_before(step: int, prepare: Callable[[], Any]) -> bool:
    """Run it in a process that kills itself before its so manyth change of a file. Whether it came to that."""
    process = os.fork()
    if process == 0:
        left = step

        def stopping(function: Callable[..., Any]) -> Callable[..., Any]:
            def stop(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return stop

        for owner, name in TOUCHING:
            setattr(owner, name, stopping(getattr(owner, name)))
        prepare()
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="forks, as POSIX has it")
def test_who_is_killed_at_any_moment_loses_nothing_and_the_next_time_does_the_rest(tmp_path: Path) -> None:
    for step in count():
        workspace = with_more(tmp_path / str(step))
        killed = killed_before(step, workspace.prepare)
        assert theirs(workspace) == {"mine", "mine, beside", ANSWER}, f"killed before change {step}"
        workspace.prepare()
        assert_up_to_date(workspace)
        assert workspace.prepare() == []
        if not killed:
            break
    assert step > 40, "so many moments"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    workspace = with_more(tmp_path)
    monkeypatch.setattr(course_lib.notebooks, "Workspace", lambda: Workspace(workspace.folder, tmp_path))
    return workspace


def said(*arguments: str) -> list[str]:
    done = CliRunner().invoke(app, ["update", *arguments])
    assert done.exit_code == 0, done.output
    return [line.replace("\\", "/") for line in done.output.splitlines()]


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_list_says_how_each_stands_and_writes_nothing(workspace: Workspace) -> None:
    before = everything(workspace.folder)
    assert said("--list") == [
        "work/00_lesson.ipynb is older, and you left it as it was: it is renewed",
        "work/01_lesson.ipynb is older, and you changed it; the newer one is put beside it once",
        "work/02_lesson.ipynb is older, and you changed it; the newer one is put beside it once",
        "work/03_lesson.ipynb is not there: it is copied",
        "work/exercises/01_more.ipynb is older: your answers are put into the newer one, and yours is kept",
    ]
    assert everything(workspace.folder) == before
    (workspace.folder / ".course.json").write_text("damaged")
    before = everything(workspace.folder)
    said("--list")
    assert everything(workspace.folder) == before


def test_it_does_what_it_listed_and_says_so(workspace: Workspace) -> None:
    lines = said()
    assert_up_to_date(workspace)
    changed, beside_too, answered, renewed = lines
    assert changed.startswith("You changed work/01_lesson.ipynb; there is a newer original.")
    assert "01_lesson.newer.ipynb" in changed and "reset 01" in changed and "work/02_lesson" in beside_too
    assert answered.startswith("work/exercises/01_more.ipynb is a newer edition; your answers to 1.1 are in it.")
    assert renewed == "Newer now, as you had left them as they were: work/00_lesson.ipynb"
    assert [line.split()[0] for line in said("--list")] == ["work/01_lesson.ipynb", "work/02_lesson.ipynb"]


def test_a_first_time_and_a_time_with_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "notebooks" / "00_lesson.ipynb", "x")
    monkeypatch.setattr(course_lib.notebooks, "Workspace", lambda: Workspace(tmp_path / "work", tmp_path))
    assert said() == ["Copied to work: 1"]
    assert said() == said("--list") == ["Your copies are the newest."]


def test_while_jupyterlab_has_the_folder_open_nothing_is_written(workspace: Workspace) -> None:
    with noted(workspace.folder, os.getpid(), workspace.folder):
        before = everything(workspace.folder)
        failed = CliRunner().invoke(app, ["update"]).exception
        assert isinstance(failed, CourseError) and "JupyterLab works on" in str(failed)
        assert "update --list" in failed.mend
        assert everything(workspace.folder) == before
        assert len(said("--list")) == 5
