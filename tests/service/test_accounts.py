"""Accounts, keys, and what every request has in common: who asks."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx2
import pytest
from sqlalchemy import text

from course_lib.db import make_engine
from tests.service.running import Serving


async def test_eight_sign_ups_with_one_address_make_one_account(running: Serving) -> None:
    async with running.client() as client:
        new = {"email": "eight@example.org", "name": "Eight"}
        answers = await asyncio.gather(*(client.post("/accounts", json=new) for _ in range(8)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 7}
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["type"] == "urn:problem:email-taken"
    assert running.held == 0


async def test_an_address_is_one_however_it_is_capitalised(running: Serving) -> None:
    async with running.client() as client:
        answer = await client.post("/accounts", json={"email": "ADA@Example.org", "name": "Another Ada"})
    assert answer.status_code == 409


async def test_a_response_holds_what_the_schema_says_and_never_a_hash(stranger: httpx2.AsyncClient) -> None:
    account = (await stranger.get("/account")).json()
    assert set(account) == {"id", "email", "name", "tier", "token_limit", "tokens_used", "created_at"}
    assert "hash" not in (await stranger.get("/account/keys")).text
    assert "secret" not in (await stranger.get("/account/keys")).text


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nobodys", "Basic YWRhOmFkYQ==", "Bearer " + "x" * 5000])
async def test_without_a_valid_key_nobody_gets_in(header: str, running: Serving) -> None:
    async with running.client(headers={"Authorization": header}) as client:
        for method, path in (("GET", "/documents"), ("GET", "/account"), ("POST", "/questions")):
            answer = await client.request(method, path, **({"json": {"no": 1}} if method == "POST" else {}))
            assert answer.status_code == 401, "also where the body is wrong"
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_revoked_key_is_nobodys_now(stranger: httpx2.AsyncClient, running: Serving) -> None:
    made = (await stranger.post("/account/keys", json={"label": "laptop"})).json()
    async with running.client(headers={"Authorization": f"Bearer {made['secret']}"}) as laptop:
        assert (await laptop.get("/account")).status_code == 200
        assert (await stranger.delete(f"/account/keys/{made['id']}")).status_code == 204
        assert (await laptop.get("/account")).status_code == 401
    assert (await stranger.delete(f"/account/keys/{made['id']}")).status_code == 404, "there is none to revoke"


async def test_rotating_ends_the_old_key_with_the_new_ones_birth(
    stranger: httpx2.AsyncClient, running: Serving
) -> None:
    made = (await stranger.post("/account/keys", json={"label": "server"})).json()
    rotated = await stranger.post(f"/account/keys/{made['id']}/rotate")
    assert rotated.status_code == 201
    assert rotated.json()["label"] == "server"
    for secret, status in ((made["secret"], 401), (rotated.json()["secret"], 200)):
        async with running.client(headers={"Authorization": f"Bearer {secret}"}) as client:
            assert (await client.get("/account")).status_code == status


async def test_an_account_has_at_most_ten_keys_also_when_many_are_made_at_once(stranger: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(stranger.post("/account/keys", json={"label": str(n)}) for n in range(15)))
    assert Counter(answer.status_code for answer in answers) == {201: 9, 409: 6}


async def test_a_key_that_is_asked_for_again_is_not_shown_again(stranger: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await stranger.post("/account/keys", json={"label": "once"}, headers=headers)
    again = await stranger.post("/account/keys", json={"label": "once"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 409)
    assert again.json()["key_id"] == first.json()["id"]
    assert first.json()["secret"] not in again.text
    assert len((await stranger.get("/account/keys")).json()["items"]) == 2


async def test_who_asks_is_one_statement_and_no_lock_is_waited_for(running: Serving) -> None:
    """Another transaction holds the key's row; a request that notes its use each time would wait."""
    async with running.client("bruno") as bruno:
        assert (await bruno.get("/account")).status_code == 200  # this one notes it
        engine = make_engine(running.service.engine.url)
        async with engine.begin() as connection:
            await connection.execute(text("SELECT FROM api_keys FOR UPDATE"))
            answers = await asyncio.gather(*(bruno.get("/account") for _ in range(10)))
        await engine.dispose()
    assert {answer.status_code for answer in answers} == {200}


async def test_deleting_an_account_deletes_all_that_is_its(stranger: httpx2.AsyncClient) -> None:
    await stranger.post("/conversations", json={"title": "Soon gone"}, headers={"Idempotency-Key": "c1"})
    assert (await stranger.delete("/account")).status_code == 204
    assert (await stranger.get("/conversations")).status_code == 401
