"""Streams that a user pays for: read to their ends, and what each of them cost."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from secrets import randbelow
from typing import Any
from uuid import UUID

from sqlalchemy import text

from course_lib.judging.asking import until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.foreign import plain
from course_lib.judging.held import held_now
from course_lib.judging.metered import ModelDown
from course_lib.judging.moments import first_of
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of

MOST = 800
USED = "SELECT tokens_used FROM users WHERE id = :id"
BOOK = "UPDATE users SET tokens_used = tokens_used + :more WHERE id = :id"
REFUSAL = "LimitReached"


@dataclass
class Reading:
    """What a reader got, and how it ended."""

    model: PricedModel
    before: int
    more: int = 0
    """What another process booked meanwhile."""
    busy: str = ""
    got: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    cancelled: bool = False
    over_too_soon: bool = False
    """It was over while nobody could settle."""
    goes_on: bool = False
    """It was over, and a generator of the model's was still open."""

    def look_at_pieces(self, attempt: Attempt) -> None:
        said = self.model.said
        attempt.expect(self.got == said, "wrong pieces", said=len(said), got=len(self.got))


class PaidStreams:
    """Streams of one user, one after the other, and what each of them cost."""

    def __init__(self, attempt: Attempt, user_id: UUID) -> None:
        self.attempt = attempt
        self.user_id = user_id

    async def used(self) -> int:
        used: int = await self.attempt.value(USED, id=self.user_id)
        return used

    async def read(self, model: PricedModel, leaves_after: int = 0, busy: str = "") -> Reading:
        """A stream read to its end, or closed by its reader after so many pieces, or cancelled where the model hangs.

        Args:
            busy: when another process has changed the user's row and not committed it yet: "reservation", "settling".
        """
        reading = Reading(model, await self.used(), 100 + randbelow(900) if busy else 0, busy)
        leaving, left = asyncio.Event(), asyncio.Event()

        async def read() -> None:
            stream = self._stream(model)
            async for piece in stream:
                reading.got.append(plain(piece, self.attempt.exercise.answer))
                if len(reading.got) == leaves_after:
                    leaving.set()
                    await left.wait()
                    await stream.aclose()
                    return

        async def scene() -> None:
            if busy != "settling":
                left.set()
            running = asyncio.ensure_future(self._beside(reading, read, leaving, left))
            await first_of(running, model.silent)
            running.cancel()
            await asyncio.wait({running})
            reading.cancelled = running.cancelled()
            error = None if reading.cancelled else running.exception()
            if error is not None and not isinstance(error, ModelDown) and kind_of(error) != REFUSAL:
                raise error
            reading.error = error

        scene.__name__ = self.attempt.exercise.answer  # the name that a message gives
        await self.attempt.call(function=scene)
        reading.goes_on = await model.end()
        self._expect_reserved(reading)
        return reading

    def _expect_reserved(self, reading: Reading) -> None:
        attempt, model = self.attempt, reading.model
        attempt.expect(not model.held, "connection held", count=model.held)
        other = next((question for question in model.asked if question != model.question), None)
        attempt.expect(other is None, "wrong question", kind=article(other))
        for seen in model.seen[:1]:
            booked_before = reading.busy == "reservation"
            lost = booked_before and seen == reading.before + MOST
            attempt.expect(not lost, "overwrote", more=reading.more, what=reading.busy)
            reserved = seen - reading.before - reading.more * booked_before
            attempt.expect(reserved == MOST, "not reserved", reserved=reserved, most=MOST)

    async def _beside(self, reading: Reading, read: Any, leaving: asyncio.Event, left: asyncio.Event) -> None:
        """``read()``, at one moment of which the user's row is another's."""
        if not reading.busy:
            await read()
            return
        async with self.attempt.judge_session() as other:
            booking = {"more": reading.more, "id": self.user_id}
            if reading.busy == "reservation":
                await other.execute(text(BOOK), booking)
            reader = asyncio.ensure_future(read())
            try:
                if reading.busy == "settling":
                    await first_of(reader, leaving)
                    await other.execute(text(BOOK), booking)
                left.set()
                await until_blocked(self.attempt, reader, 1)
                reading.over_too_soon = reading.busy == "settling" and reader.done()
                await other.commit()
                await reader
            finally:
                reader.cancel()

    def _stream(self, model: PricedModel) -> Any:
        attempt = self.attempt
        stream = attempt.answer(sessions_of(attempt), model, self.user_id, model.question)
        if not hasattr(stream, "__aiter__") or not hasattr(stream, "aclose"):
            kind = "a coroutine" if inspect.iscoroutine(stream) else article(stream)
            if inspect.iscoroutine(stream):
                stream.close()
            raise attempt.wrong("not a generator", kind=kind)
        return stream

    async def expect_paid(self, reading: Reading, mistake: str, what: str, **numbers: object) -> None:
        """What was said is paid, and nothing else is booked."""
        attempt, paid = self.attempt, reading.model.spent
        charged = await self.used() - reading.before - reading.more
        if charged != paid or reading.over_too_soon:
            await attempt.tasks_over()
            late = await self.used() - reading.before - reading.more
            attempt.expect(late != paid, "settled late", what=what)
        lost = reading.busy and charged == paid - reading.more
        attempt.expect(not lost, "overwrote", more=reading.more, what=reading.busy)
        attempt.expect(charged == paid, mistake, charged=charged, paid=paid, **numbers)
        for seen in reading.model.seen[1:]:  # of a second try, once it is known that nothing came back twice
            reserved = seen - reading.before
            attempt.expect(reserved == MOST, "not reserved", reserved=reserved, most=MOST)


class PricedModel:
    """Says four pieces, each with its price; each time it is asked it comes to the next of its ends.

    Attributes:
        said, spent: its pieces that somebody has taken, and what they cost.
        held: connections that were held while it worked.
        seen: what others saw booked each time it was asked.
        silent: set when it works on a piece that never comes.
    """

    def __init__(self, scene: PaidStreams, *ends: str) -> None:
        self._scene, self._ends = scene, ends
        self.question = awkward_text()
        self.asked: list[Any] = []
        self.said: list[str] = []
        self.spent = 0
        self.silent = asyncio.Event()
        self.held, self.seen = 0, list[int]()
        self._streams: list[AsyncGenerator[tuple[str, int]]] = []  # kept, so that nothing is closed by chance
        self._open = 0

    def __call__(self, question: Any) -> AsyncGenerator[tuple[str, int]]:
        self._streams.append(self._pieces(question))
        return self._streams[-1]

    async def end(self) -> bool:
        """Close what is still open; whether anything was."""
        was_open = self._open > 0
        for stream in self._streams:
            with suppress(RuntimeError):  # a task of the answer's still reads from it
                await stream.aclose()
        return was_open

    async def _pieces(self, question: Any) -> AsyncGenerator[tuple[str, int]]:
        self._open += 1
        try:
            async for piece in self._priced(question):
                yield piece
        finally:
            self._open -= 1

    async def _priced(self, question: Any) -> AsyncIterator[tuple[str, int]]:
        self.asked.append(question)
        end = self._ends[min(len(self.asked), len(self._ends)) - 1]
        self.held = max(self.held, await held_now(self._scene.attempt))
        self.seen.append(await self._scene.used())
        for _ in range(0 if end.endswith("at once") else 4 if end == "ends" else 2):
            piece, tokens = awkward_text(), 1 + randbelow(MOST // 8)
            self.said.append(piece)
            self.spent += tokens
            yield piece, tokens
        if end.startswith("hangs"):
            self.silent.set()
            await asyncio.Event().wait()
        if end.startswith("fails"):
            raise ModelDown("the provider did not answer")
        self.held = max(self.held, await held_now(self._scene.attempt))
