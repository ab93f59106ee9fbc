"""Databases for AI Engineers: the names that notebooks use.

Names are loaded when first used, so that importing the package starts nothing and takes no time. In a notebook's kernel
it changes what an interrupt and an error look like, see ``course_lib.kernel``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from course_lib.lazy import lazily

if TYPE_CHECKING:
    from course_lib.errors import CourseError as CourseError
    from course_lib.exercises import check as check
    from course_lib.exercises import hint as hint
    from course_lib.exercises import progress as progress
    from course_lib.exercises import solution as solution
    from course_lib.instruments import QueryLog as QueryLog
    from course_lib.instruments import explain as explain
    from course_lib.interview.notebook import drill as drill
    from course_lib.lesson import Lesson as Lesson
    from course_lib.lesson import open_lesson as open_lesson
    from course_lib.llm import openai_client as openai_client

_HOMES = {
    "CourseError": "errors",
    "Lesson": "lesson",
    "QueryLog": "instruments",
    "check": "exercises",
    "drill": "interview.notebook",
    "explain": "instruments",
    "hint": "exercises",
    "open_lesson": "lesson",
    "openai_client": "llm",
    "progress": "exercises",
    "solution": "exercises",
}

__all__ = list(_HOMES)

__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


if "ipykernel" in sys.modules:
    from course_lib.kernel import load_where_a_kernel_runs

    load_where_a_kernel_runs()
