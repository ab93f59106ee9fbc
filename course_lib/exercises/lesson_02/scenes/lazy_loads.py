"""The two errors that everybody meets while learning to load eagerly, called by their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import InvalidRequestError, MissingGreenlet

from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt

LOADED_ON_ACCESS = (
    "Reading an attribute that was not loaded raised MissingGreenlet. "
    "| In async code nothing is loaded on access: say in the query what to load with it."
)
NOT_UNIQUE = (
    "A joined result has several rows for one object, and SQLAlchemy wants to be told to make each object once. "
    "| `.unique()` on the result, or `selectinload`, which does not join."
)


@contextmanager
def naming_lazy_loads(attempt: Attempt) -> Iterator[None]:
    """A lazy load is ``loaded on access``, also where Pydantic wraps its error in one of its own.

    A joined collection without ``unique()`` is ``not unique``, where the exercise knows that mistake.
    """
    with (
        calling_it(attempt, "loaded on access", MissingGreenlet),
        calling_it(attempt, "loaded on access", saying="MissingGreenlet"),
    ):
        if "not unique" not in attempt.exercise.mistakes:
            yield
            return
        with calling_it(attempt, "not unique", InvalidRequestError, saying="unique()"):
            yield
