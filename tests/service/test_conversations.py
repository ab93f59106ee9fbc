"""Conversations: pages by cursor, messages, and a POST that is sent again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from tests.service.running import Serving


async def all_pages(client: httpx2.AsyncClient, path: str, limit: int) -> list[dict[str, Any]]:
    found, cursor = [], None
    while True:
        page = (await client.get(path, params={"limit": limit, **({"cursor": cursor} if cursor else {})})).json()
        found += page["items"]
        cursor = page["next"]
        assert len(page["items"]) == limit or cursor is None
        if cursor is None:
            return found


@pytest.mark.parametrize("path", ["/conversations", "/documents"])
@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_pages_hold_everything_once(path: str, limit: int, running: Serving) -> None:
    async with running.client("dagny") as dagny:
        whole = (await dagny.get(path, params={"limit": 100})).json()["items"]
        assert len(whole) >= 4
        assert await all_pages(dagny, path, limit) == whole


async def test_a_page_that_ends_with_the_list_has_no_next(running: Serving) -> None:
    async with running.client("dagny") as dagny:
        count = len((await dagny.get("/documents")).json()["items"])
        assert (await dagny.get("/documents", params={"limit": count})).json()["next"] is None


async def test_a_cursor_is_good_for_its_owner_its_list_and_its_letters(
    ada: httpx2.AsyncClient, running: Serving
) -> None:
    cursor = (await ada.get("/conversations?limit=1")).json()["next"]
    assert (await ada.get(f"/conversations?cursor={cursor}")).status_code == 200
    async with running.client("bruno") as bruno:
        assert (await bruno.get(f"/conversations?cursor={cursor}")).status_code == 422
    assert (await ada.get(f"/documents?cursor={cursor}")).status_code == 422
    for place in [0, 5, 20, 21, 22, 40, len(cursor) - 2]:
        other = "A" if cursor[place] != "A" else "B"
        changed = cursor[:place] + other + cursor[place + 1 :]
        assert (await ada.get(f"/conversations?cursor={changed}")).status_code == 422


async def test_messages_are_the_latest_and_those_before(ada: httpx2.AsyncClient) -> None:
    rows = (await ada.get("/conversations?limit=100")).json()["items"]
    for row in rows:
        whole = (await ada.get(f"/conversations/{row['id']}")).json()["messages"]
        assert [message["seq"] for message in whole] == list(range(1, len(whole) + 1))
        last = (await ada.get(f"/conversations/{row['id']}?limit=1")).json()["messages"]
        assert last == whole[-1:]
        before = (await ada.get(f"/conversations/{row['id']}?limit=1&before={last[0]['seq']}")).json()["messages"]
        assert before == whole[-2:-1]


async def test_nobody_elses_row_is_there(running: Serving) -> None:
    """Each route with an id, asked by a stranger: as if the id were nobody's, and nothing changes."""
    async with running.client("ada") as ada, running.client("bruno") as bruno:
        document = (await ada.get("/documents?limit=1")).json()["items"][0]["id"]
        conversation = (await ada.get("/conversations?limit=1")).json()["items"][0]["id"]
        key = (await ada.get("/account/keys")).json()["items"][0]["id"]
        async with running.database() as connection:
            found = text("SELECT id FROM jobs WHERE document_id = :document")
            job = await connection.scalar(found, {"document": document})
        asked = {"question": "What is in it?", "conversation_id": conversation}
        for method, path, body in [
            ("GET", "/documents/{}", None), ("DELETE", "/documents/{}", None),
            ("GET", "/documents/{}/passages/0", None),
            ("GET", "/conversations/{}", None), ("DELETE", "/conversations/{}", None), ("GET", "/jobs/{}", None),
            ("DELETE", "/account/keys/{}", None), ("POST", "/account/keys/{}/rotate", None),
            ("POST", "/questions", asked), ("POST", "/questions/stream", asked),
        ]:  # fmt: skip
            ids = {"documents": document, "conversations": conversation, "jobs": job, "account": key}
            theirs = ids.get(path.split("/")[1], "")
            nobodys = None if body is None else body | {"conversation_id": str(uuid4())}
            answer = await bruno.request(method, path.format(theirs), json=body)
            unknown = await bruno.request(method, path.format(uuid4()), json=nobodys)
            assert answer.status_code == unknown.status_code == 404, path
            assert answer.content == unknown.content
        for path in (f"/documents/{document}", f"/conversations/{conversation}", f"/jobs/{job}", "/account"):
            assert (await ada.get(path)).status_code == 200


async def test_what_is_deleted_is_gone(stranger: httpx2.AsyncClient) -> None:
    document = (await stranger.post("/documents", json={"title": "T", "text": "x"})).json()["document"]["id"]
    conversation = (await stranger.post("/conversations", json={"title": "T"})).json()["id"]
    for path in (f"/documents/{document}", f"/conversations/{conversation}"):
        assert (await stranger.get(path)).status_code == 200
        assert (await stranger.delete(path)).status_code == 204
        assert (await stranger.get(path)).status_code == 404
        assert (await stranger.delete(path)).status_code == 404


async def test_a_question_about_somebody_elses_document_finds_nothing_of_it(running: Serving) -> None:
    async with running.client("ada") as ada, running.client("bruno") as bruno:
        documents = [row["id"] for row in (await ada.get("/documents")).json()["items"]]
        asked = {"question": "What was the last light of the old lens?", "document_ids": documents}
        own = (await ada.post("/questions", json=asked)).json()
        assert {source["document_id"] for source in own["sources"]} <= set(documents)
        assert own["sources"]
        other = (await bruno.post("/questions", json=asked)).json()
        assert other["sources"] == []


# -- the same POST twice -----------------------------------------------------------------------------------


async def test_eight_posts_with_one_key_make_one_conversation(stranger: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "the-same"}
    answers = await asyncio.gather(
        *(stranger.post("/conversations", json={"title": "Once"}, headers=headers) for _ in range(8))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers} | {answers[0].content}) <= 2  # replayed: spaced by another writer
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert Counter("idempotency-replayed" in answer.headers for answer in answers) == {True: 7, False: 1}
    assert len((await stranger.get("/conversations")).json()["items"]) == 1


async def test_a_key_belongs_to_one_request_of_one_user(stranger: httpx2.AsyncClient, ada: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": f"k-{uuid4()}"}
    first = await stranger.post("/conversations", json={"title": "One"}, headers=headers)
    for path, body in (("/conversations", {"title": "Two"}), ("/documents", {"title": "One", "text": "x"})):
        other = await stranger.post(path, json=body, headers=headers)
        assert other.status_code == 422
        assert other.json()["type"] == "urn:problem:idempotency-key-reused"
    others = await ada.post("/conversations", json={"title": "One"}, headers=headers)
    assert others.status_code == 201, "another user's keys are another user's"
    assert others.json()["id"] != first.json()["id"]
    await ada.delete(f"/conversations/{others.json()['id']}")


async def test_without_a_key_each_request_counts(stranger: httpx2.AsyncClient) -> None:
    for _ in range(2):
        assert (await stranger.post("/conversations", json={"title": "Again"})).status_code == 201
    assert len((await stranger.get("/conversations")).json()["items"]) == 2


async def test_what_was_refused_may_be_tried_again_with_its_key(stranger: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "q"}
    asked = {"question": "Anything?", "conversation_id": str(uuid4())}
    assert (await stranger.post("/questions", json=asked, headers=headers)).status_code == 404
    assert (await stranger.post("/questions", json={"question": "Anything?"}, headers=headers)).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 101, "a b", "ä"])
async def test_a_key_is_short_and_of_letters_that_can_be_seen(key: str, stranger: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": key.encode()}
    answer = await stranger.post("/conversations", json={"title": "X"}, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 422
