"""8.5: an answer that is streamed, and of which what was said is stored, however it ends."""

from __future__ import annotations

import asyncio
from functools import partial
from secrets import choice, randbelow, token_hex
from typing import ClassVar
from uuid import UUID, uuid4

from fastapi import FastAPI
from sqlalchemy import text

from course_lib.exercises.lesson_08.scenes.refused import expect_a_fault
from course_lib.exercises.lesson_08.scenes.serving import SECONDS, Serving, app_with, in_service
from course_lib.exercises.lesson_08.scenes.writer import Writer
from course_lib.judging.asking import until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import AWKWARD_TEXTS, awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_user
from course_lib.judging.threads import WORDS, add_threads

STORED = """
    SELECT role, status, content FROM messages WHERE conversation_id = :id AND seq > :seq ORDER BY seq
"""
LOCK = "LOCK TABLE messages IN SHARE MODE"  # others can read, and not write
LEAVES_AFTER = 3
Rows = list[tuple[str, str, str]]


class StreamAndKeep(Exercise):
    """Where to store what was said, when the client may leave at any moment."""

    id = "8.5"
    title = "Stream, and keep what was said"
    answer = "answers"
    minutes = 25
    points = 3
    level = "senior"
    seconds = SECONDS
    hints: ClassVar = (
        "The generator behind a `StreamingResponse` runs after your route has returned. Which sessions are open then, "
        "and which does it need while the model is at work?",
        "A client that leaves cancels the generator where it waits, at the model. `try: … finally:` gets a word in, "
        "and the status to store depends on whether the loop had come to its end.",
        "An `await` inside of a cancelled scope is cancelled again, at once. `with anyio.CancelScope(shield=True):` "
        "around the storing lets it come to its end, and the request waits for it.",
    )
    why = (
        "The status line is gone with the first token, so what has to be refused is refused before. Three short "
        "transactions hold a connection for milliseconds; the model takes seconds in between and holds none. A client "
        "that leaves is a `CancelledError` at the innermost `await`, and every further `await` in that scope raises it "
        "again: that is why a plain `finally` stores nothing. The shield keeps the scope's cancellation off, and since "
        "the request goes on until it is stored, a shutdown waits for it. `asyncio.shield` stores too, in a task that "
        "nobody waits for."
    )
    follow_up = (
        "A server that stops cancels the task itself, and `anyio.CancelScope(shield=True)` does not keep that off. "
        "What has to be added so that what was said is stored then, too?"
    )
    mistakes: ClassVar = {
        "not refused": "For a conversation that nobody has, {did}. "
        "| 404, before the model is asked: once the stream has begun it is too late for a status.",
        "no stream": "The question was answered with {outcome}. | 200 and the tokens, in a `StreamingResponse`.",
        "question missing": "When the model was asked, others saw {seen} behind the messages that had been there. "
        "| The question is stored, and committed, before the model is asked.",
        "collected": "The model was asked for its token number {number} before the client had the one before. "
        "| Hand on each token as it comes: `yield` inside of the loop over the model.",
        "wrong text": "The client read {said!r}, and that is not what the model said. "
        "| Its tokens as they are, one behind the other, and nothing else.",
        "connection held": "While the model was at work, {count} connection(s) were held. "
        "| Leave the session before the model is asked, and open another one to store the answer.",
        "told too early": "The client had the whole response, and the answer was not stored yet. "
        "| What is done after the last token, by a background task for one, is no part of the stream any more.",
        "not kept": "After a whole answer others see {seen} behind the question. "
        "| One message of the assistant, `complete`, with all that was said.",
        "lost": "{ending}, and others see {seen} behind the question. "
        "| One message of the assistant, `aborted`, with what was said until then. An `await` in a cancelled scope is "
        "cancelled again.",
        "went on": "The client left after {count} tokens, and the model was asked for more. "
        "| A generator that waits for the model is cancelled when the client leaves: let it be.",
        "left behind": "The client left, and the request was over before what was said was stored. "
        "| A task that nobody waits for dies with the process: the storing has to be shielded and awaited.",
        "failure hidden": "The model failed after {count} tokens, and the response ended as if it were whole. "
        "| Store what was said and let the error go on, so that the response breaks off.",
        "nothing said": "The model failed before its first token, and others see {seen} behind the question. "
        "| Nothing was said, so there is no answer to store.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        stage = _Stage(attempt, await add_user(attempt))

        def make_app() -> FastAPI:
            # `model` is whichever writer is on stage
            return app_with(attempt, attempt.answer(sessions_of(attempt), lambda question: stage.writer(question)))

        async def scene(served: Serving) -> None:
            stage.served = served
            await self._nobodys(attempt, stage)
            await self._whole(attempt, stage)
            await self._client_leaves(attempt, stage)
            await self._model_fails(attempt, stage, 2)
            await self._model_fails(attempt, stage, 0)

        await in_service(attempt, make_app, scene)

    async def _nobodys(self, attempt: Attempt, stage: _Stage) -> None:
        writer = stage.writer = Writer(attempt, ["No", "body"])
        path = f"/conversations/{uuid4()}/answers"
        reply = await stage.served.ask_anyway("POST", path, json={"question": awkward_text()})
        attempt.expect(not writer.questions, "not refused", did="the model was asked")
        attempt.expect(reply.status == 404, "not refused", did=f"the answer was {reply.outcome}")
        asking = partial(stage.served.ask_anyway, "POST", path, json={"question": awkward_text()})
        await expect_a_fault(attempt, "POST …/answers", asking)

    async def _whole(self, attempt: Attempt, stage: _Stage) -> None:
        """Nobody can write when the model has ended, until the response has ended too or a session stands there."""
        writer = await stage.begin()
        seen: Rows = []

        async def look() -> None:
            seen.extend(await stage.stored())

        writer.at_first = look
        async with attempt.judge_session() as other:
            writer.at_last = lambda: other.execute(text(LOCK))
            before = stage.served.sent_whole
            reading = asyncio.ensure_future(stage.read())
            await until_blocked(attempt, reading, 1)
            early = stage.served.sent_whole > before
            await other.rollback()
            said = await reading
        await stage.served.idle()
        if left := stage.served.left_behind():
            await asyncio.wait(left)
        attempt.expect(seen[:1] == [stage.question], "question missing", seen=_shown(seen))
        self._look_at_stream(attempt, writer, said)
        rows = await stage.stored()
        right = rows == [stage.question, ("assistant", "complete", "".join(writer.tokens))]
        attempt.expect(right, "not kept", seen=_shown(rows[1:]))
        attempt.expect(not early, "told too early")

    def _look_at_stream(self, attempt: Attempt, writer: Writer, said: bytes) -> None:
        attempt.expect(writer.too_soon is None, "collected", number=writer.too_soon)
        whole = said.decode(errors="replace")
        attempt.expect(whole == "".join(writer.tokens), "wrong text", said=whole)
        attempt.expect(writer.held == 0, "connection held", count=writer.held)

    async def _client_leaves(self, attempt: Attempt, stage: _Stage) -> None:
        writer = await stage.begin()
        writer.leaves_after = LEAVES_AFTER
        await stage.read(LEAVES_AFTER)
        await stage.served.idle()
        left = stage.served.left_behind()
        attempt.expect(writer.made == LEAVES_AFTER, "went on", count=LEAVES_AFTER)
        attempt.expect(not left, "left behind")
        await self._expect_aborted(attempt, stage, f"The client left after {LEAVES_AFTER} tokens")
        attempt.expect(writer.held == 0, "connection held", count=writer.held)

    async def _model_fails(self, attempt: Attempt, stage: _Stage, after: int) -> None:
        writer = await stage.begin()
        writer.fails_after = after
        broken = False
        try:
            await stage.read()
        except Wrong as wrong:
            broken = wrong.mistake in ("raised", "broken off", "no stream")
            if not broken:
                raise
        await stage.served.idle()
        if after:
            attempt.expect(broken, "failure hidden", count=after)
            await self._expect_aborted(attempt, stage, f"The model failed after {after} tokens")
        else:
            rows = await stage.stored()
            attempt.expect(rows == [stage.question], "nothing said", seen=_shown(rows[1:]))

    async def _expect_aborted(self, attempt: Attempt, stage: _Stage, ending: str) -> None:
        rows, said = await stage.stored(), "".join(stage.writer.tokens[: stage.writer.made])
        right = rows == [stage.question, ("assistant", "aborted", said)]
        attempt.expect(right, "lost", ending=ending, seen=_shown(rows[1:]))


class _Stage:
    """A conversation, the model that is asked in it, and a client that reads."""

    served: Serving

    def __init__(self, attempt: Attempt, user: UUID) -> None:
        self._attempt, self._user = attempt, user
        self.writer = Writer(attempt, [])
        self.question = ("", "", "")

    async def begin(self) -> Writer:
        """Another conversation, and the writer of its next answer."""
        (self._thread,) = await add_threads(self._attempt, self._user, [choice((0, 3, 6))], gap=4)
        self.question = ("user", "complete", awkward_text())
        self.writer = writer = Writer(self._attempt, _tokens())
        return writer

    async def stored(self) -> Rows:
        """What others see behind the messages that were there."""
        seq = self._thread.messages[-1]["seq"] if self._thread.messages else 0
        rows = await self._attempt.sql(STORED, id=self._thread.id, seq=seq)
        return [(row[0], row[1], row[2]) for row in rows]

    async def read(self, leave_after: int | None = None) -> bytes:
        """Ask, and read the response; leave when so many tokens have come."""
        path, said = f"/conversations/{self._thread.id}/answers", b""
        async with self.served.streaming("POST", path, json={"question": self.question[2]}) as response:
            self._attempt.expect(response.status_code == 200, "no stream", outcome=response.status_code)
            async for chunk in response.aiter_bytes():
                said += chunk
                self.writer.received(said)
                if leave_after is not None and self.writer.got >= leave_after:
                    break
        return said


def _tokens() -> list[str]:
    """Pieces of an answer, of which none is empty; they hold what breaks lines, encodings and formats."""
    awkward = [choice(AWKWARD_TEXTS), "\n\n", "é", "🛠 ", "data: "]
    return [f"{choice(WORDS)} {token_hex(2)} ", awkward[randbelow(5)], awkward[randbelow(5)], "and ", token_hex(3)]


def _shown(rows: Rows) -> str:
    """By role and status, and how much there is of it."""
    said = [f"{role} ({status}, {len(content)} signs)" for role, status, content in rows]
    return ", ".join(said) or "nothing"
