"""A model's opinion of an answer to a design question: offered where a model answers, and never a grade."""

from __future__ import annotations

from course_lib.cli.screen import show
from course_lib.cli.speaking import read_line
from course_lib.errors import CourseError
from course_lib.interview.opinion import Opinion, ask_opinion, model_answers, no_opinion, offer, told
from course_lib.interview.schema import Design, Question


def offered(question: Question, answer: str) -> Opinion | None:
    """Ask whether the model shall mark the points, and show its marks. None where it is not asked, or fails.

    Raises:
        Left: the learner has gone.
    """
    if not isinstance(question, Design) or not model_answers():
        return None
    head, comes_of_it = offer()
    show(head, [("", comes_of_it)])
    if not _wanted():
        return None
    print("It is being asked. Ctrl-C stops waiting.", flush=True)
    try:
        opinion = ask_opinion(question, answer)
    except CourseError as error:
        show(no_opinion(error), [])
        return None
    except KeyboardInterrupt:
        show("No opinion: it was not waited for.", [])
        return None
    show(*told(opinion, question))
    return opinion


def _wanted() -> bool:
    while True:
        said = read_line("Ask it? y or n: ").lower()
        if said in ("y", "yes", "n", "no", ""):
            return said[:1] == "y"
