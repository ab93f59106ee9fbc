"""What a teacher can say about a mistake, before the whole class: what was seen, and a question that leads on.

Names of mistakes come from learners' machines, and a board is read by the whole room. So only those that an exercise or
the judging of all exercises has are ever shown; any other is ``another mistake``.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter

from course_lib.judging.exercise import Exercise

UNKNOWN = "another mistake"

OF_ALL = {
    "async migration": "A migration runs in a synchronous function; what is awaited in it does not run.",
    "broken off": "Work was broken off half-way. Who ends it, and when?",
    "connection held": "A connection was still held when the function had returned. Who gives it back?",
    "database broken": "After the answer the database was not as it has to be. Which statement changed it for all?",
    "disk full": "The server ran out of disk. How many rows does the answer write?",
    "ended": "The answer ended the program, or was interrupted. What in it never comes back?",
    "endless": "It did not come to an end in time. Which loop, lock or wait has no end?",
    "foreign value": "What came back is of a kind of its own. Which plain value was asked for?",
    "forgotten await": "What came back was a coroutine. Where is an `await` missing?",
    "no app": "There was no app to be asked. What does the function return?",
    "no pair": "One value came where two were asked for. What does the statement ask for?",
    "no router": "There was no router to be asked. What does the function return?",
    "no source": "The test cannot be put into a file of its own. Where is what it uses defined?",
    "not a function": "The name of the answer holds something that is no function. What was assigned to it last?",
    "not a test": "What is asked for is a test, and pytest would not take it for one. What does a test look like?",
    "not async": "The database is awaited here. With which word does the function begin?",
    "not collected": "pytest found no test there. How does it tell a test by its name?",
    "nothing collected": "pytest found no test there. How does it tell a test by its name?",
    "not started": "What the answer made did not start. What does it need before the first request?",
    "only in one order": "The tests pass in one order and fail in another. Which of them needs what another has left?",
    "own engine": "Connections of an engine of its own were left open. Who closes them?",
    "raised": "The answer raised an error. Read its last line first: what does it name?",
    "remembered": "It gave an old answer a second time. When is the database asked?",
    "set-up": "The set-up of the test failed, and not the test. What does it expect to find?",
    "skipped": "A test was skipped, and so it tests nothing. Why was it?",
    "still at work": "The function returned while something it had started still worked. Who waits for it?",
    "stopped": "A statement was stopped by the server. What did it wait for, or how much did it read?",
    "swallowed": "An error did not reach the caller. Which `except` keeps it?",
    "too many connections": "The server had no connection left to give. Who opens one, and who closes it?",
    "transaction aborted": "A statement failed, and the transaction went on. What becomes of its next statement?",
    "transaction open": "A transaction was left open. Who commits, and who rolls back?",
    "unreadable": "What came back cannot be read any more. What does a rollback or a closed session do to an object?",
}
"""Mistakes that the judging of every exercise tells, and what to say."""


@dataclass(frozen=True)
class Said:
    """A mistake: its name, what was seen of it, and a question or a nudge that gives no answer away."""

    name: str
    seen: str
    ask: str


def what_to_say(exercise: Exercise, mistake: str) -> Said:
    """What an exercise has to say on one of its mistakes, without the numbers of any learner."""
    if mistake in exercise.mistakes:
        seen, _, look = (_without_numbers(part.strip()) for part in exercise.mistakes[mistake].partition(" | "))
        return Said(mistake, seen, look if "?" in look else _nudge(exercise))
    if mistake in OF_ALL:
        return Said(mistake, "", OF_ALL[mistake])
    return Said(UNKNOWN, "", _nudge(exercise))


def _nudge(exercise: Exercise) -> str:
    """The first hint: each learner may ask for it, and it is the one that gives away least."""
    return exercise.hints[0]


def _without_numbers(template: str) -> str:
    """A dot-dot-dot where a learner's own numbers would stand."""
    parts = Formatter().parse(template)
    return "".join(text + ("" if field is None else "…") for text, field, _, _ in parts)
