"""What has been solved, kept as plain text in ``work/``."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path

from course_lib.exercises.exercise import manifest
from course_lib.settings import get_settings

BAR = 20  # characters


@dataclass
class Record:
    """Exercises passed, hints taken, solutions asked for, by exercise id."""

    passed: list[str]
    hints: dict[str, int]
    asked: dict[str, int]

    @classmethod
    def load(cls) -> Record:
        """The record on disk; an empty one where there is none, or an unreadable one."""
        try:
            content = json.loads(_file().read_text(encoding="utf-8"))
            return cls(list(content["passed"]), dict(content["hints"]), dict(content["asked"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls([], {}, {})

    def save(self) -> None:
        """Write it, unless a grader runs or the folder cannot be written: a check never fails for that."""
        if "NBGRADER_EXECUTION" in os.environ:
            return
        try:
            _file().parent.mkdir(parents=True, exist_ok=True)
            _file().write_text(json.dumps(self.__dict__, indent=1), encoding="utf-8")
        except OSError:
            return


def _file() -> Path:
    return get_settings().work / "progress.json"


class Progress:
    """A bar for each lesson: solved of all, and points."""

    def __init__(self) -> None:
        passed = set(Record.load().passed)
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
        return "\n".join(lines) or "There are no exercises yet."

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"
