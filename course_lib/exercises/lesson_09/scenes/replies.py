"""Streaming a model's answer into the conversation: two ways that bear with the model's bad day, ten that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID, uuid4

import openai
import pytest
import pytest_asyncio
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.judging.testing.plugin import CaseHere
from course_lib.llm.names import chat_model
from course_lib.models import Conversation, Message, User

Sessions = async_sessionmaker[AsyncSession]
Reply = Callable[[Sessions, openai.AsyncOpenAI, UUID], Awaitable[str]]
LOADED = (
    "anyio._backends._asyncio", "concurrent.futures.thread", "course_lib.llm.client",
    "course_lib.llm.offline.answerer", "course_lib.llm.offline.transport", "openai.lib.streaming.chat",
    "openai.resources.chat.chat", "openai.resources.chat.completions.completions",
)  # fmt: skip
THINKING_SECONDS = 0.06  # so long is a right one idle in a transaction
SORRY = "Sorry, something went wrong. Please try again later."


class Stream:
    """What has come of an answer so far."""

    def __init__(self) -> None:
        self.text = ""

    async def read(self, client: openai.AsyncOpenAI, question: str) -> None:
        """To the end, or to where it is cut."""
        stream = await client.chat.completions.create(
            model=chat_model(), messages=[{"role": "user", "content": question}], stream=True
        )
        async for chunk in stream:
            if chunk.choices:
                self.text += chunk.choices[0].delta.content or ""


async def _question(session: AsyncSession, conversation_id: UUID) -> Message:
    ordered = select(Message).where(Message.conversation_id == conversation_id).order_by(Message.seq.desc())
    return (await session.scalars(ordered.limit(1))).one()


async def _asked(sessions: Sessions, conversation_id: UUID) -> tuple[str, int]:
    async with sessions() as session:
        message = await _question(session, conversation_id)
        return message.content, message.seq + 1


async def _store(sessions: Sessions, conversation_id: UUID, seq: int, text: str, status: str) -> None:
    row = Message(conversation_id=conversation_id, seq=seq, role="assistant", content=text, status=status)
    async with sessions.begin() as session:
        session.add(row)


async def _at_the_end(
    sessions: Sessions,
    client: openai.AsyncOpenAI,
    conversation_id: UUID,
    *,
    complete: str = "complete",
    keeps_text: bool = True,
) -> str:
    question, seq = await _asked(sessions, conversation_id)
    stream = Stream()
    try:
        await stream.read(client, question)
    except Exception:
        if stream.text:
            await _store(sessions, conversation_id, seq, stream.text if keeps_text else "", "aborted")
        raise
    await _store(sessions, conversation_id, seq, stream.text, complete)
    return stream.text


async def _row_first(
    sessions: Sessions, client: openai.AsyncOpenAI, conversation_id: UUID, *, clears: bool = True
) -> str:
    async with sessions.begin() as session:
        message = await _question(session, conversation_id)
        await asyncio.sleep(THINKING_SECONDS)  # in a transaction, and the model is not yet being asked
        row = Message(conversation_id=conversation_id, seq=message.seq + 1, role="assistant", content="")
        row.status = "streaming"
        session.add(row)
    stream, status = Stream(), "aborted"
    mine = (Message.conversation_id == conversation_id, Message.seq == row.seq)
    try:
        await stream.read(client, message.content)
        status = "complete"
    finally:
        async with sessions.begin() as session:
            stored = update(Message).where(*mine).values(content=stream.text, status=status)
            await session.execute(stored if stream.text or not clears else delete(Message).where(*mine))
    return stream.text


async def _cut_as_complete(sessions: Sessions, client: openai.AsyncOpenAI, conversation_id: UUID) -> str:
    question, seq = await _asked(sessions, conversation_id)
    stream = Stream()
    try:
        await stream.read(client, question)
    finally:
        if stream.text:
            await _store(sessions, conversation_id, seq, stream.text, "complete")
    return stream.text


async def _lost(sessions: Sessions, client: openai.AsyncOpenAI, conversation_id: UUID) -> str:
    question, seq = await _asked(sessions, conversation_id)
    stream = Stream()
    await stream.read(client, question)
    await _store(sessions, conversation_id, seq, stream.text, "complete")
    return stream.text


async def _cut_in_silence(sessions: Sessions, client: openai.AsyncOpenAI, conversation_id: UUID) -> str:
    question, seq = await _asked(sessions, conversation_id)
    stream, status = Stream(), "aborted"
    try:
        await stream.read(client, question)
        status = "complete"
    except Exception:
        if not stream.text:
            raise
    await _store(sessions, conversation_id, seq, stream.text, status)
    return stream.text


async def _apology(sessions: Sessions, client: openai.AsyncOpenAI, conversation_id: UUID) -> str:
    try:
        return await _at_the_end(sessions, client, conversation_id)
    except openai.RateLimitError:
        _, seq = await _asked(sessions, conversation_id)
        await _store(sessions, conversation_id, seq, SORRY, "complete")
        raise


async def _refused_in_silence(sessions: Sessions, client: openai.AsyncOpenAI, conversation_id: UUID) -> str:
    try:
        return await _at_the_end(sessions, client, conversation_id)
    except openai.RateLimitError:
        return ""


async def _no_second_try(sessions: Sessions, client: openai.AsyncOpenAI, conversation_id: UUID) -> str:
    return await _at_the_end(sessions, client.with_options(max_retries=0), conversation_id)


async def _held(sessions: Sessions, client: openai.AsyncOpenAI, conversation_id: UUID) -> str:
    stream = Stream()
    async with sessions() as session:
        message = await _question(session, conversation_id)  # and its transaction stays open
        try:
            await stream.read(client, message.content)
        except Exception:
            if stream.text:
                await _store(sessions, conversation_id, message.seq + 1, stream.text, "aborted")
            raise
    await _store(sessions, conversation_id, message.seq + 1, stream.text, "complete")
    return stream.text


REPLIES: dict[str, Reply] = {
    "at the end": _at_the_end, "row first": _row_first, "cut as complete": _cut_as_complete, "lost": _lost,
    "cut in silence": _cut_in_silence, "apology": _apology, "refused in silence": _refused_in_silence,
    "no second try": _no_second_try, "held": _held, "left streaming": partial(_at_the_end, complete="streaming"),
    "empty": partial(_at_the_end, keeps_text=False), "row left": partial(_row_first, clears=False),
}  # fmt: skip
"""By the name of the case."""


@pytest_asyncio.fixture(loop_scope="session")
async def conversation_id(sessions: Sessions) -> UUID:
    """A conversation in which a user has just asked something."""
    question = Message(seq=1, role="user", content="How long may I keep a book from the library, and what then?")
    conversation = Conversation(title="Library", messages=[question])
    async with sessions.begin() as session:
        session.add(User(email=f"{uuid4()}@example.org", name="Ada", conversations=[conversation]))
    return conversation.id


@pytest.fixture
def reply(_case: CaseHere) -> Reply:
    way = REPLIES[_case.name]

    async def reply(sessions: Sessions, client: openai.AsyncOpenAI, conversation_id: UUID) -> str:
        """Ask the model what was asked last, store what it says, return it."""
        _case.note(called=True)
        return await way(sessions, client, conversation_id)

    return reply
