"""Lessons as files: executing and storing them, the learner's own copies in ``work/``, and what stands in those."""

from __future__ import annotations

from typing import TYPE_CHECKING

from course_lib.lazy import lazily

if TYPE_CHECKING:
    from course_lib.notebooks.executing import execute as execute
    from course_lib.notebooks.workspace import Workspace as Workspace

_HOMES = {"Workspace": "workspace", "execute": "executing"}  # the latter brings nbformat's schemas: most of a second

__all__ = list(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
