"""What was asked when and how it went: a plain text file in ``work/interview/``, which only ever grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from course_lib.errors import CourseError
from course_lib.files import answering_for, put_aside, write_whole
from course_lib.settings import get_settings

Grade = Literal["again", "hard", "good", "easy"]
PATIENCE = 5.0  # seconds for another terminal to finish writing
LARGEST = 2**24  # bytes; an hour a day for a year takes less than one million


class Kept(BaseModel):
    """What a later version of the course wrote besides is kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Review(Kept):
    """One question or drill, asked once. ``seconds`` is the time until the answer stood there."""

    id: str
    at: AwareDatetime
    grade: Grade
    seconds: float = Field(ge=0)
    points: int | None = None
    """Of a spoken question: how many of its points the answer had; None for a drill."""


class Memory(Kept):
    """The reviews in the order in which they came, and the day of the interview if there is one."""

    until: date | None = None
    reviews: tuple[Review, ...] = ()

    @classmethod
    def load(cls) -> Memory:
        """What is on disk; an empty one where there is nothing.

        Raises:
            CourseError: the file cannot be read. One that cannot be understood is put aside by ``remember``.
        """
        with answering_for(folder(), "COURSE_WORK"):
            try:
                return cls._read()
            except ValueError:
                return cls()

    @classmethod
    def _read(cls) -> Memory:
        file = folder() / "memory.json"
        try:
            with file.open("rb") as stream:
                content = stream.read(LARGEST + 1)
        except FileNotFoundError:
            return cls()
        if len(content) > LARGEST:
            raise ValueError("too large")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise ValueError("no memory of ours") from error


def remember(*reviews: Review) -> str:
    """Add reviews to what is on disk, whoever else has written there meanwhile.

    Returns:
        A sentence where an unreadable file was put aside; else nothing.

    Raises:
        CourseError: the folder cannot be written. What is on disk is as it was.
    """
    return _change(lambda memory: {"reviews": (*memory.reviews, *reviews)})


def set_date(until: date | None) -> str:
    """Plan towards the interview on that day, or towards none. Returns and raises as ``remember`` does."""
    return _change(lambda _: {"until": until})


def folder() -> Path:
    """Where interviews are kept, ``work/interview``."""
    return get_settings().work / "interview"


def _change(change: Callable[[Memory], dict[str, Any]]) -> str:
    with answering_for(folder(), "COURSE_WORK"), _alone():
        file, remark = folder() / "memory.json", ""
        try:
            known = Memory._read()
        except ValueError:
            remark = f"{file} could not be understood. It is kept as {put_aside(file).name}, and a fresh one begun."
            known = Memory()
        write_whole(file, known.model_copy(update=change(known)).model_dump_json(indent=1))
        return remark


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody else changes the memory meanwhile; without the lock on disks that know none."""
    folder().mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder() / ".memory.lock", timeout=PATIENCE)
    try:
        with suppress(NotImplementedError):
            lock.acquire()
        yield
    except Timeout as error:
        raise CourseError("Another terminal is writing to the memory of drills and does not end.") from error
    finally:
        lock.release()
