"""The bank of interview questions as one page of the site: by topic, the answers folded, each point with its cell."""

from __future__ import annotations

from collections.abc import Iterator

from course_lib.interview.references import where
from course_lib.interview.schema import Point, Question
from course_lib.interview.sheet import TITLE, by_topic
from course_lib.judging.verdict import in_markdown
from course_lib.site.pages import exercise_label, lessons

LABELS = "5"


def questions_page() -> str:
    """The page in Markdown.

    Raises:
        CourseError: an entry of the bank is malformed.
    """
    return "\n\n".join(_parts())


def _parts() -> Iterator[str]:
    yield f"# {TITLE}"
    yield "Say your answer aloud before you open one. The points beneath are what a strong answer has."
    for topic, questions in by_topic().items():
        yield f"({LABELS}-{topic})=\n## {topic}"
        for question in questions:
            yield from _question(question)


def _question(question: Question) -> Iterator[str]:
    title = getattr(question, "title", None)
    yield f"({LABELS}-{question.id})=\n### {in_markdown(title or question.ask)}"
    yield f"*{question.level}, {question.minutes} min*"
    if title:
        yield in_markdown(question.ask)
    yield _list(in_markdown(fact) for fact in getattr(question, "given", ()))
    yield "<details><summary>A strong answer</summary>"
    yield _list(f"{in_markdown(point.say)}{_led(point)}" for point in question.points)
    yield "Often said, and why it is not enough:"
    yield _list(f"“{in_markdown(weak.say)}” {in_markdown(weak.wrong)}" for weak in question.weak)
    yield "Asked next:"
    for one in question.follow_ups:
        yield f"**{in_markdown(one.ask)}**"
        yield _list(in_markdown(point) for point in one.points)
    if question.proof:
        yield f"To prove it: {', '.join(question.proof)}"
    yield "</details>"


def _list(items: Iterator[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _led(point: Point) -> str:
    """Where the course shows it, as a link; nothing for an opinion."""
    if point.cell is not None:
        lesson, _, cell = point.cell.partition(":")
        label = next(page for page in lessons() if page.source.name.startswith(f"{lesson}_")).label(cell)
    elif point.exercise is not None:
        label = exercise_label(point.exercise)
    else:
        return ""
    return f" ([{in_markdown(where(point))}](#{label}))"
