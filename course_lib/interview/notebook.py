"""``drill`` in a notebook: what is asked stands there first, and what a good answer has only beside the learner's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from time import monotonic
from typing import Any

from course_lib.errors import CourseError
from course_lib.exercises.book import sheet_name
from course_lib.exercises.check import Hint, take_note
from course_lib.interview.evening import again, countdown, keep, now, tonight
from course_lib.interview.grading import grade_answer, grade_drill
from course_lib.interview.memory import Review
from course_lib.interview.opinion import ask_opinion, model_answers, no_opinion, offer, told
from course_lib.interview.references import where
from course_lib.interview.schema import Design, Question
from course_lib.interview.tasks import Task, asked, find_task, title_of
from course_lib.judging.exercise import Drill
from course_lib.judging.judge import judge_answer
from course_lib.judging.record import Record

_began: dict[str, tuple[float, int, int]] = {}
"""When each was shown by this kernel, and how many hints and looks at the solution there had been."""
_answered: dict[str, str] = {}
"""The answers whose points were shown and not ticked yet."""
_ticked: dict[str, str] = {}
"""The last answer to each design question whose points were ticked."""


class Page(Hint):
    """Text that a notebook shows as Markdown."""

    __slots__ = ()


async def drill(
    id: str | None = None,
    answer: str | Callable[..., Any] | None = None,
    *,
    said: Collection[int] | None = None,
    opinion: bool = False,
) -> Page:
    """Practise for an interview: ``await drill()`` shows what there is to do today.

    ``await drill("n-plus-one")`` asks a question, ``await drill("n-plus-one", "my answer")`` shows what a good answer
    has, ``await drill("n-plus-one", said=[1, 3])`` keeps which of its points yours had. ``await drill("M4")`` shows a
    repair drill and ``await drill("M4", last_message)`` judges your repair of it.

    Where a real model answers, ``await drill("design-chat-schema", opinion=True)`` has it mark the points of a design
    question, too, once you have ticked them.

    Raises:
        CourseError: there is nothing of that name, it was not asked before, or there is no model to be asked.
    """
    if id is None:
        return _today()
    task = find_task(id)
    if isinstance(task, Drill):
        return await _judged(task, answer) if callable(answer) else _shown(task)
    if opinion:
        return await _thought_of(task)
    if said is not None:
        return _kept(task, said)
    return _compared(task, answer) if isinstance(answer, str) and answer.strip() else _shown(task)


def _today() -> Page:
    tasks = tonight()
    if not tasks:
        return Page(f"Nothing more for today. {countdown()}".strip())
    head = f"Today, about {sum(task.minutes for task in tasks)} minutes. {countdown()}".strip()
    lines = [f'- `await drill("{task.id}")` · {task.level} · {task.minutes} min · {title_of(task)}' for task in tasks]
    return Page("\n".join([head, "", *lines]))


def _shown(task: Task) -> Page:
    record = Record.load()
    _began.setdefault(task.id, (monotonic(), record.hints.get(task.id, 0), record.asked.get(task.id, 0)))
    head = f"**{task.id}** · {task.level} · {task.minutes} minutes"
    if isinstance(task, Drill):
        sheet = f"exercises/interview/{sheet_name(task)}"
        how = f'Open `{sheet}` and repair the code. Then, in that notebook: `await drill("{task.id}", {task.answer})`'
        return Page(f"{head}\n\n{task.title}\n\n{how}")
    how = f'Write what you would say: `await drill("{task.id}", """…""")`'
    return Page("\n\n".join([head, *asked(task), how]))


def _compared(question: Question, answer: str) -> Page:
    _shown(question)
    _answered[question.id] = answer.strip()
    points = [
        f"{number}. {point.say}" + (f" *({where(point)})*" if where(point) else "")
        for number, point in enumerate(question.points, 1)
    ]
    weak = [f"- “{one.say}” {one.wrong}" for one in question.weak]
    asked = [
        f"- {one.ask}\n  <details><summary>a good answer</summary>{' '.join(one.points)}</details>"
        for one in question.follow_ups
    ]
    quoted = "\n".join(f"> {line}" for line in answer.strip().splitlines())
    keeping = f'Which of the points did yours have? `await drill("{question.id}", said=[1, 3])`, or `said=[]` for none.'
    return Page("\n\n".join([
        quoted, "**A strong answer has**", "\n".join(points), "**Often said, and why it is not enough**",
        "\n".join(weak), "**Asked next**", "\n".join(asked), keeping,
    ]))  # fmt: skip


def _kept(question: Question, said: Collection[int]) -> Page:
    if question.id not in _answered:
        raise CourseError("You have not answered this one yet.", f'First: await drill("{question.id}", "your answer")')
    odd = set(said) - set(range(1, len(question.points) + 1))
    if odd:
        raise CourseError(
            f"There is no point {min(odd, key=str)}.", f"They have the numbers 1 to {len(question.points)}."
        )
    answer = _answered.pop(question.id)
    reached = len(set(said))
    began = _began.pop(question.id)[0]
    kept = _remembered(question, Review(
        id=question.id, at=now(), grade=grade_answer(reached, len(question.points)),
        seconds=round(monotonic() - began, 1), points=reached,
    ))  # fmt: skip
    if not isinstance(question, Design) or not model_answers():
        return kept
    _ticked[question.id] = answer
    head, comes_of_it = offer()
    return Page(f'{kept}\n\n{head} `await drill("{question.id}", opinion=True)` asks it. {comes_of_it}')


async def _thought_of(question: Question) -> Page:
    """A model's opinion of the answer whose points were ticked."""
    if not isinstance(question, Design):
        raise CourseError(
            "A model marks the answer to a design question only.", "Tick the points of this one yourself."
        )
    if not model_answers():
        raise CourseError(
            "There is no real model to be asked.", "Set OPENAI_API_KEY or OPENAI_BASE_URL, and restart the kernel."
        )
    if question.id not in _ticked:
        raise CourseError(
            "Which points your answer to this one had is not kept yet.",
            f'First: await drill("{question.id}", "your answer"), then with said=[…].',
        )
    try:
        opinion = await asyncio.to_thread(ask_opinion, question, _ticked[question.id])
    except CourseError as error:
        return Page(no_opinion(error))
    head, lines = told(opinion, question)
    return Page("\n".join([f"**{head}**", "", *(f"{number}. {words}" for number, words in lines)]))


async def _judged(task: Drill, repaired: Callable[..., Any]) -> Page:
    known = task.id in _began
    _shown(task)
    began, hints, asked = _began[task.id]
    verdict = await judge_answer(task, repaired)
    take_note(verdict)
    record = Record.load()
    if not verdict.passed and record.asked.get(task.id, 0) == asked:
        return Page(verdict._repr_markdown_())
    seconds = monotonic() - began if known else task.minutes * 60.0
    grade = grade_drill(
        verdict.passed,
        seconds,
        task.minutes,
        record.hints.get(task.id, 0) - hints,
        record.asked.get(task.id, 0) > asked,
    )
    del _began[task.id]
    kept = _remembered(task, Review(id=task.id, at=now(), grade=grade, seconds=round(seconds, 1)))
    return Page(f"{verdict._repr_markdown_()}\n\n{kept}")


def _remembered(task: Task, review: Review) -> Page:
    due, remark = keep(task, review)
    return Page(f"Kept as {review.grade}; it comes again {again(due)}. {remark}".strip())
