"""From an upload to passages: jobs that are done once, whoever dies, and documents that say why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import httpx2
import pytest
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.data.fresh import make_database
from course_lib.db import make_session_factory
from course_lib.llm import openai_client
from course_lib.repositories.rag import buying
from course_lib.service import queue
from course_lib.service.running import make_service_engine
from course_lib.service.worker import NO_MODEL, Worker
from course_lib.settings import get_settings
from tests.service.running import Serving, serving

NUMBERS = count()
TEXT = "# Ferry\n\nThe ferry to Vell leaves at nine.\n\n# Fares\n\nA ticket costs four crowns."
ASKED = {"question": "When does the ferry to Vell leave?"}


@pytest.fixture(scope="module")
def url() -> Iterator[URL]:
    database = asyncio.run(make_database("99", "migrated"))
    yield database.url
    asyncio.run(database.drop())


@pytest.fixture(scope="module")
def apart(url: URL) -> Iterator[Serving]:
    """A service whose queue no other tests fill."""
    with serving(url) as running:
        yield running


@pytest.fixture
async def mia(apart: Serving) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody who has signed up just now."""
    async with apart.client() as client:
        signed_up = await client.post("/accounts", json={"email": f"mia{next(NUMBERS)}@example.org", "name": "Mia"})
        client.headers["Authorization"] = f"Bearer {signed_up.json()['key']['secret']}"
        yield client


@pytest.fixture
async def engine(url: URL) -> AsyncIterator[AsyncEngine]:
    engine = make_service_engine(url, get_settings())
    yield engine
    await engine.dispose()


@pytest.fixture
def worker(engine: AsyncEngine) -> Worker:
    return Worker(make_session_factory(engine), openai_client())


async def finish(worker: Worker) -> int:
    done = 0
    while await worker.work():
        done += 1
    return done


def fresh() -> str:
    """A text whose vectors nobody has bought yet."""
    return f"{TEXT} Ask for number {next(NUMBERS)}."


async def send(client: httpx2.AsyncClient, content: str = TEXT, title: str = "Ferry") -> dict[str, Any]:
    answer = await client.post("/documents", json={"title": title, "text": content})
    assert answer.status_code == 202, answer.text
    sent: dict[str, Any] = answer.json()
    return sent


async def test_an_upload_is_accepted_and_later_answers(mia: httpx2.AsyncClient, worker: Worker) -> None:
    sent = await send(mia)
    assert sent["document"]["status"] == "uploaded"
    assert sent["job"]["status"] == "queued"
    assert (await mia.post("/questions", json=ASKED)).json()["sources"] == []
    assert await finish(worker) == 1
    assert (await mia.get(f"/documents/{sent['document']['id']}")).json()["status"] == "ready"
    assert (await mia.get(f"/jobs/{sent['job']['id']}")).json()["status"] == "done"
    answered = (await mia.post("/questions", json=ASKED)).json()
    assert "nine" in answered["text"]
    assert answered["sources"][0]["document_id"] == sent["document"]["id"]


async def test_what_a_job_was_given_is_not_kept(mia: httpx2.AsyncClient, worker: Worker, engine: AsyncEngine) -> None:
    await send(mia)
    await finish(worker)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM jobs WHERE payload <> '{}'")) == 0


async def test_three_workers_do_each_job_once(mia: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    jobs = [(await send(mia, f"Number {n}.", f"Document {n}"))["job"]["id"] for n in range(9)]
    workers = [Worker(make_session_factory(engine), openai_client()) for _ in range(3)]
    assert sum(await asyncio.gather(*(finish(worker) for worker in workers))) == 9
    for job in jobs:
        found = (await mia.get(f"/jobs/{job}")).json()
        assert (found["status"], found["attempts"]) == ("done", 1)


async def expire(engine: AsyncEngine, job: str, attempts: int = 1) -> None:
    late = "UPDATE jobs SET leased_until = now() - interval '1 s', attempts = :attempts WHERE id = :id"
    async with engine.begin() as connection:
        await connection.execute(text(late), {"id": job, "attempts": attempts})


async def test_a_dead_workers_job_is_done_by_another(
    mia: httpx2.AsyncClient, worker: Worker, engine: AsyncEngine
) -> None:
    job = (await send(mia))["job"]["id"]
    async with worker.sessions.begin() as session:
        assert await queue.take(session, "somebody who dies") is not None
    await worker.tidy()
    assert await finish(worker) == 0, "the lease is not over"
    await expire(engine, job)
    await worker.tidy()
    assert await finish(worker) == 1
    assert (await mia.get(f"/jobs/{job}")).json()["attempts"] == 2


async def test_a_job_that_kills_every_worker_is_given_up(
    mia: httpx2.AsyncClient, worker: Worker, engine: AsyncEngine
) -> None:
    sent = await send(mia)
    async with worker.sessions.begin() as session:
        await queue.take(session, "somebody who dies")
    await expire(engine, sent["job"]["id"], attempts=5)
    await worker.tidy()
    assert await finish(worker) == 0
    assert (await mia.get(f"/jobs/{sent['job']['id']}")).json()["status"] == "failed"
    document = (await mia.get(f"/documents/{sent['document']['id']}")).json()
    assert document["status"] == "failed"
    assert document["error"]


async def test_a_worker_that_was_taken_for_dead_stores_nothing(
    mia: httpx2.AsyncClient, url: URL, worker: Worker, engine: AsyncEngine
) -> None:
    slow = Worker(worker.sessions, openai_client(latency_ms=600))
    sent = await send(mia, fresh())
    late = asyncio.create_task(slow.work())
    await asyncio.sleep(0.2)
    await expire(engine, sent["job"]["id"])
    await worker.tidy()
    assert await finish(worker) == 1
    await late
    assert (await mia.get(f"/jobs/{sent['job']['id']}")).json()["attempts"] == 2
    assert (await mia.get(f"/documents/{sent['document']['id']}")).json()["status"] == "ready"


async def test_a_document_that_is_deleted_meanwhile_does_not_come_back(mia: httpx2.AsyncClient, worker: Worker) -> None:
    slow = Worker(worker.sessions, openai_client(latency_ms=600))
    sent = await send(mia, fresh())
    working = asyncio.create_task(slow.work())
    await asyncio.sleep(0.2)
    assert (await mia.delete(f"/documents/{sent['document']['id']}")).status_code == 204
    await working
    assert (await mia.get("/documents")).json()["items"] == []
    assert (await mia.get(f"/jobs/{sent['job']['id']}")).status_code == 404


async def test_the_earlier_version_answers_until_the_next_is_whole(mia: httpx2.AsyncClient, worker: Worker) -> None:
    await send(mia)
    await finish(worker)
    sent = await send(mia, TEXT.replace("nine", "ten"))
    assert sent["document"]["status"] == "ready"
    assert "nine" in (await mia.post("/questions", json=ASKED)).json()["text"]
    await finish(worker)
    assert "ten" in (await mia.post("/questions", json=ASKED)).json()["text"]
    assert len((await mia.get("/documents")).json()["items"]) == 1


async def test_a_model_that_fails_is_asked_again_later(mia: httpx2.AsyncClient, worker: Worker) -> None:
    failing = Worker(worker.sessions, openai_client(status=500, retry_after_ms=1))
    sent = await send(mia, fresh())
    assert await finish(failing) == 1
    job = (await mia.get(f"/jobs/{sent['job']['id']}")).json()
    assert (job["status"], job["attempts"]) == ("queued", 1)
    assert "model" in job["error"]
    assert (await mia.get(f"/documents/{sent['document']['id']}")).json()["status"] == "uploaded"
    assert await finish(worker) == 0, "it waits a little"


async def test_a_model_that_hangs_is_the_models_failure_and_not_the_databases(
    mia: httpx2.AsyncClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection to the database that times out is a TimeoutError, too."""
    hanging = openai_client(latency_ms=60_000)
    for seconds, client in ((0.2, hanging), (60, hanging.with_options(timeout=0.2, max_retries=0))):
        monkeypatch.setattr(buying, "CALL_S", seconds)
        sent = await send(mia, fresh())
        assert await finish(Worker(worker.sessions, client)) == 1
        job = (await mia.get(f"/jobs/{sent['job']['id']}")).json()
        assert (job["status"], job["error"]) == ("queued", NO_MODEL)


BAD_FILES = [("broken.pdf", b"%PDF-1.7 and no more"), ("empty.txt", b"  \n"), ("nul.md", b"a\0b"), ("x.exe", b"MZ")]


@pytest.mark.parametrize(("name", "data"), BAD_FILES, ids=[name for name, _ in BAD_FILES])
async def test_a_file_that_cannot_be_read_says_so_at_once(
    name: str, data: bytes, mia: httpx2.AsyncClient, worker: Worker
) -> None:
    sent = (await mia.post("/documents/files", files={"file": (name, data)})).json()
    await finish(worker)
    document = (await mia.get(f"/documents/{sent['document']['id']}")).json()
    assert document["status"] == "failed"
    assert document["error"].endswith(".")
    job = (await mia.get(f"/jobs/{sent['job']['id']}")).json()
    assert (job["status"], job["attempts"]) == ("failed", 1)


async def test_so_many_may_wait(mia: httpx2.AsyncClient, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_WAITING", 3)
    answers = await asyncio.gather(*(mia.post("/documents", json={"title": f"T{n}", "text": "x"}) for n in range(6)))
    assert sorted(answer.status_code for answer in answers) == [202, 202, 202, 429, 429, 429]
    assert len((await mia.get("/documents")).json()["items"]) == 3, "no row without its job"
    await finish(worker)
    assert (await mia.post("/documents", json={"title": "Next", "text": "x"})).status_code == 202
