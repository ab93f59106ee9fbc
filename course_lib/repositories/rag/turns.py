"""The turn: question, answer, sources, tokens and what they cost, stored in one transaction after the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib import llm
from course_lib.models import Conversation, Message, User
from course_lib.repositories.conversations import UNTITLED, ConversationRepository, title_from
from course_lib.repositories.generic import NotFound
from course_lib.repositories.limits import Reservation, lock_account, release, settle
from course_lib.repositories.rag.answering import Answer


@dataclass(frozen=True)
class Turn:
    """A question and its answer, before they are stored.

    id: becomes the id of the answer's message, so that the same turn is stored once; conversation_id: None begins a
    conversation, whose id is the turn's.
    """

    id: UUID
    user_id: UUID
    conversation_id: UUID | None
    question: str
    answer: Answer

    @property
    def place(self) -> UUID:
        """The conversation's id."""
        return self.conversation_id or self.id


@dataclass(frozen=True)
class StoredTurn:
    """The two messages, as they are stored."""

    question: Message
    answer: Message


async def store_turn(session: AsyncSession, turn: Turn, reservation: Reservation | None = None) -> StoredTurn:
    """Store the turn and settle its reservation. All of it is in the caller's transaction, or nothing is.

    What a message costs is its ``token_count``: the question's is the whole prompt's. So what a user has used is the
    sum over the messages. A turn that is there already stays as it is, and its reservation, if there is one still, is
    given back.

    Raises:
        NotFound: there is no such user or conversation, or it is somebody else's.
        IntegrityError: another conversation has a message with the turn's id.
    """
    # first, as whoever deletes the user does; and a turn that is stored twice at once waits here for itself
    if not await lock_account(session, turn.user_id):
        raise NotFound(User, turn.user_id)
    await enter_conversation(session, turn)
    if (known := await stored_turn(session, turn.user_id, turn.place, turn.id)) is not None:
        if reservation is not None:
            await release(session, reservation)
        return known
    conversations = ConversationRepository(session)
    await conversations.name_once(turn.place, title_from(turn.question))
    answer, usage = turn.answer, turn.answer.usage
    asked = await conversations.add_message(turn.place, "user", turn.question, token_count=usage.prompt_tokens)
    said = await conversations.add_message(
        turn.place, "assistant", answer.text,
        token_count=usage.completion_tokens, meta=meta_of(answer), status=answer.status, message_id=turn.id,
    )  # fmt: skip
    if reservation is not None:
        await settle(session, reservation, usage.total_tokens)
    return StoredTurn(asked, said)


async def enter_conversation(session: AsyncSession, turn: Turn) -> None:
    """See that the conversation is the user's; begin it where the turn is its first.

    Raises:
        NotFound: there is no such conversation, or it is somebody else's.
    """
    if turn.conversation_id is None:
        begun = insert(Conversation).values(id=turn.place, user_id=turn.user_id, title=UNTITLED)
        await session.execute(begun.on_conflict_do_nothing())
    mine = select(Conversation.id).where(Conversation.id == turn.place, Conversation.user_id == turn.user_id)
    if await session.scalar(mine) is None:
        raise NotFound(Conversation, turn.place)


async def stored_turn(session: AsyncSession, user_id: UUID, conversation_id: UUID, turn_id: UUID) -> StoredTurn | None:
    """The turn with this id, if the conversation is the user's and has it."""
    said = select(Message).join(Message.conversation).where(Conversation.user_id == user_id)
    said = said.where(Message.conversation_id == conversation_id)
    answer = await session.scalar(said.where(Message.id == turn_id))
    if answer is None:
        return None
    question = await session.scalar(said.where(Message.seq == answer.seq - 1))
    return None if question is None else StoredTurn(question, answer)


def meta_of(answer: Answer) -> dict[str, Any]:
    """What ``messages.meta`` keeps of an answer: its sources, how it ended, and what of it was refused."""
    meta: dict[str, Any] = {
        "sources": [source.as_meta() for source in answer.sources], "ended": answer.ended, "model": llm.CHAT_MODEL,
    }  # fmt: skip
    refused = {"unknown": answer.unknown, "invented": answer.invented, "left_out": answer.left_out}
    return meta | {name: value for name, value in refused.items() if value}
