"""M1: a title that is written by a model, and by its owner meanwhile."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import text

from course_lib.judging.asking import NOT_AVAILABLE, calling_it, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Drill, Wrong
from course_lib.judging.held import held_now
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import Intruder, listening, sessions_of
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user, other_rows

UNTITLED = "New conversation"
WRITES = re.compile(r"\bUPDATE\s+(ONLY\s+)?(public\.)?\"?conversations\b", re.IGNORECASE)
RENAME = "title = %s, updated_at = clock_timestamp()"
POSTED = """
    WITH posted AS (
        INSERT INTO messages (conversation_id, seq, role, content) VALUES (:id, 99, 'user', 'sent from my phone')
    )
    UPDATE conversations SET updated_at = clock_timestamp() WHERE id = :id
"""
Meanwhile = Callable[[], Awaitable[Any]]


class ModelDown(RuntimeError):
    """The provider did not answer."""


class TitleByModel(Drill):
    """Read, wait for somebody else, write: what was read is old by then."""

    id = "M1"
    title = "The title that came back"
    answer = "name_conversation"
    minutes = 12
    points = 2
    level = "mid"
    topics: ClassVar = ("concurrency", "transactions", "pooling", "async")
    faults: ClassVar = ("came back", "connection held", "raised meanwhile")
    hints: ClassVar = (
        "How long does the model take, and what may the user do in that time? Go through the function line by line "
        "with a rename between two lines.",
        "Whether the conversation has a title was looked up before the model was asked, and the title is written "
        "after it. Where does the question have to be asked again, so that nothing comes between question and writing?",
        "Three parts: a session that reads and is closed, the model without any session, and a second session. There "
        "one UPDATE with the old title in its WHERE does it, or a lock before the second look. What does an UPDATE "
        "say of how many rows it met?",
    )
    why = (
        "A check counts for as long as nothing can change between it and the write. Seconds pass in the model, so the "
        "condition goes into the UPDATE itself, where the server looks at the row and changes it in one step; no row "
        "met means renamed or gone, and that is no error. The transaction ends before the model is asked: no "
        "connection waits, and no lock keeps the user from renaming."
    )
    follow_up = (
        "The user may also clear the title, and then it is `New conversation` again. How do you tell a title that was "
        "never given from one that was taken back?"
    )
    mistakes: ClassVar = {
        "not asked": "`suggest_title` was called {calls} times for a conversation without a title. "
        "| Once, with the user's first message.",
        "wrong question": "`suggest_title` was given another text than the content of the user's first message. "
        "| Of role `user`, the lowest `seq`.",
        "asked in vain": "`suggest_title` was called for {what}. | There is nothing to name, and the model costs.",
        "not stored": "The model had answered, {what}, and the stored title is still `New conversation`. "
        "| A commit makes it last; that somebody posted is no reason to leave it.",
        "posted at once": "The model had answered while a message was just being posted, whose transaction held the "
        "conversation's row, and {did}. "
        "| Such a transaction is over in a moment. A lock in the way says nothing about the title: wait for it.",
        "other title": "The stored title is not the one that the model suggested. | As it came.",
        "wrong return": "`name_conversation` returned {said}, and {wanted}. "
        "| The title that was stored; None if none was.",
        "others changed": "Other conversations than this one were changed. | Its id belongs into the WHERE.",
        "came back": "While the model worked, the user gave the conversation a title, and afterwards it had the "
        "model's. | That is what was reported. When was it looked up that there is no title yet?",
        "came back late": "The model had answered, the user gave the conversation a title just before the model's was "
        "written, and afterwards it had the model's. "
        "| Between looking again and writing there is still a gap. What closes it: a condition, a lock?",
        "rename waits": "While the model worked, the row was locked and the user could not rename the conversation. "
        "| A lock of seconds is felt by whoever waits for it. Lock, if at all, when the model has answered.",
        "connection held": "While the model worked, {count} connection(s) were held. "
        "| A session keeps its connection until its transaction ends, and the model takes seconds.",
        "raised meanwhile": "The user {what}, and then it raised {error}. "
        "| Then there is nothing to store, and None to return. What does the second look find?",
        "error swallowed": "The model failed, and `name_conversation` returned {said}. | The error goes on.",
        "another error": "The model failed with {failed}, and the caller was given {error}. "
        "| The caller knows the model's errors. Let them go on as they are.",
    }

    async def judge(self, attempt: Attempt) -> None:
        stages = [await _stage(attempt) for _ in range(7)]
        plain, renamed, deleted, late, posted, at_once, failing = stages
        for stage in await _unfit(attempt):
            await self._leaves_alone(attempt, stage)
        held = await self._names(attempt, plain, "nothing had happened meanwhile")
        await self._renamed(attempt, renamed)
        attempt.expect(held == 0, "connection held", count=held)
        await self._deleted(attempt, deleted)
        await self._renamed_late(attempt, late)
        await self._names(attempt, posted, "a message had been posted meanwhile", _post(attempt, posted))
        await self._posted_at_once(attempt, at_once)
        await self._model_fails(attempt, failing)
        model = Model(attempt)
        await expect_errors_to_rise(attempt, call=lambda: attempt.call(sessions_of(attempt), model, failing.id))

    async def _names(self, attempt: Attempt, stage: Stage, what: str, meanwhile: Meanwhile | None = None) -> int:
        """It gets the model's title. Returns how many connections were held while the model worked."""
        model = Model(attempt, meanwhile)
        others = await other_rows(attempt, "conversations", "id", stage.id)
        said = await attempt.call(sessions_of(attempt), model, stage.id)
        attempt.expect(len(model.given) == 1, "not asked", calls=len(model.given))
        attempt.expect(model.given[0] == stage.question, "wrong question")
        title = await _title(attempt, stage.id)
        attempt.expect(title != UNTITLED, "not stored", what=what)
        attempt.expect(title == model.title, "other title")
        attempt.expect(said == model.title, "wrong return", said=_shown(said), wanted="a title was stored")
        same = await other_rows(attempt, "conversations", "id", stage.id) == others
        attempt.expect(same, "others changed")
        return model.held

    async def _leaves_alone(self, attempt: Attempt, stage: Stage) -> None:
        model = Model(attempt)
        said = await attempt.call(sessions_of(attempt), model, stage.id)
        attempt.expect(not model.given, "asked in vain", what=stage.what)
        attempt.expect(said is None, "wrong return", said=_shown(said), wanted=f"it was called for {stage.what}")

    async def _renamed(self, attempt: Attempt, stage: Stage) -> None:
        new = f"mine {token_hex(4)}"

        async def rename() -> None:
            with Intruder(attempt) as user:
                attempt.expect(user.change_if_free("conversations", stage.id, RENAME, new), "rename waits")

        said = await self._call_while(attempt, stage, rename, "renamed the conversation while the model worked")
        attempt.expect(await _title(attempt, stage.id) == new, "came back")
        attempt.expect(said is None, "wrong return", said=_shown(said), wanted="no title was stored")

    async def _renamed_late(self, attempt: Attempt, stage: Stage) -> None:
        """Another process renames just before the model's title is written, unless a lock keeps it out."""
        new = f"mine {token_hex(4)}"

        def rename(_: Any, __: Any, statement: str, *___: Any) -> None:
            if WRITES.search(statement):
                user.change_if_free("conversations", stage.id, RENAME, new)

        with Intruder(attempt, times=1) as user, listening(attempt, "before_cursor_execute", rename):
            what = "renamed the conversation after the model had answered"
            said = await self._call_while(attempt, stage, None, what)
        if user.changes:
            attempt.expect(await _title(attempt, stage.id) == new, "came back late")
            attempt.expect(said is None, "wrong return", said=_shown(said), wanted="no title was stored")

    async def _posted_at_once(self, attempt: Attempt, stage: Stage) -> None:
        """Somebody posts, and commits when the call stands at the lock of that, or is over."""
        async with attempt.judge_session() as poster:

            async def begin() -> None:
                await poster.execute(text(POSTED), {"id": stage.id})

            naming = asyncio.ensure_future(attempt.call(sessions_of(attempt), Model(attempt, begin), stage.id))
            await until_blocked(attempt, naming, 1, hold=0)  # such a transaction is short
            await poster.commit()
            with calling_it(attempt, "posted at once", saying=NOT_AVAILABLE, did="it gave up at that lock"):
                said = await naming
        title = await _title(attempt, stage.id)
        attempt.expect(title != UNTITLED, "posted at once", did="the stored title is still `New conversation`")
        attempt.expect(said == title, "wrong return", said=_shown(said), wanted="a title was stored")

    async def _deleted(self, attempt: Attempt, stage: Stage) -> None:
        async def delete() -> None:
            await attempt.sql("DELETE FROM conversations WHERE id = :id", id=stage.id)

        said = await self._call_while(attempt, stage, delete, "deleted the conversation while the model worked")
        attempt.expect(said is None, "wrong return", said=_shown(said), wanted="no title was stored")

    async def _call_while(self, attempt: Attempt, stage: Stage, meanwhile: Meanwhile | None, what: str) -> Any:
        with calling_it(attempt, "raised meanwhile", what=what):
            return await attempt.call(sessions_of(attempt), Model(attempt, meanwhile), stage.id)

    async def _model_fails(self, attempt: Attempt, stage: Stage) -> None:
        async def fail() -> None:
            raise ModelDown("the provider did not answer")

        try:
            said = await attempt.call(sessions_of(attempt), Model(attempt, fail), stage.id)
        except Wrong as wrong:
            error = wrong.__cause__
            if wrong.mistake != "raised" or error is None:
                raise
            if not isinstance(error, ModelDown):
                raise attempt.wrong("another error", failed=ModelDown.__name__, error=kind_of(error)) from error
        else:
            raise attempt.wrong("error swallowed", said=_shown(said))
        attempt.look_for_held_connections()


class Model:
    """Suggests a new title, looks for held connections while it is asked, and lets something happen meanwhile.

    Attributes:
        given: the texts that it was given.
        held: the greatest number of connections that were held while it worked.
    """

    def __init__(self, attempt: Attempt, meanwhile: Meanwhile | None = None) -> None:
        self.title = f"It's about {token_hex(4)}"
        self.given: list[Any] = []
        self.held = 0
        self._attempt, self._meanwhile = attempt, meanwhile

    async def __call__(self, text: Any) -> str:
        self.given.append(text)
        self.held = max(self.held, await held_now(self._attempt))
        if self._meanwhile:
            await self._meanwhile()
        return self.title


@dataclass(frozen=True)
class Stage:
    """A conversation on stage, the content of its user's first message, and what it is in words."""

    id: UUID
    question: str = ""
    what: str = ""


async def _stage(attempt: Attempt, title: str = UNTITLED, roles: str = "sauau", what: str = "") -> Stage:
    """Messages by the first letters of their roles, stored last first and all at one time."""
    names = {"s": "system", "u": "user", "a": "assistant"}
    stage = Stage(uuid4(), awkward_text(), what)
    thread = {"id": stage.id, "user_id": await add_user(attempt), "title": title}
    await add_rows(attempt, "conversations", [thread])
    rows = [
        {"conversation_id": stage.id, "seq": 3 + 2 * place, "role": names[letter], "content": awkward_text(),
         "created_at": datetime.now(UTC)}
        for place, letter in enumerate(roles)
    ]  # fmt: skip
    if "u" in roles:
        rows[roles.index("u")]["content"] = stage.question
    await add_rows(attempt, "messages", rows[::-1])
    return stage


async def _unfit(attempt: Attempt) -> list[Stage]:
    return [
        await _stage(attempt, "Mine already", what="a conversation that has a title"),
        await _stage(attempt, roles="sa", what="a conversation in which no user has written"),
        Stage(uuid4(), what="a conversation that does not exist"),
    ]


def _post(attempt: Attempt, stage: Stage) -> Meanwhile:
    async def post() -> None:
        await attempt.sql(POSTED, id=stage.id)

    return post


async def _title(attempt: Attempt, id: UUID) -> Any:
    return await attempt.value("SELECT title FROM conversations WHERE id = :id", id=id)


def _shown(said: Any) -> str:
    return "a text" if isinstance(said, str) else article(said)
