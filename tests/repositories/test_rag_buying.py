"""What is embedded, counted where it reaches the model: once for each text, whoever asks and however many at a time."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from collections import Counter
from datetime import timedelta
from uuid import uuid4

import httpx2
import numpy as np
import openai
import pytest
from sqlalchemy import URL, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.db import make_session_factory
from course_lib.instruments import PoolGauge
from course_lib.llm import EMBEDDING_MODEL, OfflineTransport, embed_texts, openai_client
from course_lib.llm.behaving import BehavingTransport
from course_lib.llm.behaviour import Behaviour
from course_lib.models import CachedEmbedding, Document, DocumentChunk, User
from course_lib.models.documents import passage_hash
from course_lib.repositories import RagRepository
from course_lib.repositories.rag import EmbeddingCache, NewDocument, buying, cut, delete_unneeded, embed, ingest
from course_lib.repositories.rag.buying import buy_once

Sessions = async_sessionmaker[AsyncSession]
TEXTS = [f"Rope number {number} is kept dry." for number in range(12)]


class Model:
    """The offline model, which notes every text it is asked for, and how many connections are out then."""

    def __init__(self, engine: AsyncEngine | None = None, **behaviour: float) -> None:
        self.texts: list[str] = []
        self.requests: list[int] = []
        self.connections: set[int] = set()
        self._engine = engine
        transport = BehavingTransport(OfflineTransport(), Behaviour(**behaviour))  # type: ignore[arg-type]
        http = httpx2.AsyncClient(transport=transport, event_hooks={"request": [self._note]})
        self.client = openai.AsyncOpenAI(api_key="none", base_url="http://offline.invalid/v1", http_client=http)

    async def _note(self, request: httpx2.Request) -> None:
        asked = json.loads(request.content)["input"]
        self.texts += asked
        self.requests.append(len(asked))
        if self._engine is not None:
            self.connections.add(self._engine.pool.checkedout())  # type: ignore[attr-defined]


@pytest.fixture
def sessions(binary: AsyncEngine) -> Sessions:
    return make_session_factory(binary)


@pytest.fixture
async def other(sessions: Sessions, user: User) -> User:
    async with sessions() as session:
        return (await session.scalars(select(User).where(User.id != user.id).limit(1))).one()


def by_hash(texts: list[str]) -> dict[bytes, str]:
    return {passage_hash(one): one for one in texts}


async def passages(sessions: Sessions, document_id: object) -> list[DocumentChunk]:
    async with sessions() as session:
        chunks = select(DocumentChunk).where(DocumentChunk.document_id == document_id)
        return list(await session.scalars(chunks.order_by(DocumentChunk.chunk_index)))


async def set_claims(sessions: Sessions, seconds: float) -> None:
    """As if all claims had been made so that they run out in so many seconds."""
    async with sessions.begin() as session:
        later = func.clock_timestamp() + timedelta(seconds=seconds)
        await session.execute(update(CachedEmbedding).values(claimed_until=later))


# a document that comes again


async def test_a_changed_document_buys_what_changed_and_its_vectors_are_right(sessions: Sessions, user: User) -> None:
    text = "\n\n".join(f"## Rope {n}\n\nRope number {n} is kept dry, and looked at on day {n}." for n in range(90))
    first, model = cut(text), Model()
    stored = await ingest(sessions, user.id, "ropes", "Ropes", first, model.client)
    assert (stored.embedded, stored.reused) == (len(first), 0) and sorted(model.texts) == sorted(first)

    second, again = cut(text.replace("Rope number 4 ", "Since May, rope number 4 ")), Model()
    stored = await ingest(sessions, user.id, "ropes", "Ropes", second, again.client)
    assert again.texts == [one for one in second if one not in first] and len(again.texts) == 1
    assert (stored.embedded, stored.reused, stored.changed) == (1, len(second) - 1, True)

    third = [second[-1], "Put in between.", *second[:40], *second[45:]]  # moved, inserted, taken out
    more = Model()
    stored = await ingest(sessions, user.id, "ropes", "Ropes", third, more.client)
    assert more.texts == ["Put in between."]
    found = await passages(sessions, stored.id)
    assert [(one.chunk_index, one.content) for one in found] == list(enumerate(third))
    assert np.array_equal(np.float32([one.embedding for one in found]), await embed_texts(third))


async def test_what_was_stored_without_the_cache_is_not_bought_again(sessions: Sessions, user: User) -> None:
    async with sessions.begin() as session:
        await RagRepository(session).replace(user.id, [NewDocument("ropes", "Ropes", TEXTS, await embed(TEXTS))])
    model = Model()
    await ingest(sessions, user.id, "ropes", "Ropes", [*TEXTS, "One more."], model.client)
    assert model.texts == ["One more."]


async def test_a_text_that_comes_twice_in_a_document_is_bought_once(sessions: Sessions, user: User) -> None:
    model = Model()
    stored = await ingest(sessions, user.id, "ropes", "Ropes", ["Again.", "Other.", "Again."], model.client)
    assert model.texts == ["Again.", "Other."]
    assert (stored.embedded, stored.reused) == (2, 1)
    assert [one.content for one in await passages(sessions, stored.id)] == ["Again.", "Other.", "Again."]


async def test_vectors_of_another_model_are_not_taken(
    monkeypatch: pytest.MonkeyPatch, sessions: Sessions, user: User
) -> None:
    await ingest(sessions, user.id, "ropes", "Ropes", TEXTS)
    monkeypatch.setattr("course_lib.llm.names.OFFLINE_EMBEDDING_MODEL", "another-model")
    async with sessions() as session:
        assert await EmbeddingCache(session, "another-model").look_up(by_hash(TEXTS)) == ({}, set())
        assert len((await EmbeddingCache(session, "wordllama-l2-256").look_up(by_hash(TEXTS)))[0]) == len(TEXTS)


# many at once


async def test_two_users_with_the_same_text_at_once_buy_it_once(sessions: Sessions, user: User, other: User) -> None:
    model = Model(latency_ms=100)
    stored = await asyncio.gather(
        ingest(sessions, user.id, "ropes", "Ropes", TEXTS, model.client),
        ingest(sessions, other.id, "copy", "Copy", TEXTS[::-1], model.client),
    )
    assert sorted(model.texts) == sorted(TEXTS)
    assert sum(one.embedded for one in stored) == len(TEXTS)
    for one, texts in zip(stored, (TEXTS, TEXTS[::-1]), strict=True):
        found = await passages(sessions, one.id)
        assert [chunk.content for chunk in found] == texts
        assert np.array_equal(np.float32([chunk.embedding for chunk in found]), await embed_texts(texts))


async def test_many_with_texts_that_overlap_buy_each_once_and_do_not_wait_in_a_ring(
    monkeypatch: pytest.MonkeyPatch, sessions: Sessions
) -> None:
    monkeypatch.setattr("course_lib.llm.embed.BATCH_TEXTS", 3)
    texts, model = [f"Text {number}" for number in range(40)], Model(latency_ms=20)
    draw = np.random.default_rng(1)
    asked = [[texts[place] for place in draw.choice(40, 25, replace=False)] for _ in range(6)]
    found = await asyncio.gather(*(buy_once(sessions, by_hash(some), model.client) for some in asked))
    assert max(Counter(model.texts).values()) == 1 and set(model.texts) == {one for some in asked for one in some}
    assert max(model.requests) == 3
    assert sum(bought for _, bought in found) == len(model.texts)
    for some, (vectors, _) in zip(asked, found, strict=True):
        assert np.array_equal(np.stack([vectors[passage_hash(one)] for one in some]), await embed_texts(some))


PROCESS = textwrap.dedent("""
    import asyncio, json, sys
    from course_lib.db import make_engine, make_session_factory
    from course_lib.repositories.rag import ingest
    from tests.repositories.test_rag_buying import Model, TEXTS
    async def main(url, user, source):
        engine, model = make_engine(url, binary_vectors=True), Model(latency_ms=300)
        print("ready", flush=True)
        sys.stdin.readline()
        await ingest(make_session_factory(engine), user, source, "Ropes", TEXTS, model.client)
        print(json.dumps(model.texts), flush=True)
        await engine.dispose()
    asyncio.run(main(*sys.argv[1:]))
""")


async def test_two_processes_at_once_buy_a_text_once(seeded_url: URL, user: User) -> None:
    url = seeded_url.render_as_string(hide_password=False)
    pipe = asyncio.subprocess.PIPE
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, url, str(user.id), f"ropes/{number}", stdin=pipe, stdout=pipe
        )
        for number in range(2)
    ]
    for one in started:
        assert one.stdout is not None and await one.stdout.readline() == b"ready\n"
    written = await asyncio.gather(*(one.communicate(b"go\n") for one in started))
    assert sorted(text for out, _ in written for text in json.loads(out)) == sorted(TEXTS)


# what goes wrong


async def test_the_claims_of_somebody_dead_are_waited_for_until_they_run_out(
    monkeypatch: pytest.MonkeyPatch, sessions: Sessions
) -> None:
    monkeypatch.setattr(buying, "POLL_S", 0.01)
    async with sessions.begin() as session:
        dead = await EmbeddingCache(session, EMBEDDING_MODEL).claim(by_hash(TEXTS))
    assert len(dead) == len(TEXTS)
    model = Model()
    waiting = asyncio.create_task(buy_once(sessions, by_hash(TEXTS), model.client))
    await asyncio.sleep(0.3)
    assert not waiting.done() and model.texts == []
    await set_claims(sessions, -1)
    _, bought = await waiting
    assert bought == len(TEXTS) and sorted(model.texts) == sorted(TEXTS)
    async with sessions.begin() as session:  # who was only thought dead takes nothing away
        cache = EmbeddingCache(session, EMBEDDING_MODEL)
        await cache.give_back(dead)
        assert len((await cache.look_up(by_hash(TEXTS)))[0]) == len(TEXTS)


async def test_a_claim_that_ran_out_and_is_anothers_now_is_not_given_back(sessions: Sessions) -> None:
    hashes = list(by_hash(TEXTS))
    async with sessions.begin() as session:
        mine = await EmbeddingCache(session, "m").claim(hashes)
        assert await EmbeddingCache(session, "m").claim(hashes) == {}
        assert len(await EmbeddingCache(session, "another").claim(hashes)) == len(hashes)
    await set_claims(sessions, -1)
    async with sessions.begin() as session:
        theirs = await EmbeddingCache(session, "m").claim(hashes)
        assert theirs.keys() == mine.keys()
        await EmbeddingCache(session, "m").give_back(mine)
        assert (await EmbeddingCache(session, "m").look_up(hashes))[1] == set(hashes)


FAILURES = {
    "the server fails": {"status": 500, "fail_first": 99, "retry_after_ms": 1},
    "vectors are missing": {"drop_embeddings": 1},
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_call_that_fails_gives_its_claims_back_and_the_old_version_stays(
    failure: str, sessions: Sessions, user: User
) -> None:
    first = await ingest(sessions, user.id, "ropes", "Ropes", TEXTS[:3])
    with pytest.raises(Exception, match=r"lesson asked|returned 8 vectors for 9"):
        await ingest(sessions, user.id, "ropes", "Ropes", TEXTS, openai_client(**FAILURES[failure]))  # type: ignore[arg-type]
    async with sessions() as session:
        assert await session.scalar(select(func.count()).where(CachedEmbedding.embedding.is_(None))) == 0
    assert [one.content for one in await passages(sessions, first.id)] == TEXTS[:3]
    async with asyncio.timeout(10):  # nobody waits for a claim
        assert (await ingest(sessions, user.id, "ropes", "Ropes", TEXTS)).embedded == 9


async def test_who_is_cancelled_gives_claims_back(sessions: Sessions, user: User) -> None:
    model = Model(latency_ms=60_000)
    task = asyncio.create_task(ingest(sessions, user.id, "ropes", "Ropes", TEXTS, model.client))
    while not model.texts:  # noqa: ASYNC110 - the model tells nobody
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(CachedEmbedding)) == 0


async def test_a_model_that_is_slower_than_a_claim_is_given_up(
    monkeypatch: pytest.MonkeyPatch, sessions: Sessions, user: User
) -> None:
    monkeypatch.setattr(buying, "CALL_S", 0.2)
    with pytest.raises(openai.APITimeoutError):
        await ingest(sessions, user.id, "ropes", "Ropes", TEXTS, Model(latency_ms=60_000).client)
    assert (await ingest(sessions, user.id, "ropes", "Ropes", TEXTS)).embedded == len(TEXTS)


async def test_a_server_that_says_when_to_come_back_is_asked_again_then(sessions: Sessions, user: User) -> None:
    model = Model(fail_first=2, status=429, retry_after_s=0.2)
    began = asyncio.get_running_loop().time()
    stored = await ingest(sessions, user.id, "ropes", "Ropes", TEXTS, model.client)
    assert asyncio.get_running_loop().time() - began > 0.4
    assert model.requests == [12, 12, 12] and stored.embedded == 12


async def test_after_a_crash_before_storing_nothing_is_bought_again(sessions: Sessions, user: User) -> None:
    with pytest.raises(IntegrityError):  # the model was paid, the transaction fails
        await ingest(sessions, uuid4(), "ropes", "Ropes", TEXTS)
    model = Model()
    stored = await ingest(sessions, user.id, "ropes", "Ropes", TEXTS, model.client)
    assert (model.texts, stored.embedded, stored.reused) == ([], 0, 12)
    await set_claims(sessions, -1)
    async with sessions.begin() as session:
        assert await delete_unneeded(session) == 0
    async with sessions() as session:
        assert await session.scalar(select(func.count()).where(Document.source == "ropes")) == 1


# connections


async def test_a_pool_of_one_is_enough_for_many_and_is_free_while_the_model_works(seeded_url: URL, user: User) -> None:
    from course_lib.db import make_engine

    engine = make_engine(seeded_url, binary_vectors=True, pool_size=1, max_overflow=0)
    model = Model(engine, latency_ms=200)
    sessions = make_session_factory(engine)
    with PoolGauge(engine) as gauge:
        await ingest(sessions, user.id, "alone", "Ropes", TEXTS, model.client)
        assert model.connections == {0}
        await asyncio.gather(
            *(ingest(sessions, user.id, f"ropes/{n}", "Ropes", [f"{one} {n}" for one in TEXTS], model.client)
              for n in range(6))
        )  # fmt: skip
    assert gauge.most_out == 1
    assert len(model.texts) == 7 * 12
    await engine.dispose()


async def test_a_request_holds_no_more_than_the_api_takes(sessions: Sessions, user: User) -> None:
    texts = [f"Rope {number}." for number in range(1200)] + [f"{number} " + "long " * 8_000 for number in range(10)]
    model = Model()
    stored = await ingest(sessions, user.id, "ropes", "Ropes", texts, model.client)
    assert stored.embedded == 1210 and max(model.requests) <= 512 and len(model.requests) >= 4
    assert model.texts == texts
