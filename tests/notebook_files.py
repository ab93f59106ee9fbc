"""The committed notebooks, and running the gate over a copy of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat

from course_lib.settings import REPOSITORY

LESSONS = [
    path for pattern in ("notebooks/*", "solutions/*", "solutions/interview/*")
    for path in sorted(REPOSITORY.glob(f"{pattern}.ipynb"))
]  # fmt: skip


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def run_gate(*notebooks: Path) -> subprocess.CompletedProcess[str]:
    """Run the repository's own gate over notebooks, wherever they lie."""
    command = [sys.executable, "-m", "pytest", "--rootdir", str(REPOSITORY), "-c", str(REPOSITORY / "pyproject.toml")]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "conftest", *map(str, notebooks)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
