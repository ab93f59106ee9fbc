"""What a learner sees and does in JupyterLab, in a real browser, through ``course lab``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.browser import browser, complaints_of, faint, needs_chromium, requests_elsewhere
from tests.lab.notebook import SHOWN, Notebook
from tests.notebook_files import LESSONS
from tests.postgres import conftest
from tests.postgres.places import environment, start_python, wait_until
from tests.postgres.test_no_open_door import LAB, address_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

shared_folder = conftest.shared_folder
pytestmark = [needs_chromium, pytest.mark.skipif(os.name == "nt", reason="ends JupyterLab by a signal of POSIX")]

LESSON, EXERCISES = "00_start_here.ipynb", "exercises/00_start_here.ipynb"
OPEN, USERS = 1, 4  # places of cells in the lesson
SETUP, ANSWER, CHECK = 1, 3, 4  # and in the exercises
OTHERS = LESSONS[1:]
WHOLE = "picture => picture.getBoundingClientRect().width <= picture.closest('.jp-OutputArea-output').clientWidth"
OUTPUTS = f"{SHOWN} .jp-OutputArea-output"
WRONG = "async def count_users(session):\nusers = await session.scalars(select(User))\nreturn len(users.all())"
RIGHT = "async def count_users(session):\nreturn await session.scalar(select(func.count()).select_from(User))"


@dataclass
class Lab:
    """A running ``course lab`` on a folder of its own."""

    process: psutil.Process
    work: Path
    address: str
    token: str
    page: Page

    def open(self, path: str) -> Notebook:
        return Notebook(self.page, self.address, path, self.token)

    def saved(self, path: str) -> list[dict[str, Any]]:
        """The cells with code, as they lie in the folder; none while JupyterLab writes there."""
        try:
            content = json.loads((self.work / path).read_text(encoding="utf-8"))
        except ValueError:
            return []
        return [cell for cell in content["cells"] if cell["cell_type"] == "code"]

    def kernel(self, path: str) -> psutil.Process:
        """The process behind an open notebook."""
        sessions = self.page.request.get(f"{self.address}/api/sessions?token={self.token}").json()
        identity = next(session["kernel"]["id"] for session in sessions if session["path"] == path)
        children = self.process.children(recursive=True)
        return next(child for child in children if any(identity in part for part in child.cmdline()))


@pytest.fixture(scope="module")
def lab(shared_folder: Path) -> Iterator[Lab]:
    work = shared_folder / "work"
    process = start_python(shared_folder / "home", LAB, COURSE_WORK=str(work))
    try:
        address, token = address_of(process)
        with browser() as page:
            yield Lab(psutil.Process(process.pid), work, address, token, page)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_a_lesson_runs_from_top_to_bottom_and_can_be_seen(lab: Lab) -> None:
    said, asked = complaints_of(lab.page), requests_elsewhere(lab.page, lab.address)
    book = lab.open(LESSON)
    assert not book.counts_as_changed(), "by being opened"
    book.choose("Run", "Restart Kernel and Run All Cells")
    book.press("Enter")  # "Restart", in the dialogue
    book.wait_until_all_have_run()
    book.press("Control+s")
    wait_until(lambda: (cells := lab.saved(LESSON)) and all(cell["execution_count"] for cell in cells))
    outputs = [output for cell in lab.saved(LESSON) for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"] == []
    pictures = lab.page.locator(f"{OUTPUTS} img").all()
    assert len(pictures) > 1
    for picture in pictures:
        drawn, shown = picture.evaluate("picture => picture.naturalWidth"), picture.bounding_box()
        assert shown and 600 < shown["width"] <= drawn, "as wide as a page, and no coarser than it was drawn"
    assert book.wider_than_the_window() == []
    assert_readable(book)
    book.page.set_viewport_size({"width": 900, "height": 900})  # half a screen
    assert all(picture.evaluate(WHOLE) for picture in pictures), "smaller, and not cut off"
    book.page.set_viewport_size({"width": 1280, "height": 900})
    assert (said, asked) == ([], [])


def test_wrong_then_a_hint_then_right_by_keys_alone(lab: Lab) -> None:
    book = lab.open(EXERCISES)
    book.run(SETUP)
    book.rewrite(ANSWER, WRONG)
    book.run(ANSWER)
    book.run(CHECK)
    verdict = book.outputs(CHECK).inner_text()
    assert "Not yet." in verdict and "were fetched in order to count users" in verdict
    assert_readable(book)
    book.insert_below(CHECK, 'hint("0.1")')
    book.run(CHECK + 1)
    assert book.outputs(CHECK + 1).inner_text().startswith("Hint 1: ")
    book.rewrite(ANSWER, RIGHT)
    book.run(ANSWER)
    book.run(CHECK)
    assert "Right. 1 point." in book.outputs(CHECK).inner_text()
    assert_readable(book)


def test_after_a_killed_kernel_the_first_cell_mends(lab: Lab) -> None:
    book = lab.open(LESSON)
    book.run(OPEN)
    book.run(USERS)
    assert "Bruno Castellani" in book.outputs(USERS).inner_text()
    lab.kernel(LESSON).kill()
    book.page.get_by_role("dialog").get_by_text("appears to have died").wait_for()
    book.press("Enter")
    book.wait_for_kernel()
    book.run(USERS)
    assert "Run the first cell" in book.outputs(USERS).inner_text()
    book.run(OPEN)
    book.run(USERS)
    assert "Bruno Castellani" in book.outputs(USERS).inner_text()


def assert_readable(book: Notebook) -> None:
    """What is shown can be told from its ground in the dark as in the light; as WCAG 2.2 has it, 1.4.3."""
    for theme in ("Dark", "Light"):
        book.theme(theme)
        assert faint(book.page, OUTPUTS) == []


@pytest.mark.soak
@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_every_lesson_can_be_read_in_the_dark_as_in_the_light(lab: Lab, path: Path) -> None:
    """As committed, with errors that are meant; trusted, as what the learner has run is."""
    shown = lab.work / "shown.ipynb"
    shutil.copy(path, shown)
    data = {"JUPYTER_DATA_DIR": str(lab.work.parent / "home" / "jupyter" / "data")}
    subprocess.run(
        [sys.executable, "-m", "nbformat.sign", shown], env=environment(None, **data), check=True, capture_output=True
    )
    book = lab.open(shown.name)
    book.wait_for_outputs(sum(bool(cell["outputs"]) for cell in lab.saved(shown.name)))
    assert book.wider_than_the_window() == []
    assert_readable(book)
