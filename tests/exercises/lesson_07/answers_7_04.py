"""Answers to 7.4, a cache that two ingests share."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import openai
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from course_lib.llm import EMBEDDING_MODEL
from course_lib.models import CachedEmbedding as Cached
from course_lib.repositories.rag.buying import buy_once
from course_lib.repositories.rag.cache import EmbeddingCache
from tests.exercises.written import Answers

ANSWERS = Answers("7.4")
OURS = Cached.model == EMBEDDING_MODEL


def key_of(one):
    return hashlib.sha256(one.encode()).digest()


class Buyer:
    """A right answer in small methods; what differs between answers are some of these."""

    def __init__(self, sessions, client):
        self.sessions = sessions
        self.client = client

    async def all(self, texts):
        keys = {key_of(one): one for one in texts}
        found = {}
        while missing := sorted(keys.keys() - found.keys()):
            mine = await self.claim(missing)
            if mine:
                found |= await self.buy({key: keys[key] for key in mine})
                continue
            found |= await self.known(missing)
            if keys.keys() - found.keys():
                await asyncio.sleep(0.05)
        return {one: found[key] for key, one in keys.items()}

    async def known(self, keys):
        statement = select(Cached.content_hash, Cached.embedding)
        statement = statement.where(Cached.content_hash.in_(keys), OURS, Cached.embedding.is_not(None))
        async with self.sessions() as session:
            return dict((await session.execute(statement)).all())

    def until(self):
        return func.clock_timestamp() + timedelta(minutes=1)

    def expired(self):
        return Cached.embedding.is_(None) & (Cached.claimed_until < func.clock_timestamp())

    async def claim(self, keys):
        rows = [{"content_hash": key, "model": EMBEDDING_MODEL, "claimed_until": self.until()} for key in keys]
        statement = upsert(Cached).values(rows)
        statement = statement.on_conflict_do_update(
            index_elements=["content_hash", "model"], set_={"claimed_until": self.until()}, where=self.expired()
        )
        async with self.sessions.begin() as session:
            return list(await session.scalars(statement.returning(Cached.content_hash)))

    async def ask(self, claimed):
        keys = list(claimed)
        answer = await self.client.embeddings.create(model=EMBEDDING_MODEL, input=list(claimed.values()))
        return {keys[item.index]: item.embedding for item in answer.data}

    async def fill(self, vectors):
        async with self.sessions.begin() as session:
            for key, vector in vectors.items():
                row = update(Cached).where(Cached.content_hash == key, OURS)
                await session.execute(row.values(embedding=vector, claimed_until=None))

    async def give_back(self, keys):
        async with self.sessions.begin() as session:
            mine = delete(Cached).where(Cached.content_hash.in_(keys), OURS, Cached.embedding.is_(None))
            await session.execute(mine)

    async def buy(self, claimed):
        try:
            vectors = await self.ask(claimed)
            await self.fill(vectors)
        except BaseException:
            await self.give_back(list(claimed))
            raise
        return vectors


@ANSWERS.right
async def in_small_methods(sessions, client, texts):
    return await Buyer(sessions, client).all(texts)


@ANSWERS.right
async def takes_over_first(sessions, client, texts):
    """Expired claims are deleted, then ON CONFLICT DO NOTHING decides."""

    class Deleting(Buyer):
        async def claim(self, keys):
            rows = [{"content_hash": key, "model": EMBEDDING_MODEL, "claimed_until": self.until()} for key in keys]
            statement = upsert(Cached).values(rows).on_conflict_do_nothing().returning(Cached.content_hash)
            async with self.sessions.begin() as session:
                over = select(Cached).where(Cached.content_hash.in_(keys), OURS, self.expired())
                over = over.order_by(Cached.content_hash).with_for_update()
                for row in await session.scalars(over):
                    await session.delete(row)
                await session.flush()
                return list(await session.scalars(statement))

    return await Deleting(sessions, client).all(texts)


@ANSWERS.right
async def under_a_lock_of_the_database(sessions, client, texts):
    class Locking(Buyer):
        async def claim(self, keys):
            async with self.sessions.begin() as session:
                await session.execute(text("LOCK TABLE embedding_cache IN SHARE ROW EXCLUSIVE MODE"))
                rows = select(Cached.content_hash).where(Cached.content_hash.in_(keys), OURS)
                taken = set(await session.scalars(rows.where(~self.expired())))
                await session.execute(delete(Cached).where(Cached.content_hash.in_(keys), OURS, self.expired()))
                free = [key for key in keys if key not in taken]
                rows = [{"content_hash": key, "model": EMBEDDING_MODEL, "claimed_until": self.until()} for key in free]
                if rows:
                    await session.execute(insert(Cached).values(rows))
                return free

    return await Locking(sessions, client).all(texts)


@ANSWERS.right
async def as_the_course_does(sessions, client, texts):
    keys = {key_of(one): one for one in texts}
    vectors, _ = await buy_once(sessions, keys, client)
    async with sessions.begin() as session:
        await EmbeddingCache(session, EMBEDDING_MODEL).keep(vectors)
    return {one: vectors[key] for key, one in keys.items()}


@ANSWERS.wrong("not vectors")
async def a_list(sessions, client, texts):
    return list((await Buyer(sessions, client).all(texts)).values())


@ANSWERS.wrong("not vectors")
async def by_hash(sessions, client, texts):
    return {key_of(one): vector for one, vector in (await Buyer(sessions, client).all(texts)).items()}


@ANSWERS.wrong("wrong vector")
async def in_the_wrong_order(sessions, client, texts):
    class Mixing(Buyer):
        async def ask(self, claimed):
            answer = await self.client.embeddings.create(model=EMBEDDING_MODEL, input=list(claimed.values()))
            return dict(zip(sorted(claimed, reverse=True), (item.embedding for item in answer.data), strict=True))

    return await Mixing(sessions, client).all(texts)


@ANSWERS.wrong("asked for nothing")
async def no_cache_at_all(sessions, client, texts):
    class Forgetting(Buyer):
        async def claim(self, keys):
            async with self.sessions.begin() as session:
                await session.execute(delete(Cached).where(Cached.content_hash.in_(keys), OURS))
            return await super().claim(keys)

    return await Forgetting(sessions, client).all(texts)


@ANSWERS.wrong("asked for nothing")
async def vectors_run_out_too(sessions, client, texts):
    class Impatient(Buyer):
        def expired(self):
            return Cached.claimed_until < func.clock_timestamp()

    return await Impatient(sessions, client).all(texts)


@ANSWERS.wrong("bought too much")
async def equal_ones_twice(sessions, client, texts):
    class Doubling(Buyer):
        async def ask(self, claimed):
            keys = [key_of(one) for one in texts if key_of(one) in claimed]
            given = [one for one in texts if key_of(one) in claimed]
            answer = await self.client.embeddings.create(model=EMBEDDING_MODEL, input=given)
            return {keys[item.index]: item.embedding for item in answer.data}

    return await Doubling(sessions, client).all(texts)


@ANSWERS.wrong("vector of another")
async def of_whatever_model(sessions, client, texts):
    class Careless(Buyer):
        async def claim(self, keys):
            statement = select(Cached.content_hash).where(Cached.content_hash.in_(keys), Cached.embedding.is_not(None))
            async with self.sessions() as session:
                there = set(await session.scalars(statement))
            left = [key for key in keys if key not in there]
            return await super().claim(left) if left else []

        async def known(self, keys):
            statement = select(Cached.content_hash, Cached.embedding)
            statement = statement.where(Cached.content_hash.in_(keys), Cached.embedding.is_not(None))
            async with self.sessions() as session:
                return dict((await session.execute(statement)).all())

        async def buy(self, claimed):
            try:
                return await super().buy(claimed)
            except openai.OpenAIError:
                raise

    return await Careless(sessions, client).all(texts)


@ANSWERS.wrong("too many requests")
async def a_request_for_each(sessions, client, texts):
    class Single(Buyer):
        async def ask(self, claimed):
            vectors = {}
            for key, one in claimed.items():
                vectors |= await super().ask({key: one})
            return vectors

    return await Single(sessions, client).all(texts)


@ANSWERS.wrong("not claimed")
async def without_claims(sessions, client, texts):
    class Late(Buyer):
        async def claim(self, keys):
            there = await self.known(keys)
            return [key for key in keys if key not in there]

        async def all(self, texts):
            keys = {key_of(one): one for one in texts}
            found = await self.known(list(keys))
            missing = {key: one for key, one in keys.items() if key not in found}
            if missing:
                vectors = await self.ask(missing)
                await super().claim(list(missing))
                await self.fill(vectors)
                found |= vectors
            return {one: found[key] for key, one in keys.items()}

    return await Late(sessions, client).all(texts)


@ANSWERS.wrong("not minutes")
async def for_ten_minutes(sessions, client, texts):
    class Lasting(Buyer):
        def until(self):
            return func.clock_timestamp() + timedelta(minutes=10)

    return await Lasting(sessions, client).all(texts)


@ANSWERS.wrong("taken from another")
async def reads_any_model(sessions, client, texts):
    class Careless(Buyer):
        async def known(self, keys):
            statement = select(Cached.content_hash, Cached.embedding)
            statement = statement.where(Cached.content_hash.in_(keys), Cached.embedding.is_not(None))
            async with self.sessions() as session:
                return dict((await session.execute(statement.order_by(Cached.model))).all())

    return await Careless(sessions, client).all(texts)


@ANSWERS.wrong("connection held")
async def in_one_transaction(sessions, client, texts):
    class Holding(Buyer):
        async def ask(self, claimed):
            async with self.sessions() as session:
                await session.execute(select(1))
                return await super().ask(claimed)

    return await Holding(sessions, client).all(texts)


@ANSWERS.wrong("not stored")
async def forgets_to_commit(sessions, client, texts):
    class Forgetting(Buyer):
        async def fill(self, vectors):
            async with self.sessions() as session:
                for key, vector in vectors.items():
                    row = update(Cached).where(Cached.content_hash == key, OURS)
                    await session.execute(row.values(embedding=vector, claimed_until=None))

    return await Forgetting(sessions, client).all(texts)


@ANSWERS.wrong("still claimed")
async def leaves_the_time(sessions, client, texts):
    class Leaving(Buyer):
        async def fill(self, vectors):
            async with self.sessions.begin() as session:
                for key, vector in vectors.items():
                    await session.execute(
                        update(Cached).where(Cached.content_hash == key, OURS).values(embedding=vector)
                    )

    return await Leaving(sessions, client).all(texts)


@ANSWERS.wrong("error swallowed")
async def says_what_it_has(sessions, client, texts):
    try:
        return await Buyer(sessions, client).all(texts)
    except openai.OpenAIError:
        return {}


@ANSWERS.wrong("another error")
async def in_its_own_words(sessions, client, texts):
    try:
        return await Buyer(sessions, client).all(texts)
    except openai.OpenAIError as error:
        raise RuntimeError("no vectors") from error


@ANSWERS.wrong("claim kept")
async def leaves_its_claims(sessions, client, texts):
    class Leaving(Buyer):
        async def give_back(self, keys):
            pass

    return await Leaving(sessions, client).all(texts)


@ANSWERS.wrong("vectors lost")
async def deletes_all_it_was_asked_for(sessions, client, texts):
    class Sweeping(Buyer):
        async def give_back(self, keys):
            async with self.sessions.begin() as session:
                await session.execute(delete(Cached).where(Cached.content_hash.in_([key_of(one) for one in texts])))

    return await Sweeping(sessions, client).all(texts)


@ANSWERS.wrong("claims lost")
async def deletes_every_claim_on_its_texts(sessions, client, texts):
    class Sweeping(Buyer):
        async def give_back(self, keys):
            await super().give_back([key_of(one) for one in texts])

    return await Sweeping(sessions, client).all(texts)


@ANSWERS.wrong("bought another's")
async def takes_every_claim(sessions, client, texts):
    class Greedy(Buyer):
        def expired(self):
            return Cached.embedding.is_(None)

    return await Greedy(sessions, client).all(texts)


@ANSWERS.wrong("held while waiting")
async def waits_in_a_session(sessions, client, texts):
    class Waiting(Buyer):
        async def known(self, keys):
            found = await super().known(keys)
            async with self.sessions() as session:
                while found.keys() != set(keys):
                    await session.rollback()
                    await session.execute(select(1))
                    await asyncio.sleep(0.05)
                    found = await super().known(keys)
                    if await self.claimable(keys):
                        break
            return found

        async def claimable(self, keys):
            async with self.sessions() as session:
                over = select(Cached.content_hash).where(Cached.content_hash.in_(keys), OURS, self.expired())
                return (await session.scalars(over)).first()

    return await Waiting(sessions, client).all(texts)


@ANSWERS.wrong("rows of another")
async def gives_back_for_all_models(sessions, client, texts):
    class Sweeping(Buyer):
        async def give_back(self, keys):
            async with self.sessions.begin() as session:
                unfilled = Cached.content_hash.in_(keys) & Cached.embedding.is_(None)
                await session.execute(delete(Cached).where(unfilled))

    return await Sweeping(sessions, client).all(texts)


@ANSWERS.wrong("not taken over")
async def waits_for_the_dead(sessions, client, texts):
    class Trusting(Buyer):
        taken = False

        def expired(self):
            if self.taken:
                return Cached.model == ""
            self.taken = True
            return super().expired()

    return await Trusting(sessions, client).all(texts)


@ANSWERS.wrong("bought twice")
async def looks_first(sessions, client, texts):
    class Looking(Buyer):
        async def claim(self, keys):
            async with self.sessions.begin() as session:
                taken = select(Cached.content_hash).where(Cached.content_hash.in_(keys), OURS, ~self.expired())
                there = set(await session.scalars(taken))
                free = [key for key in keys if key not in there]
                rows = [{"content_hash": key, "model": EMBEDDING_MODEL, "claimed_until": self.until()} for key in free]
                if rows:
                    put = upsert(Cached).values(rows)
                    put = put.on_conflict_do_update(
                        index_elements=["content_hash", "model"], set_={"claimed_until": put.excluded.claimed_until}
                    )
                    await session.execute(put)
                return free

    return await Looking(sessions, client).all(texts)


@ANSWERS.wrong("failed at once")
async def in_the_order_of_the_texts(sessions, client, texts):
    class Unsorted(Buyer):
        async def claim(self, keys):
            order = [key_of(one) for one in texts]
            async with self.sessions.begin() as session:
                mine = []
                for key in sorted(keys, key=order.index):
                    row = {"content_hash": key, "model": EMBEDDING_MODEL}
                    soon = datetime.now(UTC) + timedelta(minutes=1)
                    put = upsert(Cached).values(row | {"claimed_until": soon})
                    put = put.on_conflict_do_update(
                        index_elements=["content_hash", "model"], set_={"claimed_until": soon}, where=self.expired()
                    )
                    mine += await session.scalars(put.returning(Cached.content_hash))
                return mine

    return await Unsorted(sessions, client).all(texts)


@ANSWERS.wrong("failed at once")
async def in_one_statement_in_the_order_of_the_texts(sessions, client, texts):
    class Unsorted(Buyer):
        async def claim(self, keys):
            order = [key_of(one) for one in texts]
            return await super().claim(sorted(keys, key=order.index))

    return await Unsorted(sessions, client).all(texts)


@ANSWERS.wrong("failed at once")
async def in_the_order_of_a_set(sessions, client, texts):
    """Which is one of hashes: another one in each process."""

    class Unsorted(Buyer):
        async def claim(self, keys):
            return await super().claim([key for key in {key_of(one) for one in texts} if key in keys])

    return await Unsorted(sessions, client).all(texts)


@ANSWERS.wrong("failed at once")
async def in_the_order_of_a_set_of_texts(sessions, client, texts):
    class Unsorted(Buyer):
        async def claim(self, keys):
            return await super().claim([key_of(one) for one in set(texts) if key_of(one) in keys])

    return await Unsorted(sessions, client).all(texts)


@ANSWERS.wrong("rows of another")
async def fills_the_rows_of_all_models(sessions, client, texts):
    class Filling(Buyer):
        async def fill(self, vectors):
            async with self.sessions.begin() as session:
                for key, vector in vectors.items():
                    row = update(Cached).where(Cached.content_hash == key)
                    await session.execute(row.values(embedding=vector, claimed_until=None))

    return await Filling(sessions, client).all(texts)


@ANSWERS.wrong("bought twice")
async def deletes_what_had_run_out_when_it_looked(sessions, client, texts):
    class Late(Buyer):
        async def claim(self, keys):
            rows = [{"content_hash": key, "model": EMBEDDING_MODEL, "claimed_until": self.until()} for key in keys]
            statement = upsert(Cached).values(rows).on_conflict_do_nothing().returning(Cached.content_hash)
            over = select(Cached.content_hash).where(Cached.content_hash.in_(keys), OURS, self.expired())
            async with self.sessions.begin() as session:
                late = list(await session.scalars(over))
                await session.execute(delete(Cached).where(Cached.content_hash.in_(late), OURS))
                return list(await session.scalars(statement))

    return await Late(sessions, client).all(texts)
