"""A server that is slow, fails, breaks off or miscounts, seen through the SDK."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest

from course_lib.llm import CHAT_MODEL, EMBEDDING_MODEL, openai_client, openai_client_sync

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


async def embed(client: openai.AsyncOpenAI, texts: Any = "a") -> Any:
    return await client.embeddings.create(model=EMBEDDING_MODEL, input=texts)


@pytest.fixture(autouse=True)
async def _loaded_model() -> None:
    """Load the model and the SDK's parts first, so that no test measures it."""
    await embed(openai_client())
    await openai_client().responses.create(model=CHAT_MODEL, input="hello")


async def test_latency_is_waited_for_and_does_not_hold_up_others() -> None:
    client = openai_client(latency_ms=200)
    started = time.perf_counter()
    await asyncio.gather(*(embed(client) for _ in range(20)))
    assert 0.2 <= time.perf_counter() - started < 2.0, "one after another they take 4 s"


def spread(arrivals: list[float]) -> float:
    """Seconds from the first token to the last: a busy machine makes it longer, never shorter."""
    return arrivals[-1] - arrivals[0]


async def test_tokens_arrive_one_by_one() -> None:
    stream = await openai_client(token_delay_ms=10).chat.completions.create(
        model=CHAT_MODEL, messages=HELLO, stream=True
    )
    started = time.perf_counter()
    arrivals = [time.perf_counter() - started async for chunk in stream if chunk.choices[0].delta.content]
    assert len(arrivals) > 20
    assert spread(arrivals) >= 0.009 * (len(arrivals) - 1), "a buffered answer arrives all at once"


async def test_streamed_responses_arrive_one_by_one_too() -> None:
    started = time.perf_counter()
    stream = await openai_client(latency_ms=50, token_delay_ms=10).responses.create(
        model=CHAT_MODEL, input="hello", stream=True
    )
    arrivals = [time.perf_counter() - started async for e in stream if e.type == "response.output_text.delta"]
    assert arrivals[0] >= 0.06
    assert spread(arrivals) >= 0.009 * (len(arrivals) - 1)


async def test_a_429_is_retried_after_the_pause_the_server_asked_for() -> None:
    client = openai_client(fail_first=1, status=429, retry_after_s=1)
    started = time.perf_counter()
    assert (await embed(client)).data
    assert time.perf_counter() - started >= 1.0, "the SDK's own first pause is at most 0.5 s"


async def test_the_pause_may_be_given_in_milliseconds() -> None:
    client = openai_client(fail_first=2, retry_after_ms=100)
    started = time.perf_counter()
    assert (await embed(client)).data
    assert 0.2 <= time.perf_counter() - started < 1.0, "the SDK's own two pauses are at least 1.1 s"


async def test_without_retries_the_failure_is_seen_with_its_headers() -> None:
    client = openai_client(fail_first=1, retry_after_s=30)
    with pytest.raises(openai.RateLimitError) as caught:
        await embed(client.with_options(max_retries=0))
    assert caught.value.response.headers["retry-after"] == "30"
    assert caught.value.code == "rate_limit_exceeded"
    assert (await embed(client)).data


async def test_a_500_three_times_is_more_than_the_sdk_retries() -> None:
    with pytest.raises(openai.InternalServerError):
        await embed(openai_client(fail_first=3, status=500, retry_after_ms=1))
    assert (await embed(openai_client(fail_first=2, status=500, retry_after_ms=1))).data


async def test_a_status_alone_fails_every_request() -> None:
    client = openai_client(status=401).with_options(max_retries=0)
    for _ in range(5):
        with pytest.raises(openai.AuthenticationError):
            await embed(client)


async def test_a_read_timeout_ends_the_wait() -> None:
    client = openai_client(latency_ms=5000).with_options(timeout=0.1, max_retries=0)
    started = time.perf_counter()
    with pytest.raises(openai.APITimeoutError):
        await embed(client)
    assert 0.1 <= time.perf_counter() - started < 3.0


async def test_a_read_timeout_between_two_tokens_ends_the_stream() -> None:
    client = openai_client(token_delay_ms=5000).with_options(timeout=0.1)
    stream = await client.chat.completions.create(model=CHAT_MODEL, messages=HELLO, stream=True)
    with pytest.raises(openai.APITimeoutError):
        _ = [chunk async for chunk in stream]


@pytest.mark.parametrize("tokens", [0, 3])
async def test_a_stream_breaks_off_after_so_many_tokens(tokens: int) -> None:
    client = openai_client(break_stream_after=tokens)
    chat = await client.chat.completions.create(model=CHAT_MODEL, messages=HELLO, stream=True)
    received = []
    with pytest.raises(openai.APIConnectionError):
        async for chunk in chat:
            received.append(chunk.choices[0].delta.content)
    assert len([text for text in received if text]) == tokens
    kinds = []
    with pytest.raises(openai.APIConnectionError):
        async for event in await client.responses.create(model=CHAT_MODEL, input="hello", stream=True):
            kinds.append(event.type)
    assert kinds.count("response.output_text.delta") == tokens and "response.completed" not in kinds


async def test_cancelling_in_mid_stream_leaves_nothing_running() -> None:
    received = asyncio.Event()

    async def read() -> None:
        client = openai_client(token_delay_ms=50)
        async for chunk in await client.chat.completions.create(model=CHAT_MODEL, messages=HELLO, stream=True):
            if chunk.choices[0].delta.content:
                received.set()

    before = asyncio.all_tasks()
    task = asyncio.create_task(read())
    await received.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_other_tasks_run_between_the_tokens_of_a_stream_without_delays() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    stream = await openai_client().chat.completions.create(model=CHAT_MODEL, messages=HELLO, stream=True)
    seen = [turns async for chunk in stream if chunk.choices[0].delta.content]
    counter.cancel()
    assert len(set(seen)) > len(seen) / 2


async def test_embeddings_can_be_fewer_than_asked_for() -> None:
    response = await embed(openai_client(drop_embeddings=1), ["a", "b", "c"])
    assert [item.index for item in response.data] == [0, 1]


async def test_embeddings_can_come_reversed_with_their_right_index() -> None:
    plain = await embed(openai_client(), ["a", "b", "c"])
    turned = await embed(openai_client(reverse_embeddings=True), ["a", "b", "c"])
    assert [item.index for item in turned.data] == [2, 1, 0]
    assert [item.embedding for item in turned.data] == [item.embedding for item in plain.data[::-1]]


def test_the_synchronous_client_behaves_the_same() -> None:
    started = time.perf_counter()
    client = openai_client_sync(latency_ms=100, fail_first=1, retry_after_ms=1)
    assert client.embeddings.create(model=EMBEDDING_MODEL, input="a").data
    assert time.perf_counter() - started >= 0.2
    stream = openai_client_sync(token_delay_ms=5, break_stream_after=4).chat.completions.create(
        model=CHAT_MODEL, messages=HELLO, stream=True
    )
    received = []
    with pytest.raises(openai.APIConnectionError):
        for chunk in stream:
            received.append(chunk.choices[0].delta.content)
    assert len([text for text in received if text]) == 4
    with pytest.raises(openai.APITimeoutError):
        openai_client_sync(latency_ms=5000).with_options(timeout=0.05, max_retries=0).models.list()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"latency_ms": -1}, "latency_ms is -1; it cannot be negative"),
        ({"status": 200}, "from 400 to 599"),
        ({"retry_after_s": 1}, "add fail_first or status"),
        ({"fail_first": 0, "retry_after_ms": 1}, "add fail_first or status"),
    ],
)
def test_a_behaviour_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        openai_client(**options)


def test_a_misspelt_behaviour_is_refused() -> None:
    with pytest.raises(TypeError, match="latency"):
        openai_client(latency=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("words", ['"Nobody wrote this." [9]', "a\0b and \ud83d alone", ""])
@pytest.mark.parametrize(("finish", "reason"), [(None, "stop"), ("content_filter", "content_filter"), ("", None)])
async def test_an_answer_is_put_into_the_models_mouth_whole_and_streamed(
    words: str, finish: Any, reason: str | None
) -> None:
    client = openai_client(say=words) if finish is None else openai_client(say=words, finish=finish)
    whole = await client.chat.completions.create(model=CHAT_MODEL, messages=HELLO)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (words, reason)
    stream = await client.chat.completions.create(
        model=CHAT_MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == words
    assert choices[-1].finish_reason == reason
    assert chunks[-1].usage == whole.usage
    assert (await embed(client)).data, "the embeddings are the model's"


def test_a_finish_without_an_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="add say"):
        openai_client(finish="length")
