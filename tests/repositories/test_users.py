"""Users, their keys and their budget."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.models import ApiKey, User
from course_lib.repositories import EmailTaken, NotFound, UserRepository

NOBODY = UUID("019b8c00-0000-7000-8000-000000000000")


async def test_an_address_is_found_however_it_is_typed(session: AsyncSession, chidi: User) -> None:
    assert await UserRepository(session).by_email("  Chidi@Example.ORG ") is chidi


async def test_an_unknown_address_is_nobody(session: AsyncSession) -> None:
    assert await UserRepository(session).by_email("nobody@example.org") is None


async def test_registering_stores_the_address_in_lower_case(session: AsyncSession) -> None:
    assert (await UserRepository(session).register(" Ivo@Example.org", "Ivo Lindqvist")).email == "ivo@example.org"


async def test_a_taken_address_is_said_so_and_the_transaction_goes_on(session: AsyncSession) -> None:
    users = UserRepository(session)
    before = await users.register("ivo@example.org", "Ivo Lindqvist")
    with pytest.raises(EmailTaken, match=r"^ada@example[.]org already has an account$"):
        await users.register("ADA@example.org", "Another Ada")
    await session.commit()
    assert await users.by_email("ivo@example.org") is before


async def test_another_constraint_is_not_mistaken_for_a_taken_address(session: AsyncSession) -> None:
    with pytest.raises(IntegrityError) as caught:
        await UserRepository(session).register("no address", "Ivo Lindqvist")
    assert caught.value.driver_exception.constraint_name == "ck_users_email"


async def test_of_eight_who_register_one_address_at_once_one_gets_it(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    async def register() -> bool:
        async with sessions() as session, session.begin():
            try:
                await UserRepository(session).register("ivo@example.org", "Ivo Lindqvist")
            except EmailTaken:
                return False
            return True

    assert sorted(await asyncio.gather(*(register() for _ in range(8)))) == [False] * 7 + [True]


async def test_a_key_opens_and_is_stored_nowhere(session: AsyncSession, chidi: User) -> None:
    users = UserRepository(session)
    key = await users.issue_key(chidi.id, "laptop")
    assert await users.by_key(key) is chidi
    stored = await session.scalar(select(ApiKey).where(ApiKey.label == "laptop"))
    assert stored is not None
    assert stored.key_hash == sha256(key.encode()).digest()
    dump = await session.scalar(text("SELECT string_agg(k::text, ' ') FROM api_keys AS k"))
    assert stored.prefix in dump
    assert key not in dump


async def test_keys_differ_and_are_long(session: AsyncSession, chidi: User) -> None:
    keys = {await UserRepository(session).issue_key(chidi.id, "again") for _ in range(20)}
    assert len(keys) == 20
    assert min(map(len, keys)) >= 43  # 256 bits in base64


async def test_a_wrong_or_a_revoked_key_opens_nothing(session: AsyncSession, chidi: User) -> None:
    users = UserRepository(session)
    key = await users.issue_key(chidi.id, "laptop")
    assert await users.by_key(key + "x") is None
    await session.execute(update(ApiKey).where(ApiKey.label == "laptop").values(revoked_at=func.now()))
    assert await users.by_key(key) is None


async def test_using_a_key_is_noted(session: AsyncSession, chidi: User) -> None:
    users = UserRepository(session)
    key = await users.issue_key(chidi.id, "laptop")
    used = select(ApiKey.last_used_at).where(ApiKey.label == "laptop")
    assert await session.scalar(used) is None
    await users.by_key(key)
    assert await session.scalar(used) is not None


async def test_concurrent_spending_loses_nothing(sessions: async_sessionmaker[AsyncSession], chidi: User) -> None:
    async def spend() -> int:
        async with sessions() as session, session.begin():
            return await UserRepository(session).spend(chidi.id, 10)

    left = await asyncio.gather(*(spend() for _ in range(20)))
    before = chidi.token_limit - chidi.tokens_used
    assert sorted(left, reverse=True) == [before - 10 * n for n in range(1, 21)]


async def test_a_budget_cannot_be_overdrawn(session: AsyncSession, chidi: User) -> None:
    users = UserRepository(session)
    left = chidi.token_limit - chidi.tokens_used
    assert await users.spend(chidi.id, left) == 0
    with pytest.raises(IntegrityError) as caught:
        await users.spend(chidi.id, 1)
    assert caught.value.driver_exception.constraint_name == "ck_users_tokens"


async def test_nobody_cannot_spend(session: AsyncSession) -> None:
    with pytest.raises(NotFound):
        await UserRepository(session).spend(NOBODY, 1)
