"""Whatever comes in: a problem document goes out, and never a 500."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from course_lib.service.constraints import BY_NAME
from course_lib.service.routers import documents
from tests.service.running import Serving, serving

POSTS = [
    ("/accounts", {"email": "x@example.org", "name": "X"}),
    ("/account/keys", {"label": "X"}),
    ("/documents", {"title": "X", "text": "X"}),
    ("/conversations", {"title": "X"}),
    ("/questions", {"question": "X"}),
    ("/questions/stream", {"question": "X"}),
]
JSON = {"Content-Type": "application/json"}
NOBODYS = "01a22fb0-4a68-7d05-9e38-c05f4c51c4e1"
UNSTORABLE = [r"\u0000", r"\ud800", r"a\udfffb"]


async def send(client: httpx2.AsyncClient, path: str, content: bytes, **headers: str) -> httpx2.Response:
    return await client.post(path, content=content, headers={**JSON, **headers})


@pytest.mark.parametrize(("path", "body"), POSTS, ids=[path for path, _ in POSTS])
async def test_no_text_that_cannot_be_stored_reaches_the_database(
    path: str, body: dict[str, str], ada: httpx2.AsyncClient
) -> None:
    for name in body:
        for letters in UNSTORABLE:
            content = json.dumps({**body, name: "@"}).replace('"@"', f'"x@{letters}"').encode()
            answer = await send(ada, path, content)
            assert answer.status_code == 422, answer.text
            assert answer.json()["type"] == "urn:problem:invalid"
            assert answer.json()["errors"][0]["where"] == ["body", name]


@pytest.mark.parametrize(("path", "body"), POSTS, ids=[path for path, _ in POSTS])
async def test_bodies_that_are_none(path: str, body: dict[str, str], ada: httpx2.AsyncClient) -> None:
    good = json.dumps(body).encode()
    for content, status in [
        (b"", 422), (b"{", 400), (b"\xff\xfe{}", 400), (b'{"a": "\xc3\x28"}', 400), (b"[]", 422), (b"null", 422),
        (b"7", 422), (b"[" * 50_000, 400), (good[:-1] + b', "more": 1}', 422), (b'{"\\ud800": 1}', 422), (b"{}", 422),
        (b"1" * 10_000, 422),
    ]:  # fmt: skip
        answer = await send(ada, path, content)
        assert answer.status_code in (status, 400, 422), (content[:20], answer.text)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/json-seq"):
        answer = await ada.post(path, content=good, headers={"Content-Type": kind})
        assert answer.status_code == 415, kind


async def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(ada: httpx2.AsyncClient) -> None:
    async def pieces() -> Any:
        for _ in range(120):
            yield b"x" * 1000

    for content in (b"x" * 120_000, pieces()):
        answer = await ada.post("/questions", content=content, headers=JSON)
        assert answer.status_code == 413, answer.text
        assert answer.json()["type"] == "urn:problem:too-large"


@pytest.mark.parametrize(
    "path",
    [
        "/documents?limit=0", "/documents?limit=101", f"/documents?limit={2**63}", "/documents?limit=x",
        "/documents?cursor=x", "/documents?cursor=%00", "/documents?cursor=" + "A" * 400, "/documents?cursor=%ff",
        "/conversations?cursor=AAAA", "/documents/x", "/documents/%00", f"/documents/{NOBODYS}/passages/-1",
        f"/documents/{NOBODYS}/passages/{2**40}", f"/conversations/{NOBODYS}?before={2**63}", "/jobs/%F0%28",
    ],
)  # fmt: skip
async def test_a_wrong_address_is_told(path: str, ada: httpx2.AsyncClient) -> None:
    answer = await ada.get(path)
    assert answer.status_code == 422, answer.text


async def test_what_no_route_knows(ada: httpx2.AsyncClient) -> None:
    assert (await ada.get("/nowhere")).status_code == 404
    answer = await ada.put("/documents", json={})
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]


async def test_a_mistake_of_ours_is_a_500_that_says_nothing(
    running: Serving, ada: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(documents.DocumentOut, "model_validate", broken)
    answer = await ada.get("/documents")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.json() == {"type": "urn:problem:internal", "title": "Something went wrong here", "status": 500}
    assert running.held == 0


async def test_a_commit_that_fails_is_an_error_for_the_client(running: Serving, stranger: httpx2.AsyncClient) -> None:
    """A constraint that is looked at when the transaction ends, after the route has returned."""
    account = (await stranger.get("/account")).json()["id"]
    rule = "CREATE CONSTRAINT TRIGGER full_up AFTER INSERT ON conversations DEFERRABLE INITIALLY DEFERRED"
    async with running.database() as connection:
        await connection.execute(text(FULL_UP))
        await connection.execute(
            text(f"{rule} FOR EACH ROW WHEN (new.user_id = '{account}') EXECUTE FUNCTION full_up()")
        )
    answer = await stranger.post("/conversations", json={"title": "Too many"})
    assert answer.status_code == 422, answer.text
    assert (await stranger.get("/conversations")).json()["items"] == []
    assert running.held == 0


FULL_UP = """
CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no more' USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_users_email'; END $$
"""


async def test_every_constraint_that_is_named_is_there(running: Serving) -> None:
    async with running.database() as connection:
        names = set(await connection.scalars(text("SELECT conname FROM pg_constraint")))
    assert set(BY_NAME) <= names


async def test_when_no_connection_is_free_in_time_the_client_is_told_when_to_come_again(running: Serving) -> None:
    url = running.service.engine.url
    with serving(url, pool_size=1, pool_seconds=0.2) as narrow:
        async with narrow.client("ada") as client, narrow.service.engine.connect():
            ready, answer = await asyncio.gather(client.get("/readyz"), client.get("/documents"))
    for refused in (ready, answer):
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:problem:no-connection-free"
        assert refused.headers["retry-after"] == "1"
