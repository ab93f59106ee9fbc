"""The notebook gate bites: a stored output that no longer tells the truth fails."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.notebook_files import run_gate

HONEST = [
    ("print('fifty-one statements')", []),
    ("{'users': 8}", []),
    ("raise ValueError('no such user')", ["raises-exception"]),
]


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A notebook of three cells, executed and stored by the course's own tool."""
    from course_lib.notebooks import execute

    path = tmp_path / "99_small.ipynb"
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in HONEST]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    execute(path)
    return path


def change(path: Path, cell: int, **fields: str) -> None:
    """Alter the stored output of one cell, as a careless edit would."""
    stored = nbformat.read(path, as_version=4)
    output = stored.cells[cell].outputs[0]
    for name, value in fields.items():
        (output if name in output else output.data)[name.replace("plain", "text/plain")] = value
    nbformat.write(stored, path)


def test_an_honest_notebook_passes(notebook: Path) -> None:
    done = run_gate(notebook)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.parametrize(
    ("cell", "fields"),
    [
        (0, {"text": "fifty-two statements\n"}),
        (1, {"plain": "{'users': 9}"}),
        (2, {"evalue": "no such conversation"}),
        (2, {"ename": "KeyError"}),
    ],
    ids=["printed text", "a value", "an error's message", "an error's class"],
)
def test_a_changed_output_fails(notebook: Path, cell: int, fields: dict[str, str]) -> None:
    change(notebook, cell, **fields)
    done = run_gate(notebook)
    assert done.returncode == 1, done.stdout
    assert "1 failed, 2 passed" in done.stdout
