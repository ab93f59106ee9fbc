"""The X-ray: what one request did, told to its user only, and nothing at all where it was not asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import URL, create_engine, text

from course_lib.llm import openai_client
from course_lib.service import create_app
from course_lib.service.keys import Asking
from course_lib.service.xray.record import Kept, Record
from tests.service.running import Serving, serving

PATIENCE = 60  # seconds
QUESTION = "What does E-417 mean and what do I do first?"
OF_FARAH = "The panel says P-03. What is it telling me?"


@pytest.fixture(scope="module")
def xrayed(service_url: URL) -> Iterator[Serving]:
    client = openai_client(latency_ms=20, token_delay_ms=2)
    with serving(service_url, app=create_app(service_url, client=client, xray=True)) as running:
        yield running


@pytest.fixture
async def chidi(xrayed: Serving) -> AsyncIterator[httpx2.AsyncClient]:
    async with xrayed.client("chidi") as client:
        client.timeout = PATIENCE
        yield client


@pytest.fixture
async def farah(xrayed: Serving) -> AsyncIterator[httpx2.AsyncClient]:
    async with xrayed.client("farah") as client:
        client.timeout = PATIENCE
        yield client


async def asked(client: httpx2.AsyncClient, question: str, path: str = "/questions") -> dict[str, Any]:
    """The X-ray of a question, and the answer in it."""
    response = await client.post(path, json={"question": question})
    assert response.status_code < 300, response.text
    return await seen(client, response.headers["x-request-id"]) | {"answer": response.text}


async def seen(client: httpx2.AsyncClient, request: str) -> dict[str, Any]:
    """The X-ray of a request when it is over, which is a little after its response."""
    return await until(lambda: xray(client, request), lambda found: found["took"] is not None)


async def xray(client: httpx2.AsyncClient, request: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/xray/{request}")).json()
    return found


async def until(look: Callable[[], Awaitable[Any]], right: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not right(found := await look()):  # noqa: ASYNC110 - it is a server that is asked
            await asyncio.sleep(0.02)
    return found


def sent(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(entry["issued_by"], entry["sql"]) for entry in found["statements"]]


async def test_without_it_there_is_no_header_no_route_and_nobody_listens(running: Serving) -> None:
    async with running.client("ada") as client:
        answer = await client.get("/account")
        assert answer.status_code == 200 and "x-request-id" not in answer.headers
        assert (await client.get("/xray")).status_code == 404
        assert not any("xray" in path for path in running.app.openapi()["paths"])
    engine = running.service.engine.sync_engine
    assert not list(engine.dispatch.before_cursor_execute) and not list(engine.dispatch.before_execute)
    assert not any(running.service.client._client.event_hooks.values())


async def test_statements_are_told_with_the_function_that_sent_them_and_never_with_values(
    chidi: httpx2.AsyncClient,
) -> None:
    found = await asked(chidi, QUESTION)
    assert (found["method"], found["route"], found["status"]) == ("POST", "/questions", 201)
    by = [issued_by for issued_by, _ in sent(found)]
    assert by[0] == "who_asks" and "RagRepository.search_both" in by and "reserve" in by
    ends = [issued_by for issued_by, sql in sent(found) if sql in ("COMMIT", "ROLLBACK")]
    assert ends == ["prepare", "look_up", "prepare", "lasting"], "whose session it was, although a task ends it"
    answer = found.pop("answer")
    whole = str(found)
    assert "E-417" not in whole and "demonstration" not in whole and answer[10:40] not in whole
    assert all(0 <= entry["began"] <= found["took"] for entry in found["statements"])


@pytest.mark.parametrize("path", ["/questions", "/questions/stream"])
async def test_no_connection_is_held_while_the_model_works(chidi: httpx2.AsyncClient, path: str) -> None:
    found = await asked(chidi, QUESTION, path)
    embedding, answer = found["calls"]
    assert embedding["what"] == "embeddings" and answer["what"] == "chat/completions"
    assert answer["asked"] < answer["first_byte"] < answer["ended"] < found["took"]
    for call in found["calls"]:
        assert not any(h["taken"] < call["ended"] and call["asked"] < h["given_back"] for h in found["holds"])
    for entry in found["statements"]:
        assert any(hold["taken"] <= entry["began"] <= hold["given_back"] for hold in found["holds"]), entry


async def test_of_several_at_once_each_has_its_own(chidi: httpx2.AsyncClient, farah: httpx2.AsyncClient) -> None:
    alone = [sent(await asked(chidi, QUESTION)), sent(await asked(farah, OF_FARAH))]
    at_once = await asyncio.gather(asked(chidi, QUESTION), asked(farah, OF_FARAH))
    assert [sent(found) for found in at_once] == alone
    assert [len(found["calls"]) for found in at_once] == [2, 2]


async def test_anothers_request_is_not_there(chidi: httpx2.AsyncClient, farah: httpx2.AsyncClient) -> None:
    own = (await asked(chidi, QUESTION))["id"]
    for path in (f"/xray/{own}", f"/xray/{own}/plan"):
        assert (await chidi.get(path)).status_code == 200
        theirs, unknown = await farah.get(path), await farah.get(path.replace(own, "0" * 16))
        assert theirs.status_code == unknown.status_code == 404
        assert theirs.json() == unknown.json()
    assert own not in (await farah.get("/xray")).text
    assert (await chidi.get("/xray")).json()["items"][0]["id"] == own, "its own requests are not looked at"
    async with httpx2.AsyncClient(base_url=chidi.base_url, trust_env=False) as nobody:
        assert (await nobody.get(f"/xray/{own}")).status_code == 401


async def test_the_plan_says_which_way_and_nothing_of_what_was_asked_or_how_much_there_is(
    chidi: httpx2.AsyncClient,
) -> None:
    own = (await asked(chidi, QUESTION))["id"]
    plan = (await chidi.get(f"/xray/{own}/plan")).json()["text"]
    assert "document_chunks" in plan and "never run" in plan
    assert "417" not in plan and "mean" not in plan and "removed" not in plan and " rows" not in plan
    other = (await chidi.get("/account")).headers["x-request-id"]
    assert (await chidi.get(f"/xray/{other}/plan")).status_code == 404


async def test_a_client_that_leaves_has_its_whole_request_told(chidi: httpx2.AsyncClient) -> None:
    async with chidi.stream("POST", "/questions/stream", json={"question": QUESTION}) as response:
        async for _ in response.aiter_bytes():
            break
    found = await seen(chidi, response.headers["x-request-id"])
    assert found["calls"][-1]["ended"] is not None
    assert "ConversationRepository.add_message" in [issued_by for issued_by, _ in sent(found)], "what was said is kept"
    assert all(hold["given_back"] is not None for hold in found["holds"])


async def test_a_wait_for_a_lock_is_told_while_it_lasts(xrayed: Serving, chidi: httpx2.AsyncClient) -> None:
    async with xrayed.database() as other:
        await other.execute(text("SELECT FROM users WHERE email = 'chidi@example.org' FOR UPDATE"))
        sending = asyncio.create_task(chidi.post("/documents", json={"title": "Waiting", "text": "It waits."}))
        listed = await until(
            lambda: chidi.get("/xray"), lambda found: found.json()["items"][0]["route"] == "/documents"
        )  # fmt: skip
        request = listed.json()["items"][0]
        waiting = await until(lambda: xray(chidi, request["id"]), lambda found: bool(found["locks"]))
        assert waiting["took"] is None and waiting["status"] is None
    assert (await sending).status_code == 202
    assert len((await seen(chidi, request["id"]))["locks"]) == 1
    await chidi.delete(f"/documents/{(await sending).json()['document']['id']}")


def test_the_latest_requests_of_the_latest_users_are_kept() -> None:
    pool, kept, owners = create_engine("postgresql+psycopg://").pool, Kept(of_each=2, users=2), [uuid4() for _ in "abc"]

    def add(owner: UUID) -> str:
        scope = {"method": "GET", "state": {"caller": Asking(owner, "", owner)}}
        kept.add(record := Record(scope, pool))
        return record.id

    first, *latest = [add(owners[0]) for _ in range(3)]
    assert list(kept.of(owners[0])) == latest and first not in latest
    assert [len(kept.of(owner)) for owner in owners if add(owner)] == [2, 1, 1]
    assert [len(kept.of(owner)) for owner in owners] == [0, 1, 1]
    kept.add(Record({"method": "GET"}, pool))  # nobody's
    assert [len(kept.of(owner)) for owner in owners] == [0, 1, 1]
