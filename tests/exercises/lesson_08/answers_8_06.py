"""8.6: the same POST twice."""

import asyncio
import hashlib
import unicodedata
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Header, HTTPException, Request
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import Conversation, IdempotentRequest
from tests.exercises.written import Answers

ANSWERS = Answers("8.6")
PATH = "/users/{user_id}/conversations"
Title = Annotated[str, Body(embed=True)]
Key = Annotated[str | None, Header(alias="Idempotency-Key")]
Kept = IdempotentRequest


def routed(create, status=201):
    """A router from ``create(user_id, title, key)``."""
    router = APIRouter()

    @router.post(PATH, status_code=status)
    async def route(user_id: UUID, title: Title, key: Key = None):
        return await create(user_id, title, key)

    return router


def hashed(title):
    return hashlib.sha256(title.encode()).digest()


async def made(session, user_id, title):
    id = await session.scalar(insert(Conversation).values(user_id=user_id, title=title).returning(Conversation.id))
    return {"id": str(id), "title": title}


async def look(session, user_id, title, key, same=True):
    """The response that is kept for the key, if there is one."""
    kept = await session.get(Kept, (user_id, key), populate_existing=True) if key else None
    if kept and same and kept.request_hash != hashed(title):
        raise HTTPException(422)
    return kept and kept.response


async def claimed(session, user_id, title, key):
    row = {"user_id": user_id, "key": key, "request_hash": hashed(title), "claimed_until": func.now()}
    claim = upsert(Kept).values(**row).on_conflict_do_nothing()
    return await session.scalar(claim.returning(Kept.key)) is not None


async def keep(session, user_id, key, said):
    await session.execute(update(Kept).where(Kept.user_id == user_id, Kept.key == key).values(response=said))


@ANSWERS.right
def lets_the_key_refuse(sessions):
    async def create(user_id, title, key):
        try:
            async with sessions.begin() as session:
                if kept := await look(session, user_id, title, key):
                    return kept
                said = await made(session, user_id, title)
                if key:
                    row = Kept(user_id=user_id, key=key, request_hash=hashed(title), claimed_until=func.now())
                    row.response = said
                    session.add(row)
            return said
        except IntegrityError as error:
            if error.driver_exception.constraint_name != "pk_idempotent_requests":
                raise
        async with sessions() as session:
            return await look(session, user_id, title, key)

    return routed(create)


@ANSWERS.right
def under_a_lock_that_is_not_waited_for(sessions):
    async def create(user_id, title, key):
        lock = text("SELECT pg_try_advisory_xact_lock(hashtextextended(CAST(:key AS text), 8))")
        async with sessions.begin() as session:
            if key and not await session.scalar(lock, {"key": f"{user_id}{key}"}):
                raise HTTPException(409)
            if kept := await look(session, user_id, title, key):
                return kept
            if key and not await claimed(session, user_id, title, key):
                raise HTTPException(409)
            said = await made(session, user_id, title)
            await keep(session, user_id, key, said)
        return said

    return routed(create)


@ANSWERS.right
def under_a_lock_and_nothing_else(sessions):
    """Who has the lock looks, and writes the row at the end; others of its kind wait."""

    async def create(user_id, title, key):
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(CAST(:key AS text), 8))")
        async with sessions.begin() as session:
            if key:
                await session.execute(lock, {"key": f"{user_id}{key}"})
            if kept := await look(session, user_id, title, key):
                return kept
            said = await made(session, user_id, title)
            if key and await claimed(session, user_id, title, key):
                await keep(session, user_id, key, said)
            elif key:
                raise RuntimeError("somebody took no lock")
        return said

    return routed(create)


# wrong ones


def claims(remember=keep, same=True, key_of=lambda user_id, key: key):
    """An answer in one transaction that is right but for what is given."""

    def conversations(sessions):
        async def create(user_id, title, key):
            key = key_of(user_id, key)
            async with sessions.begin() as session:
                if key and not await claimed(session, user_id, title, key):
                    return await look(session, user_id, title, key, same)
                said = await made(session, user_id, title)
                if key:
                    await remember(session, user_id, key, said)
            return said

        return create

    return conversations


@ANSWERS.wrong("not created")
def answers_200(sessions):
    return routed(claims()(sessions), 200)


@ANSWERS.wrong("wrong answer")
def returns_the_id(sessions):
    create = claims()(sessions)

    async def shorter(user_id, title, key):
        return {"id": (await create(user_id, title, key))["id"]}

    return routed(shorter)


@ANSWERS.wrong("done again")
def keeps_and_does_not_look(sessions):
    async def create(user_id, title, key):
        async with sessions.begin() as session:
            kept = key and not await claimed(session, user_id, title, key)
            said = await made(session, user_id, title)
            if kept:
                return await look(session, user_id, title, key)
            await keep(session, user_id, key, said)
        return said

    return routed(create)


@ANSWERS.wrong("another answer")
def reads_the_conversation_again(sessions):
    create = claims()(sessions)

    async def anew(user_id, title, key):
        said = await create(user_id, title, key)
        async with sessions() as session:
            conversation = await session.get(Conversation, UUID(said["id"]))
        return {"id": said["id"], "title": conversation.title if conversation else title}

    return routed(anew)


@ANSWERS.wrong("not kept apart")
def takes_a_title_for_a_key(sessions):
    return routed(claims(key_of=lambda user_id, key: key or "none")(sessions))


@ANSWERS.wrong("another request")
def looks_at_the_key_alone(sessions):
    return routed(claims(same=False)(sessions))


@ANSWERS.wrong("another request")
def hashes_what_the_title_is_about(sessions):
    async def create(user_id, title, key):
        plain = unicodedata.normalize("NFKC", title).strip().casefold()
        async with sessions.begin() as session:
            if key and not await claimed(session, user_id, plain, key):
                return await look(session, user_id, plain, key)
            said = await made(session, user_id, title)
            if key:
                await keep(session, user_id, key, said)
        return said

    return routed(create)


@ANSWERS.wrong("at once")
def waits_in_the_process(sessions):
    turn = asyncio.Lock()

    async def create(user_id, title, key):
        async with turn, sessions.begin() as session:
            if kept := await look(session, user_id, title, key):
                return kept
            said = await made(session, user_id, title)
            if key and await claimed(session, user_id, title, key):
                await keep(session, user_id, key, said)
            elif key:
                raise RuntimeError("somebody has the key by now")
        return said

    return routed(create)


@ANSWERS.wrong("not written down")
def remembers_in_the_process(sessions):
    answers = {}

    async def create(user_id, title, key):
        if (user_id, key) not in answers or key is None:
            async with sessions.begin() as session:
                answers[user_id, key] = title, await made(session, user_id, title)
        before, said = answers[user_id, key]
        if before != title:
            raise HTTPException(422)
        return said

    return routed(create)


@ANSWERS.wrong("at once")
def looks_first(sessions):
    async def create(user_id, title, key):
        async with sessions.begin() as session:
            if kept := await look(session, user_id, title, key):
                return kept
            said = await made(session, user_id, title)
            if key:
                row = Kept(user_id=user_id, key=key, request_hash=hashed(title), claimed_until=func.now())
                row.response = said
                session.add(row)
        return said

    return routed(create)


@ANSWERS.wrong("stuck")
def commits_the_claim(sessions):
    async def create(user_id, title, key):
        async with sessions.begin() as session:
            mine = not key or await claimed(session, user_id, title, key)
        async with sessions.begin() as session:
            if not mine:
                kept = await look(session, user_id, title, key)
                if kept is None:
                    raise HTTPException(409)
                return kept
            said = await made(session, user_id, title)
            await keep(session, user_id, key, said)
        return said

    return routed(create)


@ANSWERS.wrong("told too early")
def commits_when_the_response_is_sent(sessions):
    async def transaction():
        async with sessions.begin() as session:
            yield session

    router = APIRouter()

    @router.post(PATH, status_code=201)
    async def route(
        user_id: UUID, title: Title, session: Annotated[AsyncSession, Depends(transaction)], key: Key = None
    ):
        if key and not await claimed(session, user_id, title, key):
            return await look(session, user_id, title, key)
        said = await made(session, user_id, title)
        if key:
            await keep(session, user_id, key, said)
        return said

    return router


@ANSWERS.wrong("half done")
def keeps_the_response_afterwards(sessions):
    async def create(user_id, title, key):
        async with sessions.begin() as session:
            mine = not key or await claimed(session, user_id, title, key)
            if not mine and (kept := await look(session, user_id, title, key)):
                return kept
        if not mine:
            raise HTTPException(409)
        try:
            async with sessions.begin() as session:
                said = await made(session, user_id, title)
        except IntegrityError:
            async with sessions.begin() as session:
                await session.execute(delete(Kept).where(Kept.user_id == user_id, Kept.key == key))
            raise
        async with sessions.begin() as session:
            await keep(session, user_id, key, said)
        return said

    return routed(create)


@ANSWERS.wrong("another answer")
def hashes_the_bytes(sessions):
    create = claims()(sessions)
    router = APIRouter()

    @router.post(PATH, status_code=201)
    async def route(user_id: UUID, request: Request, title: Title, key: Key = None):
        async with sessions() as session:
            before = await session.scalar(select(Kept.response["body"].astext).filter_by(user_id=user_id, key=key))
        if before and before != (await request.body()).decode():
            raise HTTPException(422)
        said = await create(user_id, title, key)
        if key and not before:
            async with sessions.begin() as session:
                await keep(session, user_id, key, {**said, "body": (await request.body()).decode()})
        return {"id": said["id"], "title": said["title"]}

    return router


@ANSWERS.wrong("another answer")
def keeps_it_for_everybody(sessions):
    async def create(user_id, title, key):
        async with sessions.begin() as session:
            if key and not await claimed(session, user_id, title, key):
                return await look(session, user_id, title, key)
            said = await made(session, user_id, title)
            if key:
                await session.execute(update(Kept).where(Kept.key == key).values(response=said))
        return said

    return routed(create)


@ANSWERS.wrong("swallowed")
def takes_every_error_for_a_conflict(sessions):
    create_once = under_a_lock_and_nothing_else(sessions).routes[0].endpoint

    async def create(user_id, title, key):
        try:
            async with sessions.begin() as session:
                await look(session, user_id, title, key)
        except DBAPIError:
            raise HTTPException(409) from None
        return await create_once(user_id, title, key)

    return routed(create)


@ANSWERS.wrong("not kept apart")
def one_at_a_time_without_a_key_too(sessions):
    create_once = under_a_lock_that_is_not_waited_for(sessions).routes[0].endpoint

    async def create(user_id, title, key):
        lock = text("SELECT pg_try_advisory_xact_lock(hashtextextended(CAST(:key AS text), 9))")
        async with sessions.begin() as session:
            if not await session.scalar(lock, {"key": f"{user_id}{key}"}):
                raise HTTPException(409)
            return await create_once(user_id, title, key)

    return routed(create)


@ANSWERS.wrong("another answer")
def keeps_it_for_all_keys(sessions):
    async def create(user_id, title, key):
        async with sessions.begin() as session:
            if key and not await claimed(session, user_id, title, key):
                return await look(session, user_id, title, key)
            said = await made(session, user_id, title)
            if key:
                await session.execute(update(Kept).where(Kept.user_id == user_id).values(response=said))
        return said

    return routed(create)
