"""5.1: no connection is held while a model thinks."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import Any, ClassVar

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import DetachedInstanceError

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
from course_lib.judging.asking import calling_it, small_pool, together
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.threads import text_of

REQUESTS, POOL_SIZE = 8, 2
PATIENCE = 3.0  # seconds for all requests to come to the model; only a wrong answer makes us wait for so long


class Model:
    """Answers with a new text, and looks at the pool while it is asked.

    Attributes:
        given: what it was given, by each call.
        kind: of what it was given last.
        replies: what it answered, by the last text that it was given.
        held: the greatest number of connections that were out of the pool meanwhile.
        fails: it raises instead of answering.
        crowd: it answers nobody before so many have asked.
        missing: how many of the crowd had not come when patience was at its end.
    """

    def __init__(self, attempt: Attempt, crowd: int = 1, fails: bool = False) -> None:
        self.attempt = attempt
        self.given: list[list[dict[str, str]] | None] = []
        self.replies: dict[str, str] = {}
        self.kind = ""
        self.held = self.missing = 0
        self.fails = fails
        self.crowd = crowd
        self._all_here = asyncio.Event()

    async def __call__(self, messages: Any) -> str:
        given, self.kind = plain(messages), article(messages)
        self.given.append(given)
        if len(self.given) >= self.crowd:
            self.held = max(self.held, out_now(self.attempt))
            self._all_here.set()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._all_here.wait()
        except TimeoutError:
            self.missing = max(self.missing, self.crowd - len(self.given))
            self._all_here.set()
        if self.fails:
            raise ModelDown("the provider did not answer")
        return self.replies.setdefault(given[-1]["content"] if given else "", text_of(4))


class AnswerFreely(Exercise):
    """Read, let go, ask, store."""

    id = "5.1"
    title = "Free the connection while the model thinks"
    answer = "answer"
    minutes = 8
    points = 1
    level = "junior"
    hints: ClassVar = (
        "A session takes a connection with its first statement and keeps it until its transaction ends. Where does "
        "yours end?",
        "Two blocks of `async with sessions() as session`: one that reads, one that stores, and the model between "
        "them. Or one session, and a commit before the model is asked.",
        "Make the messages plain dicts while the session is open; then nothing has to be loaded later.",
    )
    why = (
        "The statements of a request take milliseconds, the model takes seconds. A connection that is given back in "
        "between serves hundreds of others meanwhile, and pool_size counts requests that talk to the database, not "
        "requests that wait for a model."
    )
    follow_up = (
        "Between reading the history and storing the answer somebody else may post to the conversation. What goes "
        "wrong then, and do you want to lock something for that long?"
    )
    mistakes: ClassVar = {
        "not asked": "`ask_model` was not called. | The reply is the model's.",
        "connection held": "While the model was thinking, {count} connection(s) were out of the pool. "
        "| What ends the transaction before `await ask_model(…)`?",
        "unloaded": "It raised {error}: an attribute had to be loaded again when its session could not. "
        "| A rollback expires what was read. Make plain dicts of the messages before it.",
        "not messages": "The model was given {kind} with which it can do nothing. "
        "| A list of dicts, each with `role` and `content`.",
        "history missing": "The conversation has {count} messages, and the model was given {given} in all. "
        "| The history, and after it the question.",
        "wrong order": "The model was given the right messages in another order. "
        "| `ORDER BY seq`, and the question last.",
        "wrong messages": "The model was given a message that is neither the question nor in this conversation. "
        "| `where(Message.conversation_id == conversation_id)`",
        "nothing returned": "`answer` returned None. | Did you forget `return`?",
        "wrong reply": "`answer` returned {kind} that is not the model's reply. | What `ask_model` gave you, as it is.",
        "not stored": "`answer` returned, and of the question and the reply {count} can be seen by others. "
        "| Both, and committed.",
        "too many": "One question left {count} new messages. | The question and the reply.",
        "wrong number": "The new messages have the numbers {first} and {second}, in a conversation of {count} before. "
        "| `seq` goes on where the conversation ended, in an empty one from 1.",
        "wrong message": "Of the new messages, number {seq} does not have the {column} that it should. "
        "| First the question of a `user`, then the reply of the `assistant`.",
        "error swallowed": "The model failed, and `answer` returned {said} as if all were well. "
        "| Let the error go on to the caller.",
        "timed out": "Of {n} requests on a pool of {size}, one waited for a connection until the pool gave up. "
        "| Who held one meanwhile?",
        "one after another": "{n} requests came at once, and {missing} of them did not get to the model while the "
        "others were there. | Something lets only a few in: a lock, a semaphore. The pool is enough.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await read_as_stored(attempt)
        some, none, three, *crowd = await add_asked(attempt, (5, 0, 3, *[2] * REQUESTS))
        await self._alone(attempt, some)
        await self._alone(attempt, none)
        await self._model_fails(attempt, three)
        await self._at_once(attempt, crowd)

    async def _alone(self, attempt: Attempt, thread: Asked) -> None:
        model = Model(attempt)
        with calling_it(attempt, "unloaded", MissingGreenlet, DetachedInstanceError):
            said = await attempt.call(sessions_of(attempt), model, thread.id, thread.question)
        attempt.expect(bool(model.given), "not asked")
        attempt.expect(model.held == 0, "connection held", count=model.held)
        self._look_at_messages(attempt, thread, model.given[-1], model.kind)
        self._look_at_end(attempt, thread, model, said, (await stored(attempt, [thread]))[thread.id])

    def _look_at_messages(self, attempt: Attempt, thread: Asked, given: list[dict[str, str]] | None, kind: str) -> None:
        if given == thread.messages:
            return
        if given is None:
            raise attempt.wrong("not messages", kind=kind)
        known = [message in thread.messages for message in given]
        attempt.expect(all(known), "wrong messages")
        attempt.expect(
            len(given) >= len(thread.messages), "history missing", count=len(thread.history), given=len(given)
        )
        raise attempt.wrong("wrong order")

    def _look_at_end(
        self, attempt: Attempt, thread: Asked, model: Model, said: Any, messages: list[dict[str, Any]]
    ) -> None:
        reply = model.replies.get(thread.question, "")
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(said == reply, "wrong reply", kind=article(said))
        before = len(thread.history)
        new = [message for message in messages if message["seq"] > before]
        attempt.expect(len(new) >= 2, "not stored", count=len(new))
        attempt.expect(len(new) == 2, "too many", count=len(new))
        numbers = [message["seq"] for message in new]
        attempt.expect(
            numbers == [before + 1, before + 2], "wrong number", first=numbers[0], second=numbers[1], count=before
        )
        wanted = [thread.messages[-1], {"role": "assistant", "content": reply}]
        for message, right in zip(new, wanted, strict=True):
            for column, value in right.items():
                attempt.expect(message[column] == value, "wrong message", seq=message["seq"], column=column)

    async def _model_fails(self, attempt: Attempt, thread: Asked) -> None:
        model = Model(attempt, fails=True)
        try:
            said = await attempt.call(sessions_of(attempt), model, thread.id, thread.question)
        except Wrong as wrong:
            if wrong.mistake != "raised" or not comes_of(wrong.__cause__, ModelDown):
                raise
        else:
            raise attempt.wrong("error swallowed", said=article(said))
        attempt.look_for_held_connections()

    async def _at_once(self, attempt: Attempt, threads: list[Asked]) -> None:
        model = Model(attempt, crowd=REQUESTS)

        async def one(thread: Asked) -> Any:
            answered = attempt.answer(sessions_of(attempt), model, thread.id, thread.question)
            return await answered if inspect.isawaitable(answered) else answered

        async with small_pool(attempt, POOL_SIZE):
            with calling_it(attempt, "timed out", PoolTimeout, n=REQUESTS, size=POOL_SIZE):
                said = await together(attempt, [partial(one, thread) for thread in threads])
        attempt.expect(model.missing == 0, "one after another", n=REQUESTS, missing=model.missing)
        attempt.expect(model.held == 0, "connection held", count=model.held)
        messages = await stored(attempt, threads)
        for thread, reply in zip(threads, said, strict=True):
            self._look_at_end(attempt, thread, model, reply, messages[thread.id])
