"""Guards over what is committed: nbval compares nothing where a notebook was stored carelessly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import median

import nbformat
import pytest

from tests.notebook_files import LESSONS, code_cells, tags

FORBIDDEN = {
    "a path of a machine": r"(?<![\w.])/(home|root|Users|tmp|var|private|work|opt|usr)/\w|[A-Z]:\\\\",
    "an object's address": r"0x[0-9a-f]{6,}",
    "a process or kernel number": r"ipykernel_\d+|lesson_\d\d_\d+",
    "a secret": r"sk-[A-Za-z0-9]{8,}|Bearer [A-Za-z0-9]",
    "a duration": r"\b\d+(\.\d+)? ?(ms|µs|milliseconds)\b",
}
MEASURED = re.compile(r"≈ [\d.,]+ (ms|milliseconds)\b")  # the gate replaces what was measured

pytestmark = pytest.mark.parametrize("path", LESSONS, ids=lambda path: f"{path.parent.name}/{path.stem}")


@pytest.fixture
def notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def test_is_stored_executed_from_top_to_bottom(notebook: nbformat.NotebookNode) -> None:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_every_cell_that_must_raise_holds_its_error(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        raised = any(output.output_type == "error" for output in cell.outputs)
        assert raised == ("raises-exception" in tags(cell)), cell.source


def test_a_traceback_begins_in_its_own_cell(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        for output in cell.outputs:
            number = re.search(r"Cell In\[(\d+)\]", "".join(output.get("traceback", ())))
            assert number is None or int(number[1]) == cell.execution_count, cell.source


def test_ignored_outputs_are_few_and_each_says_why(notebook: nbformat.NotebookNode) -> None:
    cells = code_cells(notebook)
    ignored = [cell for cell in cells if "nbval-ignore-output" in tags(cell)]
    assert len(ignored) <= 0.15 * len(cells)
    for cell in ignored:
        assert any(tag.startswith("because-") for tag in tags(cell)), cell.source


def test_no_cell_is_skipped_or_marked_in_its_source(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        assert "nbval-skip" not in tags(cell)
        assert "NBVAL" not in cell.source


def test_compared_outputs_hold_nothing_of_one_machine_or_moment(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        if "nbval-ignore-output" in tags(cell):
            forbidden = {what: FORBIDDEN[what] for what in ("a path of a machine", "a secret")}
        else:
            forbidden = FORBIDDEN
        shown = [{k: v for k, v in o.get("data", o).items() if k != "image/png"} for o in cell.outputs]
        text = json.dumps(shown, ensure_ascii=False)
        for line in cell.source.splitlines():  # a traceback shows lines of the cell
            text = text.replace(json.dumps(line, ensure_ascii=False)[1:-1], "")
        text = MEASURED.sub("", text)
        for what, pattern in forbidden.items():
            found = re.search(pattern, text)
            assert found is None, f"{what}: {found and found[0]!r} in the output of\n{cell.source}"


def test_nothing_is_stored_from_stderr(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        assert not [output for output in cell.outputs if output.get("name") == "stderr"], cell.source


def test_cells_are_short(path: Path, notebook: nbformat.NotebookNode) -> None:
    lengths = [len(cell.source.strip().splitlines()) for cell in code_cells(notebook)]
    if path.parent.name == "notebooks":
        assert median(lengths) <= 9
        assert max(lengths) <= 30
    else:  # half of them are checks of one line, and an answer may be a whole class
        assert max(lengths) <= 40
