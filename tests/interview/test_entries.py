"""A malformed entry is told by its file, its question and the field, in one sentence."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from course_lib.errors import CourseError
from course_lib.interview.lookup import read_bank

WHOLE = """
[[question]]
id = "whole"
level = "junior"
topics = ["orm", "performance"]
lesson = "02"
section = "s1"
minutes = 4
ask = "What is this?"
sources = []
proof = ["2.1"]

[[question.point]]
say = "It sends 51 statements."
cell = "02:page-log"
figures = ["51 statements"]

[[question.point]]
say = "It is judged by an exercise."
exercise = "2.1"

[[question.point]]
say = "It is a matter of taste, e.g. of names."
opinion = true

[[question.weak]]
say = "Nothing."
wrong = "It is something. It is more than that."

[[question.weak]]
say = "Everything."
wrong = "It is less."

[[question.follow_up]]
ask = "And then?"
points = ["More."]

[[question.follow_up]]
ask = "Why?"
points = ["Because.", "It is so."]
"""


def reading(tmp_path: Path, *texts: str) -> str:
    """The sentence that is said of files with these texts; their names are ``a.toml``, ``b.toml``."""
    paths = [tmp_path / f"{name}.toml" for name in "ab"[: len(texts)]]
    for path, content in zip(paths, texts, strict=True):
        path.write_text(content, encoding="utf-8")
    with pytest.raises(CourseError) as caught:
        read_bank(paths)
    return caught.value.sentence


def test_a_whole_entry_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(WHOLE, encoding="utf-8")
    (question,) = read_bank([path])
    assert question.id == "whole"
    assert question.points[0].figures == ("51 statements",)
    assert question.follow_ups[1].points == ("Because.", "It is so.")


Change = Callable[[dict[str, Any]], object]
MALFORMED: dict[str, tuple[Change, str]] = {
    "no id": (lambda q: q.pop("id"), "question number 1, which has no id, field id: it is missing."),
    "an id that is a number": (lambda q: q.update(id=7), "question number 1, which has no id, field id: "),
    "an id with blanks": (lambda q: q.update(id="N plus one"), "question N plus one, field id: string should match"),
    "no question": (lambda q: q.pop("ask"), "question whole, field ask: it is missing."),
    "an empty question": (lambda q: q.update(ask=""), "question whole, field ask: string should have at least 1"),
    "a question on two lines": (lambda q: q.update(ask="A\nB?"), "question whole, field ask: it is one line"),
    "a level that there is not": (lambda q: q.update(level="boss"), "question whole, field level: input should be"),
    "a topic that there is not": (lambda q: q.update(topics=["orm", "x"]), "question whole, field topics 2: input"),
    "a topic twice": (
        lambda q: q.update(topics=["orm", "orm"]),
        "question whole, all of it: something stands twice",
    ),
    "no topic": (lambda q: q.update(topics=[]), "question whole, field topics: tuple should have at least 1 item"),
    "a lesson as a number": (lambda q: q.update(lesson=2), "question whole, field lesson: input should be a valid"),
    "minutes in quotes": (lambda q: q.update(minutes="4"), "question whole, field minutes: input should be a valid"),
    "an hour": (lambda q: q.update(minutes=60), "question whole, field minutes: input should be less than or equal"),
    "an unknown field": (lambda q: q.update(hint="x"), "question whole, field hint: there is no field of that name."),
    "a misspelt field of a point": (
        lambda q: q["point"][1].update(exercize="2.1"),
        "question whole, field point 2 exercize: there is no field of that name.",
    ),
    "two points": (lambda q: q["point"].pop(), "question whole, field point: tuple should have at least 3 items"),
    "eight points": (
        lambda q: q["point"].extend([{"say": f"So {n}.", "opinion": True} for n in "abcde"]),
        "question whole, field point: tuple should have at most 7 items",
    ),
    "a point of two sentences": (
        lambda q: q["point"][0].update(say="It sends 51 statements. That is much."),
        "question whole, field point 1 say: it is one sentence",
    ),
    "a point without an end": (
        lambda q: q["point"][0].update(say="It sends 51 statements"),
        "question whole, field point 1 say: it is one sentence",
    ),
    "a point on nothing": (lambda q: q["point"][1].pop("exercise"), "question whole, field point 2: it rests on one"),
    "a point on two things": (
        lambda q: q["point"][1].update(opinion=True),
        "question whole, field point 2: it rests on one of three",
    ),
    "a cell without its lesson": (
        lambda q: q["point"][0].update(cell="page-log"),
        "question whole, field point 1 cell: string should match pattern",
    ),
    "a figure that is not said": (
        lambda q: q["point"][0].update(figures=["52 statements"]),
        "question whole, field point 1: its figure '52 statements' does not stand in what it says.",
    ),
    "figures of an opinion": (
        lambda q: q["point"][2].update(figures=["taste"]),
        "question whole, field point 3: its figures need a cell",
    ),
    "one weak answer": (lambda q: q["weak"].pop(), "question whole, field weak: tuple should have at least 2 items"),
    "five weak answers": (
        lambda q: q["weak"].extend([q["weak"][0]] * 3),
        "question whole, field weak: tuple should have at most 4 items",
    ),
    "a weak answer without what is wrong": (
        lambda q: q["weak"][1].pop("wrong"),
        "question whole, field weak 2 wrong: it is missing.",
    ),
    "one follow-up": (lambda q: q["follow_up"].pop(), "question whole, field follow_up: tuple should have at least 2"),
    "a follow-up without points": (
        lambda q: q["follow_up"][0].update(points=[]),
        "question whole, field follow_up 1 points: tuple should have at least 1 item",
    ),
    "points as one text": (
        lambda q: q["follow_up"][0].update(points="More."),
        "question whole, field follow_up 1 points: input should be a valid tuple",
    ),
    "an exercise that is no name": (
        lambda q: q.update(proof=["exercise 2"]),
        "question whole, field proof 1: string should match pattern",
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_entry_names_file_question_and_field(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    change, says = MALFORMED[kind]
    content = tomllib.loads(WHOLE)
    change(content["question"][0])
    monkeypatch.setattr(tomllib, "loads", lambda text: content)
    said = reading(tmp_path, "")
    assert said.startswith(f"a.toml, {says}")
    assert "\n" not in said
    assert said.endswith(".")


def test_an_id_that_stands_twice_names_both_files(tmp_path: Path) -> None:
    assert reading(tmp_path, WHOLE, WHOLE) == "b.toml, question whole, field id: a.toml has that id, too."


def test_what_is_no_toml_names_the_file_and_the_place(tmp_path: Path) -> None:
    said = reading(tmp_path, WHOLE.replace('level = "junior"', "level = junior"))
    assert said.startswith("a.toml is no TOML: ")
    assert "line 4" in said


def test_other_tables_are_told(tmp_path: Path) -> None:
    said = reading(tmp_path, WHOLE.replace("[[question]]", "[[questions]]", 1).partition("[[question.")[0])
    assert said.startswith("a.toml, outside of questions, field questions: ")
    assert reading(tmp_path, "question = 3").startswith("a.toml, field question: it is written [[question]]")
    assert reading(tmp_path, "question = [3]").startswith("a.toml, question number 1, which has no id, all of it: ")
