"""The bank as one page: by topic, with the answers folded."""

from __future__ import annotations

from course_lib.interview.lookup import bank
from course_lib.interview.pages import render
from course_lib.interview.references import where
from course_lib.interview.schema import TOPICS, Question

TITLE = "Databases for AI engineers: questions for an interview"


def as_sheet() -> str:
    """The page: a list of topics, then each question with its points, weak answers and what is asked next, folded.

    Raises:
        CourseError: an entry of the bank is malformed.
    """
    return render("sheet.html", title=TITLE, topics=by_topic(), where=where)


def by_topic() -> dict[str, list[Question]]:
    """The questions of each topic that has any, in the order of the topics.

    Raises:
        CourseError: an entry of the bank is malformed.
    """
    topics: dict[str, list[Question]] = {topic: [] for topic in TOPICS}
    for question in bank():
        topics[question.topics[0]].append(question)
    return {topic: found for topic, found in topics.items() if found}
