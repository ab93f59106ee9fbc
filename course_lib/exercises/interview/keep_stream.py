"""M6: an answer that is stored in batches, and ends in the middle of one."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from secrets import randbelow, token_hex
from typing import Any, ClassVar, Literal
from uuid import UUID

from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Drill
from course_lib.judging.held import out_of
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import listening, sessions_of
from course_lib.judging.staging import add_user, other_rows

EVERY = 4
WITNESS = """
    DO $do$
    BEGIN
        CREATE SCHEMA judged;
        CREATE TABLE judged.updates (n int);
        CREATE FUNCTION judged.write_down() RETURNS trigger LANGUAGE plpgsql AS $f$
        BEGIN
            INSERT INTO judged.updates VALUES (1);
            RETURN NULL;
        END $f$;
        CREATE TRIGGER write_down AFTER UPDATE ON messages EXECUTE FUNCTION judged.write_down();
    END $do$
"""
ADD = """
    WITH thread AS (INSERT INTO conversations (user_id, title) VALUES (:user, 'Refunds') RETURNING id), asked AS (
        INSERT INTO messages (conversation_id, seq, role, content) SELECT id, 1, 'user', 'And now?' FROM thread
    )
    INSERT INTO messages (conversation_id, seq, role, content, status)
    SELECT id, 2, 'assistant', '', 'streaming' FROM thread RETURNING id
"""
STORED = "SELECT content, status FROM messages WHERE id = :id"
UPDATES = re.compile(r"\bUPDATE\s+(ONLY\s+)?(public\.)?\"?messages\b", re.IGNORECASE)
End = Literal[
    "The model came to its end", "The model failed", "The request was cancelled", "The reader left",
    "The request was cancelled while a batch was stored",
]  # fmt: skip
COMPLETE: End = "The model came to its end"
AT_A_BATCH: End = "The request was cancelled while a batch was stored"


class ModelDown(RuntimeError):
    """The provider did not answer."""


@dataclass
class Scene:
    """One answer, of which the model says so many pieces until it ends in this way.

    Attributes:
        got: what the reader was given.
        closed: whether the model's stream is.
        error: what the reader saw raised.
        at_a_batch: whether it was cancelled while a batch was stored.
        late, lost, held: the first piece at whose asking the reader lacked the one before; the greatest number of
            pieces that were shown and not stored; the greatest number of connections out of the pool.
    """

    attempt: Attempt
    id: UUID
    how: End
    said: list[str]
    got: list[Any] = field(default_factory=list)
    closed: bool = False
    error: BaseException | None = None
    late: int = 0
    lost: int = 0
    held: int = 0
    at_a_batch: bool = False
    silent: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._model = self.pieces()  # kept, so that nothing is closed by chance

    async def pieces(self) -> AsyncIterator[str]:
        """The model's."""
        try:
            for number, piece in enumerate(self.said):
                await self._look(number)
                yield piece
            await self._look(len(self.said))
            if self.how == "The model failed":
                raise ModelDown("the provider did not answer")
            if self.how != COMPLETE:
                self.silent.set()
                await asyncio.Event().wait()
        finally:
            self.closed = True

    async def _look(self, number: int) -> None:
        """When the piece after the first ``number`` is asked for."""
        self.held = max(self.held, out_of(self.attempt.engine))
        if len(self.got) < number:
            self.late = self.late or number
        stored, _ = (await self.attempt.sql(STORED, id=self.id))[0]
        there = max(n for n in range(number + 1) if n == 0 or stored.startswith("".join(self.said[:n])))
        self.lost = max(self.lost, number - there)

    async def read(self) -> None:
        """To its end, whichever it is."""
        stream = self.attempt.answer(sessions_of(self.attempt), self.id, self._model, every=EVERY)
        if not hasattr(stream, "__aiter__") or not hasattr(stream, "aclose"):
            kind = "a coroutine" if inspect.iscoroutine(stream) else article(stream)
            if inspect.iscoroutine(stream):
                stream.close()
            raise self.attempt.wrong("not a generator", kind=kind)
        async for piece in stream:
            self.got.append(piece)
            if self.how == "The reader left" and len(self.got) == len(self.said):
                await stream.aclose()
                return

    async def play(self) -> None:
        """Read it, and be cancelled meanwhile if that is how it ends."""
        reading = asyncio.ensure_future(self.read())
        cancelling = asyncio.ensure_future(self._cancel(reading))

        def at_a_statement(_: Any, __: Any, statement: str, *___: Any) -> None:
            if self.how == AT_A_BATCH and not self.at_a_batch and UPDATES.search(statement):
                self.at_a_batch = reading.cancel()

        try:
            with listening(self.attempt, "before_cursor_execute", at_a_statement):
                await asyncio.wait({reading})
        finally:
            cancelling.cancel()
            reading.cancel()
        self.error = asyncio.CancelledError() if reading.cancelled() else reading.exception()

    async def _cancel(self, reading: asyncio.Future[None]) -> None:
        await self.silent.wait()
        reading.cancel()


class KeepStream(Drill):
    """The rest of a batch, and the ends that are no end of the loop."""

    id = "M6"
    title = "The last words are missing"
    answer = "keep_stream"
    minutes = 15
    points = 2
    level = "mid"
    topics: ClassVar = ("streaming", "async", "transactions")
    faults: ClassVar = ("last words", "left streaming", "model goes on")
    hints: ClassVar = (
        "With `every=4` the model says six pieces. Which of them are in a batch that is stored? Then let the reader "
        "go away after the third.",
        "A reader who leaves raises GeneratorExit at your `yield`, a cancelled request CancelledError at an `await`. "
        "Both pass through `finally`, and so does the end of the loop. What is known at each of them?",
        "Append to the batch before the `yield`. A `finally` around the loop stores the rest and the status in one "
        "UPDATE; the status is a variable that is set to `complete` after the loop. `contextlib.aclosing` closes the "
        "model's generator, which `async for` does not.",
    )
    why = (
        "Whatever is collected has a rest, and it has to be stored at every end, not only at the one that the loop "
        "knows. Content and status go in one UPDATE, so nobody sees one without the other. A generator that is left "
        "early stays open until it is collected: who reads from one closes it."
    )
    follow_up = "The process is killed with kill -9. Which messages are `streaming` for ever, and who finds them?"
    mistakes: ClassVar = {
        "not a generator": "`keep_stream` gave {kind}, and `async for` cannot take pieces from that. "
        "| `async def` with `yield` in it.",
        "wrong pieces": "The model had said {said} pieces, and the reader got {got}, {other} of them not the model's. "
        "| Every piece, once, in order.",
        "buffered": "Piece number {piece} had not reached the reader when the model was asked for the next. "
        "| Each piece as it comes.",
        "connection held": "While the model thought, {count} connection(s) were held. "
        "| A session for each batch, closed after it.",
        "last words": "{how}, and of {said} pieces the message holds the first {there}. "
        "| That is what was reported. What becomes of a batch that is not full?",
        "nothing stored": "{how}, and the message is empty. | Who commits?",
        "cut short": "{how} after {said} pieces that the reader had been given, and the message holds the first "
        "{there}. | When is a piece put into the batch, and what is done with the batch at this end?",
        "never shown": "The request was cancelled while a batch was stored, the reader had been given {got} pieces, "
        "and the message holds {there}. "
        "| First hand a piece on, then store it: between the two the request may end.",
        "batch lost": "The request was cancelled while a batch was stored, the reader had been given {got} pieces, "
        "and the message holds {there}. | Until its UPDATE is committed, a batch is not stored. When is it emptied?",
        "wrong content": "{how}, and the message holds something else than what the reader was given. "
        "| Each batch is appended once, in order.",
        "left streaming": "{how}, and the message is still `streaming`. "
        "| Which lines are not reached then? `except Exception` does not see every end.",
        "wrong status": "{how}, and the message is {status!r}. | `complete` only at the model's own end.",
        "model goes on": "{how}, and the model's generator was still open when `keep_stream` had ended. "
        "| Leaving an `async for` does not close what it reads from.",
        "error swallowed": "{how}, and whoever read saw {saw}. | Store what there is, and let it go on as it is.",
        "too late": "When a piece was asked for, {lost} pieces that the reader had seen were not stored, with "
        "every={every}. | Batches are there for a process that is killed.",
        "piecemeal": "{said} pieces were stored by {count} UPDATEs, with every={every}. | Several at a time.",
        "others": "Other messages were changed. | Which row is it about?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(WITNESS)
        user = await add_user(attempt)
        ends: list[tuple[End, int]] = [
            (COMPLETE, 2 * EVERY + 1),
            (COMPLETE, 2 * EVERY),
            (COMPLETE, EVERY + 1 + randbelow(EVERY - 1)),
        ]
        ends += [("The reader left", n) for n in (EVERY + 2, EVERY, 1)]
        ends += [("The model failed", 2 * EVERY + 3), ("The request was cancelled", EVERY + 1)]
        ends += [("The model failed", 0), (COMPLETE, 0), (COMPLETE, 1), (AT_A_BATCH, 3 * EVERY)]
        for how, n in ends:
            await self._try(attempt, user, how, n)

    async def _try(self, attempt: Attempt, user: UUID, how: End, n: int) -> None:
        said = [f" {awkward_text()} {token_hex(2)}" if place % 3 else f"{token_hex(2)}\n" for place in range(n)]
        scene = Scene(attempt, await attempt.value(ADD, user=user), how, said)
        others = await other_rows(attempt, "messages", "id", scene.id)
        await attempt.sql("TRUNCATE judged.updates")

        async def play() -> None:
            await scene.play()
            if scene.error is not None and not isinstance(scene.error, ModelDown | asyncio.CancelledError):
                raise scene.error

        play.__name__ = self.answer  # the name that a message gives
        await attempt.call(function=play)
        attempt.look_for_tasks()
        self._look_at_reading(attempt, scene)
        await self._look_at_message(attempt, scene)
        attempt.expect(scene.closed, "model goes on", how=how)
        attempt.expect(await other_rows(attempt, "messages", "id", scene.id) == others, "others")
        attempt.expect(scene.lost <= EVERY, "too late", lost=scene.lost, every=EVERY)
        count = await attempt.value("SELECT count(*) FROM judged.updates")
        attempt.expect(count <= n / EVERY + 2, "piecemeal", said=n, count=count, every=EVERY)

    def _look_at_reading(self, attempt: Attempt, scene: Scene) -> None:
        said = scene.said[: len(scene.got)] if scene.how == AT_A_BATCH else scene.said
        other = sum(piece not in said for piece in scene.got)
        attempt.expect(scene.got == said, "wrong pieces", said=len(said), got=len(scene.got), other=other)
        attempt.expect(not scene.late, "buffered", piece=scene.late)
        attempt.expect(not scene.held, "connection held", count=scene.held)
        wanted: dict[End, type] = {"The model failed": ModelDown, "The request was cancelled": asyncio.CancelledError}
        wanted[AT_A_BATCH] = asyncio.CancelledError
        saw = f"a {kind_of(scene.error)}" if scene.error else "no error"
        right = type(scene.error) is wanted.get(scene.how, type(None))
        attempt.expect(right, "error swallowed", how=scene.how, saw=saw)

    async def _look_at_message(self, attempt: Attempt, scene: Scene) -> None:
        content, status = (await attempt.sql(STORED, id=scene.id))[0]
        how, said, wanted = scene.how, len(scene.said), "".join(scene.said)
        if how == AT_A_BATCH:
            got = len(scene.got)
            wanted = "".join(scene.got)
            there = next((n for n in range(said, -1, -1) if "".join(scene.said[:n]) == content), None)
            attempt.expect(there is None or there <= got, "never shown", got=got, there=there)
            attempt.expect(there is None or there == got, "batch lost", got=got, there=there)
        there = next((n for n in range(said) if "".join(scene.said[:n]) == content), None)
        if content != wanted and there is not None:
            attempt.expect(there > 0 or said < EVERY or how != COMPLETE, "nothing stored", how=how)
            attempt.expect(how != COMPLETE, "last words", how=how, said=said, there=there)
            attempt.expect(status != "streaming", "left streaming", how=how)
            raise attempt.wrong("cut short", how=how, said=said, there=there)
        attempt.expect(content == wanted, "wrong content", how=how)
        attempt.expect(status != "streaming", "left streaming", how=how)
        right = "complete" if how == COMPLETE else "aborted"
        attempt.expect(status == right, "wrong status", how=how, status=status)
