"""8.3: who is asking."""

import hmac
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import func, or_, select, text, update
from sqlalchemy.exc import DBAPIError

from course_lib.models import ApiKey, User
from course_lib.repositories.users import hash_key
from tests.exercises.written import Answers

ANSWERS = Answers("8.3")
VALID = or_(ApiKey.revoked_at.is_(None), ApiKey.revoked_at > func.now())
CHALLENGE = {"WWW-Authenticate": "Bearer"}


def key_in(request):
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise HTTPException(401, "no valid key", CHALLENGE)
    return key


def asking(find):
    """A dependency from ``find(key)``, which returns an id or None."""

    async def who(request: Request):
        found = await find(key_in(request))
        if found is None:
            raise HTTPException(401, "no valid key", CHALLENGE)
        return found

    return Depends(who)


@ANSWERS.right
def by_the_frameworks_own_bearer(sessions):
    async def who(given: Annotated[HTTPAuthorizationCredentials, Security(HTTPBearer())]):
        found = select(ApiKey.user_id, VALID.label("valid")).where(ApiKey.key_hash == hash_key(given.credentials))
        async with sessions() as session:
            row = (await session.execute(found)).first()
        if row is None or not row.valid:
            raise HTTPException(401, "no valid key", CHALLENGE)
        return row.user_id

    return Depends(who)


@ANSWERS.right
def notes_the_use_where_that_is_due_and_free(sessions):
    statement = text("""
        WITH known AS (
            SELECT id, user_id FROM api_keys
            WHERE key_hash = :hash AND (revoked_at > now()) IS NOT FALSE
        ), free AS (
            SELECT id FROM api_keys JOIN known USING (id)
            WHERE (last_used_at > now() - interval '1 minute') IS NOT TRUE FOR NO KEY UPDATE OF api_keys SKIP LOCKED
        ), noted AS (
            UPDATE api_keys SET last_used_at = now() FROM free WHERE api_keys.id = free.id
        )
        SELECT user_id FROM known
    """)

    async def find(key):
        async with sessions.begin() as session:
            return await session.scalar(statement, {"hash": hash_key(key)})

    return asking(find)


# wrong ones


@ANSWERS.wrong("no dependency")
def returns_a_function(sessions):
    return asking(None).dependency


@ANSWERS.wrong("not let in")
def takes_any_time_of_revoking_for_the_past(sessions):
    async def find(key):
        whose = select(ApiKey.user_id).where(ApiKey.key_hash == hash_key(key), ApiKey.revoked_at.is_(None))
        async with sessions() as session:
            return await session.scalar(whose)

    return asking(find)


@ANSWERS.wrong("somebody else")
def returns_the_keys_id(sessions):
    async def find(key):
        async with sessions() as session:
            return await session.scalar(select(ApiKey.id).where(ApiKey.key_hash == hash_key(key), VALID))

    return asking(find)


@ANSWERS.wrong("let in")
def remembers_who_it_was(sessions):
    known = {}

    async def find(key):
        if key not in known:
            async with sessions() as session:
                whose = select(ApiKey.user_id).where(ApiKey.key_hash == hash_key(key), VALID)
                known[key] = await session.scalar(whose)
        return known[key]

    return asking(find)


@ANSWERS.wrong("not a 401")
def needs_the_header(sessions):
    async def who(request: Request):
        key = request.headers["authorization"].removeprefix("Bearer ").removeprefix("bearer ")
        async with sessions() as session:
            found = await session.scalar(select(ApiKey.user_id).where(ApiKey.key_hash == hash_key(key), VALID))
        if found is None:
            raise HTTPException(401, "no valid key", CHALLENGE)
        return found

    return Depends(who)


@ANSWERS.wrong("told apart")
def says_what_is_wrong_with_the_key(sessions):
    async def find(key):
        async with sessions() as session:
            found = select(ApiKey.user_id, VALID.label("valid")).where(ApiKey.key_hash == hash_key(key))
            row = (await session.execute(found)).first()
        if row is not None and not row.valid:
            raise HTTPException(401, "this key was revoked", CHALLENGE)
        return row and row.user_id

    return asking(find)


@ANSWERS.wrong("too many statements")
def loads_the_user_too(sessions):
    async def find(key):
        async with sessions() as session:
            known = await session.scalar(select(ApiKey).where(ApiKey.key_hash == hash_key(key), VALID))
            user = known and await session.get(User, known.user_id)
        return user and user.id

    return asking(find)


@ANSWERS.wrong("too many rows")
def compares_those_with_the_same_prefix(sessions):
    async def find(key):
        async with sessions() as session:
            near = await session.execute(select(ApiKey.key_hash, ApiKey.user_id).where(ApiKey.prefix == key[:8], VALID))
            rows = near.all()
        return next((row.user_id for row in rows if hmac.compare_digest(row.key_hash, hash_key(key))), None)

    return asking(find)


@ANSWERS.wrong("connection held")
def asks_in_the_session_of_the_request(sessions):
    async def session():
        async with sessions() as session:
            yield session

    async def who(request: Request, session: Annotated[object, Depends(session)]):
        found = select(ApiKey.user_id).where(ApiKey.key_hash == hash_key(key_in(request)), VALID)
        user_id = await session.scalar(found)
        if user_id is None:
            raise HTTPException(401, "no valid key", CHALLENGE)
        return user_id

    return Depends(who)


@ANSWERS.wrong("waits")
def notes_every_use(sessions):
    async def find(key):
        note = update(ApiKey).where(ApiKey.key_hash == hash_key(key), VALID).values(last_used_at=func.now())
        async with sessions.begin() as session:
            return await session.scalar(note.returning(ApiKey.user_id))

    return asking(find)


@ANSWERS.wrong("swallowed")
def takes_every_error_for_a_key_that_is_nobodys(sessions):
    async def find(key):
        try:
            async with sessions() as session:
                return await session.scalar(select(ApiKey.user_id).where(ApiKey.key_hash == hash_key(key), VALID))
        except DBAPIError:
            return None

    return asking(find)
