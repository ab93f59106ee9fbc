"""Answers to M2, the export that stops everybody."""

from __future__ import annotations

import asyncio
import json

from sqlalchemy import and_, func, or_, select, tuple_

from course_lib.models import Conversation, Message
from tests.exercises.written import Answers

ANSWERS = Answers("M2")
ORDER = (Message.created_at, Message.id)
COLUMNS = (Message.created_at, Message.id, Message.role, Message.content)


def messages_of(user_id, *conditions, columns=COLUMNS):
    found = select(*columns).join(Message.conversation).where(Conversation.user_id == user_id, *conditions)
    return found.order_by(*ORDER)


def line_of(message):
    return json.dumps({"id": str(message.id), "role": message.role, "content": message.content}) + "\n"


async def all_of(sessions, statement):
    async with sessions() as session:
        return (await session.execute(statement)).all()


async def export(sessions, user_id, send, size, after, line=line_of, order=()):
    """Pages of ``size``; ``after(last)`` is the condition of the next one."""
    sent, conditions = 0, ()
    while True:
        found = messages_of(user_id, *conditions)
        page = await all_of(sessions, (found.order_by(None).order_by(*order) if order else found).limit(size))
        for message in page:
            await send(line(message))
            sent += 1
        if len(page) < size:
            return sent
        conditions = (after(page[-1]),)


def behind(last):
    return tuple_(*ORDER) > (last.created_at, last.id)


@ANSWERS.right
async def spelled_with_or(sessions, user_id, send):
    def after(last):
        same = and_(Message.created_at == last.created_at, Message.id > last.id)
        return or_(Message.created_at > last.created_at, same)

    return await export(sessions, user_id, send, 100, after)


@ANSWERS.right
async def one_session_and_commits(sessions, user_id, send):
    sent, conditions = 0, ()
    async with sessions() as session:
        while page := (await session.execute(messages_of(user_id, *conditions).limit(150))).all():
            await session.commit()
            for message in page:
                await send(line_of(message))
            sent += len(page)
            conditions = (behind(page[-1]),)
    return sent


@ANSWERS.wrong("fetched ahead")
async def a_moment_at_a_time(sessions, user_id, send):
    """All of one moment in one page: no place inside of a moment is needed while a moment is not too large."""
    sent, found = 0, messages_of(user_id).order_by(None).order_by(Message.created_at).fetch(100, with_ties=True)
    page = await all_of(sessions, found)
    while page:
        for message in sorted(page, key=lambda one: (one.created_at, one.id)):
            await send(line_of(message))
            sent += 1
        page = await all_of(sessions, found.where(Message.created_at > page[-1].created_at))
    return sent


@ANSWERS.right
async def one_page_ahead(sessions, user_id, send):
    """One page is read while another is sent; no more than that is ahead."""

    async def page_after(last):
        conditions = (behind(last),) if last else ()
        return await all_of(sessions, messages_of(user_id, *conditions).limit(90))

    sent, page = 0, await page_after(None)
    while page:
        following = await page_after(page[-1])
        for message in page:
            await send(line_of(message))
            sent += 1
        page = following
    return sent


@ANSWERS.right
async def the_next_page_is_read_meanwhile(sessions, user_id, send):
    def reading(*conditions):
        return asyncio.create_task(all_of(sessions, messages_of(user_id, *conditions).limit(100)))

    sent, page = 0, await reading()
    while page:
        following = reading(behind(page[-1]))
        try:
            for message in page:
                await send(line_of(message))
                sent += 1
        finally:
            page = await following
    return sent


@ANSWERS.wrong("connection held")
async def pages_in_one_transaction(sessions, user_id, send):
    async with sessions() as session:
        sent, conditions = 0, ()
        while page := (await session.execute(messages_of(user_id, *conditions).limit(100))).all():
            for message in page:
                await send(line_of(message))
            sent += len(page)
            conditions = (behind(page[-1]),)
        return sent


@ANSWERS.wrong("connection held")
async def a_queue_between_cursor_and_receiver(sessions, user_id, send):
    queue = asyncio.Queue(100)

    async def read():
        async with sessions() as session:
            async for message in await session.stream(messages_of(user_id).execution_options(yield_per=50)):
                await queue.put(message)
        await queue.put(None)

    sent, reading = 0, asyncio.create_task(read())
    while message := await queue.get():
        await send(line_of(message))
        sent += 1
    await reading
    return sent


@ANSWERS.wrong("fetched ahead")
async def all_at_once(sessions, user_id, send):
    messages = await all_of(sessions, messages_of(user_id))
    for message in messages:
        await send(line_of(message))
    return len(messages)


@ANSWERS.wrong("fetched ahead")
async def ids_first(sessions, user_id, send):
    ids = [row.id for row in await all_of(sessions, messages_of(user_id, columns=(Message.id,)))]
    sent = 0
    for first in range(0, len(ids), 100):
        for message in await all_of(sessions, messages_of(user_id, Message.id.in_(ids[first : first + 100]))):
            await send(line_of(message))
            sent += 1
    return sent


@ANSWERS.wrong("row by row")
async def one_at_a_time(sessions, user_id, send):
    return await export(sessions, user_id, send, 10, behind)


@ANSWERS.wrong("missing")
async def after_the_last_moment(sessions, user_id, send):
    return await export(sessions, user_id, send, 100, lambda last: Message.created_at > last.created_at)


@ANSWERS.wrong("missing")
async def both_greater(sessions, user_id, send):
    return await export(
        sessions, user_id, send, 100, lambda last: and_(Message.created_at >= last.created_at, Message.id > last.id)
    )


@ANSWERS.wrong("twice")
async def from_the_last_moment_on(sessions, user_id, send):
    sent, conditions, last = 0, (), None
    while page := await all_of(sessions, messages_of(user_id, *conditions).limit(100)):
        for message in page:
            await send(line_of(message))
        sent += len(page)
        if last == page[-1].id or len(page) < 100:
            break
        last, conditions = page[-1].id, (Message.created_at >= page[-1].created_at,)
    return sent


@ANSWERS.wrong("skipped")
async def by_offset(sessions, user_id, send):
    sent = 0
    while page := await all_of(sessions, messages_of(user_id).limit(100).offset(sent)):
        for message in page:
            await send(line_of(message))
            sent += 1
    return sent


@ANSWERS.wrong("skipped")
async def by_a_number_given_to_each(sessions, user_id, send):
    number = func.row_number().over(order_by=ORDER).label("number")
    numbered = messages_of(user_id, columns=(*COLUMNS, number)).order_by(None).subquery()
    sent = 0
    while True:
        page = select(numbered).where(numbered.c.number.between(sent + 1, sent + 150)).order_by(numbered.c.number)
        found = await all_of(sessions, page)
        for message in found:
            await send(line_of(message))
            sent += 1
        if not found:
            return sent


@ANSWERS.wrong("cut short")
async def only_what_was_reported(sessions, user_id, send):
    sent = 0

    async def counted(line):
        nonlocal sent
        await send(line)
        sent += 1

    try:
        await export(sessions, user_id, counted, 100, behind)
    except ConnectionError:
        return sent
    return sent


@ANSWERS.wrong("another error")
async def wrapped(sessions, user_id, send):
    try:
        return await export(sessions, user_id, send, 100, behind)
    except ConnectionError as error:
        raise RuntimeError("the export broke off") from error


@ANSWERS.wrong("sent on")
async def tried_once_more(sessions, user_id, send):
    async def patiently(line):
        try:
            await send(line)
        except ConnectionError:
            try:
                await send(line)
            finally:
                pass
            raise

    return await export(sessions, user_id, patiently, 100, behind)


@ANSWERS.wrong("two at once")
async def a_page_side_by_side(sessions, user_id, send):
    sent, conditions = 0, ()
    while page := await all_of(sessions, messages_of(user_id, *conditions).limit(100)):
        await asyncio.gather(*(send(line_of(message)) for message in page))
        sent += len(page)
        conditions = (behind(page[-1]),)
    return sent


@ANSWERS.wrong("order")
async def by_id_alone(sessions, user_id, send):
    def after(last):
        return Message.id > last.id

    return await export(sessions, user_id, send, 100, after, order=(Message.id,))


@ANSWERS.wrong("strangers")
async def of_everybody(sessions, user_id, send):
    sent, conditions = 0, ()
    while page := await all_of(sessions, select(*COLUMNS).where(*conditions).order_by(*ORDER).limit(100)):
        for message in page:
            await send(line_of(message))
        sent += len(page)
        conditions = (behind(page[-1]),)
    return sent


@ANSWERS.wrong("other content")
async def stripped(sessions, user_id, send):
    def line(message):
        said = {"id": str(message.id), "role": message.role, "content": message.content.strip()}
        return json.dumps(said) + "\n"

    return await export(sessions, user_id, send, 100, behind, line)


@ANSWERS.wrong("not lines")
async def as_python_writes_it(sessions, user_id, send):
    return await export(sessions, user_id, send, 100, behind, lambda message: f"{message}\n")


@ANSWERS.wrong("wrong return")
async def nothing_said(sessions, user_id, send):
    await export(sessions, user_id, send, 100, behind)


@ANSWERS.wrong("swallowed")
async def whatever_happens(sessions, user_id, send):
    try:
        return await export(sessions, user_id, send, 100, behind)
    except ConnectionError:
        raise
    except Exception:
        return 0


@ANSWERS.wrong("missing")
async def without_those_of_the_last_page(sessions, user_id, send):
    sent, conditions = 0, ()
    while page := await all_of(sessions, messages_of(user_id, *conditions).limit(100)):
        for message in page:
            await send(line_of(message))
        sent += len(page)
        conditions = (Message.created_at >= page[-1].created_at, Message.id.not_in([row.id for row in page]))
        if len({row.created_at for row in page}) == 1:  # never met with tame data
            conditions = (Message.created_at > page[-1].created_at,)
    return sent
