"""A learner's notebook as cells, without the schemas of nbformat; or one sentence on why it is no notebook."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError

FORMAT = 4
MOVED = {"](../exercises/": "](exercises/", "](../notebooks/": "](../", "](../../notebooks/": "](../../"}
"""Where links lead in the repository, and where in ``work/``, whose lessons lie one folder higher."""


@dataclass(frozen=True)
class Cell:
    """What a person writes in a cell."""

    kind: str
    source: str

    @property
    def first_line(self) -> str:
        return next(iter(self.source.strip().splitlines()), "")


def read_cells(path: Path, mend: str) -> list[Cell]:
    """The cells of the notebook at ``path`` from top to bottom.

    Args:
        path: where it lies.
        mend: what brings back a whole one.

    Raises:
        CourseError: it cannot be read, is no notebook, or has no cells.
    """
    content = _json(path, mend)
    if not isinstance(content, dict) or not {"nbformat", "cells", "worksheets"} & content.keys():
        raise CourseError(f"{path} is no notebook: it is JSON, but has no cells.", mend)
    if content.get("nbformat") != FORMAT:
        found = str(content.get("nbformat"))[:20]
        raise CourseError(f"{path} is a notebook of format {found}; the course reads format {FORMAT}.", mend)
    try:
        cells = _cells(content)
    except (KeyError, TypeError) as error:
        raise CourseError(f"{path} is no notebook: its cells are not as a notebook has them.", mend) from error
    if not cells:
        raise CourseError(f"{path} has no cells.", mend)
    return cells


def _json(path: Path, mend: str) -> Any:
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114 (Path's may raise)
        raise CourseError(f"{path} is a link to nothing.", mend)
    if os.path.isdir(path):  # noqa: PTH112
        raise CourseError(f"{path} is a folder, not a notebook.", mend)
    if not os.path.isfile(path):  # noqa: PTH113
        raise CourseError(f"{path} is no regular file.", mend)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if not text.strip():
            raise CourseError(f"{path} is empty.", mend)
        return json.loads(text)
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {error.strerror}.", mend) from error
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} is no notebook: it is not text in UTF-8.", mend) from error
    except json.JSONDecodeError as error:
        raise CourseError(f"{path} is no notebook: line {error.lineno} of it is no JSON.", mend) from error
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{path} is no notebook: its JSON goes beyond what can be read.", mend) from error


def _cells(content: dict[str, Any]) -> list[Cell]:
    return [Cell(str(cell["cell_type"]), "".join(cell["source"])) for cell in content["cells"]]


def at_work(source: str) -> str:
    """A cell's source with the links that lead from ``work/``."""
    for there, here in MOVED.items():
        source = source.replace(there, here)
    return source


def digest(path: Path) -> str | None:
    """A hash of what a person can write in a notebook, its cells' sources; None where there is no readable one.

    Running cells does not change it, and neither does copying the original to ``work/``.
    """
    try:
        if not path.is_file():  # reading from a pipe would wait for ever
            return None
        return digest_of(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def digest_of(text: str) -> str:
    """The same for the text of a notebook.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it is none.
    """
    sources = [[cell.kind, at_work(cell.source)] for cell in _cells(json.loads(text))]
    return sha256(json.dumps(sources).encode()).hexdigest()
