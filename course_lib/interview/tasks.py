"""What can be asked on an evening: the bank's questions, which are spoken, and the repair drills."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from course_lib.errors import CourseError
from course_lib.exercises import drills
from course_lib.interview.lookup import bank, check_level, check_topic
from course_lib.interview.schedule import Item
from course_lib.interview.schema import Design, Question
from course_lib.judging.exercise import DRILL, Drill
from course_lib.masking import short

Task = Question | Drill
QUESTIONS_BEFORE_A_DRILL = 3


def all_tasks() -> list[Task]:
    """Questions and drills, juniors' first; of each level one topic after the other, and a drill now and then.

    Raises:
        CourseError: an entry of the bank is malformed.
    """
    tasks: list[Task] = []
    for level in ("junior", "mid", "senior"):
        spoken = list(_by_turns([question for question in bank() if question.level == level]))
        written = [drill for drill in drills() if drill.level == level]
        tasks += _mixed(spoken, written)
    return tasks


def tasks_for(topic: str | None = None, level: str | None = None) -> list[Task]:
    """Those of a topic and a level.

    Raises:
        CourseError: there is no such topic or level, or nothing of both.
    """
    check_topic(topic)
    check_level(level)
    found = [task for task in all_tasks() if level in (None, task.level) and (topic is None or topic in task.topics)]
    if not found:
        raise CourseError(f"There is nothing on {topic} for {level} yet.", "Leave one of the two out.")
    return found


def find_task(id: str) -> Task:
    """The question called ``"n-plus-one"``, or the drill ``"M4"``.

    Raises:
        CourseError: there is none of that name.
    """
    wanted = id.strip().upper() if DRILL.fullmatch(id.strip().upper()) else id.strip().lower()
    for task in all_tasks():
        if task.id == wanted:
            return task
    near = [task.id for task in all_tasks() if wanted and wanted[:4].lower() in task.id.lower()]
    listed = f"Perhaps: {', '.join(near[:5])}. " if near else ""
    raise CourseError(f"There is no question and no drill {short(repr(id))}.", f"{listed}`--list` shows all.")


def items_of(tasks: Iterable[Task]) -> list[Item]:
    return [Item(task.id, task.minutes) for task in tasks]


def title_of(task: Task) -> str:
    """A line for a list: the question itself, or the name of a drill or of a design question."""
    return task.title if isinstance(task, Drill | Design) else task.ask


def asked(question: Question) -> list[str]:
    """The question; of a design question its title, and the facts that an interviewer has ready, as list items."""
    if not isinstance(question, Design):
        return [question.ask]
    return [question.title, question.ask, *(f"- {fact}" for fact in question.given)]


def _by_turns(questions: Sequence[Question]) -> Iterator[Question]:
    """The first of each topic, then the second of each."""
    topics: dict[str, list[Question]] = {}
    for question in questions:
        topics.setdefault(question.topics[0], []).append(question)
    for turn in zip_longest(*topics.values()):
        yield from (question for question in turn if question is not None)


def _mixed(spoken: Sequence[Task], written: Sequence[Task]) -> Iterator[Task]:
    size = QUESTIONS_BEFORE_A_DRILL
    for turn in range(max(-(-len(spoken) // size), len(written))):
        yield from spoken[turn * size : (turn + 1) * size]
        yield from written[turn : turn + 1]
