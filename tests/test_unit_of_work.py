"""A unit of work: one transaction over several repositories, stored whole or not at all."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.pool import QueuePool

from course_lib.db import make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog
from course_lib.models import Conversation, User
from course_lib.unit_of_work import UnitOfWork

EMAIL = "pia@example.org"

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return make_session_factory(engine)


@pytest.fixture
def work(sessions: Sessions) -> UnitOfWork:
    return UnitOfWork(sessions)


async def stored(sessions: Sessions) -> tuple[int, int]:
    """How many users have the address, and how many conversations they have, as another session sees it."""
    users = select(func.count()).select_from(User).where(User.email == EMAIL)
    conversations = select(func.count()).select_from(Conversation).join(User).where(User.email == EMAIL)
    async with sessions() as session:
        return (await session.scalar(users) or 0), (await session.scalar(conversations) or 0)


async def sign_up(work: UnitOfWork, title: str | None = "Which oven?") -> User:
    user = await work.users.register(EMAIL, "Pia Holm")
    await work.conversations.create(user.id, title)  # type: ignore[arg-type]
    return user


def lent(engine: AsyncEngine) -> int:
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.checkedout()


async def test_a_commit_stores_what_both_repositories_did(work: UnitOfWork, sessions: Sessions) -> None:
    async with work:
        await sign_up(work)
        await work.commit()
    assert await stored(sessions) == (1, 1)


async def test_leaving_without_commit_stores_nothing_and_raises_nothing(work: UnitOfWork, sessions: Sessions) -> None:
    async with work:
        await sign_up(work)
    assert await stored(sessions) == (0, 0)


async def test_what_fails_later_takes_along_what_succeeded_before(work: UnitOfWork, sessions: Sessions) -> None:
    with pytest.raises(IntegrityError):
        async with work:
            await sign_up(work, title=None)
            await work.commit()
    assert await stored(sessions) == (0, 0)


async def test_a_cancelled_task_stores_nothing_and_returns_its_connection(
    engine: AsyncEngine, work: UnitOfWork, sessions: Sessions
) -> None:
    signed_up = asyncio.Event()

    async def stand_still() -> None:
        async with work:
            await sign_up(work)
            signed_up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stand_still())
    await signed_up.wait()
    assert lent(engine) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lent(engine) == 0
    assert await stored(sessions) == (0, 0)


async def test_a_rollback_undoes_and_the_block_goes_on(work: UnitOfWork, sessions: Sessions) -> None:
    async with work:
        await sign_up(work)
        await work.rollback()
        await work.users.register(EMAIL, "Pia Holm")
        await work.commit()
    assert await stored(sessions) == (1, 0)


async def test_after_a_commit_another_transaction_can_follow(work: UnitOfWork, sessions: Sessions) -> None:
    async with work:
        await sign_up(work)
        await work.commit()
        user = await work.users.by_email(EMAIL)
        assert user is not None
        await work.conversations.create(user.id, "Never committed")
    assert await stored(sessions) == (1, 1)


async def test_the_transaction_begins_with_the_first_statement(engine: AsyncEngine, work: UnitOfWork) -> None:
    with QueryLog(engine) as log:
        async with work:
            assert lent(engine) == 0
            await work.users.by_email(EMAIL)
            assert lent(engine) == 1
            assert [entry.sql.split()[0] for entry in log.entries] == ["BEGIN", "SELECT"]
            await work.commit()
            assert lent(engine) == 0
    assert [entry.sql.split()[0] for entry in log.entries] == ["BEGIN", "SELECT", "COMMIT"]


async def test_a_block_without_statements_sends_nothing(engine: AsyncEngine, work: UnitOfWork) -> None:
    with QueryLog(engine) as log:
        async with work:
            await work.commit()
    assert log.entries == []


async def test_all_repositories_share_the_session(work: UnitOfWork) -> None:
    async with work:
        shared = {work.users.session, work.conversations.session, work.documents.session, work.session}
        assert len(shared) == 1


async def test_objects_are_readable_after_the_commit_and_after_the_block(work: UnitOfWork) -> None:
    async with work:
        user = await sign_up(work)
        await work.commit()
        assert user.email == EMAIL
    assert user.tier == "free"


async def test_entering_it_while_it_is_open_is_refused_and_disturbs_nothing(
    work: UnitOfWork, sessions: Sessions
) -> None:
    async with work:
        await sign_up(work)
        with pytest.raises(CourseError, match="open already"):
            async with work:
                pass
        await work.commit()
    assert await stored(sessions) == (1, 1)


async def test_it_can_be_entered_again_once_it_was_left(work: UnitOfWork, sessions: Sessions) -> None:
    async with work:
        first = work.session
        await work.users.register(EMAIL, "Pia Holm")
    async with work:
        assert work.session is not first
        assert await work.users.by_email(EMAIL) is None
        await sign_up(work)
        await work.commit()
    assert await stored(sessions) == (1, 1)


@pytest.mark.parametrize("name", ["session", "users", "conversations", "documents"])
async def test_it_says_so_when_it_is_used_while_not_open(work: UnitOfWork, name: str) -> None:
    async with work:
        pass
    with pytest.raises(CourseError, match="not open"):
        getattr(work, name)


async def test_a_repository_kept_beyond_the_block_begins_nothing(engine: AsyncEngine, work: UnitOfWork) -> None:
    async with work:
        users = work.users
        await users.by_email(EMAIL)
    with pytest.raises(InvalidRequestError, match="permanently closed"):
        await users.by_email(EMAIL)
    assert lent(engine) == 0
