"""A page of all users with what each said last, written well and in five ways that send more the more users there are.

The page is rendered by a template, which reads properties; where a relationship is not loaded, reading it sends a
statement, since the template runs inside ``run_sync``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import event, exists, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import joinedload, selectinload

from course_lib.judging.testing.plugin import CaseHere
from course_lib.models import Conversation, Message, User

Page = Callable[[AsyncSession], Awaitable[list[str]]]

HOW = {
    "property": "loads the conversations of each user where a property asks for them",
    "messages": "loads all conversations at once, and the messages of each where a property asks for them",
    "count": "counts the conversations of each user with a query of its own",
    "other session": "opens another session on the engine for each user",
    "tens": "loads what ten users at a time have said",
}
"""What each mutant does, in words."""
NOBODY = "nothing said yet"
OTHERS = """
    WITH others AS (
        INSERT INTO users (email, name) SELECT 'other-' || place || '@example.net', 'Other ' || place
        FROM generate_series(1, :n) AS place RETURNING id
    ), begun AS (INSERT INTO conversations (user_id, title) SELECT id, 'Before' FROM others RETURNING id)
    INSERT INTO messages (conversation_id, seq, role, content) SELECT id, 1, 'user', 'Hello' FROM begun
"""


class Member:
    """What the template knows of a user."""

    def __init__(self, user: User) -> None:
        self.name = user.name
        self._user = user

    @property
    def count(self) -> int:
        return len(self._user.conversations)

    @property
    def last_words(self) -> str:
        return _last([message for conversation in self._user.conversations for message in conversation.messages])


def _last(messages: Sequence[Message]) -> str:
    return max(messages, key=lambda one: (one.created_at, one.id)).content if messages else NOBODY


def _line(name: str, count: int, words: str) -> str:
    return f"{name} · {count} · {words}"


def _rendered(users: Sequence[User]) -> list[str]:
    return [_line(member.name, member.count, member.last_words) for member in map(Member, users)]


ALL = select(User).order_by(User.email)
CONVERSATIONS = selectinload(User.conversations)


def _loading(*options: Any) -> Page:
    async def page(session: AsyncSession) -> list[str]:
        users = (await session.scalars(ALL.options(*options))).all()
        return await session.run_sync(lambda _: _rendered(users))

    return page


async def _in_one_statement(session: AsyncSession) -> list[str]:
    last = (
        select(Message.content)
        .join(Message.conversation)
        .where(Conversation.user_id == User.id)
        .order_by(Message.created_at.desc(), Message.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    number = select(func.count()).where(Conversation.user_id == User.id).scalar_subquery()
    rows = await session.execute(select(User.name, number, last).order_by(User.email))
    return [_line(name, count, words or NOBODY) for name, count, words in rows]


async def _counting_each(session: AsyncSession) -> list[str]:
    users = (await session.scalars(ALL.options(CONVERSATIONS.selectinload(Conversation.messages)))).all()
    lines = []
    for user in users:
        count = await session.scalar(select(func.count()).where(Conversation.user_id == user.id))
        lines.append(_line(user.name, count or 0, Member(user).last_words))
    return lines


async def _other_sessions(session: AsyncSession) -> list[str]:
    ids = (await session.scalars(select(User.id).order_by(User.email))).all()
    lines: list[str] = []
    for id in ids:
        async with AsyncSession(session.bind) as other:
            one = select(User).where(User.id == id).options(CONVERSATIONS.selectinload(Conversation.messages))
            lines += _rendered((await other.scalars(one)).all())
    return lines


async def _ten_at_a_time(session: AsyncSession) -> list[str]:
    """Of those who have said something: the others need no more than their number of conversations."""
    said = exists().where(Message.conversation_id == Conversation.id, Conversation.user_id == User.id)
    number = select(func.count()).where(Conversation.user_id == User.id).scalar_subquery()
    rows = (await session.execute(select(User.id, User.name, number, said).order_by(User.email))).all()
    speaking = [row.id for row in rows if row[3]]
    tens = max(len(speaking) // 10, 1)  # as few as the statement allows
    lines: dict[UUID, str] = {}
    for place in range(tens):
        some = select(User).where(User.id.in_(speaking[place::tens]))
        joined = some.options(joinedload(User.conversations).joinedload(Conversation.messages))
        loaded = await session.scalars(joined.execution_options(populate_existing=True))
        lines |= {user.id: _rendered([user])[0] for user in loaded.unique()}
    return [lines.get(id) or _line(name, count, NOBODY) for id, name, count, _ in rows]


PAGES: dict[str, Page] = {
    "eager": _loading(CONVERSATIONS.selectinload(Conversation.messages)),
    "one statement": _in_one_statement,
    "property": _loading(),
    "messages": _loading(CONVERSATIONS),
    "count": _counting_each,
    "other session": _other_sessions,
    "tens": _ten_at_a_time,
}
"""By the name of the case."""


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def _others(_case: CaseHere, engine: AsyncEngine) -> AsyncIterator[None]:
    """Users who are there before the tests."""
    if count := _case.options.get("others", 0):
        async with engine.begin() as connection:
            await connection.execute(text(OTHERS), {"n": count})
    yield


@pytest.fixture
def members_page(_case: CaseHere, engine: AsyncEngine) -> Page:
    page = PAGES[_case.name]

    async def members_page(session: AsyncSession) -> list[str]:
        """One line for each user: the name, how many conversations, what was said last."""
        known = len(session.identity_map) if isinstance(session, AsyncSession) else 0
        with _counted(engine) as sent:
            lines = await page(session)
        speaking = sum(not line.endswith(NOBODY) for line in lines)
        _case.note(sent=len(sent), lines=len(lines), speaking=speaking, known=known)
        return lines

    return members_page


@contextmanager
def _counted(engine: AsyncEngine) -> Iterator[list[str]]:
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)
