"""Answers to 3.8, twenty at once."""

from __future__ import annotations

import asyncio
import random

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.models import Conversation, Message
from course_lib.repositories import ConversationRepository, NotFound
from tests.exercises.written import Answers

ANSWERS = Answers("3.8")
UNIQUE, FOREIGN_KEY = "23505", "23503"


def highest_in(conversation_id):
    return select(func.coalesce(func.max(Message.seq), 0)).where(Message.conversation_id == conversation_id)


def row_of(conversation_id):
    return select(Conversation.id).where(Conversation.id == conversation_id)


async def number_and_store(session, conversation_id, role, content):
    """Read the highest number, store the next: right only under some protection."""
    seq = await session.scalar(highest_in(conversation_id)) + 1
    session.add(Message(conversation_id=conversation_id, seq=seq, role=role, content=content))
    await session.flush()
    return seq


def storing(conversation_id, role, content):
    values = {"conversation_id": conversation_id, "role": role, "content": content}
    return insert(Message).values(seq=highest_in(conversation_id).scalar_subquery() + 1, **values)


@ANSWERS.right
async def conversation_locked(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        return await number_and_store(session, conversation_id, role, content)


@ANSWERS.right
async def conversation_touched(sessions, conversation_id, role, content):
    """The repository's way: an UPDATE locks the row too."""
    async with sessions.begin() as session:
        try:
            message = await ConversationRepository(session).add_message(conversation_id, role, content)
        except NotFound:
            return None
        return message.seq


@ANSWERS.right
async def no_key_update_and_raw_sql(sessions, conversation_id, role, content):
    async with sessions() as session:
        found = await session.execute(
            text("SELECT 1 FROM conversations WHERE id = :id FOR NO KEY UPDATE"), {"id": conversation_id}
        )
        if found.first() is None:
            return None
        sql = """
            INSERT INTO messages (conversation_id, seq, role, content)
            SELECT :id, coalesce(max(seq), 0) + 1, :role, :content FROM messages WHERE conversation_id = :id
            RETURNING seq
        """
        seq = await session.scalar(text(sql), {"id": conversation_id, "role": role, "content": content})
        await session.commit()
        return seq


@ANSWERS.right
async def tried_until_it_works(sessions, conversation_id, role, content):
    while True:
        try:
            async with sessions.begin() as session:
                return await session.scalar(storing(conversation_id, role, content).returning(Message.seq))
        except IntegrityError as error:
            if error.orig.sqlstate == FOREIGN_KEY:
                return None
            if error.orig.sqlstate != UNIQUE:
                raise


@ANSWERS.right
async def tried_twenty_times(sessions, conversation_id, role, content):
    for _ in range(20):
        async with sessions() as session:
            if await session.get(Conversation, conversation_id) is None:
                return None
            try:
                seq = await number_and_store(session, conversation_id, role, content)
                await session.commit()
                return seq
            except IntegrityError as error:
                if error.orig.sqlstate != UNIQUE:
                    raise
                await session.rollback()
    raise RuntimeError("too busy")


@ANSWERS.right
async def tried_with_pauses(sessions, conversation_id, role, content):
    for number in range(12):
        try:
            async with sessions.begin() as session:
                return await number_and_store(session, conversation_id, role, content)
        except IntegrityError as error:
            if error.orig.sqlstate == FOREIGN_KEY:
                return None
            if error.orig.sqlstate != UNIQUE:
                raise
        await asyncio.sleep(0.02 * 2**number * (1 + random.random() / 4))
    raise RuntimeError("too busy")


@ANSWERS.right
async def savepoints(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.get(Conversation, conversation_id) is None:
            return None
        while True:
            try:
                async with session.begin_nested():
                    return await number_and_store(session, conversation_id, role, content)
            except IntegrityError as error:
                if error.orig.sqlstate != UNIQUE:
                    raise


@ANSWERS.right
async def do_nothing_and_again(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id)) is None:
            return None
        seq = None
        while seq is None:
            values = {"conversation_id": conversation_id, "role": role, "content": content}
            statement = upsert(Message).values(seq=highest_in(conversation_id).scalar_subquery() + 1, **values)
            seq = await session.scalar(statement.on_conflict_do_nothing().returning(Message.seq))
        return seq


@ANSWERS.right
async def advisory_lock_of_the_conversation(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(conversation_id), 0))))
        if await session.scalar(row_of(conversation_id)) is None:
            return None
        return await number_and_store(session, conversation_id, role, content)


@ANSWERS.right
async def serializable_and_tried_again(sessions, conversation_id, role, content):
    while True:
        try:
            async with sessions() as session:
                await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                if await session.scalar(row_of(conversation_id)) is None:
                    return None
                seq = await number_and_store(session, conversation_id, role, content)
                await session.commit()
                return seq
        except DBAPIError as error:
            if error.orig.sqlstate not in ("40001", "40P01", UNIQUE):
                raise


@ANSWERS.right
async def nowait_and_again(sessions, conversation_id, role, content):
    while True:
        try:
            async with sessions.begin() as session:
                if await session.scalar(row_of(conversation_id).with_for_update(nowait=True)) is None:
                    return None
                return await number_and_store(session, conversation_id, role, content)
        except DBAPIError as error:
            if error.orig.sqlstate != "55P03":
                raise
        await asyncio.sleep(0.01)


@ANSWERS.wrong("nothing returned")
async def forgot_return(sessions, conversation_id, role, content):
    await conversation_locked(sessions, conversation_id, role, content)


@ANSWERS.wrong("not a number")
async def returns_the_message(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        return await session.scalar(storing(conversation_id, role, content).returning(Message))


@ANSWERS.wrong("not stored")
async def forgot_commit(sessions, conversation_id, role, content):
    async with sessions() as session:
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        return await number_and_store(session, conversation_id, role, content)


@ANSWERS.wrong("wrong values")
async def stripped(sessions, conversation_id, role, content):
    return await conversation_locked(sessions, conversation_id, role, content.replace("'", ""))


@ANSWERS.wrong("first message")
async def max_of_nothing(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        highest = await session.scalar(select(func.max(Message.seq)).where(Message.conversation_id == conversation_id))
        session.add(Message(conversation_id=conversation_id, seq=highest + 1, role=role, content=content))
        return highest + 1


@ANSWERS.wrong("wrong number")
async def highest_of_all_conversations(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        last = select(Message.seq).where(Message.conversation_id == conversation_id).limit(1)
        highest = await session.scalar(select(func.max(Message.seq))) if await session.scalar(last) else 0
        session.add(Message(conversation_id=conversation_id, seq=highest + 1, role=role, content=content))
        return highest + 1


@ANSWERS.wrong("counted rows")
async def counts(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        count = select(func.count()).select_from(Message).where(Message.conversation_id == conversation_id)
        seq = await session.scalar(count) + 1
        session.add(Message(conversation_id=conversation_id, seq=seq, role=role, content=content))
        return seq


@ANSWERS.wrong("counted rows")
async def fills_gaps(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        taken = set(await session.scalars(select(Message.seq).where(Message.conversation_id == conversation_id)))
        seq = next(number for number in range(1, len(taken) + 2) if number not in taken)
        session.add(Message(conversation_id=conversation_id, seq=seq, role=role, content=content))
        return seq


@ANSWERS.wrong("unknown conversation")
async def left_to_the_foreign_key(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        await session.execute(row_of(conversation_id).with_for_update())
        return await number_and_store(session, conversation_id, role, content)


@ANSWERS.wrong("others wait")
async def table_locked(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        await session.execute(text("LOCK TABLE messages IN EXCLUSIVE MODE"))
        if await session.scalar(row_of(conversation_id)) is None:
            return None
        return await number_and_store(session, conversation_id, role, content)


@ANSWERS.wrong("others wait")
async def one_advisory_lock_for_all(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        await session.execute(select(func.pg_advisory_xact_lock(38)))
        if await session.scalar(row_of(conversation_id)) is None:
            return None
        return await number_and_store(session, conversation_id, role, content)


LOCKS: dict[object, asyncio.Lock] = {}


@ANSWERS.wrong("locked in this process")
async def lock_of_python_for_each_conversation(sessions, conversation_id, role, content):
    loop = asyncio.get_running_loop()
    async with LOCKS.setdefault((loop, conversation_id), asyncio.Lock()), sessions.begin() as session:
        if await session.scalar(row_of(conversation_id)) is None:
            return None
        return await number_and_store(session, conversation_id, role, content)


@ANSWERS.wrong("collided")
async def highest_plus_one(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.get(Conversation, conversation_id) is None:
            return None
        return await number_and_store(session, conversation_id, role, content)


@ANSWERS.wrong("collided")
async def locked_after_reading(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        highest = await session.scalar(highest_in(conversation_id))
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        session.add(Message(conversation_id=conversation_id, seq=highest + 1, role=role, content=content))
        return highest + 1


@ANSWERS.wrong("collided")
async def last_message_locked(sessions, conversation_id, role, content):
    """The row that is locked stays; the one to come is new."""
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id)) is None:
            return None
        last = select(Message.seq).where(Message.conversation_id == conversation_id).order_by(Message.seq.desc())
        highest = await session.scalar(last.limit(1).with_for_update()) or 0
        session.add(Message(conversation_id=conversation_id, seq=highest + 1, role=role, content=content))
        return highest + 1


@ANSWERS.wrong("not tried again")
async def serializable_once(sessions, conversation_id, role, content):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        if await session.scalar(row_of(conversation_id)) is None:
            return None
        seq = await number_and_store(session, conversation_id, role, content)
        await session.commit()
        return seq


@ANSWERS.wrong("collided")
async def locked_under_an_old_snapshot(sessions, conversation_id, role, content):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        seq = await number_and_store(session, conversation_id, role, content)
        await session.commit()
        return seq


@ANSWERS.wrong("not tried again")
async def touched_under_an_old_snapshot(sessions, conversation_id, role, content):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        touched = update(Conversation).where(Conversation.id == conversation_id).values(updated_at=func.now())
        if await session.scalar(touched.returning(Conversation.id)) is None:
            return None
        seq = await number_and_store(session, conversation_id, role, content)
        await session.commit()
        return seq


async def tried(times, sessions, conversation_id, role, content):
    for last in [False] * (times - 1) + [True]:
        try:
            async with sessions.begin() as session:
                if await session.scalar(row_of(conversation_id)) is None:
                    return None
                return await number_and_store(session, conversation_id, role, content)
        except IntegrityError:
            if last:
                raise
    return None


@ANSWERS.wrong("gave up")
async def fifteen_tries(sessions, conversation_id, role, content):
    return await tried(15, sessions, conversation_id, role, content)


@ANSWERS.wrong("gave up")
async def an_error_of_its_own(sessions, conversation_id, role, content):
    try:
        return await tried(10, sessions, conversation_id, role, content)
    except IntegrityError:
        raise RuntimeError("too busy") from None


@ANSWERS.wrong("deadlock")
async def shared_lock_then_update(sessions, conversation_id, role, content):
    """Reading under a shared lock, two can hold it; then each wants to change the row and waits for the other."""
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id).with_for_update(read=True)) is None:
            return None
        seq = await session.scalar(highest_in(conversation_id)) + 1
        if seq > 1:
            session.add(Message(conversation_id=conversation_id, seq=seq, role=role, content=content))
            await session.flush()
        touched = update(Conversation).where(Conversation.id == conversation_id).values(updated_at=func.now())
        await session.execute(touched)
        if seq == 1:
            session.add(Message(conversation_id=conversation_id, seq=seq, role=role, content=content))
        return seq


@ANSWERS.wrong("no number")
async def collision_taken_for_nobody(sessions, conversation_id, role, content):
    try:
        async with sessions.begin() as session:
            return await session.scalar(storing(conversation_id, role, content).returning(Message.seq))
    except IntegrityError as error:
        if error.orig.sqlstate not in (UNIQUE, FOREIGN_KEY):
            raise
        return None


@ANSWERS.wrong("not consecutive")
async def guesses_after_a_collision(sessions, conversation_id, role, content):
    jump = 0
    while True:
        try:
            async with sessions.begin() as session:
                if await session.scalar(row_of(conversation_id)) is None:
                    return None
                seq = await session.scalar(highest_in(conversation_id)) + 1 + jump
                session.add(Message(conversation_id=conversation_id, seq=seq, role=role, content=content))
            return seq
        except IntegrityError as error:
            if error.orig.sqlstate != UNIQUE:
                raise
            jump += random.randrange(50, 500)


@ANSWERS.wrong("mixed up")
async def the_number_after_the_fact(sessions, conversation_id, role, content):
    """Numbers are handed out once each, but not to the messages they were stored with."""
    seq = await conversation_locked(sessions, conversation_id, role, content)
    if content.startswith(("0 of", "1 of")) and seq:
        async with sessions() as session:
            other = "1 of" if content.startswith("0 of") else "0 of"
            while True:
                mine = select(Message.seq).where(Message.conversation_id == conversation_id)
                found = await session.scalar(mine.where(Message.content.startswith(other)))
                await session.rollback()
                if found:
                    return found
                await asyncio.sleep(0.01)
    return seq


@ANSWERS.wrong("others wait")
async def one_of_sixteen_advisory_locks(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        await session.execute(select(func.pg_advisory_xact_lock(conversation_id.int % 16)))
        if await session.scalar(row_of(conversation_id)) is None:
            return None
        return await number_and_store(session, conversation_id, role, content)


@ANSWERS.wrong("not waited")
async def a_tenth_of_a_second(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        await session.execute(text("SET LOCAL lock_timeout = '100ms'"))
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        return await number_and_store(session, conversation_id, role, content)


@ANSWERS.wrong("error swallowed")
async def any_refusal_is_nobody(sessions, conversation_id, role, content):
    try:
        return await conversation_locked(sessions, conversation_id, role, content)
    except IntegrityError:
        return None


HIGHEST: dict[object, int] = {}


@ANSWERS.wrong("remembered")
async def counted_in_this_process(sessions, conversation_id, role, content):
    async with sessions.begin() as session:
        if await session.scalar(row_of(conversation_id).with_for_update()) is None:
            return None
        if conversation_id not in HIGHEST:
            HIGHEST[conversation_id] = await session.scalar(highest_in(conversation_id))
        seq = HIGHEST[conversation_id] + 1
        session.add(Message(conversation_id=conversation_id, seq=seq, role=role, content=content))
        await session.flush()
        HIGHEST[conversation_id] = seq
        return seq


@ANSWERS.wrong("tried for ever")
async def tries_whatever_was_refused(sessions, conversation_id, role, content):
    while True:
        try:
            return await conversation_locked(sessions, conversation_id, role, content)
        except IntegrityError:
            continue


@ANSWERS.wrong("another error")
async def whatever_was_refused(sessions, conversation_id, role, content):
    for _ in range(50):
        try:
            async with sessions.begin() as session:
                if await session.scalar(row_of(conversation_id)) is None:
                    return None
                return await number_and_store(session, conversation_id, role, content)
        except IntegrityError:
            continue
    raise RuntimeError("too many at once")
