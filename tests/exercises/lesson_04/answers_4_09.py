"""Answers to 4.9, from one model to the next."""

from __future__ import annotations

from sqlalchemy import INTEGER, bindparam, exists, func, insert, select, text, update

from course_lib.exercises.lesson_04.two_models import passages, search_model
from tests.exercises.written import Answers

ANSWERS = Answers("4.9")


class Right:
    """What the others change a part of."""

    def __init__(self, old, next_):
        self.old = old
        self.next = next_

    async def store(self, session, texts):
        olds, nexts = await self.old(texts), await self.next(texts)
        rows = [{"content": t, "embedding": o, "embedding_next": n} for t, o, n in zip(texts, olds, nexts, strict=True)]
        await session.execute(insert(passages), rows)

    async def waiting(self, sessions, batch):
        statement = select(passages.c.id, passages.c.content).where(passages.c.embedding_next.is_(None)).limit(batch)
        async with sessions() as session:
            return (await session.execute(statement)).all()

    async def write(self, sessions, rows, vectors):
        values = [{"key": row.id, "vector": vector} for row, vector in zip(rows, vectors, strict=True)]
        statement = update(passages).where(passages.c.id == bindparam("key"))
        async with sessions.begin() as session:
            await (await session.connection()).execute(
                statement.values(embedding_next=bindparam("vector", type_=passages.c.embedding.type)), values
            )

    async def backfill(self, sessions, batch):
        while rows := await self.waiting(sessions, batch):
            await self.write(sessions, rows, await self.next([row.content for row in rows]))

    async def switch(self, session):
        if await session.scalar(select(exists().where(passages.c.embedding_next.is_(None)))):
            return False
        await session.execute(update(search_model).values(current="next"))
        return True

    async def current(self, session):
        return await session.scalar(select(search_model.c.current))

    async def search(self, session, question, k):
        if await self.current(session) == "next":
            model, column = self.next, passages.c.embedding_next
        else:
            model, column = self.old, passages.c.embedding
        (vector,) = await model([question])
        statement = select(passages.c.id).order_by(column.cosine_distance(vector)).limit(k)
        return (await session.scalars(statement)).all()


ANSWERS.right(Right)


@ANSWERS.right
class TextSql(Right):
    async def store(self, session, texts):
        vectors = [(one, str((await self.old([one]))[0]), str((await self.next([one]))[0])) for one in texts]
        statement = text("INSERT INTO passages (content, embedding, embedding_next) VALUES (:content, :old, :next)")
        for content, old, next_ in vectors:
            await session.execute(statement, {"content": content, "old": old, "next": next_})

    async def write(self, sessions, rows, vectors):
        statement = text("UPDATE passages SET embedding_next = CAST(:vector AS vector) WHERE id = :id")
        async with sessions() as session:
            await session.execute(
                statement, [{"id": row.id, "vector": str(v)} for row, v in zip(rows, vectors, strict=True)]
            )
            await session.commit()

    async def switch(self, session):
        statement = """
            UPDATE search_model SET current = 'next'
            WHERE NOT EXISTS (SELECT FROM passages WHERE embedding_next IS NULL) RETURNING current
        """
        return (await session.execute(text(statement))).one_or_none() is not None


@ANSWERS.right
class OneByOne(Right):
    async def backfill(self, sessions, batch):
        while rows := await self.waiting(sessions, batch):
            for row in rows:
                await self.write(sessions, [row], await self.next([row.content]))


@ANSWERS.right
class KeysThenBatches(Right):
    """Reads what waits once more at the end, for what came meanwhile."""

    async def backfill(self, sessions, batch):
        while rows := await self.waiting(sessions, 1000):
            for start in range(0, len(rows), batch):
                some = rows[start : start + batch]
                await self.write(sessions, some, await self.next([row.content for row in some]))


@ANSWERS.right
class TriesAgain(Right):
    async def backfill(self, sessions, batch):
        try:
            await super().backfill(sessions, batch)
        except RuntimeError:
            await super().backfill(sessions, batch)


@ANSWERS.right
class CaseInSql(Right):
    async def search(self, session, question, k):
        olds, nexts = await self.old([question]), await self.next([question])
        in_use = select(search_model.c.current).scalar_subquery() == "next"
        distance = func.coalesce(
            passages.c.embedding_next.cosine_distance(nexts[0]) * func.nullif(in_use.cast(INTEGER), 0),
            passages.c.embedding.cosine_distance(olds[0]),
        )
        return (await session.scalars(select(passages.c.id).order_by(distance).limit(k))).all()


@ANSWERS.wrong("method missing")
class NoSwitch:
    def __init__(self, old, next_):
        self.old, self.next = old, next_

    async def store(self, session, texts):
        return None

    async def backfill(self, sessions, batch):
        return None

    async def search(self, session, question, k):
        return []


@ANSWERS.wrong("not written")
class NoSwitchYet:
    def __init__(self, old, next_):
        self.old, self.next = old, next_

    async def store(self, session, texts):
        await session.execute(insert(passages), [])

    async def backfill(self, sessions, batch):
        return await self.next([])

    async def switch(self, session):
        raise NotImplementedError

    async def search(self, session, question, k):
        return [k]


@ANSWERS.wrong("nothing returned")
class SearchesAndForgets(Right):
    async def search(self, session, question, k):
        await super().search(session, question, k)


@ANSWERS.wrong("not a list")
class Rows(Right):
    async def search(self, session, question, k):
        (vector,) = await self.old([question])
        statement = select(passages.c.id).order_by(passages.c.embedding.cosine_distance(vector)).limit(k)
        return (await session.execute(statement)).all()


@ANSWERS.wrong("not a bool")
class SaysNothing(Right):
    async def switch(self, session):
        await super().switch(session)


@ANSWERS.wrong("not stored")
class StoresTheFirst(Right):
    async def store(self, session, texts):
        await super().store(session, texts[:1])


@ANSWERS.wrong("commits itself")
class StoresForGood(Right):
    async def store(self, session, texts):
        await super().store(session, texts)
        await session.commit()


@ANSWERS.wrong("ends it")
class SwitchesAndRollsBack(Right):
    async def switch(self, session):
        await session.execute(update(search_model).values(current="next"))
        if await session.scalar(select(exists().where(passages.c.embedding_next.is_(None)))):
            await session.rollback()
            return False
        return True


@ANSWERS.wrong("half switched")
class WritesThenLooks(Right):
    async def switch(self, session):
        await session.execute(update(search_model).values(current="next"))
        return not await session.scalar(select(exists().where(passages.c.embedding_next.is_(None))))


@ANSWERS.wrong("stored otherwise")
class TheNewVectorTwice(Right):
    filled = False

    async def backfill(self, sessions, batch):
        await super().backfill(sessions, batch)
        self.filled = True

    async def store(self, session, texts):
        olds, nexts = await self.old(texts), await self.next(texts)
        values = zip(texts, nexts if self.filled else olds, nexts, strict=True)
        rows = [{"content": t, "embedding": one, "embedding_next": other} for t, one, other in values]
        await session.execute(insert(passages), rows)


@ANSWERS.wrong("left behind")
class WhatWaitedAtFirst(Right):
    async def backfill(self, sessions, batch):
        rows = await self.waiting(sessions, 1000)
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            await self.write(sessions, some, await self.next([row.content for row in some]))


@ANSWERS.wrong("switched too early")
class TrustsItsOwnBackfill(TheNewVectorTwice):
    store = Right.store

    async def switch(self, session):
        if self.filled:
            await session.execute(update(search_model).values(current="next"))
        return self.filled


@ANSWERS.wrong("never switches")
class OnlyFromOldToNext(Right):
    async def switch(self, session):
        old = search_model.c.current == "old"
        complete = ~exists().where(passages.c.embedding_next.is_(None))
        return (await session.execute(update(search_model).where(old, complete).values(current="next"))).rowcount == 1


@ANSWERS.wrong("mixed")
class LooksTwice(Right):
    async def search(self, session, question, k):
        (vector,) = await (self.next if await self.current(session) == "next" else self.old)([question])
        column = passages.c.embedding_next if await self.current(session) == "next" else passages.c.embedding
        return (await session.scalars(select(passages.c.id).order_by(column.cosine_distance(vector)).limit(k))).all()


@ANSWERS.wrong("connection held")
class OneSessionForAll(Right):
    async def backfill(self, sessions, batch):
        async with sessions() as session:
            waiting = select(passages).where(passages.c.embedding_next.is_(None)).limit(batch)
            while rows := (await session.execute(waiting)).all():
                for row, vector in zip(rows, await self.next([row.content for row in rows]), strict=True):
                    await session.execute(update(passages).where(passages.c.id == row.id).values(embedding_next=vector))
                await session.commit()


@ANSWERS.wrong("connection held")
class LooksBeforeItStores(Right):
    async def store(self, session, texts):
        await self.current(session)
        await super().store(session, texts)


@ANSWERS.wrong("batch too large")
class AllAtOnce(Right):
    async def backfill(self, sessions, batch):
        rows = await self.waiting(sessions, 1000)
        await self.write(sessions, rows, await self.next([row.content for row in rows]))


@ANSWERS.wrong("nothing kept")
class WritesAtTheEnd(Right):
    async def backfill(self, sessions, batch):
        rows, vectors = await self.waiting(sessions, 1000), []
        for start in range(0, len(rows), batch):
            vectors += await self.next([row.content for row in rows[start : start + batch]])
        await self.write(sessions, rows, vectors)


@ANSWERS.wrong("asked twice")
class OneOfEachBatch(Right):
    async def write(self, sessions, rows, vectors):
        await super().write(sessions, rows[:1], vectors[:1])


@ANSWERS.wrong("no error")
class KeepsTheErrorToItself(Right):
    async def store(self, session, texts):
        try:
            await super().store(session, texts)
        except RuntimeError:
            return


@ANSWERS.wrong("no error")
class LeavesItToTheBackfill(Right):
    async def store(self, session, texts):
        olds = await self.old(texts)
        try:
            nexts = await self.next(texts)
        except RuntimeError:
            nexts = [None] * len(texts)
        rows = [{"content": t, "embedding": o, "embedding_next": n} for t, o, n in zip(texts, olds, nexts, strict=True)]
        await session.execute(insert(passages), rows)


@ANSWERS.wrong("starts over")
class FromTheBeginning(Right):
    async def backfill(self, sessions, batch):
        async with sessions() as session:
            rows = (await session.execute(select(passages.c.id, passages.c.content))).all()
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            await self.write(sessions, some, await self.next([row.content for row in some]))


@ANSWERS.wrong("left behind")
class OneFewerThanABatch(Right):
    async def backfill(self, sessions, batch):
        while rows := await self.waiting(sessions, batch - 1):
            await self.write(sessions, rows, await self.next([row.content for row in rows]))


@ANSWERS.wrong("left behind")
class UntilABatchIsNotFull(Right):
    async def backfill(self, sessions, batch):
        full = True
        while full and (rows := await self.waiting(sessions, batch)):
            await self.write(sessions, rows, await self.next([row.content for row in rows]))
            full = len(rows) == batch


class BehindTheLast(Right):
    upwards = True

    async def backfill(self, sessions, batch):
        place = passages.c.id if self.upwards else -passages.c.id
        waiting = select(passages.c.id, passages.c.content).where(passages.c.embedding_next.is_(None))
        last = -(10**6)
        while True:
            async with sessions() as session:
                rows = (await session.execute(waiting.where(place > last).order_by(place).limit(batch))).all()
            if not rows:
                return
            await self.write(sessions, rows, await self.next([row.content for row in rows]))
            last = rows[-1].id if self.upwards else -rows[-1].id


@ANSWERS.wrong("left behind")
class Upwards(BehindTheLast):
    pass


@ANSWERS.wrong("left behind")
class Downwards(BehindTheLast):
    upwards = False


@ANSWERS.wrong("left behind")
class OneBatchAndDone(Right):
    async def backfill(self, sessions, batch):
        for _ in range(2):
            if rows := await self.waiting(sessions, batch):
                await self.write(sessions, rows, await self.next([row.content for row in rows]))


@ANSWERS.wrong("left behind")
class GivesUpQuietly(Right):
    async def backfill(self, sessions, batch):
        for _ in range(3):
            try:
                if rows := await self.waiting(sessions, batch):
                    await self.write(sessions, rows, await self.next([row.content for row in rows]))
            except RuntimeError:
                return


@ANSWERS.wrong("other vectors")
class OutOfStep(Right):
    async def write(self, sessions, rows, vectors):
        await super().write(sessions, rows, vectors[1:] + vectors[:1])


@ANSWERS.wrong("other vectors")
class OldOnesAgain(Right):
    async def backfill(self, sessions, batch):
        while rows := await self.waiting(sessions, batch):
            texts = [row.content for row in rows]
            await self.next(texts)
            await self.write(sessions, rows, await self.old(texts))


@ANSWERS.wrong("switched too early")
class SwitchesAnyway(Right):
    async def switch(self, session):
        await session.execute(update(search_model).values(current="next"))
        return True


@ANSWERS.wrong("stored with one vector")
class OldVectorsOnly(Right):
    async def store(self, session, texts):
        olds = await self.old(texts)
        await session.execute(
            insert(passages), [{"content": t, "embedding": o} for t, o in zip(texts, olds, strict=True)]
        )


@ANSWERS.wrong("mixed")
class WhicheverThereIs(Right):
    async def search(self, session, question, k):
        model = self.next if await self.current(session) == "next" else self.old
        (vector,) = await model([question])
        either = func.coalesce(passages.c.embedding_next, passages.c.embedding, type_=passages.c.embedding.type)
        return (await session.scalars(select(passages.c.id).order_by(either.cosine_distance(vector)).limit(k))).all()


@ANSWERS.wrong("mixed")
class EachByItsOwnModel(Right):
    """Right by each row, and distances of two models are compared with one another."""

    async def search(self, session, question, k):
        if await self.current(session) == "next":
            return await super().search(session, question, k)
        olds, nexts = await self.old([question]), await self.next([question])
        distance = func.coalesce(
            passages.c.embedding_next.cosine_distance(nexts[0]), passages.c.embedding.cosine_distance(olds[0])
        )
        return (await session.scalars(select(passages.c.id).order_by(distance).limit(k))).all()


@ANSWERS.wrong("not by the row")
class ByWhatIsThere(Right):
    """Never writes the row that says what is in use, and never reads it."""

    async def switch(self, session):
        return not await session.scalar(select(exists().where(passages.c.embedding_next.is_(None))))

    async def current(self, session):
        return "next" if await self.switch(session) else "old"


@ANSWERS.wrong("mixed")
class TheOldModelForever(Right):
    async def search(self, session, question, k):
        (vector,) = await self.old([question])
        column = passages.c.embedding_next if await self.current(session) == "next" else passages.c.embedding
        return (await session.scalars(select(passages.c.id).order_by(column.cosine_distance(vector)).limit(k))).all()


@ANSWERS.wrong("missing")
class TheNextOneAtOnce(Right):
    async def search(self, session, question, k):
        if not await session.scalar(select(exists().where(passages.c.embedding_next.is_not(None)))):
            return await super().search(session, question, k)
        (vector,) = await self.next([question])
        next_ = passages.c.embedding_next
        statement = select(passages.c.id).where(next_.is_not(None)).order_by(next_.cosine_distance(vector)).limit(k)
        return (await session.scalars(statement)).all()


@ANSWERS.wrong("still old")
class OldForever(Right):
    async def current(self, session):
        return "old"


@ANSWERS.wrong("kept in memory")
class InMemory(Right):
    in_use = "old"

    async def switch(self, session):
        if await super().switch(session):
            self.in_use = "next"
            return True
        return False

    async def current(self, session):
        return self.in_use


@ANSWERS.wrong("wrong passages")
class Farthest(Right):
    async def search(self, session, question, k):
        (vector,) = await self.old([question])
        distance = passages.c.embedding.cosine_distance(vector)
        return (await session.scalars(select(passages.c.id).order_by(distance.desc()).limit(k))).all()


@ANSWERS.wrong("wrong passages")
class OneTooFew(Right):
    async def search(self, session, question, k):
        return await super().search(session, question, k - 1)


@ANSWERS.wrong("raised")
class VectorsAsRows(Right):
    async def store(self, session, texts):
        await session.execute(insert(passages), [{"content": text} for text in texts])
