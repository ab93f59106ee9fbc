"""The same lines against an OpenAI-compatible server over real HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

import course_lib.llm as llm
from course_lib.errors import CourseError
from course_lib.llm import client as client_module
from course_lib.llm import embed_texts, openai_client, openai_client_sync
from course_lib.settings import get_settings

KEY = "this-key-must-not-be-seen"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
async def _closed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Close every asynchronous client a test built: real connections do not close themselves."""
    built: list[openai.AsyncOpenAI] = []
    build = client_module._build

    def remembered(*arguments: Any) -> openai.AsyncOpenAI:
        built.append(build(*arguments))
        return built[-1]

    monkeypatch.setattr(client_module, "_build", remembered)
    yield
    for client in built:
        await client.close()


@pytest.fixture
def configured(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    get_settings.cache_clear()
    return server


async def test_the_same_lines_reach_the_server_with_key_model_and_dimensions(configured: Any) -> None:
    client = openai_client()
    response = await client.embeddings.create(model=llm.EMBEDDING_MODEL, input=["a", "b"], dimensions=llm.DIMENSIONS)
    answer = await client.chat.completions.create(model=llm.CHAT_MODEL, messages=HELLO)
    assert [len(item.embedding) for item in response.data] == [256, 256]
    assert answer.choices[0].message.content == "an answer"
    asked, chatted = configured.asked
    assert (asked["model"], asked["dimensions"]) == ("text-embedding-3-small", 256)
    assert chatted["model"] == "gpt-5-mini"
    assert set(configured.keys) == {f"Bearer {KEY}"}


async def test_a_server_without_a_key_is_sent_a_placeholder(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    get_settings.cache_clear()
    await openai_client().chat.completions.create(model=llm.CHAT_MODEL, messages=HELLO)
    assert server.keys == ["Bearer no-key-needed"]


async def test_the_models_of_the_settings_are_asked_for(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_EMBEDDING_MODEL", "my-embedder")
    get_settings.cache_clear()
    await embed_texts(["a"])
    assert configured.asked[0]["model"] == "my-embedder"


async def test_embed_texts_asks_for_256_dimensions_and_refuses_other_lengths(configured: Any) -> None:
    found = await embed_texts(["a", "b", "c"])
    assert found.shape == (3, 256) and [row[0] for row in found] == [0, 1, 2]
    assert configured.asked[0]["dimensions"] == 256
    configured.vector_length = 1536
    with pytest.raises(CourseError, match="not 256 long"):
        await embed_texts(["a"])


async def test_the_synchronous_client_reaches_it_too(configured: Any) -> None:
    with openai_client_sync() as client:
        answer = await asyncio.to_thread(client.chat.completions.create, model=llm.CHAT_MODEL, messages=HELLO)
    assert answer.choices[0].message.content == "an answer"


async def test_delays_and_failures_can_be_put_in_front_of_it(configured: Any) -> None:
    client = openai_client(latency_ms=100, fail_first=1, retry_after_ms=1)
    started = time.perf_counter()
    assert (await client.chat.completions.create(model=llm.CHAT_MODEL, messages=HELLO)).choices
    assert time.perf_counter() - started >= 0.2
    assert len(configured.asked) == 1
    with pytest.raises(openai.RateLimitError):
        await openai_client(status=429, retry_after_ms=1).chat.completions.create(model=llm.CHAT_MODEL, messages=HELLO)
    assert len(configured.asked) == 1


async def test_its_stream_can_be_slowed_down_and_broken_off(configured: Any) -> None:
    slow = openai_client(token_delay_ms=50)
    started = time.perf_counter()
    stream = await slow.chat.completions.create(model=llm.CHAT_MODEL, messages=HELLO, stream=True)
    arrived = [(chunk.choices[0].delta.content, time.perf_counter() - started) async for chunk in stream]
    assert [text for text, _ in arrived] == ["one ", "two ", "three"]
    assert arrived[2][1] - arrived[0][1] >= 0.1
    broken = openai_client(break_stream_after=2)
    received = []
    with pytest.raises(openai.APIConnectionError):
        async for chunk in await broken.chat.completions.create(model=llm.CHAT_MODEL, messages=HELLO, stream=True):
            received.append(chunk.choices[0].delta.content)
    assert received == ["one ", "two "]


async def test_events_that_are_to_be_told_apart_are_not_asked_for_in_gzip(configured: Any) -> None:
    await openai_client(token_delay_ms=1).chat.completions.create(model=llm.CHAT_MODEL, messages=HELLO)
    assert configured.encodings == ["identity"]


async def test_its_embeddings_can_be_reversed(configured: Any) -> None:
    response = await openai_client(reverse_embeddings=True, drop_embeddings=1).embeddings.create(
        model=llm.EMBEDDING_MODEL, input=["a", "b", "c"], dimensions=256
    )
    assert [(item.index, item.embedding[0]) for item in response.data] == [(1, 1.0), (0, 0.0)]


def test_each_event_loop_has_its_own_connections(configured: Any) -> None:
    async def ask() -> openai.AsyncOpenAI:
        client = openai_client()
        assert client is openai_client()
        await client.chat.completions.create(model=llm.CHAT_MODEL, messages=HELLO)
        await client.close()  # its connections end with the loop
        return client

    assert asyncio.run(ask()) is not asyncio.run(ask())


async def test_the_key_is_in_no_representation_message_or_log(
    configured: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    client = openai_client()
    await client.chat.completions.create(model=llm.CHAT_MODEL, messages=HELLO)
    with pytest.raises(openai.RateLimitError) as caught:
        await openai_client(status=429, retry_after_ms=1).models.list()
    seen = [repr(client), str(client), repr(get_settings()), str(caught.value), repr(caught.value)]
    assert caplog.text, "nothing was logged, so this test proves nothing"
    assert KEY not in "".join(seen) + caplog.text + "".join(capsys.readouterr())
