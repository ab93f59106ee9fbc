"""``course check`` and ``course reset`` on whatever lies in the learner's folder, and whatever a cell does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from course_lib.cli.doctor import _work_folder
from course_lib.cli.exercises import check_notebook
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.notebooks import Workspace
from course_lib.settings import REPOSITORY, get_settings
from tests.postgres import conftest
from tests.postgres.conftest import course_home
from tests.postgres.places import run_course, run_python, start_python, wait_until
from tests.postgres.test_no_room import fill, remount, small_disk

folder, used_home, ordinary_user = conftest.folder, conftest.used_home, conftest.ordinary_user
NAME = "00_start_here.ipynb"
ORIGINAL = REPOSITORY / "exercises" / NAME


@pytest.fixture
def work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A learner's folder with the exercises of lesson 00, outside the repository."""
    monkeypatch.setenv("COURSE_WORK", str(folder / "work"))
    with course_home(folder / "home"):
        (folder / "work" / "exercises").mkdir(parents=True)
        yield folder / "work"
    get_settings.cache_clear()


def write(work: Path, **answers: str) -> None:
    """The notebook with answers in some of its cells; ``first`` is a cell before them."""
    notebook = json.loads(ORIGINAL.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = answers.get(cell["id"].replace("-", "_"), cell["source"])
    first = {"cell_type": "code", "id": "first", "metadata": {}, "outputs": [], "execution_count": None}
    notebook["cells"].insert(0, first | {"source": answers.get("first", "")})
    (work / "exercises" / NAME).write_text(json.dumps(notebook), encoding="utf-8")


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


NO_NOTEBOOKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (text(""), "is empty"),
    "half": (text(ORIGINAL.read_text()[:3_000]), "is no notebook: line"),
    "a list": (text("[1]"), "has no cells"),
    "format 3": (text('{"nbformat": 3, "worksheets": []}'), "is a notebook of format 3"),
    "no cells": (text('{"nbformat": 4, "cells": []}'), "has no cells"),
    "odd cells": (text('{"nbformat": 4, "cells": [3]}'), "its cells are not as a notebook has them"),
    "deep": (text("[" * 100_000), "goes beyond what can be read"),
    "not UTF-8": (lambda path: path.write_bytes(b"\xff\xfe\0"), "is not text in UTF-8"),
    "no check": (
        text('{"nbformat": 4, "cells": [{"cell_type": "code", "source": "1"}]}'),
        "has no cell that is exactly",
    ),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
}
if hasattr(os, "mkfifo"):
    NO_NOTEBOOKS["a pipe"] = (os.mkfifo, "is no regular file")


@pytest.mark.parametrize(("make", "sentence"), NO_NOTEBOOKS.values(), ids=NO_NOTEBOOKS.keys())
def test_what_is_no_notebook_is_a_sentence_and_its_mend_helps(
    work: Path, make: Callable[[Path], object], sentence: str
) -> None:
    path = work / "exercises" / NAME
    make(path)
    with pytest.raises(CourseError) as caught:
        check_notebook("0.1")
    assert sentence in caught.value.sentence and str(path) in caught.value.sentence
    assert command("reset 00 --exercises") in caught.value.mend
    Workspace().reset("00", exercises=True)
    assert len(list((work / "backup" / "exercises").iterdir())) == 1, "what was there is kept"
    assert json.loads(path.read_text(encoding="utf-8"))["nbformat"] == 4


@pytest.mark.usefixtures("used_home")
def test_cells_that_end_the_process_cost_nobody_else_a_verdict(work: Path) -> None:
    write(
        work,
        answer_0_1="async def count_users(session):\n    import os; os._exit(3)",
        answer_0_2="async def titles_of(session:",
        answer_0_3="async def nearest(*_):\n    import ctypes; ctypes.string_at(0)",
    )
    done = run_course(get_settings().home, "check", "0", COURSE_WORK=str(work))
    assert done.returncode == 1 and done.stderr == ""
    assert (
        "0.1 · Count the users\n  Not yet. The process in which count_users was judged ended with exit code 3."
        in done.stdout
    )
    assert "it raised SyntaxError" in done.stdout and "There is no titles_of yet." in done.stdout
    assert "0.3 · " in done.stdout and (os.name == "nt" or "was judged was ended by SIGSEGV." in done.stdout)


@pytest.mark.usefixtures("used_home")
def test_a_cell_that_ends_the_process_before_the_checks_is_named(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(work, first="import os\nos._exit(0)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        assert check_notebook("0.1") == 1
    said = capsys.readouterr().out
    assert "it ended its process (exit code 0).\n  it begins with: import os\n" in said
    again = command("check 0.1")
    assert f"Not judged: 0.1.\n  next: correct that cell, save the notebook, then {again}\n" in said


@pytest.mark.usefixtures("used_home")
def test_a_notebook_as_it_was_given_may_not_have_been_saved(work: Path) -> None:
    done = run_course(get_settings().home, "check", "0.1", COURSE_WORK=str(work))
    assert "Not attempted yet." in done.stdout and "Save it first: Ctrl-S" in done.stdout


@pytest.mark.usefixtures("used_home")
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
@pytest.mark.soak(after=1)
def test_who_ends_the_command_ends_its_process(work: Path, number: signal.Signals, code: int) -> None:
    told = work / "pid"
    write(work, first=f"import os\nopen({str(told)!r}, 'w').write(f'{{os.getpid()}}.')\nwhile True: pass")
    command = "import sys; sys.argv += ['check', '0.1']; from course_lib.cli import main; main()"
    process = start_python(get_settings().home, command, COURSE_WORK=str(work))
    wait_until(lambda: told.exists() and told.read_text().endswith("."), 30)
    child = psutil.Process(int(told.read_text()[:-1]))
    process.send_signal(number)
    assert process.wait(30) == code
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def refused() -> str:
    """What check and reset say, which is the same, and what doctor says: never that all is well."""
    said = set()
    for asked in (lambda: check_notebook("0"), lambda: Workspace().reset("0", exercises=True), Workspace().prepare):
        with pytest.raises(CourseError) as caught:
            asked()
        said.add(str(caught.value))
    with pytest.raises(CourseError):
        _work_folder()
    (sentence,) = said
    assert "COURSE_WORK" in sentence
    return sentence


def test_a_file_or_a_dangling_link_in_the_folders_place(work: Path) -> None:
    (work / "exercises").rmdir()
    (work / "exercises").write_text("mine")
    assert refused().startswith(f"A file is in the place of the folder {work / 'exercises'}.")
    assert (work / "exercises").read_text() == "mine"
    (work / "exercises").unlink()
    (work / ".course.json").unlink(missing_ok=True)
    for child in work.iterdir():
        child.unlink()
    work.rmdir()
    work.symlink_to("nowhere")
    assert refused().startswith(f"A link to nothing is in the place of the folder {work}.")


def test_a_disk_that_can_only_be_read(folder: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(folder / "disk", 1) as disk:
        monkeypatch.setenv("COURSE_WORK", str(disk / "work"))
        get_settings.cache_clear()
        remount(disk, "ro")
        assert refused().startswith(f"{disk / 'work'} is on a disk that can only be read.")


def test_a_full_disk_loses_nothing(folder: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(folder / "disk", 2) as disk:
        monkeypatch.setenv("COURSE_WORK", str(disk / "work"))
        get_settings.cache_clear()
        Workspace().prepare()
        write(disk / "work", first="mine")
        before = (disk / "work" / "exercises" / NAME).read_bytes()
        fill(disk, leave=0)
        with pytest.raises(CourseError, match="no room left on the disk of"):
            Workspace().reset("0", exercises=True)
        assert (disk / "work" / "exercises" / NAME).read_bytes() == before
        assert not [path for path in disk.rglob("*") if "fresh" in path.name]


def test_a_folder_of_somebody_else(folder: Path, ordinary_user: list[str]) -> None:
    theirs = folder / "theirs"
    theirs.mkdir(mode=0o755)
    code = "import sys; sys.stderr = sys.stdout; sys.argv += ['reset', '0']; import course_lib.cli.entry as e; e.run()"
    for place in (theirs, theirs / "new"):
        said = run_python(folder / "home", code, ordinary_user, COURSE_WORK=str(place))
        assert said.startswith("You have no permission for ") and "set COURSE_WORK to a folder that you own" in said


def test_reset_outside_the_repository_says_which_files(work: Path) -> None:
    write(work, first="mine")
    done = run_course(work.parent / "home", "reset", "0", "--exercises", COURSE_WORK=str(work))
    (kept,) = (work / "backup" / "exercises").iterdir()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{work / 'exercises' / NAME} is as it was.\nYours is kept as {kept}.\n"
    assert "mine" in kept.read_text()


def test_a_backup_that_cannot_be_made_stops_the_reset(work: Path) -> None:
    write(work, first="mine")
    (work / "backup").write_text("a file in its place")
    with pytest.raises(CourseError, match="A file is in the place of the folder"):
        Workspace().reset("0", exercises=True)
    assert "mine" in (work / "exercises" / NAME).read_text()


def test_a_bad_list_of_copies_is_put_aside_and_copies_stay_as_they_are(work: Path) -> None:
    Workspace().prepare()
    write(work, first="mine")
    (work / ".course.json").write_text('{"00": 3}')
    before = (work / "exercises" / NAME).read_bytes()
    workspace = Workspace()
    beside = work / "exercises" / NAME.replace(".ipynb", ".newer.ipynb")
    assert workspace.prepare() == [beside] and [path.name for path in workspace.kept] == [NAME]
    assert (work / "exercises" / NAME).read_bytes() == before
    assert "It is kept as .course.json.unreadable" in workspace.remarks[0]
    assert Workspace().prepare() == [], "and what is as the originals are is known again"
    assert json.loads((work / ".course.json").read_text())[NAME]
