"""The notebook gate bites: a stored output that no longer tells the truth fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest

from course_lib.notebooks.executing import portable
from tests.notebook_files import run_gate

HONEST = [
    ("print('fifty-one statements')", []),
    ("{'users': 8}", []),
    ("import json, course_lib\njson.loads('no such user')", ["raises-exception"]),
]


CHANGES: dict[str, tuple[int, dict[str, str | list[str]]]] = {
    "printed text": (0, {"text": "fifty-two statements\n"}),
    "a value": (1, {"plain": "{'users': 9}"}),
    "an error's message": (2, {"evalue": "no such conversation"}),
    "an error's class": (2, {"ename": "KeyError"}),
    "an error's lines": (2, {"traceback": ["JSONDecodeError: Expecting value: line 1 column 1 (char 0)"]}),
}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook of three cells, executed and stored by the course's own tool."""
    from course_lib.notebooks import execute

    path = tmp_path_factory.mktemp("gate") / "99_small.ipynb"
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in HONEST]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    execute(path)
    return path


def change(path: Path, cell: int, **fields: str | list[str]) -> None:
    """Alter the stored output of one cell, as a careless edit would."""
    stored = nbformat.read(path, as_version=4)
    output = stored.cells[cell].outputs[0]
    for name, value in fields.items():
        (output if name in output else output.data)[name.replace("plain", "text/plain")] = value
    nbformat.write(stored, path)


@pytest.fixture(scope="module")
def results(notebook: Path) -> dict[str, str]:
    """What pytest prints of the notebook as it was stored and of a copy for each change: a sign for each cell.

    One run of the gate shows them all, each in a kernel of its own.
    """
    copies = {what: notebook.with_name(f"{what}.ipynb") for what in CHANGES}
    for what, (cell, fields) in CHANGES.items():
        shutil.copy(notebook, copies[what])
        change(copies[what], cell, **fields)
    done = run_gate(notebook, *copies.values())
    assert done.returncode == 1, done.stdout
    signs, cells = done.stdout.split()[0], len(HONEST)
    assert len(signs) == cells * (1 + len(CHANGES)), done.stdout
    return {what: signs[n * cells : (n + 1) * cells] for n, what in enumerate(["honest", *CHANGES])}


def test_an_honest_notebook_passes(results: dict[str, str]) -> None:
    assert results["honest"] == "..."


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_output_fails_and_no_other(results: dict[str, str], what: str) -> None:
    cell, _ = CHANGES[what]
    assert results[what] == "..."[:cell] + "F" + "..."[cell + 1 :]


def test_an_error_is_stored_as_it_is_shown(notebook: Path) -> None:
    (error,) = nbformat.read(notebook, as_version=4).cells[2].outputs
    assert "\n".join(error.traceback).splitlines()[2:] == [
        "Cell In[3], line 2",
        "      1 import json, course_lib",
        "----> 2 json.loads('no such user')",
        "",
        "(library code left out; %tb shows everything)",
        "",
        "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    ]


def test_what_another_run_has_elsewhere_is_not_stored() -> None:
    shown = [
        "\x1b[31mFile ~/notes/\x1b[0mmodels.py:3",
        "<User at 0x7fce03353450>, /tmp/ipykernel_1/2.py",
        "GET /v1/chat",
    ]
    assert portable(shown) == ["File …/models.py:3", "<User at 0x…>, …/2.py", "GET /v1/chat"]
