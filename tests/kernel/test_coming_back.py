"""A kernel as ``course lab`` starts it, for a notebook whose first cells have not been run in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from course_lib.cli.lab import LEARNERS_KERNELS, jupyter_environment
from tests.kernels import Kernel
from tests.postgres import conftest

shared_folder = conftest.shared_folder

CELLS = {
    "setup": "from course_lib import check\nuser, unlucky = 'Ada', 1 / 0",
    "more": "async with lesson.session() as session:\n    rows = await session.scalars()",
    "here": "rows, later",
    "below": "later = 1",
}
WHAT = "`{}` is not defined: this kernel has not run the cell above that defines it."
FIRST = "  → Run the first cell, or choose Run > Run All Above Selected Cell."
ABOVE = "  → Choose Run > Run All Above Selected Cell."


@pytest.fixture(scope="module")
def kernel(shared_folder: Path) -> Iterator[Kernel]:
    notebook = shared_folder / "book.ipynb"
    cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in CELLS.items()]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
    with conftest.course_home(shared_folder / "home") as home:
        profiles = Path(jupyter_environment()["IPYTHONDIR"]).with_name(LEARNERS_KERNELS)
    running = Kernel(home, IPYTHONDIR=str(profiles), JPY_SESSION_NAME=str(notebook))
    yield running
    running.end()


@pytest.mark.parametrize(
    ("code", "name", "mend"),
    [
        ("await check('0.1')", "check", FIRST),
        ("def greet():\n    return f'Hello {user}'\ngreet()", "user", FIRST),
        (CELLS["here"], "rows", ABOVE),
    ],
)
def test_a_name_that_a_cell_above_defines(kernel: Kernel, code: str, name: str, mend: str) -> None:
    assert kernel.show(code, cell="here").splitlines() == [WHAT.format(name), mend]


@pytest.mark.parametrize("name", ["later", "greeting"], ids=["defined below", "defined nowhere"])
def test_any_other_name_is_an_error_like_all(kernel: Kernel, name: str) -> None:
    assert kernel.show(f"rows = []\n{name}", cell="here").endswith(f"NameError: name '{name}' is not defined")


def test_a_cell_that_was_run_and_failed_is_not_asked_for_again(kernel: Kernel) -> None:
    kernel.show(CELLS["setup"], cell="setup")
    assert kernel.show("user", cell="here").endswith("NameError: name 'user' is not defined")
