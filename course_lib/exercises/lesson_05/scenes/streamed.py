"""A model that answers in pieces, and looks at what is held and what the reader has meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from course_lib.exercises.lesson_05.scenes.asked import ModelDown, plain
from course_lib.exercises.lesson_05.scenes.door import Door
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.held import held_now, out_of


def some_pieces() -> list[str]:
    """Pieces as they come from a model: of blanks, of nothing, with signs that no text is made of by hand."""
    return [f" it's {awkward_text()}", "", " ", f"{awkward_text()}\n\n", awkward_text(), " "]


class StreamedModel:
    """Answers in pieces; the door is shut before its end, whichever it is.

    Attributes:
        pieces: what it says.
        given: what it was given.
        held: the greatest number of connections that were held from its call to its end.
        sent: how many statements were sent from its first piece to its last, None if it did not come so far.
        late: the first piece that had not reached the reader when the next one was asked for; 0 for none.
        fails_after: it raises after so many pieces, and then has ``failed``.
        stops_after: it says nothing more after so many, and does not end; ``silent`` is set then.
    """

    def __init__(
        self, attempt: Attempt, door: Door, pieces: Sequence[str], fails_after: int = 0, stops_after: int = 0
    ) -> None:
        self.attempt = attempt
        self.door = door
        self.pieces = pieces
        self.given: list[list[dict[str, str]] | None] = []
        self.held = self.late = self.taken = 0
        self.sent: int | None = None
        self.fails_after, self.stops_after = fails_after, stops_after
        self.failed = False
        self.silent = asyncio.Event()

    @property
    def text(self) -> str:
        """All that the reader has."""
        return "".join(self.pieces[: self.taken])

    async def __call__(self, messages: Any) -> AsyncIterator[str]:
        self.given.append(plain(messages))
        self.held = max(self.held, await held_now(self.attempt))
        before = len(self.attempt.log.statements)
        for number, piece in enumerate(self.pieces):
            self.look()
            if self.fails_after and number == self.fails_after:
                await self.door.shut()
                self.failed = True
                raise ModelDown("the provider did not answer")
            if self.stops_after and number == self.stops_after:
                await self.door.shut()
                self.silent.set()
                await asyncio.Event().wait()
            yield piece
            if self.taken <= number:
                self.late = self.late or number + 1
        self.look()
        self.held = max(self.held, await held_now(self.attempt))
        self.sent = len(self.attempt.log.statements) - before
        await self.door.shut()

    def look(self) -> None:
        self.held = max(self.held, out_of(self.attempt.engine))

    def take(self) -> None:
        """The reader has one more."""
        self.look()
        self.taken += 1
