"""Answers to M1, the title that came back."""

from __future__ import annotations

import asyncio

from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError

from course_lib.models import Conversation, Message
from tests.exercises.written import Answers

ANSWERS = Answers("M1")
UNTITLED = "New conversation"
RENAMING = text("UPDATE conversations SET title = :title WHERE id = :id AND title = :old")


async def question_of(session, id, roles=("user",), untitled=True):
    conversation = await session.get(Conversation, id)
    if conversation is None or (untitled and conversation.title != UNTITLED):
        return None
    messages = select(Message.content).where(Message.conversation_id == id, Message.role.in_(roles))
    return await session.scalar(messages.order_by(Message.seq).limit(1))


async def read(sessions, id, **options):
    async with sessions() as session:
        return await question_of(session, id, **options)


async def store(sessions, id, title, *conditions):
    """Stores it under these conditions; the title, or None where no row was met."""
    async with sessions.begin() as session:
        renaming = update(Conversation).where(Conversation.id == id, *conditions).values(title=title)
        return await session.scalar(renaming.returning(Conversation.title))


async def store_guarded(sessions, id, title):
    return await store(sessions, id, title, Conversation.title == UNTITLED)


@ANSWERS.right
async def counted_rows(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    async with sessions.begin() as session:
        renamed = await session.execute(RENAMING, {"id": id, "title": title, "old": UNTITLED})
    return title if renamed.rowcount else None


@ANSWERS.right
async def locked_when_the_model_has_answered(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    async with sessions() as session:
        conversation = await session.get(Conversation, id, with_for_update=True)
        if conversation is None or conversation.title != UNTITLED:
            return None
        conversation.title = title
        await session.commit()
        return title


@ANSWERS.right
async def one_session_and_a_commit_before(sessions, suggest_title, id):
    async with sessions() as session:
        question = await question_of(session, id)
        await session.commit()
        if question is None:
            return None
        title = await suggest_title(question)
        untitled = (Conversation.id == id, Conversation.title == UNTITLED)
        done = await session.execute(update(Conversation).where(*untitled).values(title=title))
        await session.commit()
        return title if done.rowcount == 1 else None


@ANSWERS.right
async def stricter_level_and_again(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    while True:
        try:
            async with sessions() as session:
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                conversation = await session.get(Conversation, id)
                if conversation is None or conversation.title != UNTITLED:
                    return None
                conversation.title = title
                await session.commit()
                return title
        except DBAPIError as error:
            if error.orig.sqlstate != "40001":
                raise


@ANSWERS.right
async def waits_for_a_while_only(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    async with sessions.begin() as session:
        await session.execute(text("SET LOCAL lock_timeout = '500ms'"))
        renamed = await session.execute(RENAMING, {"id": id, "title": title, "old": UNTITLED})
    return title if renamed.rowcount else None


@ANSWERS.right
async def looks_again_where_it_is_locked(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    while True:
        try:
            async with sessions.begin() as session:
                conversation = await session.get(Conversation, id, with_for_update={"nowait": True})
                if conversation is None or conversation.title != UNTITLED:
                    return None
                conversation.title = title
                return title
        except DBAPIError as error:
            if error.orig.sqlstate != "55P03":
                raise
        await asyncio.sleep(0.02)


@ANSWERS.wrong("came back")
async def without_a_session_and_no_second_look(sessions, suggest_title, id):
    question = await read(sessions, id)
    return await store(sessions, id, await suggest_title(question)) if question is not None else None


@ANSWERS.wrong("came back")
async def looked_once_more_before_the_model(sessions, suggest_title, id):
    if await read(sessions, id) is None:
        return None
    question = await read(sessions, id)
    title = await suggest_title(question)
    return await store(sessions, id, title)


@ANSWERS.wrong("came back")
async def asked_the_identity_map(sessions, suggest_title, id):
    async with sessions() as session:
        known = await session.get(Conversation, id)
        question = await question_of(session, id)
        if question is None:
            return None
        title = await suggest_title(question)
        conversation = await session.get(Conversation, id)  # the object from before
        assert conversation is known
        if conversation is None or conversation.title != UNTITLED:
            return None
        conversation.title = title
        try:
            await session.commit()
        except StaleDataError:
            return None
        return title


@ANSWERS.wrong("came back late")
async def looked_again_without_a_lock(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    if await read(sessions, id) is None:
        return None
    return await store(sessions, id, title)


@ANSWERS.wrong("connection held")
async def guarded_in_one_transaction(sessions, suggest_title, id):
    async with sessions() as session:
        question = await question_of(session, id)
        if question is None:
            return None
        title = await suggest_title(question)
        renamed = await session.execute(RENAMING, {"id": id, "title": title, "old": UNTITLED})
        await session.commit()
        return title if renamed.rowcount else None


@ANSWERS.wrong("rename waits")
async def locked_from_the_beginning(sessions, suggest_title, id):
    async with sessions() as session:
        await session.get(Conversation, id, with_for_update=True)
        question = await question_of(session, id)
        if question is None:
            return None
        title = await suggest_title(question)
        (await session.get(Conversation, id)).title = title
        await session.commit()
        return title


@ANSWERS.wrong("raised meanwhile")
async def locked_and_not_looked_for(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    async with sessions() as session:
        conversation = await session.get(Conversation, id, with_for_update=True)
        if conversation.title != UNTITLED:
            return None
        conversation.title = title
        await session.commit()
        return title


@ANSWERS.wrong("raised meanwhile")
async def stricter_level_once(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        conversation = await session.get(Conversation, id)
        if conversation is None or conversation.title != UNTITLED:
            return None
        conversation.title = title
        await session.commit()
        return title


async def named_under(lock, sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    async with sessions.begin() as session:
        untitled = select(Conversation).where(Conversation.id == id, Conversation.title == UNTITLED)
        conversation = await session.scalar(untitled.with_for_update(**lock))
        if conversation is None:
            return None
        conversation.title = title
        return title


@ANSWERS.wrong("posted at once")
async def skips_what_is_locked(sessions, suggest_title, id):
    return await named_under({"skip_locked": True}, sessions, suggest_title, id)


@ANSWERS.wrong("posted at once")
async def gives_up_at_a_lock(sessions, suggest_title, id):
    return await named_under({"nowait": True}, sessions, suggest_title, id)


@ANSWERS.wrong("not stored")
async def guarded_by_its_time(sessions, suggest_title, id):
    async with sessions() as session:
        question = await question_of(session, id)
        conversation = await session.get(Conversation, id)
    if question is None:
        return None
    title = await suggest_title(question)
    return await store(sessions, id, title, Conversation.updated_at == conversation.updated_at)


@ANSWERS.wrong("not stored")
async def never_committed(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    async with sessions() as session:
        await session.execute(RENAMING, {"id": id, "title": title, "old": UNTITLED})
    return title


@ANSWERS.wrong("wrong return")
async def says_what_the_model_said(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    await store_guarded(sessions, id, title)
    return title


@ANSWERS.wrong("wrong return")
async def says_nothing(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is not None:
        await store_guarded(sessions, id, await suggest_title(question))


@ANSWERS.wrong("others changed")
async def every_untitled_one(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    title = await suggest_title(question)
    async with sessions.begin() as session:
        await session.execute(update(Conversation).where(Conversation.title == UNTITLED).values(title=title))
    return title


@ANSWERS.wrong("asked in vain")
async def asked_before_it_looked(sessions, suggest_title, id):
    question = await read(sessions, id, untitled=False)
    return await store_guarded(sessions, id, await suggest_title(question)) if question is not None else None


@ANSWERS.wrong("not asked")
async def asked_once_more(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    await suggest_title(question)
    return await store_guarded(sessions, id, await suggest_title(question))


@ANSWERS.wrong("wrong question")
async def first_message_of_the_instructions(sessions, suggest_title, id):
    if await read(sessions, id) is None:
        return None
    question = await read(sessions, id, roles=("system", "user"))
    return await store_guarded(sessions, id, await suggest_title(question))


@ANSWERS.wrong("other title")
async def in_capitals(sessions, suggest_title, id):
    question = await read(sessions, id)
    return await store_guarded(sessions, id, (await suggest_title(question)).upper()) if question is not None else None


@ANSWERS.wrong("error swallowed")
async def never_mind(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    try:
        title = await suggest_title(question)
    except RuntimeError:
        return None
    return await store_guarded(sessions, id, title)


@ANSWERS.wrong("another error")
async def wrapped(sessions, suggest_title, id):
    question = await read(sessions, id)
    if question is None:
        return None
    try:
        title = await suggest_title(question)
    except Exception as error:
        raise ValueError("no title") from error
    return await store_guarded(sessions, id, title)
