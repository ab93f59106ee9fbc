"""A model's opinion of an answer to a design question: offered where a model answers, and never a grade."""

from __future__ import annotations

from course_lib import llm
from course_lib.cli.screen import show
from course_lib.cli.speaking import read_line
from course_lib.errors import CourseError
from course_lib.interview.opinion import Opinion, ask_opinion, model_answers
from course_lib.interview.schema import Design, Question


def offered(question: Question, answer: str) -> Opinion | None:
    """Ask whether the model shall mark the points, and show its marks. None where it is not asked, or fails.

    Raises:
        Left: the learner has gone.
    """
    if not isinstance(question, Design) or not model_answers():
        return None
    show(f"{llm.CHAT_MODEL} can mark the points as well.", [("", "Your answer is sent to it. It grades nothing.")])
    if not _wanted():
        return None
    print("It is being asked. Ctrl-C stops waiting.", flush=True)
    try:
        opinion = ask_opinion(question, answer)
    except CourseError as error:
        show(f"No opinion: {error.sentence}", [])
        return None
    except KeyboardInterrupt:
        show("No opinion: it was not waited for.", [])
        return None
    show(f"The opinion of {opinion.model}. What counts is what you ticked.", told(opinion, question))
    return opinion


def told(opinion: Opinion, question: Question) -> list[tuple[str, str]]:
    """A line for each point, by its number."""
    return [(f"{number}", opinion.in_words(number)) for number in range(1, len(question.points) + 1)]


def _wanted() -> bool:
    while True:
        said = read_line("Ask it? y or n: ").lower()
        if said in ("y", "yes", "n", "no", ""):
            return said[:1] == "y"
