"""What an interview was: asked, answered, reached, and what to read again; as Markdown and as one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.files import answering_for, write_whole
from course_lib.interview.memory import folder
from course_lib.interview.mock import Interview, Part
from course_lib.interview.pages import render
from course_lib.interview.references import stored_cell, where
from course_lib.interview.schema import Point
from course_lib.interview.tasks import Task, asked, find_task, title_of
from course_lib.judging.exercise import Drill

ENOUGH = 0.75  # of the points; what is below is to be repeated


@dataclass(frozen=True)
class Told:
    """A part as the report tells it.

    ``asked`` is what was asked beside the title, a design question and its facts; ``points`` are (said, text), and None
    for a drill; ``opinion`` is what a model thought of each point, if it was asked.
    """

    part: Part
    title: str
    head: str
    asked: list[str]
    points: list[tuple[bool, str]] | None
    opinion: list[str]

    @classmethod
    def of(cls, part: Part) -> Told:
        task = find_task(part.id)
        minutes = f"{part.minutes} minutes, took {part.seconds / 60:.1f}"
        head = f"{task.level} · {', '.join(task.topics)} · {minutes}"
        if isinstance(task, Drill):
            return cls(part, task.title, head, [], None, [])
        points = [
            (number in (part.ticked or ()), f"{point.say} ({where(point)})" if where(point) else point.say)
            for number, point in enumerate(task.points, 1)
        ]
        numbers = range(1, len(task.points) + 1) if part.opinion else ()
        opinion = [part.opinion.in_words(number) for number in numbers if part.opinion]
        return cls(part, title_of(task), head, asked(task)[1:], points, opinion)


def write_report(interview: Interview) -> list[Path]:
    """Write ``work/interview/DATE-TIME.md`` and ``.html``; returns both.

    Raises:
        CourseError: they cannot be written.
    """
    written = [interview.file.with_suffix(ending) for ending in (".md", ".html")]
    with answering_for(folder(), "COURSE_WORK"):
        for file in written:
            write_whole(file, render(f"report{file.suffix}", **_content(interview)))
    return written


def reached(part: Part) -> tuple[int, int]:
    """Points reached, and points there were. A drill has one; a part without an answer reached none."""
    task = find_task(part.id)
    if isinstance(task, Drill):
        return int(bool(part.passed)), 1
    return len(part.ticked or ()), len(task.points)


def by_topic(interview: Interview) -> dict[str, tuple[int, int]]:
    """Points reached and possible of each first topic, the weakest first."""
    sums: dict[str, tuple[int, int]] = {}
    for part in interview.parts:
        topic = find_task(part.id).topics[0]
        (got, of), (more, of_more) = sums.get(topic, (0, 0)), reached(part)
        sums[topic] = got + more, of + of_more
    return dict(sorted(sums.items(), key=lambda entry: entry[1][0] / entry[1][1]))


def _content(interview: Interview) -> dict[str, Any]:
    return {
        "title": f"Mock interview, {interview.started:%Y-%m-%d %H:%M}", "summary": _summary(interview),
        "topics": by_topic(interview), "parts": [Told.of(part) for part in interview.parts],
        "repeat": _to_repeat(interview),
    }  # fmt: skip


def _summary(interview: Interview) -> str:
    got, of = (sum(numbers) for numbers in zip(*map(reached, interview.parts), strict=True))
    answered = sum(bool(part.answer) for part in interview.parts)
    minutes = sum(part.seconds for part in interview.parts) / 60
    over = sum(part.seconds > part.minutes * 60 for part in interview.parts)
    late = f", {over} of them over time" if over else ""
    return (
        f"Level {interview.level}, planned for {interview.minutes} minutes; {answered} of {len(interview.parts)} parts "
        f"answered in {minutes:.0f} minutes{late}. {got} of {of} points."
    )


def _to_repeat(interview: Interview) -> list[str]:
    """Each part below ``ENOUGH``, with what the course has on it; one line where nothing is."""
    weak = [part for part in interview.parts if (numbers := reached(part))[0] / numbers[1] < ENOUGH]
    lines = [f"{title_of(find_task(part.id))} – {_what_to_read(find_task(part.id), part)}" for part in weak]
    return lines or ["Nothing: every part had three quarters of its points."]


def _what_to_read(task: Task, part: Part) -> str:
    if isinstance(task, Drill):
        return f"do {task.id} again; its solution says why"
    missed = [point for number, point in enumerate(task.points, 1) if number not in (part.ticked or ())]
    return "; ".join([*dict.fromkeys(map(_place, filter(_is_shown, missed))), *(f"exercise {id}" for id in task.proof)])


def _is_shown(point: Point) -> bool:
    return point.cell is not None


def _place(point: Point) -> str:
    cell = str(point.cell)
    return f"lesson {cell[:2]}, “{stored_cell(cell).section}”"
