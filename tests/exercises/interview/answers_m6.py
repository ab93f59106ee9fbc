"""Answers to M6, the last words are missing."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager

from sqlalchemy import Text, func, text, update

from course_lib.models import Message
from tests.exercises.written import Answers

ANSWERS = Answers("M6")


async def append(sessions, id, batch, **values):
    said = "".join(batch)
    async with sessions.begin() as session:
        message = update(Message).where(Message.id == id)
        await session.execute(message.values(content=Message.content + said, **values))


@ANSWERS.right
async def each_end_by_itself(sessions, message_id, pieces, every=20):
    batch = []
    try:
        async for piece in pieces:
            batch.append(piece)
            yield piece
            if len(batch) >= every:
                await append(sessions, message_id, batch)
                batch = []
    except BaseException:
        await pieces.aclose()
        await append(sessions, message_id, batch, status="aborted")
        raise
    await append(sessions, message_id, batch, status="complete")


class Keeper:
    """Closes what it reads, and stores the rest."""

    def __init__(self, sessions, id, every):
        self.sessions, self.id, self.every, self.batch = sessions, id, every, []

    async def add(self, piece):
        if len(self.batch) == self.every:
            await append(self.sessions, self.id, self.batch)
            self.batch = []
        self.batch.append(piece)


@asynccontextmanager
async def kept(sessions, id, every):
    keeper, status = Keeper(sessions, id, every), "aborted"
    try:
        yield keeper
        status = "complete"
    finally:
        await append(sessions, id, keeper.batch, status=status)


@ANSWERS.right
async def stored_before_it_is_shown(sessions, message_id, pieces, every=20):
    async with kept(sessions, message_id, every) as keeper, aclosing(pieces):
        async for piece in pieces:
            await keeper.add(piece)
            yield piece


@ANSWERS.right
async def written_as_a_whole(sessions, message_id, pieces, every=20):
    """All that there is, each time; SQL by hand."""
    said, status = [], "aborted"
    write = text("UPDATE messages SET content = :content, status = :status WHERE id = :id")

    async def store(status):
        async with sessions() as session:
            await session.execute(write, {"content": "".join(said), "status": status, "id": message_id})
            await session.commit()

    try:
        async for piece in pieces:
            said.append(piece)
            yield piece
            if len(said) % every == 0:
                await store("streaming")
        status = "complete"
    finally:
        try:
            await pieces.aclose()
        finally:
            await store(status)


@ANSWERS.right
async def shielded(sessions, message_id, pieces, every=20):
    batch, status = [], "aborted"
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                batch.append(piece)
                yield piece
                if len(batch) == every:
                    await append(sessions, message_id, batch)
                    batch.clear()
        status = "complete"
    finally:
        await asyncio.shield(append(sessions, message_id, batch, status=status))


def ending(catch=BaseException, close=True, kept_first=True, flush=True, status="aborted", cleared=True, every_=None):
    """Right but for what is said."""

    async def keep_stream(sessions, message_id, pieces, every=20):
        every = every_ or every
        batch = []
        try:
            async for piece in pieces:
                if kept_first:
                    batch.append(piece)
                yield piece
                if not kept_first:
                    batch.append(piece)
                if len(batch) >= every:
                    await append(sessions, message_id, batch)
                    batch = [] if cleared else batch[-1:]
        except catch:
            if close:
                await pieces.aclose()
            await append(sessions, message_id, batch if flush else [], status=status)
            raise
        await append(sessions, message_id, batch, status="complete")

    return keep_stream


ANSWERS.wrong("left streaming")(ending(catch=Exception))
ANSWERS.wrong("left streaming")(ending(catch=GeneratorExit))
ANSWERS.wrong("left streaming")(ending(catch=(GeneratorExit, Exception)))
ANSWERS.wrong("model goes on")(ending(close=False))
ANSWERS.wrong("cut short")(ending(kept_first=False))
ANSWERS.wrong("cut short")(ending(flush=False))
ANSWERS.wrong("wrong status")(ending(status="complete"))
ANSWERS.wrong("wrong content")(ending(cleared=False))
ANSWERS.wrong("piecemeal")(ending(every_=1))
ANSWERS.wrong("too late")(ending(every_=99))


async def as_it_comes(step):
    return await step


async def to_its_end(step):
    """Whoever waits is cancelled when it is done."""
    doing = asyncio.ensure_future(step)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


def batched(first_stored=False, emptied_first=False, run=as_it_comes):
    """Right but for what is said."""

    async def keep_stream(sessions, message_id, pieces, every=20):
        batch, status = [], "aborted"

        async def store(**values):
            full = [*batch]
            if emptied_first:
                batch.clear()
            await append(sessions, message_id, full, **values)
            batch.clear()

        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    batch.append(piece)
                    if first_stored and len(batch) == every:
                        await run(store())
                    yield piece
                    if len(batch) >= every:
                        await run(store())
            status = "complete"
        finally:
            await run(store(status=status))

    return keep_stream


ANSWERS.right(batched())
ANSWERS.right(batched(run=to_its_end))
ANSWERS.wrong("never shown")(batched(first_stored=True))
ANSWERS.wrong("never shown")(batched(first_stored=True, run=to_its_end))
ANSWERS.wrong("batch lost")(batched(emptied_first=True))
ANSWERS.wrong("wrong content")(batched(run=asyncio.shield))


@ANSWERS.right
async def stored_behind_what_is_stored(sessions, message_id, pieces, every=20):
    """Done again, a write comes to the same; and it is done to its end."""
    stored, batch, status = 0, [], "aborted"

    async def write(text, **values):
        content = func.left(Message.content, stored, type_=Text) + text
        async with sessions.begin() as session:
            await session.execute(update(Message).where(Message.id == message_id).values(content=content, **values))

    try:
        async with aclosing(pieces):
            async for piece in pieces:
                batch.append(piece)
                yield piece
                if len(batch) == every:
                    await write("".join(batch))
                    stored += len("".join(batch))
                    batch = []
        status = "complete"
    finally:
        await write("".join(batch), status=status)


@ANSWERS.wrong("last words")
async def only_full_batches(sessions, message_id, pieces, every=20):
    batch, status = [], "aborted"
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                batch.append(piece)
                yield piece
                if len(batch) == every:
                    await append(sessions, message_id, batch)
                    batch = []
        status = "complete"
    finally:
        await append(sessions, message_id, [], status=status)


@ANSWERS.wrong("left streaming")
async def only_the_last_batch(sessions, message_id, pieces, every=20):
    """What was reported, and no more."""
    batch = []
    async for piece in pieces:
        yield piece
        batch.append(piece)
        if len(batch) == every:
            await append(sessions, message_id, batch)
            batch = []
    await append(sessions, message_id, batch, status="complete")


@ANSWERS.wrong("error swallowed")
async def ends_quietly(sessions, message_id, pieces, every=20):
    batch, status = [], "aborted"
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                batch.append(piece)
                yield piece
                if len(batch) == every:
                    await append(sessions, message_id, batch)
                    batch.clear()
        status = "complete"
    except RuntimeError:
        pass
    finally:
        await append(sessions, message_id, batch, status=status)


@ANSWERS.wrong("connection held")
async def one_session(sessions, message_id, pieces, every=20):
    async with sessions() as session:
        batch, status = [], "aborted"
        message = update(Message).where(Message.id == message_id)

        async def store(**values):
            await session.execute(message.values(content=Message.content + "".join(batch), **values))
            batch.clear()

        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    batch.append(piece)
                    yield piece
                    if len(batch) == every:
                        await store()
            status = "complete"
        finally:
            await store(status=status)
            await session.commit()


@ANSWERS.wrong("nothing stored")
async def never_committed(sessions, message_id, pieces, every=20):
    said = []
    async with aclosing(pieces):
        async for piece in pieces:
            said.append(piece)
            yield piece
    async with sessions() as session:
        message = update(Message).where(Message.id == message_id)
        await session.execute(message.values(content="".join(said), status="complete"))


@ANSWERS.wrong("buffered")
async def shown_by_the_batch(sessions, message_id, pieces, every=20):
    async with kept(sessions, message_id, every) as keeper, aclosing(pieces):
        shown = []
        async for piece in pieces:
            await keeper.add(piece)
            shown.append(piece)
            if len(shown) == every:
                for one in shown:
                    yield one
                shown = []
        for one in shown:
            yield one


@ANSWERS.wrong("wrong pieces")
async def says_when_it_is_done(sessions, message_id, pieces, every=20):
    async with kept(sessions, message_id, every) as keeper, aclosing(pieces):
        async for piece in pieces:
            await keeper.add(piece)
            yield piece
    yield "[done]"


@ANSWERS.wrong("not a generator")
async def the_whole_answer(sessions, message_id, pieces, every=20):
    return [piece async for piece in pieces]


@ANSWERS.wrong("others")
async def all_that_stream(sessions, message_id, pieces, every=20):
    """Whichever message is being streamed."""
    async with kept(sessions, message_id, every) as keeper, aclosing(pieces):
        async for piece in pieces:
            await keeper.add(piece)
            yield piece
    async with sessions.begin() as session:
        await session.execute(update(Message).where(Message.role == "user").values(status="aborted"))
