"""Which class this learner is in, and as whom; and what waits to be told to its board, in ``work/class.json``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated
from uuid import UUID

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from course_lib.files import put_aside, write_whole
from course_lib.judging.verdict import State
from course_lib.postgres.address import parse_url
from course_lib.settings import get_settings

MOST = 100  # verdicts that wait; an evening without a network brings fewer, and the board takes so many at once
LARGEST = 2**18  # bytes; so many take 30 thousand
PATIENCE = 1.0  # seconds for another kernel to finish writing

Word = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f]*$")]


class Seat(BaseModel):
    """A learner's place in a class: its name, and the role they log in as."""

    model_config = ConfigDict(frozen=True)

    class_name: Word
    role: Word

    @property
    def database(self) -> str:
        return class_database(self.class_name)


class Waiting(BaseModel):
    """A verdict that the board may not have yet. ``id`` tells the board that it is the same one, sent again."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    seat: Seat
    exercise: Word
    state: State
    mistake: Word
    at: AwareDatetime


class Kept(BaseModel):
    """What a learner's side of the board remembers.

    Attributes:
        last: the seat that was used last; whoever works on the embedded server meanwhile comes back to it.
        left: where the learner wishes to be on no board.
        untold: where the board does not know yet what is wished.
        waiting: oldest first, at most ``MOST``.
    """

    last: Seat | None = None
    left: list[Seat] = []
    untold: list[Seat] = []
    waiting: list[Waiting] = []

    @classmethod
    def load(cls) -> Kept:
        """What is in the file; nothing where there is none, or none that can be understood.

        Raises:
            OSError: it cannot be read.
        """
        try:
            with _file().open("rb") as stream:
                content = stream.read(LARGEST + 1)
        except FileNotFoundError:
            return cls()
        try:
            if len(content) > LARGEST:
                raise ValueError("too large")
            return cls.model_validate_json(content)
        except (ValueError, ValidationError):
            with contextlib.suppress(OSError):
                put_aside(_file())
            return cls()

    def wishes_to_stand(self, seat: Seat) -> bool:
        return seat not in self.left


def class_database(class_name: str) -> str:
    return f"course_class_{class_name}"


def own_seat(kept: Kept) -> Seat | None:
    """The seat of this process: as COURSE_CLASS and DATABASE_URL say. None for who is in no class.

    Without a DATABASE_URL it is the one that was used last in that class: who works on the embedded server while
    the network is away.

    Raises:
        CourseError: a setting cannot be used.
    """
    settings = get_settings()
    if settings.class_name is None:
        return None
    if settings.database_url is None:
        return kept.last if kept.last and kept.last.class_name == settings.class_name else None
    role = parse_url(settings.database_url.get_secret_value()).username or ""
    return Seat(class_name=settings.class_name, role=role[:100])


def change(how: Callable[[Kept], None]) -> Kept:
    """Change what is in the file, whoever else writes there. Returns what is there now.

    Raises:
        OSError: the folder cannot be written; what was there is as it was.
    """
    with _alone():
        kept = Kept.load()
        before = kept.model_dump_json()
        how(kept)
        del kept.waiting[:-MOST]
        if kept.model_dump_json() != before:
            write_whole(_file(), kept.model_dump_json(indent=1))
        return kept


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Nobody else changes the file meanwhile; without the lock where it cannot be had in time or at all."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Timeout, NotImplementedError):
            _file().parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(_file().with_name(".class.lock"), timeout=PATIENCE))
        yield


def _file() -> Path:
    return get_settings().work / "class.json"
