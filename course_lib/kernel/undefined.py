"""A name that a cell above defines, in a kernel that has not run that cell: somebody came back to the notebook."""

from __future__ import annotations

import json
import symtable
from itertools import takewhile
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError

NOTEBOOK = ("__session__", "__vsc_ipynb_file__")  # where ipykernel and VS Code name the notebook's file


def not_run_yet(shell: Any, error: NameError) -> CourseError | None:
    """What is missing and what to do, where the notebook's file tells; None for every other name.

    Args:
        shell: IPython's.
        error: which the current cell raised.
    """
    result, name = shell.displayhook.exec_result, error.name
    if type(error) is not NameError or not name or name in shell.user_ns or result is None:
        return None
    cells = _code_cells(shell.user_ns)
    above = takewhile(lambda cell: cell["id"] != result.info.cell_id, cells)
    source = next((cell["source"] for cell in above if _defines(cell["source"], name)), None)
    if source is None or source in shell.history_manager.input_hist_raw:
        return None
    first = "Run the first cell, or choose" if source == cells[0]["source"] else "Choose"
    return CourseError(
        f"`{name}` is not defined: this kernel has not run the cell above that defines it.",
        f"{first} Run > Run All Above Selected Cell.",
    )


def _code_cells(namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """As they were last saved; none where the file is not known or cannot be read."""
    try:
        place = next(Path(namespace[name]) for name in NOTEBOOK if name in namespace)
        cells = json.loads(place.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        return [{"id": cell.get("id"), "source": "".join(cell["source"])} for cell in code]
    except (StopIteration, OSError, ValueError, KeyError, TypeError):
        return []


def _defines(source: str, name: str) -> bool:
    try:
        symbol = symtable.symtable(source, "cell", "exec").lookup(name)
    except (SyntaxError, ValueError, KeyError):  # magics among them
        return False
    return symbol.is_assigned() or symbol.is_imported()
