"""The bank read from its files, once, and looked up by id, level and topic."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from course_lib.errors import CourseError
from course_lib.interview.schema import LEVELS, TOPICS, Design, Question
from course_lib.masking import short

FOLDER = Path(__file__).parent / "bank"
KINDS: dict[str, type[Question]] = {"question": Question, "design": Design}
"""What a file holds, by the name of its tables."""


@cache
def bank() -> tuple[Question, ...]:
    """All questions, by file and in the order of each file.

    Raises:
        CourseError: an entry is malformed; the sentence names its file, its id and the field.
    """
    return read_bank(sorted(FOLDER.glob("*.toml")))


def questions(level: str | None = None, topic: str | None = None, lesson: str | None = None) -> tuple[Question, ...]:
    """The questions of one level (``"junior"``, ``"mid"``, ``"senior"``), topic and lesson (``"02"``); all by default.

    Raises:
        CourseError: there is no such level or topic; the mend lists them.
    """
    check_level(level)
    check_topic(topic)
    return tuple(
        question
        for question in bank()
        if level in (None, question.level) and lesson in (None, question.lesson)
        if topic is None or topic in question.topics
    )


def check_level(level: str | None) -> None:
    """Raises CourseError: there is no such level."""
    _check_known(level, LEVELS, "level")


def check_topic(topic: str | None) -> None:
    """Raises CourseError: there is no such topic."""
    _check_known(topic, TOPICS, "topic")


def find_question(id: str) -> Question:
    """The question called ``"n-plus-one"``.

    Raises:
        CourseError: there is none of that name; the mend lists them.
    """
    for question in bank():
        if question.id == id:
            return question
    raise CourseError(
        f"There is no question {short(repr(id))}.", f"Choose one of: {', '.join(question.id for question in bank())}"
    )


def read_bank(paths: Iterable[Path]) -> tuple[Question, ...]:
    """The questions in the files at ``paths``.

    Raises:
        CourseError: a file cannot be read as TOML, an entry is malformed, or an id stands twice.
    """
    found: dict[str, tuple[Question, Path]] = {}
    for path in paths:
        for question in _read_file(path):
            if question.id in found:
                raise CourseError(
                    f"{path.name}, question {question.id}, field id: {found[question.id][1].name} has that id, too."
                )
            found[question.id] = (question, path)
    return tuple(question for question, _ in found.values())


def _read_file(path: Path) -> list[Question]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CourseError(f"{path.name} is no TOML: {error}.") from error
    for name in content.keys() - KINDS.keys():
        raise CourseError(
            f"{path.name}, outside of questions, field {name}: a file holds [[question]], [[design]] and no other."
        )
    return [
        _read_entry(entry, number, path, kind)
        for name, kind in KINDS.items()
        for number, entry in enumerate(_entries(content.get(name, []), name, path), 1)
    ]


def _entries(entries: Any, name: str, path: Path) -> list[Any]:
    if not isinstance(entries, list):
        raise CourseError(f"{path.name}, field {name}: it is written [[{name}]], with two brackets.")
    return entries


def _read_entry(entry: Any, number: int, path: Path, kind: type[Question]) -> Question:
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        id = entry.get("id") if isinstance(entry, dict) else None
        name = short(id) if isinstance(id, str) and id else f"number {number}, which has no id"
        first = error.errors(include_url=False, include_context=False)[0]
        raise CourseError(f"{path.name}, question {name}, {_field(first)}: {_complaint(first)}.") from error


def _field(error: ErrorDetails) -> str:
    """``field minutes``, ``field point 2 figures``: places in lists are counted from one, as readers count them."""
    steps = [str(step + 1) if isinstance(step, int) else step for step in error["loc"]]
    return f"field {' '.join(steps)}" if steps else "all of it"


def _complaint(error: ErrorDetails) -> str:
    match error["type"]:
        case "missing":
            return "it is missing"
        case "extra_forbidden":
            return "there is no field of that name"
    message = error["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


def _check_known(name: str | None, known: tuple[str, ...], what: str) -> None:
    if name is not None and name not in known:
        raise CourseError(f"There is no {what} {short(repr(name))}.", f"Choose one of: {', '.join(known)}")
