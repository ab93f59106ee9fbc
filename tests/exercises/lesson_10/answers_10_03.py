"""10.3: until both stores agree."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from itertools import groupby

from sqlalchemy import Text, cast, delete, func, insert, or_, select, text, update

from course_lib.instruments import StoreFailed
from course_lib.models import Document, DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("10.3")


class Base:
    """A right answer in small parts; the wrong ones change one of them."""

    def __init__(self, sessions, entries, store):
        self.sessions, self.entries, self.row, self.store = sessions, entries, entries.c, store

    async def enqueue(self, session, document_id):
        await session.execute(insert(self.entries).values(document_id=document_id))

    def due(self):
        row = self.row
        found = select(row.document_id).where(row.run_after <= func.now())
        return found.group_by(row.document_id).order_by(func.min(row.run_after), func.min(row.id))

    async def locks(self, session, id):
        return await session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(str(id), 0))))

    async def take(self, session):
        for id in (await session.scalars(self.due())).all():
            if await self.locks(session, id) and await self.ids(session, id):
                return id
        return None

    async def ids(self, session, id):
        return (await session.scalars(select(self.row.id).where(self.row.document_id == id))).all()

    async def passages(self, session, id):
        chunk = DocumentChunk
        found = select(chunk.chunk_index, chunk.embedding).where(chunk.document_id == id)
        return [tuple(row) for row in await session.execute(found)]

    async def put(self, id, passages):
        await self.store.delete(id)
        if passages:
            await self.store.upsert(id, passages)

    async def note(self, session, ids, error):
        noted = {"attempts": self.row.attempts + 1, "error": str(error), "run_after": func.now() + timedelta(minutes=1)}
        await session.execute(update(self.entries).where(self.row.id.in_(ids)).values(noted))

    async def done(self, session, id, ids):
        await session.execute(delete(self.entries).where(self.row.id.in_(ids)))

    async def carry(self):
        async with self.sessions.begin() as session:
            id = await self.take(session)
            if id is None:
                return False
            ids = await self.ids(session, id)
            passages = await self.passages(session, id)
            try:
                await self.put(id, passages)
            except StoreFailed as error:
                await self.note(session, ids, error)
            else:
                await self.done(session, id, ids)
            return True


@ANSWERS.right
class Outbox(Base):
    pass


@ANSWERS.right
class ByText:
    """The lock is the session's and given back by hand, before the COMMIT: who comes between carries it once more."""

    def __init__(self, sessions, outbox, store):
        self.sessions, self.store = sessions, store

    async def enqueue(self, session, document_id):
        await session.execute(text("INSERT INTO outbox (document_id) VALUES (:id)"), {"id": document_id})

    async def carry(self):
        async with self.sessions() as session:
            ids = (await session.scalars(text(DUE))).all()
            for id in ids:
                locked = await session.scalar(text(f"SELECT pg_try_advisory_lock({KEY})"), {"id": str(id)})
                if not locked:
                    continue
                try:
                    if await self._carry(session, id):
                        return True
                finally:
                    await session.execute(text(f"SELECT pg_advisory_unlock({KEY})"), {"id": str(id)})
                    await session.commit()
        return False

    async def _carry(self, session, id):
        seen = (await session.execute(text(SEEN), {"id": id})).all()
        if not seen:
            return False
        values = [{"n": row.id} for row in seen]
        rows = await session.execute(text(PASSAGES), {"id": id})
        passages = {row.chunk_index: row.embedding for row in rows}
        try:
            await self.store.delete(id)
            await self.store.upsert(id, list(passages.items()))
        except StoreFailed as error:
            await session.execute(text(NOTE), {"error": repr(error), "n": seen[0].id})
        else:
            await session.execute(text("DELETE FROM outbox WHERE id = :n"), values)
        return True


KEY = "hashtextextended(:id, 7)"
DUE = "SELECT document_id FROM outbox WHERE run_after <= clock_timestamp() GROUP BY 1 ORDER BY min(run_after)"
SEEN = "SELECT id FROM outbox WHERE document_id = :id ORDER BY id"
PASSAGES = "SELECT chunk_index, CAST(embedding AS real[]) AS embedding FROM document_chunks WHERE document_id = :id"
NOTE = """
    UPDATE outbox SET attempts = attempts + 1, error = :error,
        run_after = now() + make_interval(secs => least(3600, 30 * 2 ^ attempts))
    WHERE id = :n
"""


@ANSWERS.right
class ByLockedEntries(Base):
    """Entries, too, and all entries of a document in turn; several steps' failures in one."""

    async def take(self, session):
        number = func.hashtext(cast(self.row.document_id, Text))
        free = select(self.row.document_id).where(self.row.run_after <= func.clock_timestamp())
        for id, _ in groupby((await session.scalars(free.order_by(self.row.document_id))).all()):
            mine = select(func.pg_try_advisory_xact_lock(10_03, number)).where(self.row.document_id == id).limit(1)
            if await session.scalar(mine):
                return id
        return None


@ANSWERS.wrong("method missing")
class OnlyEnqueues:
    def __init__(self, sessions, entries, store):
        self.entries = entries

    async def enqueue(self, session, document_id):
        await session.execute(insert(self.entries).values(document_id=document_id))


@ANSWERS.wrong("not in the transaction")
class InATransactionOfItsOwn(Base):
    async def enqueue(self, session, document_id):
        async with self.sessions.begin() as own:
            await super().enqueue(own, document_id)


@ANSWERS.wrong("not in the transaction")
class Commits(Base):
    async def enqueue(self, session, document_id):
        await super().enqueue(session, document_id)
        await session.commit()


@ANSWERS.wrong("not enqueued")
class OnlyLivingDocuments(Base):
    async def enqueue(self, session, document_id):
        if await session.get(Document, document_id):
            await super().enqueue(session, document_id)


@ANSWERS.wrong("not enqueued")
class NothingIsThere(Base):
    async def enqueue(self, session, document_id):
        return


@ANSWERS.wrong("store called")
class BothAtOnce(Base):
    async def enqueue(self, session, document_id):
        await super().enqueue(session, document_id)
        await self.put(document_id, await self.passages(session, document_id))


@ANSWERS.wrong("not a bool")
class SaysNothing(Base):
    async def carry(self):
        await super().carry()


@ANSWERS.wrong("connection held")
class KeepsItsSession(Base):
    async def carry(self):
        self.kept = self.sessions()
        await self.kept.execute(self.due())
        return await super().carry()


@ANSWERS.wrong("not carried")
class LeavesOldPassages(Base):
    async def put(self, id, passages):
        if passages:
            await self.store.upsert(id, passages)
        else:
            await self.store.delete(id)


@ANSWERS.wrong("not carried")
class OnlyAdds(Base):
    async def put(self, id, passages):
        await self.store.upsert(id, passages)


@ANSWERS.wrong("not drained")
class KeepsEntries(Base):
    async def done(self, session, id, ids):
        later = {"run_after": func.now() + timedelta(days=1)}
        await session.execute(update(self.entries).where(self.row.id.in_(ids)).values(later))


@ANSWERS.wrong("nothing to do")
class Impatient(Base):
    def due(self):
        return select(self.row.document_id).group_by(self.row.document_id).order_by(func.min(self.row.run_after))


@ANSWERS.wrong("failure came out")
class LetsItOut(Base):
    async def note(self, session, ids, error):
        await super().note(session, ids, error)
        await session.commit()
        raise error


@ANSWERS.wrong("lost at a failure")
class ForgetsFirst(Base):
    async def carry(self):
        async with self.sessions.begin() as session:
            if (id := await self.take(session)) is None:
                return False
            ids, passages = await self.ids(session, id), await self.passages(session, id)
            await self.done(session, id, ids)
        with suppress(StoreFailed):
            await self.put(id, passages)
        return True


@ANSWERS.wrong("not noted")
class TriesAgainAtOnce(Base):
    async def note(self, session, ids, error):
        noted = {"attempts": self.row.attempts + 1, "error": str(error)}
        await session.execute(update(self.entries).where(self.row.id.in_(ids)).values(noted))


@ANSWERS.wrong("not noted")
class NotesAndRollsBack(Base):
    async def note(self, session, ids, error):
        await super().note(session, ids, error)
        await session.rollback()


@ANSWERS.wrong("lost at a kill")
class Leases(Base):
    """A lease of a minute is a minute in which nobody else may carry it."""

    async def carry(self):
        async with self.sessions.begin() as session:
            if (id := await self.take(session)) is None:
                return False
            ids, passages = await self.ids(session, id), await self.passages(session, id)
            lease = {"run_after": func.now() + timedelta(minutes=1)}
            await session.execute(update(self.entries).where(self.row.id.in_(ids)).values(lease))
        try:
            await self.put(id, passages)
        except StoreFailed as error:
            async with self.sessions.begin() as session:
                await self.note(session, ids, error)
        else:
            async with self.sessions.begin() as session:
                await self.done(session, id, ids)
        return True


@ANSWERS.wrong("lost at a kill")
class DoneInTheEndWhateverComes(Base):
    async def carry(self):
        async with self.sessions.begin() as session:
            if (id := await self.take(session)) is None:
                return False
            ids, passages = await self.ids(session, id), await self.passages(session, id)
            try:
                await self.put(id, passages)
            except StoreFailed as error:
                await self.note(session, ids, error)
                return True
            except asyncio.CancelledError:
                pass
            await self.done(session, id, ids)
            return True


@ANSWERS.wrong("writer waits")
class LocksTheDocument(Base):
    async def passages(self, session, id):
        await session.execute(select(Document.id).where(Document.id == id).with_for_update())
        return await super().passages(session, id)


@ANSWERS.wrong("writer waits")
class EnqueuesUnderTheSameLock(Base):
    async def enqueue(self, session, document_id):
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(document_id), 0))))
        await super().enqueue(session, document_id)


@ANSWERS.wrong("lost meanwhile")
class DeletesAllOfTheDocument(Base):
    async def done(self, session, id, ids):
        await session.execute(delete(self.entries).where(self.row.document_id == id))


@ANSWERS.wrong("lost meanwhile")
class DeletesUpToTheLast(Base):
    """Ids are given early, and committed late."""

    async def done(self, session, id, ids):
        of_it = (self.row.document_id == id) & (self.row.id <= max(ids))
        await session.execute(delete(self.entries).where(of_it))


@ANSWERS.wrong("not enqueued")
class OneIsEnough(Base):
    """The entry that is there may be in the hands of a worker that has looked already."""

    async def enqueue(self, session, document_id):
        there = select(self.row.id).where(self.row.document_id == document_id)
        if await session.scalar(there) is None:
            await super().enqueue(session, document_id)


@ANSWERS.wrong("waits")
class OneWorkerAtATime(Base):
    async def locks(self, session, id):
        await session.execute(select(func.pg_advisory_xact_lock(1003)))
        return True


@ANSWERS.wrong("waits")
class StandsInLine(Base):
    def due(self):
        return select(self.row.document_id).where(self.row.run_after <= func.now()).with_for_update()


@ANSWERS.wrong("stopped")
class LooksAtTheFirst(Base):
    async def take(self, session):
        id = await session.scalar(self.due())
        return id if id is not None and await self.locks(session, id) else None


@ANSWERS.wrong("stopped")
class OneLockForAll(Base):
    async def locks(self, session, id):
        return await session.scalar(select(func.pg_try_advisory_xact_lock(1003)))


@ANSWERS.wrong("older over newer")
class LocksTheEntry(Base):
    """SKIP LOCKED skips this entry; the next change of the same document has another one."""

    async def take(self, session):
        row = self.row
        one = select(row.document_id, row.id).where(row.run_after <= func.now()).order_by(row.run_after, row.id)
        found = (await session.execute(one.limit(1).with_for_update(skip_locked=True))).one_or_none()
        self.one = None if found is None else found.id
        return None if found is None else found.document_id

    async def ids(self, session, id):
        return [self.one]


@ANSWERS.wrong("older over newer")
class NothingOlderIsThere(Base):
    """An older entry may be committed later than a newer one."""

    async def take(self, session):
        older = self.entries.alias()
        row = self.row
        first = ~select(older.c.id).where(older.c.document_id == row.document_id, older.c.id < row.id).exists()
        one = select(row.document_id, row.id).where(row.run_after <= func.now(), first).order_by(row.id)
        found = (await session.execute(one.limit(1).with_for_update(skip_locked=True))).one_or_none()
        self.one = None if found is None else found.id
        return None if found is None else found.document_id

    async def ids(self, session, id):
        return [self.one]


@ANSWERS.wrong("stuck")
class ByIdAlone(Base):
    """What has failed is due later, and is looked at first all the same."""

    async def take(self, session):
        waiting = select(self.row.run_after > func.now()).order_by(self.row.id).limit(1)
        if await session.scalar(waiting):
            return None
        return await super().take(session)


@ANSWERS.wrong("given up")
class FiveTimes(Base):
    async def note(self, session, ids, error):
        await super().note(session, ids, error)
        await session.execute(delete(self.entries).where(self.row.attempts >= 5))


@ANSWERS.wrong("given up")
class FiveTimesAndThenAside(Base):
    def due(self):
        row = self.row
        found = select(row.document_id).where(row.run_after <= func.now(), or_(row.attempts < 5, row.error.is_(None)))
        return found.group_by(row.document_id).order_by(func.min(row.run_after))


@ANSWERS.wrong("strangers")
class CopiesEverything(Base):
    async def put(self, id, passages):
        async with self.sessions() as session:
            for other in (await session.scalars(select(DocumentChunk.document_id).distinct())).all():
                await super().put(other, await self.passages(session, other))
        await super().put(id, passages)


@ANSWERS.wrong("passages changed")
class TidiesUp(Base):
    async def done(self, session, id, ids):
        await super().done(session, id, ids)
        await session.execute(delete(DocumentChunk).where(DocumentChunk.document_id == id))


@ANSWERS.wrong("never agreed")
class StaysAway(Base):
    """A store that fails two documents in a row is taken to be down, and nobody ever looks again."""

    def __init__(self, *given):
        super().__init__(*given)
        self.failed = set()

    async def carry(self):
        return len(self.failed) < 2 and await super().carry()

    async def take(self, session):
        self.id = await super().take(session)
        return self.id

    async def note(self, session, ids, error):
        await super().note(session, ids, error)
        self.failed.add(self.id)

    async def done(self, session, id, ids):
        await super().done(session, id, ids)
        self.failed.clear()


@ANSWERS.wrong("between two statements")
class ReadsFirst(Base):
    """The passages are read before the lock is there: another worker may have carried newer ones meanwhile."""

    async def take(self, session):
        self.read = {}
        for id in (await session.scalars(self.due())).all():
            self.read[id] = await super().passages(session, id)
        return await super().take(session)

    async def passages(self, session, id):
        return self.read[id] if id in self.read else await super().passages(session, id)


@ANSWERS.wrong("between two statements")
class PassagesBeforeIds(Base):
    """A change between the two is not among the passages, and its entry is deleted."""

    async def take(self, session):
        id = await super().take(session)
        self.read = None if id is None else await super().passages(session, id)
        return id

    async def passages(self, session, id):
        return self.read
