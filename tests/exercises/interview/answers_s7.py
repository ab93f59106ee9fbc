"""Answers to S7, twice after the fail-over."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.models import Conversation, Message
from tests.exercises.written import Answers

ANSWERS = Answers("S7")
XID = text("SELECT CAST(pg_current_xact_id() AS text)")
STATUS = text("SELECT pg_xact_status(CAST(CAST(:xid AS text) AS xid8))")


async def next_number(session, conversation_id):
    await session.scalar(select(Conversation.id).where(Conversation.id == conversation_id).with_for_update())
    last = await session.scalar(select(func.max(Message.seq)).where(Message.conversation_id == conversation_id))
    return (last or 0) + 1


def said(conversation_id, seq, content, **more):
    return Message(conversation_id=conversation_id, seq=seq, role="user", content=content, **more)


async def number_of(session, id):
    return await session.scalar(select(Message.seq).where(Message.id == id))


async def trying(sessions, once, tries=3):
    result = None
    for left in reversed(range(tries)):
        try:
            async with sessions.begin() as session:
                result = await once(session)
            break
        except DBAPIError as error:
            if not (error.connection_invalidated and left):
                raise
    return result


@ANSWERS.right
async def looks_behind_the_lock(sessions, conversation_id, content):
    id = uuid4()

    async def once(session):
        seq = await next_number(session, conversation_id)
        if known := await number_of(session, id):
            return known
        session.add(said(conversation_id, seq, content, id=id))
        return seq

    return await trying(sessions, once)


@ANSWERS.right
async def does_nothing_on_conflict(sessions, conversation_id, content):
    id = uuid4()

    async def once(session):
        seq = await next_number(session, conversation_id)
        new = insert(Message).values(id=id, conversation_id=conversation_id, seq=seq, role="user", content=content)
        await session.execute(new.on_conflict_do_nothing(index_elements=["id"]))
        return await number_of(session, id)

    return await trying(sessions, once)


@ANSWERS.right
async def asks_what_became_of_the_transaction(sessions, conversation_id, content):
    seq = None
    for left in (2, 1, 0):
        xid = None
        try:
            async with sessions.begin() as session:
                seq = await next_number(session, conversation_id)
                session.add(said(conversation_id, seq, content))
                await session.flush()
                xid = await session.scalar(XID)
            break
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            async with sessions() as session:
                status = await session.scalar(STATUS, {"xid": xid}) if xid else "aborted"
                while status == "in progress":
                    await asyncio.sleep(0.01)
                    status = await session.scalar(STATUS, {"xid": xid})
            if status == "committed":
                break
            if not left:
                raise
    return seq


@ANSWERS.right
async def is_told_by_the_key(sessions, conversation_id, content):
    id = uuid4()

    async def once(session):
        seq = await next_number(session, conversation_id)
        session.add(said(conversation_id, seq, content, id=id))
        return seq

    try:
        return await trying(sessions, once)
    except IntegrityError:
        async with sessions() as session:
            if seq := await number_of(session, id):
                return seq
        raise


@ANSWERS.right
async def marked_in_meta(sessions, conversation_id, content):
    mark = {"post": str(uuid4())}

    async def once(session):
        seq = await next_number(session, conversation_id)
        mine = select(Message.seq).where(Message.conversation_id == conversation_id, Message.meta.contains(mark))
        if known := await session.scalar(mine):
            return known
        session.add(said(conversation_id, seq, content, meta=mark))
        return seq

    return await trying(sessions, once)


@ANSWERS.wrong("stored twice")
async def id_made_anew(sessions, conversation_id, content):
    async def once(session):
        seq = await next_number(session, conversation_id)
        session.add(said(conversation_id, seq, content, id=uuid4()))
        return seq

    return await trying(sessions, once)


@ANSWERS.wrong("stored twice")
async def looks_for_a_mark_too_early(sessions, conversation_id, content):
    mark = {"post": str(uuid4())}

    async def once(session):
        mine = select(Message.seq).where(Message.conversation_id == conversation_id, Message.meta.contains(mark))
        if known := await session.scalar(mine):
            return known
        seq = await next_number(session, conversation_id)
        session.add(said(conversation_id, seq, content, meta=mark))
        return seq

    return await trying(sessions, once)


@ANSWERS.wrong("reported as failed")
async def looks_too_early(sessions, conversation_id, content):
    id = uuid4()

    async def once(session):
        if known := await number_of(session, id):
            return known
        seq = await next_number(session, conversation_id)
        session.add(said(conversation_id, seq, content, id=id))
        return seq

    return await trying(sessions, once)


@ANSWERS.wrong("reported as failed")
async def same_id_and_no_look(sessions, conversation_id, content):
    id = uuid4()

    async def once(session):
        seq = await next_number(session, conversation_id)
        session.add(said(conversation_id, seq, content, id=id))
        return seq

    return await trying(sessions, once)


@ANSWERS.wrong("reported as failed")
async def one_try(sessions, conversation_id, content):
    async def once(session):
        seq = await next_number(session, conversation_id)
        session.add(said(conversation_id, seq, content))
        return seq

    return await trying(sessions, once, tries=1)


def keeping_its_number(conflict):
    """The number of the first try is kept; ``conflict`` is what is done where a message has it already."""

    async def post(sessions, conversation_id, content):
        seq = None

        async def once(session):
            nonlocal seq
            next_one = await next_number(session, conversation_id)
            seq = seq or next_one
            new = insert(Message).values(conversation_id=conversation_id, seq=seq, role="user", content=content)
            await session.execute(conflict(new))
            return seq

        return await trying(sessions, once)

    return post


ANSWERS.wrong("number taken")(
    keeping_its_number(lambda new: new.on_conflict_do_nothing(index_elements=["conversation_id", "seq"]))
)


@ANSWERS.wrong("number taken")
async def told_by_number_and_content(sessions, conversation_id, content):
    tried = []

    async def once(session):
        seq = await next_number(session, conversation_id)
        mine = select(Message.seq).where(Message.conversation_id == conversation_id, Message.seq.in_(tried))
        if known := await session.scalar(mine.where(Message.content == content, Message.role == "user")):
            return known
        tried.append(seq)
        session.add(said(conversation_id, seq, content))
        return seq

    return await trying(sessions, once)


@ANSWERS.wrong("number taken")
async def refused_and_its_own_number_still(sessions, conversation_id, content):
    """Looks for its id behind the lock, and stores under the number of the first try."""
    id, numbers = uuid4(), []

    async def once(session):
        numbers.append(await next_number(session, conversation_id))
        if known := await number_of(session, id):
            return known
        session.add(said(conversation_id, numbers[0], content, id=id))
        return numbers[0]

    return await trying(sessions, once)


@ANSWERS.wrong("wrong number")
async def number_of_the_last_try(sessions, conversation_id, content):
    id = uuid4()

    async def once(session):
        seq = await next_number(session, conversation_id)
        new = insert(Message).values(id=id, conversation_id=conversation_id, seq=seq, role="user", content=content)
        await session.execute(new.on_conflict_do_nothing(index_elements=["id"]))
        return seq

    return await trying(sessions, once)


@ANSWERS.wrong("not tried again")
async def looks_and_gives_up(sessions, conversation_id, content):
    id = uuid4()
    try:
        async with sessions.begin() as session:
            seq = await next_number(session, conversation_id)
            session.add(said(conversation_id, seq, content, id=id))
        return seq
    except DBAPIError:
        async with sessions() as session:
            await next_number(session, conversation_id)
            if known := await number_of(session, id):
                return known
        raise


@ANSWERS.wrong("not tried again")
async def two_tries(sessions, conversation_id, content):
    id = uuid4()

    async def once(session):
        seq = await next_number(session, conversation_id)
        if known := await number_of(session, id):
            return known
        session.add(said(conversation_id, seq, content, id=id))
        return seq

    return await trying(sessions, once, tries=2)


@ANSWERS.wrong("lost")
async def takes_it_for_done(sessions, conversation_id, content):
    async with sessions() as session:
        seq = await next_number(session, conversation_id)
        session.add(said(conversation_id, seq, content))
        await session.flush()
        try:
            await session.commit()
        except DBAPIError:
            return seq
    return seq


@ANSWERS.wrong("error swallowed")
async def says_nothing(sessions, conversation_id, content):
    try:
        return await looks_behind_the_lock(sessions, conversation_id, content)
    except DBAPIError:
        return None


@ANSWERS.wrong("error swallowed")
async def nothing_of_other_errors(sessions, conversation_id, content):
    try:
        return await looks_behind_the_lock(sessions, conversation_id, content)
    except IntegrityError:
        return 0


@ANSWERS.wrong("never gives up")
async def again_and_again(sessions, conversation_id, content):
    id = uuid4()

    async def once(session):
        seq = await next_number(session, conversation_id)
        if known := await number_of(session, id):
            return known
        session.add(said(conversation_id, seq, content, id=id))
        return seq

    return await trying(sessions, once, tries=10)


@ANSWERS.wrong("merged")
async def told_by_the_content(sessions, conversation_id, content):
    async def once(session):
        seq = await next_number(session, conversation_id)
        last = select(Message).where(Message.conversation_id == conversation_id, Message.seq == seq - 1)
        before = await session.scalar(last)
        if before is not None and before.content == content:
            return before.seq
        session.add(said(conversation_id, seq, content))
        return seq

    return await trying(sessions, once)


@ANSWERS.wrong("wrong message")
async def tidied(sessions, conversation_id, content):
    return await looks_behind_the_lock(sessions, conversation_id, content.strip())


@ANSWERS.wrong("not stored")
async def never_committed(sessions, conversation_id, content):
    async with sessions() as session:
        seq = await next_number(session, conversation_id)
        session.add(said(conversation_id, seq, content))
        await session.flush()
    return seq


@ANSWERS.wrong("no transaction")
async def by_itself(sessions, conversation_id, content):
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        seq = await next_number(session, conversation_id)
        session.add(said(conversation_id, seq, content))
        await session.flush()
    return seq
