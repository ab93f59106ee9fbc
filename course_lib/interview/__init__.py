"""Questions that interviewers ask about databases behind AI products, each with where the course shows the answer.

Names are loaded when first used: the bank is read by the first call that looks into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from course_lib.lazy import lazily

if TYPE_CHECKING:
    from course_lib.interview.lookup import bank as bank
    from course_lib.interview.lookup import find_question as find_question
    from course_lib.interview.lookup import questions as questions
    from course_lib.interview.references import stored_cell as stored_cell
    from course_lib.interview.schema import TOPICS as TOPICS
    from course_lib.interview.schema import Question as Question

_HOMES = {
    "Question": "schema",
    "TOPICS": "schema",
    "bank": "lookup",
    "find_question": "lookup",
    "questions": "lookup",
    "stored_cell": "references",
}

__all__ = list(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
