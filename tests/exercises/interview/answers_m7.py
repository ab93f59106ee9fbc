"""Answers to M7, half of it is still there."""

from __future__ import annotations

from sqlalchemy import delete, select, text, tuple_
from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.models import Document
from tests.exercises.written import Answers

ANSWERS = Answers("M7")
PLACE = (Document.updated_at, Document.id)


def due(before, *conditions):
    found = select(Document.id).where(Document.status == "failed", Document.updated_at < before, *conditions)
    return found.order_by(*PLACE)


def still(before, *ids):
    """A DELETE that asks once more."""
    found = delete(Document).where(Document.status == "failed", Document.updated_at < before)
    return found.where(Document.id.in_(ids))


async def all_due(sessions, before):
    async with sessions() as session:
        return (await session.scalars(due(before))).all()


async def deleted(sessions, statement, refused=0):
    try:
        async with sessions.begin() as session:
            return (await session.execute(statement)).rowcount
    except IntegrityError:
        return refused


@ANSWERS.right
async def each_in_its_own_transaction(sessions, before, page=50):
    return sum([await deleted(sessions, still(before, id)) for id in await all_due(sessions, before)])


@ANSWERS.right
async def savepoints(sessions, before, page=50):
    count, after = 0, None
    while True:
        async with sessions.begin() as session:
            found = due(before, Document.id > after) if after else due(before)
            ids = (await session.scalars(found.order_by(None).order_by(Document.id).limit(page))).all()
            if not ids:
                return count
            for id in ids:
                try:
                    async with session.begin_nested():
                        count += (await session.execute(still(before, id))).rowcount
                except IntegrityError:
                    pass
        after = ids[-1]


@ANSWERS.right
async def remembers_the_refused(sessions, before, page=50):
    """And holds the rows of a page from reading them on."""
    refused, count = [], 0
    while True:
        async with sessions.begin() as session:
            held = due(before, Document.id.not_in(refused)).limit(page).with_for_update(skip_locked=True)
            ids = (await session.scalars(held)).all()
            for id in ids:
                try:
                    async with session.begin_nested():
                        await session.execute(delete(Document).where(Document.id == id))
                    count += 1
                except IntegrityError:
                    refused.append(id)
        if not ids:
            return count


@ANSWERS.right
async def steps_over_the_refused(sessions, before, page=50):
    """OFFSET past those that stay, which is what it is good for."""
    count = offset = 0
    while True:
        async with sessions() as session:
            ids = (await session.scalars(due(before).offset(offset).limit(page))).all()
        if not ids:
            return count
        gone = await deleted(sessions, still(before, *ids))
        if not gone:
            gone = sum([await deleted(sessions, still(before, id)) for id in ids])
        async with sessions() as session:
            left = await session.scalars(due(before, Document.id.in_(ids)))
            offset += len(left.all())
        count += gone


@ANSWERS.right
async def halves(sessions, before, page=50):
    async def go(ids):
        if not ids:
            return 0
        gone = await deleted(sessions, still(before, *ids), refused=None)
        if gone is None:
            middle = len(ids) // 2
            return await go(ids[:middle]) + await go(ids[middle:]) if middle else 0
        return gone

    ids = await all_due(sessions, before)
    return sum([await go(ids[start : start + page]) for start in range(0, len(ids), page)])


@ANSWERS.right
async def on_the_server(sessions, before, page=50):
    block = """
        DO $do$
        DECLARE it uuid; n int := 0;
        BEGIN
            FOR it IN SELECT id FROM documents WHERE id = ANY ('{{{ids}}}') LOOP
                BEGIN
                    DELETE FROM documents WHERE id = it AND status = 'failed' AND updated_at < '{before}';
                EXCEPTION WHEN foreign_key_violation THEN
                END;
            END LOOP;
        END $do$
    """
    ids = await all_due(sessions, before)
    for start in range(0, len(ids), page):
        async with sessions.begin() as session:
            some = ",".join(map(str, ids[start : start + page]))
            await session.execute(text(block.format(ids=some, before=before.isoformat()).replace(":", r"\:")))
    async with sessions() as session:
        there = set((await session.scalars(select(Document.id).where(Document.id.in_(ids)))).all())
    return len(set(ids) - there)


def keyset(statement, place=PLACE, one_by_one=True, number=None):
    """Right in how it pages; ``statement`` deletes."""

    async def purge_failed(sessions, before, page=50):
        count, after = 0, None
        while True:
            found = select(*place).where(Document.status == "failed", Document.updated_at < before).order_by(*place)
            found = found.where(tuple_(*place) > after) if after else found
            async with sessions() as session:
                rows = (await session.execute(found.add_columns(Document.id.label("key")).limit(page))).all()
            if not rows:
                return count
            ids = [row.key for row in rows]
            gone = await deleted(sessions, statement(before, *ids), refused=None)
            if gone is None:
                gone = sum([await deleted(sessions, statement(before, id)) for id in ids]) if one_by_one else 0
            count += gone if number is None else number(ids)
            after = tuple(rows[-1])[: len(place)]

    return purge_failed


def by_id(before, *ids):
    return delete(Document).where(Document.id.in_(ids))


ANSWERS.right(keyset(still))
ANSWERS.wrong("half")(keyset(still, place=(Document.updated_at,)))
ANSWERS.wrong("kept back")(keyset(still, one_by_one=False))
ANSWERS.wrong("started again")(keyset(by_id))
ANSWERS.wrong("wrong number")(keyset(still, number=len))
ANSWERS.wrong("not a number")(keyset(still, number=lambda ids: float(len(ids))))


@ANSWERS.wrong("half")
async def smaller_steps(sessions, before, page=50):
    count = offset = 0
    while True:
        async with sessions() as session:
            ids = (await session.scalars(due(before).offset(offset).limit(page))).all()
        if not ids:
            return count
        count += sum([await deleted(sessions, still(before, id)) for id in ids])
        offset += page // 2


@ANSWERS.wrong("endless")
async def without_offset(sessions, before, page=50):
    count = 0
    while True:
        async with sessions() as session:
            ids = (await session.scalars(due(before).limit(page))).all()
        if not ids:
            return count
        count += sum([await deleted(sessions, still(before, id)) for id in ids])


@ANSWERS.wrong("kept back")
async def until_nothing_more_goes(sessions, before, page=50):
    """The first page that is refused ends it."""
    count = 0
    while True:
        async with sessions() as session:
            ids = (await session.scalars(due(before).limit(page))).all()
        gone = await deleted(sessions, still(before, *ids))
        if not gone:
            return count
        count += gone


@ANSWERS.wrong("kept back")
async def no_id_before_the_refused(sessions, before, page=50):
    """One transaction for each page, ended by the first that is refused."""
    count, ids = 0, await all_due(sessions, before)
    for start in range(0, len(ids), page):
        try:
            async with sessions.begin() as session:
                gone = 0
                for id in ids[start : start + page]:
                    gone += (await session.execute(still(before, id))).rowcount
            count += gone
        except IntegrityError:
            pass
    return count


@ANSWERS.wrong("raised at one")
async def refusals_go_up(sessions, before, page=50):
    count, ids = 0, await all_due(sessions, before)
    for start in range(0, len(ids), page):
        async with sessions.begin() as session:
            count += (await session.execute(still(before, *ids[start : start + page]))).rowcount
    return count


@ANSWERS.wrong("started again")
async def objects(sessions, before, page=50):
    count, ids = 0, await all_due(sessions, before)
    for id in ids:
        try:
            async with sessions.begin() as session:
                document = await session.get(Document, id)
                await session.delete(document)
            count += 1
        except IntegrityError:
            pass
    return count


@ANSWERS.wrong("started again")
async def asked_inside_only(sessions, before, page=50):
    """Who waits for a row looks at the DELETE's own conditions again, and not into the inner SELECT."""
    count, refused = 0, []
    while True:
        async with sessions() as session:
            ids = (await session.scalars(due(before, Document.id.not_in(refused)).limit(page))).all()
        if not ids:
            return count
        for id in ids:
            gone = await deleted(sessions, delete(Document).where(Document.id.in_(due(before, Document.id == id))))
            count += gone
            refused += [] if gone else [id]


@ANSWERS.wrong("too many at once")
async def in_one_transaction(sessions, before, page=50):
    count, ids = 0, await all_due(sessions, before)
    async with sessions.begin() as session:
        for id in ids:
            try:
                async with session.begin_nested():
                    count += (await session.execute(still(before, id))).rowcount
            except DBAPIError:
                pass
    return count


@ANSWERS.wrong("not due")
async def without_the_moment(sessions, before, page=50):
    async with sessions() as session:
        ids = (await session.scalars(select(Document.id).where(Document.status == "failed"))).all()
    return sum([await deleted(sessions, by_id(before, id)) for id in ids])


@ANSWERS.wrong("references")
async def whatever_refers_goes_first(sessions, before, page=50):
    """Looks up who refers to documents."""
    referring = text("""
        SELECT conrelid::regclass::text FROM pg_constraint
        WHERE confrelid = 'documents'::regclass AND contype = 'f' AND confdeltype = 'a'
    """)
    count = 0
    for id in await all_due(sessions, before):
        async with sessions.begin() as session:
            for table in (await session.scalars(referring)).all():
                await session.execute(text(f"DELETE FROM {table} WHERE document_id = :id"), {"id": id})
            count += (await session.execute(still(before, id))).rowcount
    return count


@ANSWERS.wrong("nothing")
async def never_committed(sessions, before, page=50):
    count = 0
    for id in await all_due(sessions, before):
        async with sessions() as session:
            count += (await session.execute(still(before, id))).rowcount
    return count
