"""Tests that use a learner's ``db`` fixture as tests do: they commit, fail, open two sessions, forget to close one.

pytest is given this file. What is left after each is seen by ``left_behind``.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from course_lib.judging.quoting import article
from course_lib.judging.testing.plugin import CaseHere
from course_lib.models import Conversation, Document, DocumentChunk, Job, Message, User
from course_lib.models.accounts import ApiKey
from course_lib.models.documents import DIMENSIONS

OPEN: list[AsyncSession] = []  # what a test has forgotten to close
LOCK = select(User.id).with_for_update(nowait=True)


def everything() -> list[Any]:
    """A row in every table."""
    messages = [Message(seq=1, role="user", content="Hello")]
    user = User(email="ada@example.org", name="Ada", conversations=[Conversation(title="One", messages=messages)])
    user.api_keys = [ApiKey(label="key", prefix="sk", key_hash=b"x" * 32)]
    document = Document(source="paper.md", title="Paper", user=user)
    vector = [1.0] + [0.0] * (DIMENSIONS - 1)
    document.chunks = [
        DocumentChunk(chunk_index=0, content="text", token_count=1, embedding=vector, embedding_model="one")
    ]
    return [user, document, Job(kind="ingest")]


async def users(session: AsyncSession, name: str) -> int:
    return await session.scalar(select(func.count()).where(User.name == name)) or 0


async def test_what_it_is(db: Any, _case: CaseHere) -> None:
    try:
        first, second = db(), db()
    except TypeError:
        _case.note(kind=article(db))
        raise
    _case.note(kind=article(first), same=first is second, session=isinstance(first, AsyncSession))
    await first.close()
    await second.close()


async def test_commits(db: Any, engine: AsyncEngine, _case: CaseHere) -> None:
    async with db() as session:
        session.add_all(everything())
        await session.commit()
        async with engine.connect() as other:
            _case.note(seen=await other.scalar(select(func.count()).where(User.name == "Ada")))


async def test_commits_again(db: Any) -> None:
    async with db() as session:
        session.add_all(everything())
        await session.commit()
        await session.rollback()
        session.add(User(email="bo@example.org", name="Bo"))
        await session.commit()


async def test_fails_after_its_commit(db: Any) -> None:
    async with db() as session:
        session.add_all(everything())
        await session.commit()
        pytest.fail("on purpose")


async def test_fails_at_the_database(db: Any) -> None:
    async with db() as session:
        session.add(User(email="cy@example.org", name="Cy"))
        await session.commit()
        session.add(User(email="cy@example.org", name="Cy"))
        await session.commit()


async def test_two_sessions(db: Any, _case: CaseHere) -> None:
    async with db() as first, db() as second:
        first.add(User(email="di@example.org", name="Di"))
        await first.execute(text("INSERT INTO jobs (kind) VALUES ('ingest')"))  # no object of a session's
        await first.flush()
        _case.note(early=await users(second, "Di"))
        await second.rollback()
        await first.commit()
        _case.note(late=await users(second, "Di"))
        await second.rollback()
        await first.execute(LOCK)
        try:
            await second.execute(LOCK)
        except DBAPIError:
            _case.note(locked=True)
        else:
            _case.note(locked=False)


async def test_leaves_a_session_open(db: Any) -> None:
    """Neither the first nor the last of those it has made."""
    async with db() as before:
        before.add(User(email="ed@example.org", name="Ed"))
        await before.commit()
    session = db()
    OPEN.append(session)
    await session.execute(LOCK)
    async with db() as after:
        await users(after, "Ed")


async def test_goes_on(db: Any) -> None:
    async with db() as session:
        session.add_all(everything())
        await session.commit()
