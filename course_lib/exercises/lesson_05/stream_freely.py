"""5.2: an answer that streams, with no connection behind it, and is stored however it ends."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from course_lib.exercises.lesson_05.scenes.asked import (
    Asked,
    ModelDown,
    add_asked,
    comes_of,
    out_now,
    plain,
    read_as_stored,
    stored,
)
from course_lib.judging.asking import small_pool
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of
from course_lib.judging.threads import text_of

PIECES, TAKEN = 6, 3
PATIENCE = 1.0  # seconds for what comes at once; only a wrong answer makes us wait for so long


class StreamedModel:
    """Answers in pieces, each only when the reader has the one before.

    Attributes:
        pieces: what it says.
        given: what it was given.
        held: the greatest number of connections that were out of the pool while it spoke.
        late: the first piece that had not reached the reader when the next one was asked for; 0 for none.
        fails_after: it raises after so many pieces.
        stops_after: it says nothing more after so many, and does not end.
    """

    def __init__(self, attempt: Attempt, fails_after: int = 0, stops_after: int = 0) -> None:
        self.attempt = attempt
        self.pieces = [f"{text_of(4)} " for _ in range(PIECES)]
        self.given: list[list[dict[str, str]] | None] = []
        self.held = self.late = self.taken = 0
        self.fails_after, self.stops_after = fails_after, stops_after
        self.silent = asyncio.Event()
        self._took = asyncio.Event()

    @property
    def text(self) -> str:
        """All that the reader has."""
        return "".join(self.pieces[: self.taken])

    async def __call__(self, messages: Any) -> AsyncIterator[str]:
        self.given.append(plain(messages))
        for number, piece in enumerate(self.pieces):
            self.look()
            await self._until_taken(number)
            if self.fails_after and number == self.fails_after:
                raise ModelDown("the provider did not answer")
            if self.stops_after and number == self.stops_after:
                self.silent.set()
                await asyncio.Event().wait()
            yield piece
        self.look()

    def look(self) -> None:
        self.held = max(self.held, out_now(self.attempt))

    async def _until_taken(self, number: int) -> None:
        """The reader has so many pieces, or patience is at its end."""
        while not self.late and self.taken < number:
            self._took.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._took.wait()
            except TimeoutError:
                self.late = number

    def take(self) -> None:
        """The reader has one more."""
        self.look()
        self.taken += 1
        self._took.set()


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
        "| Dicts with `role` and `content`, by `seq`, the question last.",
        "connection held": "While the answer streamed, {count} connection(s) were out of the pool. "
        "| Leave the block of the session before the first `yield`.",
        "buffered": "Piece number {piece} had not reached the reader when the model was asked for the next. "
        "| Yield each piece as it comes.",
        "wrong pieces": "The model said {said} characters, and the reader got {got}. | Every piece, once, in order.",
        "question not stored": "The stream was over, and the question is not among the messages. "
        "| Two messages: the `user`'s, then the `assistant`'s.",
        "not stored": "The stream came to its end, and no other connection sees the answer. "
        "| What comes after the last piece, and what makes it last?",
        "too many": "One question left {count} new messages. | The question, and one answer.",
        "wrong message": "Message {seq} does not have the {column} that it should. "
        "| First the question of a `user`, then the answer of the `assistant`, numbered on.",
        "not complete": "The stream came to its end, and the answer's status is {status!r}. | 'complete'.",
        "lost with the client": "The client went away after {taken} of {n} pieces, and no answer was stored. "
        "| GeneratorExit is raised at `yield`, and it is no `Exception`. Only `finally` sees everything.",
        "lost with the model": "The model failed after {taken} of {n} pieces, and no answer was stored. "
        "| The reader has seen these pieces. Store them, then let the error go on.",
        "lost with the task": "The request was cancelled while it waited for piece {next}, and no answer was stored. "
        "| CancelledError is raised at `await`, and it is no `Exception`.",
        "cut short": "{taken} pieces had reached the reader, and the stored answer does not begin with them. "
        "| Keep a piece before you yield it: after a `yield` nothing may ever happen.",
        "not aborted": "The answer was cut off, and its status is {status!r}. | 'aborted': something is missing.",
        "error swallowed": "The model failed, and the reader could take it for the end of the answer. "
        "| After it is stored, the error goes on.",
        "cancelling swallowed": "The request was cancelled while it waited for piece {next}, and ended as if nothing "
        "were. | Whoever cancels waits for CancelledError. After it is stored, it goes on.",
        "goes on": "The client closed the stream, and it raised {error}. "
        "| After GeneratorExit nothing can be yielded. Store, and let it end.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await read_as_stored(attempt)
        long, *short = await add_asked(attempt, (4, 2, 0, 2))
        await self._to_the_end(attempt, long)
        async with small_pool(attempt, 1):
            await self._client_leaves(attempt, short[0])
            await self._model_fails(attempt, short[1])
            await self._cancelled(attempt, short[2])

    # four ways to end

    async def _to_the_end(self, attempt: Attempt, thread: Asked) -> None:
        model, got = StreamedModel(attempt), []

        async def read() -> None:
            async for piece in self._stream(attempt, model, thread):
                got.append(piece)
                model.take()

        await self._run(attempt, read)
        attempt.expect(bool(model.given), "not asked")
        attempt.expect(model.held == 0, "connection held", count=model.held)
        attempt.expect(model.given[-1] == thread.messages, "wrong messages")
        attempt.expect(not model.late, "buffered", piece=model.late)
        said, heard = "".join(model.pieces), "".join(map(str, got))
        attempt.expect(heard == said, "wrong pieces", said=len(said), got=len(heard))
        answer = await self._answer(attempt, thread, "not stored")
        attempt.expect(answer["content"] == said, "wrong message", seq=answer["seq"], column="content")
        attempt.expect(answer["status"] == "complete", "not complete", status=answer["status"])

    async def _client_leaves(self, attempt: Attempt, thread: Asked) -> None:
        model = StreamedModel(attempt)
        closing: list[BaseException] = []

        async def read() -> None:
            stream = self._stream(attempt, model, thread)
            for _ in range(TAKEN):
                await anext(stream)
                model.take()
            try:
                await stream.aclose()
            except Exception as error:
                closing.append(error)

        await self._run(attempt, read)
        attempt.expect(not closing, "goes on", error=kind_of(closing[0]) if closing else "")
        answer = await self._answer(attempt, thread, "lost with the client", taken=TAKEN, n=PIECES)
        self._look_at_part(attempt, model, answer)

    async def _model_fails(self, attempt: Attempt, thread: Asked) -> None:
        model, ended = StreamedModel(attempt, fails_after=TAKEN), []

        async def read() -> None:
            async for _ in self._stream(attempt, model, thread):
                model.take()
            ended.append(True)

        try:
            await self._run(attempt, read)
        except Wrong as wrong:
            if wrong.mistake != "raised" or not comes_of(wrong.__cause__, ModelDown):
                raise
        answer = await self._answer(attempt, thread, "lost with the model", taken=TAKEN, n=PIECES)
        attempt.expect(not ended, "error swallowed")
        self._look_at_part(attempt, model, answer)

    async def _cancelled(self, attempt: Attempt, thread: Asked) -> None:
        model, ended = StreamedModel(attempt, stops_after=TAKEN), []

        async def read() -> None:
            async for _ in self._stream(attempt, model, thread):
                model.take()

        async def cancel() -> None:
            reading = asyncio.ensure_future(read())
            silent = asyncio.ensure_future(model.silent.wait())
            await asyncio.wait({reading, silent}, return_when=asyncio.FIRST_COMPLETED)
            silent.cancel()
            reading.cancel()
            await asyncio.wait({reading})
            if reading.cancelled():
                return
            if error := reading.exception():
                raise error
            ended.append(model.silent.is_set())

        await self._run(attempt, cancel)
        answer = await self._answer(attempt, thread, "lost with the task", next=TAKEN + 1)
        self._look_at_part(attempt, model, answer)
        attempt.expect(not any(ended), "cancelling swallowed", next=TAKEN + 1)

    # how it is looked at

    def _stream(self, attempt: Attempt, model: StreamedModel, thread: Asked) -> Any:
        stream = attempt.answer(sessions_of(attempt), model, thread.id, thread.question)
        if not hasattr(stream, "__aiter__") or not hasattr(stream, "aclose"):
            kind = "a coroutine" if inspect.iscoroutine(stream) else article(stream)
            if inspect.iscoroutine(stream):
                stream.close()
            raise attempt.wrong("not a generator", kind=kind)
        return stream

    async def _run(self, attempt: Attempt, scene: Any) -> None:
        scene.__name__ = self.answer  # the name that a message gives
        await attempt.call(function=scene)

    async def _answer(self, attempt: Attempt, thread: Asked, missing: str, **numbers: object) -> dict[str, Any]:
        """The stored answer, with the question before it. It may come a moment late, from a task of its own."""
        before, deadline = len(thread.history), asyncio.get_running_loop().time() + PATIENCE
        while True:
            messages = (await stored(attempt, [thread]))[thread.id]
            new = [message for message in messages if message["seq"] > before]
            settled = [
                message for message in new if message["role"] == "assistant" and message["status"] != "streaming"
            ]
            if settled or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.02)
        answers = [message for message in new if message["role"] == "assistant"]
        questions = [message for message in new if message["role"] == "user"]
        attempt.expect(bool(answers), missing, **numbers)
        attempt.expect(bool(questions), "question not stored")
        attempt.expect(len(new) == 2, "too many", count=len(new))
        for message, seq in ((questions[0], before + 1), (answers[0], before + 2)):
            attempt.expect(message["seq"] == seq, "wrong message", seq=message["seq"], column="seq")
        attempt.expect(questions[0]["content"] == thread.question, "wrong message", seq=before + 1, column="content")
        return answers[0]

    def _look_at_part(self, attempt: Attempt, model: StreamedModel, answer: dict[str, Any]) -> None:
        """All that had reached the reader is there; a reader ahead of it may have had a little more."""
        right = answer["content"].startswith(model.text) and "".join(model.pieces).startswith(answer["content"])
        attempt.expect(right, "cut short", taken=model.taken)
        attempt.expect(answer["status"] == "aborted", "not aborted", status=answer["status"])
