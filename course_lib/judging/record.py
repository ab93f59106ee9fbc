"""What has been solved, kept as plain text in ``work/``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from course_lib.files import put_aside, write_whole
from course_lib.settings import get_settings

LARGEST = 2**20  # bytes; all exercises of the course together take a few thousand
PATIENCE = 2.0  # seconds for another check to finish writing
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors put it before a text

Count = Annotated[int, Field(ge=0)]

_unsaid: list[str] = []


class Record(BaseModel):
    """Exercises passed, hints taken, solutions asked for, by exercise id.

    What a later version of the course wrote besides is kept.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    passed: list[str] = Field(default_factory=list)
    hints: dict[str, Count] = Field(default_factory=dict)
    asked: dict[str, Count] = Field(default_factory=dict)

    @classmethod
    def load(cls) -> Record:
        """The record on disk; an empty one where there is none. One that cannot be understood is put aside."""
        try:
            return cls._read()
        except ValueError:
            if _grading():
                return cls()
            with _alone():
                return cls._after_putting_aside()
        except OSError as error:
            _unsaid.append(f"{_file()} cannot be read ({error.strerror}), so nothing is remembered.")
            return cls()

    def save(self) -> None:
        """Add what is here to the record on disk, so that two checks at once lose nothing.

        Nothing is written while a grader runs or where the folder cannot be written: a check never fails for that.
        """
        if _grading():
            return
        try:
            with _alone():
                try:
                    known = self._read()
                except ValueError:
                    known = self._after_putting_aside()
                write_whole(_file(), self._with(known).model_dump_json(indent=1))
        except OSError as error:
            _unsaid.append(f"{_file()} cannot be written ({error.strerror}), so this is not remembered.")

    @classmethod
    def _read(cls) -> Record:
        """Raises ValueError for what is no record of ours, OSError for what cannot be read."""
        file = _file()
        if file.exists() and not file.is_file():
            raise ValueError("no file")
        try:
            with file.open("rb") as stream:
                content = stream.read(LARGEST + 1)
        except FileNotFoundError:
            return cls()
        if len(content) > LARGEST:
            raise ValueError("too large")
        try:
            return cls.model_validate_json(content.removeprefix(BYTE_ORDER_MARK))
        except ValidationError as error:
            raise ValueError("no record") from error

    @classmethod
    def _after_putting_aside(cls) -> Record:
        try:
            return cls._read()  # another check was quicker
        except (ValueError, OSError):
            sentence = f"{_file()} could not be understood"
        try:
            _unsaid.append(f"{sentence}. It is kept as {put_aside(_file()).name}, and a fresh one begun.")
        except OSError as error:
            _unsaid.append(f"{sentence}, nor put aside ({error.strerror}), so nothing is remembered.")
        return cls()

    def _with(self, known: Record) -> Record:
        hints = {id: max(self.hints.get(id, 0), known.hints.get(id, 0)) for id in known.hints | self.hints}
        asked = {id: max(self.asked.get(id, 0), known.asked.get(id, 0)) for id in known.asked | self.asked}
        passed = list(dict.fromkeys([*known.passed, *self.passed]))
        return known.model_copy(update={"passed": passed, "hints": hints, "asked": asked})


def take_remarks() -> list[str]:
    """What is to be said about the record, once: whoever asks shows it to the learner."""
    remarks = list(dict.fromkeys(_unsaid))
    _unsaid.clear()
    return remarks


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Nobody else changes the record meanwhile; without the lock where it cannot be had in time or at all."""
    lock = FileLock(_file().with_name(".progress.lock"), timeout=PATIENCE)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, Timeout, NotImplementedError):
            _file().parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock)
        yield


def _grading() -> bool:
    return "NBGRADER_EXECUTION" in os.environ


def _file() -> Path:
    return get_settings().work / "progress.json"
