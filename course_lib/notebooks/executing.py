"""Run a notebook from top to bottom and store what it shows, with nothing in the file that changes from run to run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from course_lib.errors import CourseError
from course_lib.notebook_format import nbformat
from course_lib.notebooks.kernels import private_transport

CELL_SECONDS = 120
STORED = {
    "COLUMNS": "80",  # IPython fits a traceback's title into a terminal
    "COURSE_HTML_PICTURES": "0",  # a code host that removes images from HTML shows a picture stored as PNG alone
}
"""The environment of kernels whose outputs are stored or compared."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
FOLDER = re.compile(r"(~|(?<![\w.])/(home|root|Users|tmp|var|private|work|opt|usr))/([^\s/:'\"]+/)*")
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> None:
    """Execute the notebook at ``path`` in a new kernel and write the outputs into the file.

    Raises:
        CourseError: a cell raised without being tagged ``raises-exception``. The file stays as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    try:
        with private_transport() as transport:
            NotebookClient(
                notebook,
                AsyncKernelManager(kernel_name="python3", **transport),
                timeout=CELL_SECONDS,
                record_timing=False,
                resources={"metadata": {"path": str(path.parent)}},
            ).execute(env=os.environ | STORED, stderr=subprocess.DEVNULL)  # where it remarks on its own transport
    except CellExecutionError as error:
        raise CourseError(f"{path.name} stopped at a cell:\n{error}") from error
    except CellTimeoutError as error:
        raise CourseError(f"A cell of {path.name} had not ended after {CELL_SECONDS} seconds.") from error
    tidy(notebook)
    nbformat.write(notebook, path)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leave in the file what a reader or the gate needs: nothing of the machine, tracebacks as they are shown."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            output.pop("transient", None)
            if output.output_type == "error":
                output.traceback = portable(output.traceback)


def portable(traceback: list[str]) -> list[str]:
    """A traceback as it is shown, but for colours and for what another run or another machine has elsewhere."""
    return [FOLDER.sub("…/", ADDRESS.sub("0x…", COLOUR.sub("", part))) for part in traceback]
