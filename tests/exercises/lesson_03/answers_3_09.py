"""Answers to 3.9, post once."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.exercises.lesson_03.idempotency import KeyReused, idempotency_keys
from course_lib.models import Message, User
from course_lib.repositories import ConversationRepository
from tests.exercises.written import Answers

ANSWERS = Answers("3.9")
Keys = idempotency_keys.c


def digest(conversation_id, content):
    return sha256(f"{conversation_id} {content}".encode()).digest()


def row_of(user_id, key):
    return select(idempotency_keys).where(Keys.user_id == user_id, Keys.key == key)


async def post(session, conversation_id, content):
    return (await ConversationRepository(session).add_message(conversation_id, "user", content)).seq


async def take(session, user_id, key, hashed):
    """True if the key was new."""
    values = {"user_id": user_id, "key": key, "request_hash": hashed}
    statement = upsert(idempotency_keys).values(values).on_conflict_do_nothing().returning(Keys.key)
    return await session.scalar(statement) is not None


async def answer_of(session, user_id, key, hashed):
    row = (await session.execute(row_of(user_id, key))).one()
    if row.request_hash != hashed:
        raise KeyReused(key)
    return row.response["seq"]


async def keep(session, user_id, key, seq):
    mine = update(idempotency_keys).where(Keys.user_id == user_id, Keys.key == key)
    await session.execute(mine.values(response={"seq": seq}))


@ANSWERS.right
async def do_nothing(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions.begin() as session:
        if not await take(session, user_id, key, hashed):
            return await answer_of(session, user_id, key, hashed)
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        return seq


@ANSWERS.right
async def refused_then_read(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions() as session:
        try:
            values = {"user_id": user_id, "key": key, "request_hash": hashed}
            await session.execute(insert(idempotency_keys).values(values))
        except IntegrityError:
            await session.rollback()
            return await answer_of(session, user_id, key, hashed)
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        await session.commit()
        return seq


@ANSWERS.right
async def message_first_key_last(sessions, user_id, key, conversation_id, content):
    """If the key turns out to be taken, the message is rolled back with it."""
    hashed = digest(conversation_id, content)
    try:
        async with sessions.begin() as session:
            seq = await post(session, conversation_id, content)
            values = {"user_id": user_id, "key": key, "request_hash": hashed, "response": {"seq": seq}}
            await session.execute(insert(idempotency_keys).values(values))
            return seq
    except IntegrityError:
        async with sessions() as session:
            if (await session.execute(row_of(user_id, key))).first() is None:
                raise
            return await answer_of(session, user_id, key, hashed)


@ANSWERS.right
async def advisory_lock(sessions, user_id, key, conversation_id, content):
    async with sessions.begin() as session:
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{user_id}/{key}", 0))))
        row = (await session.execute(row_of(user_id, key))).one_or_none()
        if row is not None:
            if row.response["content"] != content or row.response["to"] != str(conversation_id):
                raise KeyReused(key)
            return row.response["seq"]
        seq = await post(session, conversation_id, content)
        response = {"seq": seq, "content": content, "to": str(conversation_id)}
        values = {"user_id": user_id, "key": key, "request_hash": b"", "response": response}
        await session.execute(insert(idempotency_keys).values(values))
        return seq


@ANSWERS.right
async def user_locked_and_raw_sql(sessions, user_id, key, conversation_id, content):
    mine = {"user_id": user_id, "key": key}
    hashed = digest(conversation_id, content)
    async with sessions.begin() as session:
        await session.get(User, user_id, with_for_update=True)
        found = await session.execute(
            text("SELECT request_hash, response FROM idempotency_keys WHERE user_id = :user_id AND key = :key"), mine
        )
        row = found.first()
        if row:
            if row.request_hash != hashed:
                raise KeyReused(key)
            return int(row.response) if not isinstance(row.response, str) else json.loads(row.response)
        seq = await post(session, conversation_id, content)
        sql = "INSERT INTO idempotency_keys VALUES (:user_id, :key, :hash, to_jsonb(CAST(:seq AS int)))"
        await session.execute(text(sql), {**mine, "hash": hashed, "seq": seq})
        return seq


@ANSWERS.right
async def upsert_that_locks(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions.begin() as session:
        statement = upsert(idempotency_keys).values(user_id=user_id, key=key, request_hash=hashed)
        statement = statement.on_conflict_do_update(
            index_elements=["user_id", "key"], set_={"key": statement.excluded.key}
        )
        row = (await session.execute(statement.returning(Keys.request_hash, Keys.response))).one()
        if row.request_hash != hashed:
            raise KeyReused(key)
        if row.response is None:
            seq = await post(session, conversation_id, content)
            await keep(session, user_id, key, seq)
            return seq
        return row.response["seq"]


@ANSWERS.right
async def serializable_and_tried_again(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    while True:
        try:
            async with sessions() as session:
                await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                if (await session.execute(row_of(user_id, key))).first():
                    return await answer_of(session, user_id, key, hashed)
                seq = await post(session, conversation_id, content)
                values = {"user_id": user_id, "key": key, "request_hash": hashed, "response": {"seq": seq}}
                await session.execute(insert(idempotency_keys).values(values))
                await session.commit()
                return seq
        except DBAPIError as error:
            if error.orig.sqlstate not in ("40001", "40P01"):
                raise


@ANSWERS.right
async def kept_with_the_message(sessions, user_id, key, conversation_id, content):
    """Without the table: the key stays in the message's meta, and the user's row is the lock."""
    async with sessions.begin() as session:
        await session.execute(select(User.id).where(User.id == user_id).with_for_update())
        mine = {"key": key, "user": str(user_id)}
        known = await session.scalar(select(Message).where(Message.meta.contains(mine)))
        if known is None:
            return (await ConversationRepository(session).add_message(conversation_id, "user", content, meta=mine)).seq
        if known.content != content or known.conversation_id != conversation_id:
            raise KeyReused(key)
        return known.seq


@ANSWERS.right
async def looked_up_in_a_transaction_before(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions() as session:
        known = (await session.execute(row_of(user_id, key))).first()
        await session.commit()
        if known:
            return await answer_of(session, user_id, key, hashed)
    return await do_nothing(sessions, user_id, key, conversation_id, content)


@ANSWERS.wrong("nothing returned")
async def forgot_return(sessions, *request):
    await do_nothing(sessions, *request)


@ANSWERS.wrong("not a number")
async def returns_json(sessions, *request):
    return {"seq": await do_nothing(sessions, *request)}


@ANSWERS.wrong("not stored")
async def forgot_commit(sessions, user_id, key, conversation_id, content):
    async with sessions() as session:
        await take(session, user_id, key, digest(conversation_id, content))
        return await post(session, conversation_id, content)


@ANSWERS.wrong("wrong message")
async def said_by_the_assistant(sessions, user_id, key, conversation_id, content):
    async with sessions.begin() as session:
        return (await ConversationRepository(session).add_message(conversation_id, "assistant", content)).seq


@ANSWERS.wrong("stored again")
async def only_posts(sessions, user_id, key, conversation_id, content):
    async with sessions.begin() as session:
        return await post(session, conversation_id, content)


@ANSWERS.wrong("replay failed")
async def only_inserts(sessions, user_id, key, conversation_id, content):
    async with sessions.begin() as session:
        values = {"user_id": user_id, "key": key, "request_hash": digest(conversation_id, content)}
        await session.execute(insert(idempotency_keys).values(values))
        return await post(session, conversation_id, content)


@ANSWERS.wrong("another answer")
async def the_highest_number(sessions, user_id, key, conversation_id, content):
    async with sessions.begin() as session:
        if not await take(session, user_id, key, digest(conversation_id, content)):
            return await session.scalar(select(func.max(Message.seq)).where(Message.conversation_id == conversation_id))
        return await post(session, conversation_id, content)


@ANSWERS.wrong("another answer")
async def json_comes_back_as_text(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions.begin() as session:
        if not await take(session, user_id, key, hashed):
            return (await session.execute(row_of(user_id, key))).one().response
        seq = await post(session, conversation_id, content)
        mine = update(idempotency_keys).where(Keys.user_id == user_id, Keys.key == key)
        await session.execute(mine.values(response=json.dumps(seq)))
        return seq


@ANSWERS.wrong("merged")
async def known_by_its_content(sessions, user_id, key, conversation_id, content):
    async with sessions.begin() as session:
        await session.get(User, user_id, with_for_update=True)
        same = select(Message.seq).where(Message.conversation_id == conversation_id, Message.content == content)
        return await session.scalar(same) or await post(session, conversation_id, content)


@ANSWERS.wrong("conflict unnoticed")
async def compares_nothing(sessions, user_id, key, conversation_id, content):
    async with sessions.begin() as session:
        if not await take(session, user_id, key, b""):
            return (await session.execute(row_of(user_id, key))).one().response["seq"]
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        return seq


@ANSWERS.wrong("conflict unnoticed")
async def compares_only_what_it_looked_up(sessions, user_id, key, conversation_id, content):
    """The second of two at once takes the other way, on which nothing is compared."""
    hashed = digest(conversation_id, content)
    async with sessions() as session:
        if (await session.execute(row_of(user_id, key))).first():
            return await answer_of(session, user_id, key, hashed)
        if not await take(session, user_id, key, hashed):
            return (await session.execute(row_of(user_id, key))).one().response["seq"]
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        await session.commit()
        return seq


@ANSWERS.wrong("conflict stored")
async def other_content_is_another_request(sessions, user_id, key, conversation_id, content):
    return await do_nothing(sessions, user_id, f"{key} {content}", conversation_id, content)


@ANSWERS.wrong("conflict stored")
async def raises_after_the_commit(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions() as session:
        await session.get(User, user_id, with_for_update=True)
        row = (await session.execute(row_of(user_id, key))).first()
        if row and row.request_hash == hashed:
            return row.response["seq"]
        seq = await post(session, conversation_id, content)
        if row is None:
            await take(session, user_id, key, hashed)
            await keep(session, user_id, key, seq)
        await session.commit()
        if row:
            raise KeyReused(key)
        return seq


@ANSWERS.wrong("another error")
async def value_error(sessions, *request):
    try:
        return await do_nothing(sessions, *request)
    except KeyReused:
        raise ValueError("this key was used before") from None


@ANSWERS.wrong("users mixed")
async def key_without_user(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions.begin() as session:
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(key))))
        row = (await session.execute(select(idempotency_keys).where(Keys.key == key))).first()
        if row:
            if row.request_hash != hashed:
                raise KeyReused(key)
            return row.response["seq"]
        await take(session, user_id, key, hashed)
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        return seq


@ANSWERS.wrong("error swallowed")
async def none_when_refused(sessions, *request):
    try:
        return await do_nothing(sessions, *request)
    except IntegrityError:
        return None


@ANSWERS.wrong("key burned")
async def key_committed_first(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions() as session:
        new = await take(session, user_id, key, hashed)
        await session.commit()
        if not new:
            return await answer_of(session, user_id, key, hashed)
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        await session.commit()
        return seq


@ANSWERS.wrong("killed half-way")
async def key_in_a_transaction_of_its_own(sessions, user_id, key, conversation_id, content):
    """The message is committed before the key."""
    hashed = digest(conversation_id, content)
    async with sessions() as session:
        await session.execute(select(func.pg_advisory_lock(func.hashtext(f"{user_id}{key}"))))
        try:
            if (await session.execute(row_of(user_id, key))).first():
                return await answer_of(session, user_id, key, hashed)
            seq = await post(session, conversation_id, content)
            await session.commit()
            await take(session, user_id, key, hashed)
            await keep(session, user_id, key, seq)
            await session.commit()
            return seq
        finally:
            await session.rollback()
            await session.execute(select(func.pg_advisory_unlock_all()))


@ANSWERS.wrong("failed at once")
async def look_then_insert(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions.begin() as session:
        if (await session.execute(row_of(user_id, key))).first():
            return await answer_of(session, user_id, key, hashed)
        seq = await post(session, conversation_id, content)
        values = {"user_id": user_id, "key": key, "request_hash": hashed, "response": {"seq": seq}}
        await session.execute(insert(idempotency_keys).values(values))
        return seq


@ANSWERS.wrong("stored twice")
async def look_then_upsert(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions.begin() as session:
        if (await session.execute(row_of(user_id, key))).first():
            return await answer_of(session, user_id, key, hashed)
        seq = await post(session, conversation_id, content)
        await take(session, user_id, key, hashed)
        await keep(session, user_id, key, seq)
        return seq


ANSWERED: dict[object, object] = {}


@ANSWERS.wrong("told differently")
async def answered_before_it_is_there(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions() as session:
        row = (await session.execute(row_of(user_id, key))).first()
        if row and row.response:
            return await answer_of(session, user_id, key, hashed)
        if row and row.request_hash != hashed:
            raise KeyReused(key)
        if row or not await take(session, user_id, key, hashed):
            return 0
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        await session.commit()
        return seq


@ANSWERS.wrong("not tried again")
async def serializable_once(sessions, user_id, key, conversation_id, content):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        seq = await do_nothing_in(session, user_id, key, conversation_id, content)
        await session.commit()
        return seq


async def do_nothing_in(session, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    if not await take(session, user_id, key, hashed):
        return await answer_of(session, user_id, key, hashed)
    seq = await post(session, conversation_id, content)
    await keep(session, user_id, key, seq)
    return seq


@ANSWERS.wrong("deadlock")
async def shared_lock_first(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions.begin() as session:
        await session.get(User, user_id, with_for_update={"read": True})
        if (await session.execute(row_of(user_id, key))).first():
            return await answer_of(session, user_id, key, hashed)
        await session.execute(update(User).where(User.id == user_id).values(updated_at=func.now()))
        return await do_nothing_in(session, user_id, key, conversation_id, content)


LOCKS: dict[object, asyncio.Lock] = {}


@ANSWERS.wrong("locked in this process")
async def lock_of_python(sessions, *request):
    async with LOCKS.setdefault((asyncio.get_running_loop(), *request[:2]), asyncio.Lock()):
        return await look_then_insert(sessions, *request)


@ANSWERS.wrong("another process")
async def the_hash_of_this_process(sessions, user_id, key, conversation_id, content):
    hashed = hash((str(conversation_id), content)).to_bytes(8, "big", signed=True)
    async with sessions.begin() as session:
        if not await take(session, user_id, key, hashed):
            return await answer_of(session, user_id, key, hashed)
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        return seq


@ANSWERS.wrong("keys mixed")
async def keys_in_small_letters(sessions, user_id, key, conversation_id, content):
    return await do_nothing(sessions, user_id, key.lower(), conversation_id, content)


@ANSWERS.wrong("conflict unnoticed")
async def the_first_thousand_characters(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content[:1000])
    async with sessions.begin() as session:
        if not await take(session, user_id, key, hashed):
            return await answer_of(session, user_id, key, hashed)
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        return seq


@ANSWERS.wrong("another refusal")
async def any_refusal_is_a_known_key(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions() as session:
        try:
            seq = await post(session, conversation_id, content)
            row = {"user_id": user_id, "key": key, "request_hash": hashed, "response": {"seq": seq}}
            await session.execute(insert(idempotency_keys).values(row))
            await session.commit()
            return seq
        except IntegrityError:
            await session.rollback()
        return await answer_of(session, user_id, key, hashed)


@ANSWERS.wrong("another answer")
async def found_by_its_words(sessions, user_id, key, conversation_id, content):
    hashed = digest(conversation_id, content)
    async with sessions.begin() as session:
        if await take(session, user_id, key, hashed):
            return await post(session, conversation_id, content)
        if (await session.execute(row_of(user_id, key))).one().request_hash != hashed:
            raise KeyReused(key)
        said = select(func.min(Message.seq)).where(Message.conversation_id == conversation_id)
        return await session.scalar(said.where(Message.content == content))


@ANSWERS.wrong("conflict unnoticed")
async def letters_of_ascii_only(sessions, user_id, key, conversation_id, content):
    hashed = sha256(f"{conversation_id} {content}".encode("ascii", "ignore")).digest()
    async with sessions.begin() as session:
        if not await take(session, user_id, key, hashed):
            return await answer_of(session, user_id, key, hashed)
        seq = await post(session, conversation_id, content)
        await keep(session, user_id, key, seq)
        return seq
