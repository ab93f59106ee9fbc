"""Answers that are a class with several methods: which of them are there, and which are written."""

from __future__ import annotations

from typing import Any

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import NotAttempted
from course_lib.judging.source import is_stub


def look_for_methods(attempt: Attempt, thing: Any, *names: str) -> None:
    """Each of these methods is there and is written.

    Raises:
        Wrong: "method missing" or "not written", which the exercise has to name.
        NotAttempted: none of them is written.
    """
    stubs = []
    for name in names:
        method = getattr(thing, name, None)
        attempt.expect(callable(method), "method missing", method=name)
        stubs += [name] * is_stub(method)
    if len(stubs) == len(names):
        raise NotAttempted
    attempt.expect(not stubs, "not written", method="` and `".join(stubs))
