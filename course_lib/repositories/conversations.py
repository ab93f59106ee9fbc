"""Conversations and their messages."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, insert, select, tuple_, update

from course_lib.models import Conversation, Message
from course_lib.repositories.generic import NotFound, Repository


class Place(NamedTuple):
    """Where in the list of a user's conversations a page ended."""

    updated_at: datetime
    id: UUID

    @classmethod
    def of(cls, conversation: Conversation) -> Place:
        return cls(conversation.updated_at, conversation.id)


class ConversationRepository(Repository[Conversation]):
    model = Conversation

    async def create(self, user_id: UUID, title: str) -> Conversation:
        """A new conversation without messages.

        Raises:
            IntegrityError: there is no such user.
        """
        return await self.add(Conversation(user_id=user_id, title=title))

    async def add_message(
        self,
        conversation_id: UUID,
        role: str,
        content: str,
        *,
        token_count: int = 0,
        meta: dict[str, Any] | None = None,
    ) -> Message:
        """Append a message; its ``seq`` is the next number, also when many are appended at once.

        The UPDATE moves the conversation to the top of its owner's list, and its row lock makes whoever else appends
        to the same conversation wait until this transaction ends. So end it soon: no call to a model in between.

        Raises:
            NotFound: there is no such conversation.
            IntegrityError: the role is none of those a message can have.
        """
        touched = update(Conversation).where(Conversation.id == conversation_id)
        # now() is when the transaction began, perhaps long before the lock was had
        touched = touched.values(updated_at=func.clock_timestamp())
        if await self.session.scalar(touched.returning(Conversation.id)) is None:
            raise NotFound(Conversation, conversation_id)
        last = select(func.coalesce(func.max(Message.seq), 0)).where(Message.conversation_id == conversation_id)
        statement = insert(Message).values(
            conversation_id=conversation_id,
            seq=last.scalar_subquery() + 1,
            role=role,
            content=content,
            token_count=token_count,
            meta=meta or {},
        )
        return (await self.session.scalars(statement.returning(Message))).one()

    async def latest_messages(self, conversation_id: UUID, limit: int = 20) -> list[Message]:
        """The last ``limit`` messages, oldest of them first: what a model is given as history."""
        newest = select(Message).where(Message.conversation_id == conversation_id).order_by(Message.seq.desc())
        return list(await self.session.scalars(newest.limit(limit)))[::-1]

    async def page_of(self, user_id: UUID, *, after: Place | None = None, limit: int = 20) -> list[Conversation]:
        """A page of the user's conversations, the one that changed last on top.

        A conversation that changes while somebody turns pages moves to the top, above where they are; one that does
        not change is met exactly once.

        Args:
            after: ``Place.of`` the last conversation of the page before; None for the first page.
        """
        place = tuple_(Conversation.updated_at, Conversation.id)
        statement = select(Conversation).where(Conversation.user_id == user_id)
        if after is not None:
            statement = statement.where(place < after)
        ordered = statement.order_by(Conversation.updated_at.desc(), Conversation.id.desc())
        return list(await self.session.scalars(ordered.limit(limit)))
