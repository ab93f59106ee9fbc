"""One transaction over several repositories."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.errors import CourseError
from course_lib.repositories import ConversationRepository, DocumentRepository, UserRepository


class UnitOfWork:
    """A session for the length of a block, and the repositories that share it.

    >>> async with UnitOfWork(sessions) as work:
    ...     user = await work.users.register("pia@example.org", "Pia Holm")
    ...     await work.conversations.create(user.id, "Which oven?")
    ...     await work.commit()

    The transaction begins with the first statement, not with the block. Only ``commit`` stores anything: leaving
    without it rolls back, silently, and so does an exception, cancellation included. After a commit the next
    statement begins another transaction. What was loaded stays readable when the block is left.

    One instance can be entered again once it was left, with a fresh session; never while it is open. It belongs to
    one task, like the session in it.

    Args:
        sessions: makes the session; without ``expire_on_commit`` (see ``make_session_factory``), or objects must be
            read before the commit.

    Raises:
        CourseError: it is entered while it is open, or used while it is not.
    """

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._session: AsyncSession | None = None

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise CourseError("This unit of work is open already.", "Make one per task: UnitOfWork(lesson.sessions)")
        # a repository kept beyond the block must not begin a transaction that nobody ends
        self._session = self._sessions(close_resets_only=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self.session, None
        await session.__aexit__(kind, error, trace)  # rolls back what is open, also while being cancelled

    @property
    def session(self) -> AsyncSession:
        """What all repositories of this block work in; for statements that no repository has."""
        if self._session is None:
            raise CourseError(
                "This unit of work is not open.", "Enter it: async with UnitOfWork(lesson.sessions) as work:"
            )
        return self._session

    @property
    def users(self) -> UserRepository:
        return UserRepository(self.session)

    @property
    def conversations(self) -> ConversationRepository:
        return ConversationRepository(self.session)

    @property
    def documents(self) -> DocumentRepository:
        return DocumentRepository(self.session)

    async def commit(self) -> None:
        """Store what was done since the block began, or since the last commit, and give the connection back."""
        await self.session.commit()

    async def rollback(self) -> None:
        """Undo it instead; the block can go on."""
        await self.session.rollback()
