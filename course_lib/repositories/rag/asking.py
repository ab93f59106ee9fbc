"""A question from its text to its stored turn: short transactions, and a model between them.

1. A transaction that reads: is the conversation the user's, what was said in it, and are there tokens left at all?
2. The vector of the question: the model, no connection.
3. A transaction that searches; another one that reserves what the answer may cost.
4. The answer: the model, no connection.
5. A transaction that stores the turn and settles, however the answer ended.

What fails before the first word leaves nothing behind, and gives back what was reserved.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.errors import CourseError
from course_lib.models import Conversation, Message
from course_lib.repositories.conversations import ConversationRepository
from course_lib.repositories.generic import NotFound
from course_lib.repositories.lasting import lasting, uninterrupted
from course_lib.repositories.limits import Reservation, check_tokens, release, reserve, settle
from course_lib.repositories.rag.answering import (
    NOTHING,
    Answer,
    ask_model,
    make_answer,
    nothing,
    nothing_near,
    stream_model,
)
from course_lib.repositories.rag.embedding import Embedding, embed_question
from course_lib.repositories.rag.prompt import Budget, Prompt, build_prompt, check_question
from course_lib.repositories.rag.repository import RagRepository
from course_lib.repositories.rag.search import Passage
from course_lib.repositories.rag.turns import StoredTurn, Turn, store_turn, stored_turn

if TYPE_CHECKING:
    import openai

K = 8
"""Passages that are looked at for an answer."""

MESSAGES = 20
"""Of a conversation, that are looked at for the prompt's history."""

Sessions = async_sessionmaker[AsyncSession]
Search = Callable[[AsyncSession, UUID, str, Embedding], Awaitable[Sequence[Passage]]]


@dataclass(frozen=True)
class Asked:
    """A question that is ready for the model.

    prompt: None where no passage is near, and no model is asked; stored: the turn, where it is stored already.
    """

    turn_id: UUID
    user_id: UUID
    conversation_id: UUID | None
    question: str
    prompt: Prompt | None = None
    reservation: Reservation | None = None
    stored: StoredTurn | None = None

    def turn(self, answer: Answer) -> Turn:
        """The turn, once there is an answer."""
        return Turn(self.turn_id, self.user_id, self.conversation_id, self.question, answer)


async def nearest(session: AsyncSession, user_id: UUID, question: str, vector: Embedding) -> list[Passage]:
    """The search that is used where no other one is given."""
    return await RagRepository(session).search(user_id, vector, K)


async def prepare(
    sessions: Sessions,
    user_id: UUID,
    conversation_id: UUID | None,
    question: str,
    client: openai.AsyncOpenAI | None = None,
    *,
    search: Search = nearest,
    budget: Budget | None = None,
    turn_id: UUID | None = None,
) -> Asked:
    """Steps 1 to 3: all that can be refused before an answer begins, which then has to follow.

    Args:
        conversation_id: None begins a conversation, when the turn is stored.
        search: how passages are found, best first.
        turn_id: of a question that may be asked again, because its answer did not arrive: it is stored once, and not
            asked a second time.

    Raises:
        NotFound: there is no such user or conversation, or it is somebody else's.
        LimitReached: the user has not the tokens left that the answer may cost. Who has not those of the shortest
            prompt is told so before the model is asked, although a question that finds nothing near would cost none.
        CourseError: the question cannot be asked.
        openai.OpenAIError: the model did not embed it.
    """
    check_question(question)
    async with sessions.begin() as session:
        turn_id = turn_id or (await session.scalars(select(func.uuidv7()))).one()
        history = await history_of(session, user_id, conversation_id)
        stored = await stored_turn(session, user_id, conversation_id or turn_id, turn_id)
        if stored is None:
            await check_tokens(session, user_id, build_prompt(question, [], budget=budget).most_tokens)
    asked = Asked(turn_id, user_id, conversation_id, question, stored=stored)
    if stored is not None:
        return asked
    passages = await look_up(sessions, user_id, question, history, client, search)
    if nothing_near(passages):
        return asked
    prompt = build_prompt(question, passages, history, budget)
    async with sessions.begin() as session:
        reservation = await reserve(session, user_id, prompt.most_tokens)
    return replace(asked, prompt=prompt, reservation=reservation)


async def look_up(
    sessions: Sessions,
    user_id: UUID,
    question: str,
    history: Sequence[Message],
    client: openai.AsyncOpenAI | None,
    search: Search,
) -> Sequence[Passage]:
    """The passages for ``question``. One that finds nothing near may hang on the question before it, as "And on
    Sunday?" does, and is looked up together with that."""
    before = next((message.content for message in reversed(history) if message.role == "user"), None)
    passages: Sequence[Passage] = []
    for text in (question, f"{before}\n{question}"):
        vector = await embed_question(text, client)
        async with sessions() as session:
            passages = await search(session, user_id, text, vector)
        if before is None or not nothing_near(passages):
            break
    return passages


async def history_of(session: AsyncSession, user_id: UUID, conversation_id: UUID | None) -> list[Message]:
    """The latest messages of the user's conversation; none where it is still to begin.

    Raises:
        NotFound: there is no such conversation, or it is somebody else's.
    """
    if conversation_id is None:
        return []
    mine = select(Conversation.id).where(Conversation.id == conversation_id, Conversation.user_id == user_id)
    if await session.scalar(mine) is None:
        raise NotFound(Conversation, conversation_id)
    return await ConversationRepository(session).latest_messages(conversation_id, MESSAGES)


async def ask(
    sessions: Sessions,
    user_id: UUID,
    conversation_id: UUID | None,
    question: str,
    client: openai.AsyncOpenAI | None = None,
    *,
    search: Search = nearest,
    budget: Budget | None = None,
    turn_id: UUID | None = None,
) -> StoredTurn:
    """Answer the question from the user's documents, and store the turn. Arguments and errors are ``prepare``'s.

    Raises:
        openai.OpenAIError: the model did not answer. Nothing was stored, and what was reserved was given back.
    """
    asked = await prepare(
        sessions, user_id, conversation_id, question, client, search=search, budget=budget, turn_id=turn_id
    )
    if asked.stored is not None:
        return asked.stored
    said = None
    try:
        said = await ask_model(asked.prompt, client) if asked.prompt else nothing()
    finally:
        stored = await keep(sessions, asked, said)
    assert stored is not None
    return stored


async def stream_turn(
    sessions: Sessions, asked: Asked, client: openai.AsyncOpenAI | None = None
) -> AsyncGenerator[str | StoredTurn, None]:
    """The answer in pieces as they come, and the stored turn last.

    Whoever leaves after a piece, by ``aclose`` or by being cancelled, leaves a turn behind with what was said until
    then, ``aborted``. ``contextlib.aclosing`` around the loop sees to it that leaving is noticed.

    Raises:
        openai.OpenAIError: the model did not begin to answer; as from ``ask``.
    """
    if asked.stored is not None:
        yield asked.stored.answer.content
        yield asked.stored
        return
    said, end = "", None
    try:
        async with aclosing(answer_to(asked, client)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):
                    end = piece
                else:
                    said += piece
                    yield piece
    finally:
        stored = await keep(sessions, asked, end or left(asked, said))
    assert stored is not None
    yield stored


async def answer_to(asked: Asked, client: openai.AsyncOpenAI | None = None) -> AsyncGenerator[str | Answer, None]:
    """Step 4, in pieces."""
    if asked.prompt is None:
        yield NOTHING
        yield nothing()
        return
    async with aclosing(stream_model(asked.prompt, client)) as pieces:
        async for piece in pieces:
            yield piece


def left(asked: Asked, said: str) -> Answer | None:
    """The answer whose reader left in the middle; None where it had not begun."""
    if not said:
        return None
    return make_answer(asked.prompt, said, "left") if asked.prompt else nothing()


async def keep(sessions: Sessions, asked: Asked, said: Answer | None) -> StoredTurn | None:
    """Step 5, although whoever asked may have been cancelled: store the turn, or give back what was reserved for an
    answer that did not come.

    Raises:
        NotFound: the conversation was deleted meanwhile. What the answer did cost is charged.
    """
    if said is None:
        await uninterrupted(give_back(sessions, asked.reservation))
        return None
    return await uninterrupted(store(sessions, asked, said))


async def store(sessions: Sessions, asked: Asked, said: Answer) -> StoredTurn:
    """The turn; where it has no place any more, at least its price."""
    turn, held = asked.turn(said), asked.reservation
    try:
        return await lasting(sessions, lambda session: store_turn(session, turn, held))
    except NotFound:
        if held is not None:
            await lasting(sessions, lambda session: settle(session, held, said.usage.total_tokens))
        raise


async def give_back(sessions: Sessions, reservation: Reservation | None) -> None:
    """Release it; where that fails, it falls due by itself, and the error to be told is the model's."""
    if reservation is not None:
        with suppress(SQLAlchemyError, OSError, CourseError):
            async with sessions.begin() as session:
                await release(session, reservation)
