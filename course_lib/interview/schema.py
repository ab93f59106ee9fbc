"""What an entry of the bank is made of; anything else in an entry is an error."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StringConstraints, model_validator

Level = Literal["junior", "mid", "senior"]
Topic = Literal[
    # each of these is a file of the bank; a question lies in the file of its first topic
    "sql", "orm", "transactions", "vectors", "pooling", "migrations", "rag", "service", "testing", "scaling",
    "postgres", "design",
    # and these cut across them
    "async", "concurrency", "embeddings", "idempotency", "indexes", "modelling", "operations", "performance", "queues",
    "search", "security", "streaming", "tenants",
]  # fmt: skip
LEVELS: tuple[str, ...] = get_args(Level)
TOPICS: tuple[str, ...] = get_args(Topic)

SENTENCE_ENDS = re.compile(r"[.?!][\"”')]*\s+(?=[A-Z\"“(])")  # "e.g. one" ends none


def _one_line(text: str) -> str:
    if text != " ".join(text.split()):
        raise ValueError("it is one line, without blanks at its ends or two in a row")
    return text


def _one_sentence(text: str) -> str:
    if SENTENCE_ENDS.search(text) or not text.endswith((".", "?")):
        raise ValueError("it is one sentence, which ends with a full stop")
    return text


Text = Annotated[str, StringConstraints(min_length=1), AfterValidator(_one_line)]
Sentence = Annotated[Text, AfterValidator(_one_sentence)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
Lesson = Annotated[str, StringConstraints(pattern=r"^\d\d$")]
CellId = Annotated[str, StringConstraints(pattern=r"^[\w-]+$")]
CellReference = Annotated[str, StringConstraints(pattern=r"^\d\d:[\w-]+$")]
ExerciseId = Annotated[str, StringConstraints(pattern=r"^(\d+\.\d+|[JMS]\d+)$")]
Unlisted = Strict(False)  # TOML has lists, and what is read once for all callers is better a tuple


class Entry(BaseModel):
    """Strict: a number in quotes is a text, and a field that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Point(Entry):
    """One sentence that a strong answer contains, and what shows that it is true.

    ``cell`` is ``"02:cell-id"``, a cell of a lesson whose output shows it; ``exercise`` an exercise that is passed only
    by whoever knows it; ``opinion`` says that it is a matter of method, which nothing can show. ``figures`` stand
    literally in ``say`` and in the stored output of ``cell``.
    """

    say: Sentence
    cell: CellReference | None = None
    exercise: ExerciseId | None = None
    opinion: bool = False
    figures: Annotated[tuple[Text, ...], Unlisted] = ()

    @model_validator(mode="after")
    def _rests_on_one_thing(self) -> Self:
        if (self.cell is not None) + (self.exercise is not None) + self.opinion != 1:
            raise ValueError("it rests on one of three: a cell, an exercise, or opinion = true")
        if self.figures and self.cell is None:
            raise ValueError("its figures need a cell that shows them")
        for figure in self.figures:
            if figure not in self.say:
                raise ValueError(f"its figure {figure!r} does not stand in what it says")
        return self


class Weak(Entry):
    """An answer as candidates give it, and what is wrong with it."""

    say: Text
    wrong: Text


class FollowUp(Entry):
    """What an interviewer asks next, and what a good answer to it contains."""

    ask: Text
    points: Annotated[tuple[Text, ...], Unlisted] = Field(min_length=1)


class Question(Entry):
    """A question of the bank.

    ``lesson`` teaches it, in the section whose heading is the cell ``section`` of that lesson's notebook. ``minutes``
    is how long a spoken answer takes with its follow-ups. ``sources`` are where it is listed, ``proof`` exercises and
    drills that show that somebody can do what the answer says.
    """

    id: Slug
    level: Level
    topics: Annotated[tuple[Topic, ...], Unlisted] = Field(min_length=1)
    lesson: Lesson
    section: CellId
    minutes: int = Field(ge=1, le=30)
    ask: Text
    sources: Annotated[tuple[Text, ...], Unlisted]
    proof: Annotated[tuple[ExerciseId, ...], Unlisted]
    points: Annotated[tuple[Point, ...], Unlisted] = Field(alias="point", min_length=3, max_length=7)
    weak: Annotated[tuple[Weak, ...], Unlisted] = Field(min_length=2, max_length=4)
    follow_ups: Annotated[tuple[FollowUp, ...], Unlisted] = Field(alias="follow_up", min_length=2)

    @model_validator(mode="after")
    def _says_nothing_twice(self) -> Self:
        for name, values in (
            ("topics", self.topics),
            ("proof", self.proof),
            ("point", tuple(point.say for point in self.points)),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"something stands twice in {name}")
        return self


class Design(Question):
    """A design question: a product to be thought through in writing, and what a strong answer comes to speak of.

    ``given`` are the facts and figures that an interviewer has ready; they stand beside the question.
    """

    title: Text
    minutes: int = Field(ge=10, le=45)
    given: Annotated[tuple[Text, ...], Unlisted] = Field(min_length=3)
    points: Annotated[tuple[Point, ...], Unlisted] = Field(alias="point", min_length=6, max_length=12)
