"""5.1: no connection is held while a model thinks."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from functools import partial
from typing import Any, ClassVar

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import DetachedInstanceError

from course_lib.exercises.lesson_05.scenes.asked import (
    Asked,
    ModelDown,
    a_reply,
    add_asked,
    plain,
    read_as_stored,
    stored,
    stored_in,
)
from course_lib.exercises.lesson_05.scenes.door import Door
from course_lib.judging.asking import calling_it, small_pool, together
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.held import held_now
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of

REQUESTS, POOL_SIZE = 8, 2
MANY = 23  # messages, more than a window of the last so many
PATIENCE = 3.0  # seconds for all requests to come to the model; only a wrong answer makes us wait for so long
AFTERWARDS = 0.5  # seconds, to tell what is stored late from what is never stored
POSTED = """
    INSERT INTO messages (conversation_id, seq, role, content)
    VALUES (:id, :seq, 'user', 'sent from my phone')
"""


class Model:
    """Answers with a new text, and looks for held connections while it is asked.

    Attributes:
        given: what it was given, by each call.
        kind: of what it was given last.
        replies: what it answered, by the last text that it was given.
        held: the greatest number of connections that were held meanwhile.
        fails: it raises instead of answering.
        crowd: it answers nobody before so many have asked.
        door: it is shut before the model answers.
        missing: how many of the crowd had not come when patience was at its end.
    """

    def __init__(self, attempt: Attempt, crowd: int = 1, fails: bool = False, door: Door | None = None) -> None:
        self.attempt = attempt
        self.given: list[list[dict[str, str]] | None] = []
        self.replies: dict[str, str] = {}
        self.kind = ""
        self.held = self.missing = 0
        self.fails = fails
        self.crowd = crowd
        self.door = door
        self._all_here = asyncio.Event()

    async def __call__(self, messages: Any) -> str:
        given, self.kind = plain(messages), article(messages)
        self.given.append(given)
        if len(self.given) >= self.crowd:
            self.held = max(self.held, await held_now(self.attempt))
            self._all_here.set()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._all_here.wait()
        except TimeoutError:
            self.missing = max(self.missing, self.crowd - len(self.given))
            self._all_here.set()
        if self.fails:
            raise ModelDown("the provider did not answer")
        if self.door:
            await self.door.shut()
        return self.replies.setdefault(given[-1]["content"] if given else "", a_reply())

    def given_to_answer(self, question: str) -> list[dict[str, str]] | None:
        """What it was given with this question at the end, else what it was given last."""
        asked = [given for given in self.given if given and given[-1]["content"] == question]
        return (asked or self.given)[-1]


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
        "connection held": "While the model was thinking, {count} connection(s) were held. "
        "| What ends the transaction before `await ask_model(…)`, and gives the connection back?",
        "unloaded": "It raised {error}: something had to be loaded where its session could not. "
        "| After a rollback an object loads everything anew, a relationship at the first touch. Make plain dicts of "
        "the messages before.",
        "not messages": "The model was given {kind} with which it can do nothing. "
        "| A list of dicts, each with `role` and `content`.",
        "wrong messages": "The model was given a message that is neither the question nor in this conversation. "
        "| `where(Message.conversation_id == conversation_id)`, and `role` and `content` as they are stored.",
        "history missing": "Of the conversation's {count} messages and the question, {missing} did not get to the "
        "model. | All that are stored by now, of whatever role and status, and after them the question.",
        "given twice": "The model was given {given} messages, and the conversation has {count} and the question is "
        "one more. | Each of them once: is the question among those that you read?",
        "wrong order": "The model was given the right messages in another order. "
        "| `ORDER BY seq`, and the question last.",
        "nothing returned": "`answer` returned None. | Did you forget `return`?",
        "wrong reply": "`answer` returned {kind} that is not the model's reply. | What `ask_model` gave you, as it is.",
        "not stored": "`answer` returned, and of the question and the reply {count} can be seen by others. "
        "| Both, and committed.",
        "stored late": "`answer` returned, and the question and the reply were stored only afterwards. "
        "| Whoever has the reply may ask the next question: store first, return then.",
        "too many": "One question left {count} new messages. | The question and the reply.",
        "wrong number": "The new messages have the numbers {first} and {second}, and the last one before had {last}. "
        "| `seq` goes on from the last number, in an empty conversation from 1.",
        "wrong message": "Of the new messages, number {seq} does not have the {column} that it should. "
        "| First the question of a `user`, then the reply of the `assistant`, both as they came.",
        "error swallowed": "The model failed, and `answer` returned {said} as if all were well. "
        "| Let the error go on to the caller.",
        "another error": "The model failed with {failed}, and the caller was given {error}. "
        "| Who calls you has an `except` for the model's errors. Let them go on as they are.",
        "timed out": "Of {n} requests on a pool of {size}, one waited for a connection until the pool gave up. "
        "| Who held one meanwhile?",
        "one after another": "{n} requests came at once, and {missing} of them did not get to the model while the "
        "others were there. | What lets only a few in, such as a lock or a semaphore? The pool is enough.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await read_as_stored(attempt)
        some, none, three, *crowd = await add_asked(attempt, (6, 0, 3, MANY, *[2] * (REQUESTS - 1)))
        later = await self._alone(attempt, some)
        await self._alone(attempt, none)
        await attempt.sql(POSTED, id=some.id, seq=later.last + 3)  # by another process, between two turns
        await self._waits_for_its_commit(attempt, later.next_turn(await stored_in(attempt, some)))
        await self._model_fails(attempt, three)
        await self._at_once(attempt, crowd)

    async def _alone(self, attempt: Attempt, thread: Asked) -> Asked:
        model = Model(attempt)
        with calling_it(attempt, "unloaded", MissingGreenlet, DetachedInstanceError):
            said = await attempt.call(sessions_of(attempt), model, thread.id, thread.question)
        return await self._look_at(attempt, thread, model, said, await stored_in(attempt, thread))

    async def _waits_for_its_commit(self, attempt: Attempt, thread: Asked) -> None:
        """Nothing can be written from when the model answers until the answer's statement stands at the table."""
        async with Door(attempt, "messages") as door:
            model = Model(attempt, door=door)
            seen: list[dict[str, Any]] | None = None

            async def turn() -> Any:
                nonlocal seen
                running = asyncio.ensure_future(_called(attempt, model, thread))
                seen = await door.behind(running, partial(stored_in, attempt, thread))
                return running.result()

            said = (await together(attempt, [turn]))[0]
        await self._look_at(attempt, thread, model, said, seen or await stored_in(attempt, thread))

    async def _look_at(
        self, attempt: Attempt, thread: Asked, model: Model, said: Any, messages: list[dict[str, Any]]
    ) -> Asked:
        attempt.expect(bool(model.given), "not asked")
        attempt.expect(model.held == 0, "connection held", count=model.held)
        self._look_at_messages(attempt, thread, model)
        if len(thread.new_ones(messages)) < 2:
            attempt.expect(not await _comes_later(attempt, thread), "stored late")
        self._look_at_end(attempt, thread, model, said, messages)
        return thread.next_turn(messages)

    def _look_at_messages(self, attempt: Attempt, thread: Asked, model: Model) -> None:
        given = model.given_to_answer(thread.question)
        if given == thread.messages:
            return
        if given is None:
            raise attempt.wrong("not messages", kind=model.kind)
        count = len(thread.rows)
        attempt.expect(all(message in thread.messages for message in given), "wrong messages")
        missing = (_counted(thread.messages) - _counted(given)).total()
        attempt.expect(missing == 0, "history missing", count=count, missing=missing)
        attempt.expect(len(given) == count + 1, "given twice", count=count, given=len(given))
        raise attempt.wrong("wrong order")

    def _look_at_end(
        self, attempt: Attempt, thread: Asked, model: Model, said: Any, messages: list[dict[str, Any]]
    ) -> None:
        reply = model.replies.get(thread.question, "")
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(said == reply, "wrong reply", kind=article(said))
        new = thread.new_ones(messages)
        attempt.expect(len(new) >= 2, "not stored", count=len(new))
        attempt.expect(len(new) == 2, "too many", count=len(new))
        first, second = (message["seq"] for message in new)
        goes_on = (first, second) == (thread.last + 1, thread.last + 2)
        attempt.expect(goes_on, "wrong number", first=first, second=second, last=thread.last or "none")
        wanted = [thread.messages[-1], {"role": "assistant", "content": reply}]
        for message, right in zip(new, wanted, strict=True):
            for column, value in right.items():
                attempt.expect(message[column] == value, "wrong message", seq=message["seq"], column=column)

    async def _model_fails(self, attempt: Attempt, thread: Asked) -> None:
        model = Model(attempt, fails=True)
        try:
            said = await attempt.call(sessions_of(attempt), model, thread.id, thread.question)
        except Wrong as wrong:
            error = wrong.__cause__
            if wrong.mistake != "raised" or error is None or not model.given:
                raise
            if not isinstance(error, ModelDown):
                raised = attempt.wrong("another error", failed=ModelDown.__name__, error=kind_of(error))
                raise raised from error
        else:
            raise attempt.wrong("error swallowed", said=article(said))
        attempt.look_for_held_connections()

    async def _at_once(self, attempt: Attempt, threads: list[Asked]) -> None:
        model = Model(attempt, crowd=REQUESTS)
        await attempt.engine.dispose()  # so that the server's connections are those of the small pool
        async with small_pool(attempt, POOL_SIZE):
            with calling_it(attempt, "timed out", PoolTimeout, n=REQUESTS, size=POOL_SIZE):
                calls = [partial(_called, attempt, model, thread) for thread in threads]
                said = await together(attempt, calls)
        attempt.expect(model.missing == 0, "one after another", n=REQUESTS, missing=model.missing)
        attempt.expect(model.held == 0, "connection held", count=model.held)
        messages = await stored(attempt, threads)
        for thread, reply in zip(threads, said, strict=True):
            self._look_at_messages(attempt, thread, model)
            self._look_at_end(attempt, thread, model, reply, messages[thread.id])


async def _comes_later(attempt: Attempt, thread: Asked) -> bool:
    """Whether the question and the reply are stored after the answer has returned."""
    deadline = asyncio.get_running_loop().time() + AFTERWARDS
    while len(thread.new_ones(await stored_in(attempt, thread))) < 2:
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def _called(attempt: Attempt, model: Model, thread: Asked) -> Any:
    answered = attempt.answer(sessions_of(attempt), model, thread.id, thread.question)
    return await answered if inspect.isawaitable(answered) else answered


def _counted(messages: list[dict[str, str]]) -> Counter[tuple[str, str]]:
    return Counter((message["role"], message["content"]) for message in messages)
