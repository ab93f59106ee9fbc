"""How well it went, told from what was seen: the judge's verdict, the clock, the points of the answer."""

from __future__ import annotations

from course_lib.interview.memory import Grade

HALF, MOST = 0.5, 0.75


def grade_drill(passed: bool, seconds: float, minutes: int, hints: int, saw_solution: bool) -> Grade:
    """Of a drill: failed or the solution seen is again, hints or over time is hard, under half the time is easy."""
    if not passed or saw_solution:
        return "again"
    if hints or seconds > minutes * 60:
        return "hard"
    return "easy" if seconds < minutes * 60 * HALF else "good"


def grade_answer(points: int, of: int) -> Grade:
    """Of a spoken question: under half of its points is again, under three quarters hard, all of them easy."""
    share = points / of
    if share < HALF:
        return "again"
    if share < MOST:
        return "hard"
    return "easy" if points == of else "good"
