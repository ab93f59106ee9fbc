"""How far a learner is, lesson by lesson."""

from __future__ import annotations

from html import escape

from course_lib.exercises.manifest import manifest
from course_lib.judging.record import Record, take_remarks

BAR = 20  # characters


class Progress:
    """A bar for each lesson: solved of all, and points."""

    def __init__(self) -> None:
        passed = set(Record.load().passed)
        self.remarks = take_remarks()
        self.lessons: dict[str, tuple[int, int, int, int]] = {}
        for exercise in manifest():
            solved, of, points, possible = self.lessons.get(exercise.lesson, (0, 0, 0, 0))
            done = exercise.id in passed
            self.lessons[exercise.lesson] = (
                solved + done, of + 1, points + done * exercise.points, possible + exercise.points,
            )  # fmt: skip

    def __str__(self) -> str:
        lines = []
        for lesson, (solved, of, points, possible) in self.lessons.items():
            full = round(BAR * solved / of)
            lines.append(f"{lesson}  {'█' * full}{'░' * (BAR - full)}  {solved} of {of}, {points} of {possible} points")
        return "\n".join([*(lines or ["There are no exercises yet."]), *self.remarks])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"
