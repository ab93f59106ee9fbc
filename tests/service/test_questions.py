"""Questions: whole or token by token, and what is stored of them however they end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from sqlalchemy import URL, text

from course_lib.llm import openai_client
from tests.repositories.watched import Watched, on
from tests.service.running import Serving, serving

QUESTION = "What was the last light of the old lens?"
ASKED = {"question": QUESTION}
SLOW = {"token_delay_ms": 60}


async def events(response: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    """The events of a stream as they come: name and data."""
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        if line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


async def stored(running: Serving, slug: str) -> list[tuple[str, str]]:
    """The user's last answer: what it says and how it ended."""
    query = """
        SELECT content, m.status FROM messages m JOIN conversations c ON c.id = conversation_id
        JOIN users u ON u.id = user_id WHERE email = :email AND role = 'assistant' ORDER BY m.id DESC LIMIT 1
    """
    async with running.database() as connection:
        return [tuple(row) for row in await connection.execute(text(query), {"email": f"{slug}@example.org"})]


async def test_a_question_is_answered_with_sources_and_is_in_its_conversation(ada: httpx2.AsyncClient) -> None:
    response = await ada.post("/questions", json=ASKED)
    assert response.status_code == 201, response.text
    answered = response.json()
    assert answered["text"] and answered["sources"]
    conversation = (await ada.get(f"/conversations/{answered['conversation_id']}")).json()
    assert [message["role"] for message in conversation["messages"]] == ["user", "assistant"]
    assert conversation["messages"][1]["content"] == answered["text"]
    assert conversation["messages"][1]["sources"] == answered["sources"]
    source = answered["sources"][0]
    passage = (await ada.get(f"/documents/{source['document_id']}/passages/{source['chunk_index']}")).json()
    assert passage["content"] and passage["title"] == source["title"]


async def test_the_next_question_goes_on_in_the_conversation_and_both_are_charged(stranger: httpx2.AsyncClient) -> None:
    first = (await stranger.post("/questions", json=ASKED)).json()
    place = first["conversation_id"]
    second = (await stranger.post("/questions", json=ASKED | {"conversation_id": place})).json()
    assert second["conversation_id"] == place
    messages = (await stranger.get(f"/conversations/{place}")).json()["messages"]
    assert [message["seq"] for message in messages] == [1, 2, 3, 4]
    used = (await stranger.get("/account")).json()["tokens_used"]
    assert used == sum(message["token_count"] for message in messages)


async def test_a_stream_is_tokens_and_then_what_was_stored(ada: httpx2.AsyncClient) -> None:
    async with ada.stream("POST", "/questions/stream", json=ASKED) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        got = [event async for event in events(response)]
    assert [name for name, _ in got] == ["token"] * (len(got) - 1) + ["done"]
    assert "".join(data["text"] for _, data in got[:-1]) == got[-1][1]["text"]
    assert got[-1][1]["sources"]


async def test_the_same_question_with_its_key_is_one_turn_whole_or_streamed(stranger: httpx2.AsyncClient) -> None:
    for path in ("/questions", "/questions/stream"):
        headers = {"Idempotency-Key": f"once{path}"}
        first = await stranger.post(path, json=ASKED, headers=headers)
        again = await stranger.post(path, json=ASKED, headers=headers)
        assert "idempotency-replayed" in again.headers
        answered = again.json()
        assert answered["message_id"] in first.text
        messages = (await stranger.get(f"/conversations/{answered['conversation_id']}")).json()["messages"]
        assert len(messages) == 2


async def test_the_same_question_at_the_same_time_is_told_that_it_is_on_its_way(service_url: URL) -> None:
    with serving(service_url, openai_client(latency_ms=300)) as slow:
        async with slow.client("chidi") as chidi:
            asked = [chidi.post("/questions", json=ASKED, headers={"Idempotency-Key": "twice"}) for _ in range(3)]
            answers = sorted(await asyncio.gather(*asked), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [201, 409, 409]
    assert answers[1].headers["retry-after"]


async def test_eight_streams_go_on_a_pool_of_two(service_url: URL) -> None:
    """No connection is held while the model writes; held ones would let two stream and six wait, or fail."""
    held = []

    async def one(client: httpx2.AsyncClient) -> list[str]:
        async with client.stream("POST", "/questions/stream", json=ASKED) as response:
            assert response.status_code == 200
            names = []
            async for name, _ in events(response):
                names.append(name)
                if name == "token":
                    held.append(running.held)
            return names

    settings = {"pool_size": 2, "pool_seconds": 3, "questions_at_once": 8}
    with serving(service_url, openai_client(token_delay_ms=100), **settings) as running:  # type: ignore[arg-type]
        async with running.client("emeka") as emeka:
            answers = await asyncio.gather(*(one(emeka) for _ in range(8)))
        assert {names[-1] for names in answers} == {"done"}
        await until(lambda: running.held == 0)
    assert held.count(0) > len(held) / 2, "now and then one, for a stream that begins or is being stored"


async def test_what_a_client_was_told_before_it_left_is_stored(service_url: URL) -> None:
    with serving(service_url, openai_client(**SLOW)) as running:
        async with running.client("farah") as farah:
            told = ""
            async with farah.stream("POST", "/questions/stream", json={"question": "What is due in spring?"}) as answer:
                async for _, data in events(answer):
                    told += data["text"]
                    if len(told.split()) >= 3:
                        break
        await until(lambda: not running.service.questions._inside)
        [(content, status)] = await stored(running, "farah")
        assert status == "aborted"
        assert content.startswith(told)
        assert len(content) < len(told) + 40, "the model was stopped"
        assert running.held == 0


async def test_a_client_that_leaves_before_the_first_token_leaves_nothing(service_url: URL) -> None:
    with serving(service_url, openai_client(latency_ms=3000)) as running:
        before = await stored(running, "goran")
        async with running.client("goran") as goran:
            used = (await goran.get("/account")).json()["tokens_used"]
            with pytest.raises(httpx2.TimeoutException):
                await goran.post("/questions/stream", json=ASKED, timeout=0.5, headers={"Idempotency-Key": "gone"})
            await until(lambda: not running.service.questions._inside, 2)
            assert await stored(running, "goran") == before
            assert (await goran.get("/account")).json()["tokens_used"] == used
        async with running.database() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM idempotent_requests WHERE key = 'gone'")) == 0


@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [
        ({"status": 429, "retry_after_ms": 1}, 503, "model-busy"),
        ({"status": 401}, 502, "model-failed"),
        ({"status": 400}, 502, "model-failed"),
        ({"latency_ms": 60_000}, 504, "model-silent"),
    ],
)
async def test_before_the_first_token_an_error_is_a_status(
    model: dict[str, Any], status: int, kind: str, service_url: URL
) -> None:
    with serving(service_url, openai_client(**model), model_seconds=0.2) as running:
        async with running.client("goran") as goran:
            for path in ("/questions", "/questions/stream"):
                answer = await goran.post(path, json=ASKED)
                assert answer.status_code == status, answer.text
                assert status == 502 or answer.headers["retry-after"]
                assert answer.json()["type"] == f"urn:problem:{kind}"


async def test_afterwards_it_is_an_event_and_what_was_said_is_stored(service_url: URL) -> None:
    with serving(service_url, openai_client(break_stream_after=3)) as running:
        async with running.client("goran") as goran, goran.stream("POST", "/questions/stream", json=ASKED) as answer:
            got = [event async for event in events(answer)]
        said = "".join(data["text"] for name, data in got if name == "token")
        assert await stored(running, "goran") == [(said, "aborted")]
    assert got[-1][0] in ("error", "done")
    assert got[-1][1]["status"] in (502, "aborted")


async def test_a_user_has_so_many_answers_at_once_and_the_others_are_served(service_url: URL) -> None:
    with serving(service_url, openai_client(latency_ms=300), questions_at_once=2) as running:
        async with running.client("hana") as hana, running.client("bruno") as bruno:
            many = asyncio.gather(*(hana.post("/questions", json=ASKED) for _ in range(5)))
            await until(lambda: running.service.questions._inside)
            other = await bruno.post("/questions", json=ASKED)
            statuses = sorted(answer.status_code for answer in await many)
    assert statuses == [201, 201, 429, 429, 429]
    assert other.status_code == 201


async def test_tokens_that_are_used_up(running: Serving) -> None:
    async with running.client("dagny") as dagny:
        account = (await dagny.get("/account")).json()
        change = text("UPDATE users SET tokens_used = :tokens WHERE id = :id")
        async with running.database() as connection:
            await connection.execute(change, {"id": account["id"], "tokens": account["token_limit"] - 10})
        for path in ("/questions", "/questions/stream"):
            answer = await dagny.post(path, json=ASKED)
            assert answer.status_code == 429
            assert answer.headers["retry-after"]
            assert answer.json()["type"] == "urn:problem:quota-used-up"
        assert (await dagny.get("/account")).json()["tokens_used"] == account["token_limit"] - 10
        async with running.database() as connection:
            await connection.execute(change, {"id": account["id"], "tokens": account["tokens_used"]})


async def test_who_has_no_tokens_left_costs_no_embedding(service_url: URL) -> None:
    model = Watched()
    with serving(service_url, on(model)) as running:
        async with running.client("emeka") as emeka:
            account = (await emeka.get("/account")).json()
            change = text("UPDATE users SET tokens_used = :tokens WHERE id = :id")
            async with running.database() as connection:
                await connection.execute(change, {"id": account["id"], "tokens": account["token_limit"]})
            answer = await emeka.post("/questions", json=ASKED)
            assert (answer.status_code, answer.json()["type"]) == (429, "urn:problem:quota-used-up")
            assert model.requests == 0
            async with running.database() as connection:
                await connection.execute(change, {"id": account["id"], "tokens": account["tokens_used"]})
            assert (await emeka.post("/questions", json=ASKED)).status_code == 201
            assert model.requests == 2


async def test_keep_alives_come_while_the_model_thinks(service_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    with serving(service_url, openai_client(token_delay_ms=200)) as running:
        async with running.client("ada") as ada, ada.stream("POST", "/questions/stream", json=ASKED) as answer:
            lines = []
            async for line in answer.aiter_lines():
                lines.append(line)
                if lines.count(": ping") == 3:
                    return
    raise AssertionError(lines)
