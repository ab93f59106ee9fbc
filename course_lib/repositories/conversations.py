"""Conversations and their messages."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, insert, select, tuple_, update

from course_lib.errors import CourseError
from course_lib.models import Conversation, Message
from course_lib.repositories.generic import NotFound, Repository
from course_lib.texts import check_storable

UNTITLED = ""
"""The title of a conversation that nobody has named. Users cannot give this one, so a title is either theirs, or was
made, or is still to be made: no other column has to tell."""

TITLE_CHARACTERS = 60


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
        status: str = "complete",
        message_id: UUID | None = None,
    ) -> Message:
        """Append a message; its ``seq`` is the next number, also when many are appended at once.

        The UPDATE moves the conversation to the top of its owner's list, and its row lock makes whoever else appends
        to the same conversation wait until this transaction ends. So end it soon: no call to a model in between.

        Args:
            message_id: if it was chosen beforehand; the server makes one else.

        Raises:
            NotFound: there is no such conversation.
            IntegrityError: the role or the status is none of those a message can have, or the id is taken.
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
            status=status,
            **({} if message_id is None else {"id": message_id}),
        )
        return (await self.session.scalars(statement.returning(Message))).one()

    async def rename(self, user_id: UUID, conversation_id: UUID, title: str) -> None:
        """Give the user's conversation the title that the user wants, which nothing replaces but another of theirs.

        Raises:
            NotFound: there is none, or it is somebody else's.
            CourseError: the title is blank, or PostgreSQL cannot store it.
        """
        check_storable(title, "The title")
        if not title.strip():
            raise CourseError("A title is not blank.", "Name the conversation, or leave it without one.")
        mine = update(Conversation).where(Conversation.id == conversation_id, Conversation.user_id == user_id)
        if await self.session.scalar(mine.values(title=title.strip()).returning(Conversation.id)) is None:
            raise NotFound(Conversation, conversation_id)

    async def name_once(self, conversation_id: UUID, title: str) -> bool:
        """Give a title to a conversation that has none. Whether it got it.

        The condition is in the UPDATE: a user who names the conversation at the same moment is waited for, and stays
        right.
        """
        unnamed = update(Conversation).where(Conversation.id == conversation_id, Conversation.title == UNTITLED)
        return await self.session.scalar(unnamed.values(title=title).returning(Conversation.id)) is not None

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


def title_from(question: str) -> str:
    """A title from the question's own first words: no second call to a model that costs, waits and can fail."""
    words = " ".join(question.split()) or "Without a question"
    return words if len(words) <= TITLE_CHARACTERS else words[: TITLE_CHARACTERS - 1].rsplit(" ", 1)[0] + "…"
