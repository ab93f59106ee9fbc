"""Answers to 6.5, a backfill among writers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase

from tests.exercises.written import Answers

ANSWERS = Answers("6.5")
FIRST = UUID(int=0)
BATCH = "SELECT id, content FROM messages WHERE language IS NULL AND id > :last ORDER BY id LIMIT :size"
WRITE = "UPDATE messages SET language = :language WHERE id = :id AND language IS NULL"

messages = sa.table("messages", sa.column("id"), sa.column("content"), sa.column("language"))


async def filled(sessions, detect, size, batch=BATCH, write=WRITE):
    """What most of the answers have in common."""
    last = FIRST
    while True:
        async with sessions.begin() as session:
            rows = (await session.execute(sa.text(batch), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                language = detect(row.content)
                if language is not None:
                    await session.execute(sa.text(write), {"id": row.id, "language": language})


@ANSWERS.right
async def in_one_transaction_for_each_batch(sessions, detect, size):
    await filled(sessions, detect, size)


@ANSWERS.right
async def under_locks_of_a_batch(sessions, detect, size):
    batch = f"{BATCH} FOR UPDATE"
    write = "UPDATE messages SET language = :language WHERE id = :id"
    await filled(sessions, detect, size, batch, write)


@ANSWERS.right
async def without_a_transaction_while_it_thinks(sessions, detect, size):
    last = FIRST
    while True:
        async with sessions() as session:
            free = sa.select(messages.c.id, messages.c.content).where(messages.c.language.is_(None))
            page = free.where(messages.c.id > last).order_by(messages.c.id).limit(size)
            rows = (await session.execute(page)).all()
        if not rows:
            return
        last = rows[-1].id
        told = {row.id: detect(row.content) for row in rows}
        values = {id: language for id, language in told.items() if language}
        if not values:
            continue
        new = sa.func.unnest(
            sa.cast(list(values), postgresql.ARRAY(sa.Uuid)), sa.cast(list(values.values()), postgresql.ARRAY(sa.Text))
        ).table_valued("id", "language").render_derived()  # fmt: skip
        write = sa.update(messages).values(language=new.c.language)
        async with sessions.begin() as session:
            await session.execute(write.where(messages.c.id == new.c.id, messages.c.language.is_(None)))


@ANSWERS.right
async def one_by_one(sessions, detect, size):
    last = FIRST
    while True:
        async with sessions() as session:
            row = (await session.execute(sa.text(BATCH), {"last": last, "size": 1})).first()
            if row is None:
                return
            last = row.id
            if language := detect(row.content):
                await session.execute(sa.text(WRITE), {"id": row.id, "language": language})
                await session.commit()


@ANSWERS.right
async def remembers_what_cannot_be_told(sessions, detect, size):
    untold: set[UUID] = set()
    page = "SELECT id, content FROM messages WHERE language IS NULL AND NOT id = ANY(:untold) LIMIT :size"
    while True:
        async with sessions() as session:
            rows = (await session.execute(sa.text(page), {"untold": list(untold), "size": size})).all()
            if not rows:
                return
            for row in rows:
                language = await asyncio.to_thread(detect, row.content)
                if language is None:
                    untold.add(row.id)
                else:
                    await session.execute(sa.text(WRITE), {"id": row.id, "language": language})
            await session.commit()


@ANSWERS.right
async def from_the_end(sessions, detect, size):
    """Backwards, and with many parameters at once."""
    batch = "SELECT id, content FROM messages WHERE language IS NULL AND id < :last ORDER BY id DESC LIMIT :size"
    last = UUID(int=(1 << 128) - 1)
    async with sessions() as session:
        while rows := (await session.execute(sa.text(batch), {"last": last, "size": size})).all():
            last = rows[-1].id
            await session.rollback()
            told = [{"id": row.id, "language": detect(row.content)} for row in rows]
            if known := [one for one in told if one["language"]]:
                await session.execute(sa.text(WRITE), known)
                await session.commit()


@ANSWERS.wrong("in circles")
async def until_nothing_is_null(sessions, detect, size):
    batch = "SELECT id, content FROM messages WHERE language IS NULL ORDER BY id LIMIT :size"
    while True:
        async with sessions.begin() as session:
            rows = (await session.execute(sa.text(batch), {"size": size})).all()
            if not rows:
                return
            for row in rows:
                await session.execute(sa.text(WRITE), {"id": row.id, "language": detect(row.content)})


@ANSWERS.wrong("left out")
async def until_a_batch_fills_nothing(sessions, detect, size):
    batch = "SELECT id, content FROM messages WHERE language IS NULL ORDER BY id LIMIT :size"
    while True:
        changed = 0
        async with sessions.begin() as session:
            for row in (await session.execute(sa.text(batch), {"size": size})).all():
                if language := detect(row.content):
                    changed += (await session.execute(sa.text(WRITE), {"id": row.id, "language": language})).rowcount
        if not changed:
            return


@ANSWERS.wrong("left out")
async def page_by_page(sessions, detect, size):
    batch = "SELECT id, content, language FROM messages WHERE id > :last ORDER BY id OFFSET :offset LIMIT :size"
    offset = 0
    while True:
        async with sessions.begin() as session:
            values = {"last": FIRST, "offset": offset, "size": size}
            rows = (await session.execute(sa.text(batch), values)).all()
            if not rows:
                return
            offset += len(rows)
            for row in rows:
                if row.language is None and (language := detect(row.content)):
                    await session.execute(sa.text(WRITE), {"id": row.id, "language": language})


@ANSWERS.wrong("left out")
async def in_no_order(sessions, detect, size):
    """The last row of a batch need not have the highest key."""
    await filled(sessions, detect, size, BATCH.replace("ORDER BY id", ""))


@ANSWERS.wrong("left out")
async def one_less_at_a_time(sessions, detect, size):
    await filled(sessions, detect, size - 1)


@ANSWERS.wrong("left out")
async def only_one_batch(sessions, detect, size):
    async with sessions.begin() as session:
        for row in (await session.execute(sa.text(BATCH), {"last": FIRST, "size": size})).all():
            await session.execute(sa.text(WRITE), {"id": row.id, "language": detect(row.content)})


POSITION = {}


@ANSWERS.wrong("left out")
async def remembers_where_it_was(sessions, detect, size):
    """In this process, before the batch is stored."""
    here = str((await _database(sessions))[0])
    while True:
        async with sessions.begin() as session:
            values = {"last": POSITION.get(here, FIRST), "size": size}
            rows = (await session.execute(sa.text(BATCH), values)).all()
            if not rows:
                return
            POSITION[here] = rows[-1].id
            for row in rows:
                if language := detect(row.content):
                    await session.execute(sa.text(WRITE), {"id": row.id, "language": language})


async def _database(sessions):
    async with sessions() as session:
        return (await session.execute(sa.text("SELECT current_database()"))).one()


@ANSWERS.wrong("swallowed")
async def carries_on(sessions, detect, size):
    with suppress(Exception):
        await filled(sessions, detect, size)


@ANSWERS.wrong("lost work")
async def all_or_nothing_in_small_reads(sessions, detect, size):
    last, told = FIRST, []
    while True:
        async with sessions() as session:
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
        if not rows:
            break
        last = rows[-1].id
        told += [{"id": row.id, "language": detect(row.content)} for row in rows]
    for start in range(0, len(told), size):
        async with sessions.begin() as session:
            await session.execute(sa.text(WRITE), told[start : start + size])


@ANSWERS.wrong("asked again")
async def reads_what_is_done(sessions, detect, size):
    await filled(sessions, detect, size, BATCH.replace("language IS NULL AND", ""))


@ANSWERS.wrong("locked")
async def under_a_lock_of_the_table(sessions, detect, size):
    last = FIRST
    while True:
        async with sessions.begin() as session:
            await session.execute(sa.text("LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE"))
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                await session.execute(sa.text(WRITE), {"id": row.id, "language": detect(row.content)})


@ANSWERS.wrong("locked")
async def locks_all_that_is_left(sessions, detect, size):
    last = FIRST
    while True:
        async with sessions.begin() as session:
            lock = "WITH mine AS (SELECT id FROM messages WHERE language IS NULL FOR UPDATE) SELECT count(*) FROM mine"
            await session.execute(sa.text(lock))
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                await session.execute(sa.text(WRITE), {"id": row.id, "language": detect(row.content)})


@ANSWERS.wrong("locked")
async def savepoints_are_no_commits(sessions, detect, size):
    last = FIRST
    async with sessions.begin() as session:
        while rows := (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all():
            last = rows[-1].id
            async with session.begin_nested():
                for row in rows:
                    if language := detect(row.content):
                        await session.execute(sa.text(WRITE), {"id": row.id, "language": language})


@ANSWERS.wrong("open too long")
async def reads_in_one_transaction(sessions, detect, size):
    """A session that reads, and is never told to end its transaction, beside one that writes."""
    last = FIRST
    async with sessions() as reader:
        while rows := (await reader.execute(sa.text(BATCH), {"last": last, "size": size})).all():
            last = rows[-1].id
            async with sessions.begin() as session:
                for row in rows:
                    if language := detect(row.content):
                        await session.execute(sa.text(WRITE), {"id": row.id, "language": language})


@ANSWERS.wrong("read at once")
async def reads_everything(sessions, detect, size):
    async with sessions() as session:
        rows = (await session.execute(sa.text(BATCH), {"last": FIRST, "size": 1_000_000})).all()
    for start in range(0, len(rows), size):
        async with sessions.begin() as session:
            for row in rows[start : start + size]:
                if language := detect(row.content):
                    await session.execute(sa.text(WRITE), {"id": row.id, "language": language})


@ANSWERS.wrong("read at once")
async def a_size_of_its_own(sessions, detect, size):
    await filled(sessions, detect, 20)


@ANSWERS.wrong("changed at once")
async def all_that_it_has_at_the_end(sessions, detect, size):
    last, told = FIRST, []
    try:
        while True:
            async with sessions() as session:
                rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                if language := detect(row.content):
                    told.append({"id": row.id, "language": language})
    finally:
        async with sessions.begin() as session:
            await session.execute(sa.text(WRITE), told)


@ANSWERS.wrong("overwritten")
async def by_its_id(sessions, detect, size):
    write = "UPDATE messages SET language = :language WHERE id = :id"
    await filled(sessions, detect, size, write=write)


@ANSWERS.wrong("overwritten")
async def if_the_text_is_the_same(sessions, detect, size):
    last = FIRST
    write = "UPDATE messages SET language = :language WHERE id = :id AND content = :content"
    while True:
        async with sessions.begin() as session:
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                if language := detect(row.content):
                    values = {"id": row.id, "language": language, "content": row.content}
                    await session.execute(sa.text(write), values)


@ANSWERS.wrong("content overwritten")
async def writes_the_whole_row(sessions, detect, size):
    last = FIRST
    write = "UPDATE messages SET language = coalesce(language, :language), content = :content WHERE id = :id"
    while True:
        async with sessions.begin() as session:
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                values = {"id": row.id, "language": detect(row.content), "content": row.content}
                if values["language"]:
                    await session.execute(sa.text(write), values)


@ANSWERS.wrong("deleted one is back")
async def inserts_what_it_read(sessions, detect, size):
    last = FIRST
    batch = BATCH.replace("id, content", "*")
    upsert = """
        INSERT INTO messages (id, conversation_id, seq, role, content, language)
        VALUES (:id, :conversation_id, :seq, :role, :content, :language)
        ON CONFLICT (id) DO UPDATE SET language = coalesce(messages.language, excluded.language)
    """
    while True:
        async with sessions() as session:
            rows = (await session.execute(sa.text(batch), {"last": last, "size": size})).all()
        if not rows:
            return
        last = rows[-1].id
        told = [{**row._mapping, "language": detect(row.content)} for row in rows]
        async with sessions.begin() as session:
            for values in told:
                if values["language"]:
                    await session.execute(sa.text(upsert), values)


@ANSWERS.wrong("stumbled")
async def expects_the_row_that_it_read(sessions, detect, size):
    last = FIRST
    while True:
        async with sessions.begin() as session:
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                if language := detect(row.content):
                    values = {"id": row.id, "language": language}
                    (await session.execute(sa.text(f"{WRITE} RETURNING id"), values)).one()


@ANSWERS.wrong("stumbled")
async def with_objects(sessions, detect, size):
    class Base(DeclarativeBase):
        pass

    class Text(Base):
        __table__ = sa.Table(
            "messages", sa.MetaData(), sa.Column("id", sa.Uuid, primary_key=True), sa.Column("content", sa.Text),
            sa.Column("language", sa.Text),
        )  # fmt: skip

    last = FIRST
    while True:
        async with sessions.begin() as session:
            page = sa.select(Text).where(Text.language.is_(None), Text.id > last).order_by(Text.id).limit(size)
            found = (await session.scalars(page)).all()
            if not found:
                return
            last = found[-1].id
            for text in found:
                text.language = detect(text.content)
                await session.flush()


@ANSWERS.wrong("wrong language")
async def unknown_is_a_language(sessions, detect, size):
    last = FIRST
    while True:
        async with sessions.begin() as session:
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                values = {"id": row.id, "language": detect(row.content) or "unknown"}
                await session.execute(sa.text(WRITE), values)


@ANSWERS.wrong("written for nothing")
async def writes_what_is_done_too(sessions, detect, size):
    last = FIRST
    batch = "SELECT id, content, language FROM messages WHERE id > :last ORDER BY id LIMIT :size"
    write = "UPDATE messages SET language = coalesce(language, :language) WHERE id = :id"
    while True:
        async with sessions.begin() as session:
            rows = (await session.execute(sa.text(batch), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                values = {"id": row.id, "language": row.language or detect(row.content)}
                await session.execute(sa.text(write), values)


@ANSWERS.wrong("something else")
async def counts_its_visits(sessions, detect, size):
    write = WRITE.replace("SET", "SET token_count = token_count + 1,")
    await filled(sessions, detect, size, write=write)


@ANSWERS.wrong("something else")
async def deletes_what_nobody_can_tell(sessions, detect, size):
    last = FIRST
    while True:
        async with sessions.begin() as session:
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
            if not rows:
                return
            last = rows[-1].id
            for row in rows:
                language = detect(row.content)
                write = WRITE if language else "DELETE FROM messages WHERE id = :id AND CAST(:language AS text) IS NULL"
                await session.execute(sa.text(write), {"id": row.id, "language": language})


@ANSWERS.wrong("left out")
async def passes_over_what_is_held(sessions, detect, size):
    await filled(sessions, detect, size, f"{BATCH} FOR UPDATE SKIP LOCKED")


@ANSWERS.wrong("changed at once")
async def by_the_text(sessions, detect, size):
    last = FIRST
    write = "UPDATE messages SET language = :language WHERE content = :content AND language IS NULL"
    while True:
        async with sessions() as session:
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
        if not rows:
            return
        last = rows[-1].id
        for _, content in rows:
            if language := detect(content):
                async with sessions.begin() as session:
                    await session.execute(sa.text(write), {"language": language, "content": content})


@ANSWERS.wrong("left out")
async def stores_full_batches_only(sessions, detect, size):
    last, found = FIRST, []
    while True:
        async with sessions() as session:
            rows = (await session.execute(sa.text(BATCH), {"last": last, "size": size})).all()
        if not rows:
            return
        last = rows[-1].id
        for id, content in rows:
            if language := detect(content):
                found.append({"id": id, "language": language})
            if len(found) == size:
                async with sessions.begin() as session:
                    for values in found:
                        await session.execute(sa.text(WRITE), values)
                found = []
