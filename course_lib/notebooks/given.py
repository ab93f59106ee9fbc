"""A notebook as a learner is given it, made from the executed one."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from course_lib.errors import CourseError
from course_lib.notebooks.reading import at_work

if TYPE_CHECKING:
    import nbformat  # at run time where it is needed: its schemas take a fifth of a second

LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": sys.version_info.major},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
    "version": platform.python_version(),
}
"""As a kernel of this Python tells JupyterLab, which else takes a notebook for changed as soon as it is opened."""


def as_given(original: Path) -> nbformat.NotebookNode:
    """The original without outputs, with links that lead where its copy will lie.

    Raises:
        CourseError: it cannot be read as a notebook.
    """
    from course_lib.notebook_format import nbformat  # brings schemas, for those who copy

    try:
        notebook = nbformat.read(original, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        mend = f"Run: git checkout -- {original.parent.name}/{original.name}"
        raise CourseError(f"The original {original} cannot be read as a notebook.", mend) from error
    for cell in notebook.cells:
        cell.source = at_work(cell.source)
    from nbstripout import strip_output  # imports nbformat too, and would do it slowly

    stripped: nbformat.NotebookNode = strip_output(notebook, keep_output=False, keep_count=False, keep_id=True)
    stripped.metadata["language_info"] = LANGUAGE
    return stripped


def text_of(notebook: nbformat.NotebookNode) -> str:
    """As it is written to a file."""
    from course_lib.notebook_format import nbformat

    return f"{nbformat.writes(notebook)}\n"
