"""5.2: an answer that streams, with no connection behind it, and is stored however it ends."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from secrets import choice
from typing import Any, ClassVar

from course_lib.exercises.lesson_05.scenes.asked import Asked, ModelDown, add_asked, read_as_stored, stored_in
from course_lib.exercises.lesson_05.scenes.door import Door
from course_lib.exercises.lesson_05.scenes.streamed import StreamedModel, some_pieces
from course_lib.judging.asking import small_pool
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.foreign import plain
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of

AFTERWARDS = 0.5  # seconds, to tell what is stored late from what is never stored


class StreamFreely(Exercise):
    """Nothing is held between two pieces, and what was said is kept."""

    id = "5.2"
    title = "Stream without a connection"
    answer = "stream_answer"
    minutes = 15
    points = 2
    level = "mid"
    hints: ClassVar = (
        "Three parts: a session that reads and stores the question, the stream without any session, a session that "
        "stores the answer.",
        "A client that goes away raises GeneratorExit at your `yield`, a cancelled request raises CancelledError at an "
        "`await`. Neither is an `Exception`, and both pass through `finally`.",
        "Keep the pieces in a list: append first, then yield. Whether the model came to its end is a variable that you "
        "set after the loop; a `finally` around the loop opens a session and stores.",
    )
    why = (
        "A stream lasts as long as its reader likes, so a connection must not wait for it. `finally` is the one place "
        "that every end passes through: the last piece, an error of the model, a client that goes away, a server that "
        "shuts down. There it is decided what is kept, and `aborted` tells the next reader that something is missing."
    )
    follow_up = (
        "The process is killed in the middle of a stream, and no `finally` runs. How would you find such an answer "
        "afterwards, and what would you store earlier for that?"
    )
    mistakes: ClassVar = {
        "not a generator": "`stream_answer` gave {kind}, and `async for` cannot take pieces from that. "
        "| `async def` with `yield` in it.",
        "not asked": "`ask_model` was not called. | The pieces are the model's.",
        "wrong messages": "The model was given other messages than the history and the question, in their order. "
        "| Dicts with `role` and `content`, all that are stored by now, by `seq`, the question last.",
        "connection held": "While the answer streamed, {count} connection(s) were held. "
        "| Leave the block of the session before the model is asked.",
        "stored piecemeal": "Between the first piece and the last, {count} statement(s) were sent. "
        "| Each of them takes a connection out of the pool. Keep the pieces, and store them once.",
        "buffered": "Piece number {piece} had not reached the reader when the model was asked for the next. "
        "| Yield each piece as it comes, and ask for the next one after that: nobody reads ahead.",
        "wrong pieces": "The model had said {said} pieces, and the reader got {got}, {other} of them not the model's. "
        "| Every piece, the empty ones too, once, in order, and none of your own.",
        "not stored": "The stream came to its end, and no other connection sees the answer. "
        "| What comes after the last piece, and what makes it last?",
        "lost with the client": "The client went away after {taken} of {n} pieces, and no answer was stored. "
        "| GeneratorExit is raised at `yield`, and it is no `Exception`. Only `finally` sees everything.",
        "lost with the model": "The model failed after {taken} of {n} pieces, and no answer was stored. "
        "| The reader has seen these pieces. Store them, then let the error go on.",
        "lost with the task": "The request was cancelled while it waited for piece {next}, and no answer was stored. "
        "| CancelledError is raised at `await`, and it is no `Exception`.",
        "stored late": "{what}, and the answer was stored only after that had reached the caller. "
        "| Whoever sees the end takes the answer for stored. `await` what stores it.",
        "question not stored": "The stream was over, and of its {count} new message(s) none is the `user`'s. "
        "| Two messages: the `user`'s, then the `assistant`'s.",
        "too many": "One question left {count} new messages. | The question, and one answer.",
        "wrong message": "Message {seq} does not have the {column} that it should. "
        "| First the question of a `user`, then the answer of the `assistant`, numbered on, and as they came.",
        "not complete": "The stream came to its end, and the answer's status is {status!r}. | 'complete'.",
        "cut short": "{taken} piece(s) had reached the reader, and the stored answer does not begin with them. "
        "| Keep a piece before you yield it: after a `yield` nothing may ever happen.",
        "not aborted": "The answer was cut off, and its status is {status!r}. | 'aborted': something is missing.",
        "error swallowed": "The model failed, and the reader could take it for the end of the answer. "
        "| After it is stored, the error goes on.",
        "another error": "The model failed with {failed}, and the reader was given {error}. "
        "| Who reads has an `except` for the model's errors. Let them go on as they are.",
        "cancelling swallowed": "The request was cancelled while it waited for piece {next}, and ended as if nothing "
        "were. | Whoever cancels waits for CancelledError. After it is stored, it goes on.",
        "goes on": "The client closed the stream, and it raised {error}. "
        "| After GeneratorExit nothing can be yielded. Store, and let it end.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await read_as_stored(attempt)
        long, left, failed, cancelled = await add_asked(attempt, (4, 2, 0, 2))
        await self._to_the_end(attempt, long, some_pieces())
        await attempt.engine.dispose()  # so that the server's connections are those of the small pool
        async with small_pool(attempt, 1):
            await self._client_leaves(attempt, left)
            await self._model_fails(attempt, failed)
            await self._cancelled(attempt, cancelled)
            again = left.next_turn(await stored_in(attempt, left))
            await self._to_the_end(attempt, again, [])  # a model that says nothing, after a turn that was cut off

    # four ways to end

    async def _to_the_end(self, attempt: Attempt, thread: Asked, pieces: list[str]) -> None:
        async with Door(attempt, "messages") as door:
            model = StreamedModel(attempt, door, pieces)
            reading = await self._read(attempt, thread, model)
        attempt.expect(bool(model.given), "not asked")
        attempt.expect(model.held == 0, "connection held", count=model.held)
        attempt.expect(model.given[-1] == thread.messages, "wrong messages")
        attempt.expect(not model.late, "buffered", piece=model.late)
        reading.look_at_pieces(attempt, pieces)
        attempt.expect(not (pieces and model.sent), "stored piecemeal", count=model.sent)
        answer = await self._answer(attempt, thread, reading, "The stream came to its end", "not stored")
        attempt.expect(answer["content"] == "".join(pieces), "wrong message", seq=answer["seq"], column="content")
        attempt.expect(answer["status"] == "complete", "not complete", status=answer["status"])

    async def _client_leaves(self, attempt: Attempt, thread: Asked) -> None:
        async with Door(attempt, "messages") as door:
            model = StreamedModel(attempt, door, some_pieces())
            reading = await self._read(attempt, thread, model, leaves_after=_some())
        attempt.expect(reading.error is None, "goes on", error=kind_of(reading.error))
        numbers = {"taken": model.taken, "n": len(model.pieces)}
        answer = await self._answer(attempt, thread, reading, "The client left", "lost with the client", **numbers)
        self._look_at_part(attempt, model, answer)

    async def _model_fails(self, attempt: Attempt, thread: Asked) -> None:
        async with Door(attempt, "messages") as door:
            model = StreamedModel(attempt, door, some_pieces(), fails_after=_some())
            reading = await self._read(attempt, thread, model)
        reading.look_at_pieces(attempt, model.pieces[: model.fails_after])
        numbers = {"taken": model.taken, "n": len(model.pieces)}
        answer = await self._answer(attempt, thread, reading, "The model failed", "lost with the model", **numbers)
        error = reading.error
        attempt.expect(error is not None, "error swallowed")
        as_it_was = isinstance(error, ModelDown)
        attempt.expect(as_it_was, "another error", failed=ModelDown.__name__, error=kind_of(error))
        self._look_at_part(attempt, model, answer)

    async def _cancelled(self, attempt: Attempt, thread: Asked) -> None:
        async with Door(attempt, "messages") as door:
            model = StreamedModel(attempt, door, some_pieces(), stops_after=_some())
            reading = await self._read(attempt, thread, model)
        next_ = model.stops_after + 1
        answer = await self._answer(
            attempt, thread, reading, "The request was cancelled", "lost with the task", next=next_
        )
        self._look_at_part(attempt, model, answer)
        attempt.expect(reading.cancelled or not model.silent.is_set(), "cancelling swallowed", next=next_)

    # how it is read, and looked at

    async def _read(self, attempt: Attempt, thread: Asked, model: StreamedModel, leaves_after: int = 0) -> Reading:
        """Read a stream to its end, or leave it. Errors that are not to be expected are raised."""
        reading = Reading()

        async def read() -> None:
            stream = self._stream(attempt, model, thread)
            async for piece in stream:
                reading.got.append(plain(piece, self.answer))
                model.take()
                if model.taken == leaves_after:
                    await model.door.shut()
                    await stream.aclose()
                    return

        async def scene() -> None:
            running = asyncio.ensure_future(read())
            cancelling = asyncio.ensure_future(_cancel(running, model.silent))
            try:
                reading.seen = await model.door.behind(running, partial(stored_in, attempt, thread))
            finally:
                cancelling.cancel()
                running.cancel()
            reading.cancelled = running.cancelled()
            if not (reading.cancelled and model.silent.is_set()):
                reading.error = running.exception()
            went_on = leaves_after and "ignored GeneratorExit" in str(reading.error)
            if reading.error is not None and not (model.failed or went_on):
                raise reading.error

        scene.__name__ = self.answer  # the name that a message gives
        await attempt.call(function=scene)
        return reading

    def _stream(self, attempt: Attempt, model: StreamedModel, thread: Asked) -> Any:
        stream = attempt.answer(sessions_of(attempt), model, thread.id, thread.question)
        if not hasattr(stream, "__aiter__") or not hasattr(stream, "aclose"):
            kind = "a coroutine" if inspect.iscoroutine(stream) else article(stream)
            if inspect.iscoroutine(stream):
                stream.close()
            raise attempt.wrong("not a generator", kind=kind)
        return stream

    async def _answer(
        self, attempt: Attempt, thread: Asked, reading: Reading, what: str, missing: str, **numbers: object
    ) -> dict[str, Any]:
        """The stored answer, with the question before it."""
        messages = reading.seen if reading.seen is not None else await stored_in(attempt, thread)
        new = thread.new_ones(messages)
        if not _settled(new):
            attempt.expect(not await _comes_later(attempt, thread), "stored late", what=what)
        attempt.expect(any(message["role"] == "assistant" for message in new), missing, **numbers)
        questions = [message for message in new if message["role"] == "user"]
        attempt.expect(bool(questions), "question not stored", count=len(new))
        attempt.expect(len(new) == 2, "too many", count=len(new))
        wanted = ("user", thread.last + 1), ("assistant", thread.last + 2)
        for message, (role, seq) in zip(new, wanted, strict=True):
            attempt.expect(message["seq"] == seq, "wrong message", seq=message["seq"], column="seq")
            attempt.expect(message["role"] == role, "wrong message", seq=seq, column="role")
        question, answer = new
        same = question["content"] == thread.question
        attempt.expect(same, "wrong message", seq=question["seq"], column="content")
        return answer

    def _look_at_part(self, attempt: Attempt, model: StreamedModel, answer: dict[str, Any]) -> None:
        """All that had reached the reader is there; a reader ahead of it may have had a little more."""
        right = answer["content"].startswith(model.text) and "".join(model.pieces).startswith(answer["content"])
        attempt.expect(answer["status"] == "aborted", "not aborted", status=answer["status"])
        attempt.expect(right, "cut short", taken=model.taken)


@dataclass
class Reading:
    """What a reader got, and how the stream ended for it."""

    got: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    cancelled: bool = False
    seen: list[dict[str, Any]] | None = None
    """The messages that were stored at its end; None where they had to be waited for."""

    def look_at_pieces(self, attempt: Attempt, said: Sequence[str]) -> None:
        other = sum(piece not in said for piece in self.got)
        attempt.expect(self.got == list(said), "wrong pieces", said=len(said), got=len(self.got), other=other)


def _some() -> int:
    """Of six pieces, at least one and not all; the last of them is not the empty one."""
    return choice((1, 3, 4, 5))


async def _cancel(running: asyncio.Future[None], silent: asyncio.Event) -> None:
    await silent.wait()
    running.cancel()


def _settled(messages: list[dict[str, Any]]) -> bool:
    return any(message["role"] == "assistant" and message["status"] != "streaming" for message in messages)


async def _comes_later(attempt: Attempt, thread: Asked) -> bool:
    """Whether the answer is stored, or its status, after the stream has ended."""
    deadline = asyncio.get_running_loop().time() + AFTERWARDS
    while not _settled(thread.new_ones(await stored_in(attempt, thread))):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True
