"""Lessons as files: executing and storing them, and the learner's own copies in ``work/``."""

from course_lib.notebooks.execute import execute
from course_lib.notebooks.workspace import Workspace

__all__ = ["Workspace", "execute"]
