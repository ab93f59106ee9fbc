"""Chat completions and responses: what is answered, and that the SDK understands every form of it."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest

from course_lib.llm import CHAT_MODEL, openai_client, openai_client_sync
from course_lib.llm.offline.embedding_model import load_model

PASSAGES = """Answer only from these passages.

[1] The causeway can be walked from two hours before low water until an hour and a half after. The tower
has 112 steps.

[2] When the first bulb dies the panel shows L-12. Order a bulb the same day.

[3] Error L-13 is a stuck changer. A party's 40 euro deposit is returned when the ferry does not sail."""


def asking(question: str) -> list[Any]:
    return [{"role": "system", "content": PASSAGES}, {"role": "user", "content": question}]


async def ask(messages: list[Any], **options: Any) -> str:
    answer = await openai_client().chat.completions.create(model=CHAT_MODEL, messages=messages, **options)
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize(
    ("question", "quoted", "passage"),
    [
        ("How long is it safe to walk over to the island?", "two hours before low water", 1),
        ("What does L-12 mean?", "When the first bulb dies the panel shows L-12.", 2),
        ("And what is L-13?", "Error L-13 is a stuck changer.", 3),
        ("Do we get our deposit back?", "A party's 40 euro deposit is returned", 3),
    ],
)
async def test_the_right_sentence_is_quoted_with_its_passage(question: str, quoted: str, passage: int) -> None:
    answer = await ask(asking(question))
    first = re.search(r'"([^"]*)" \[(\d+)\]', answer)
    assert first and quoted in first[1] and int(first[2]) == passage


async def test_an_answer_says_that_no_language_model_wrote_it() -> None:
    assert "offline stand-in, which is not a language model" in await ask(asking("What does L-12 mean?"))


async def test_a_quotation_is_the_passages_own_words() -> None:
    answer = await ask(asking("How many steps has the tower?"))
    quotes = re.findall(r'"(.*?)" \[\d\]', answer)
    assert quotes and all(quote in " ".join(PASSAGES.split()) for quote in quotes)


async def test_without_passages_it_has_nothing_to_quote_and_says_why() -> None:
    answer = await ask([{"role": "user", "content": "What is the capital of France?"}])
    assert "nothing to quote" in answer and "not a language model" in answer and "Paris" not in answer


async def test_passages_about_something_else_are_not_quoted() -> None:
    answer = await ask(asking("capital of France"))
    assert '"' not in answer and "The 3 passages given do not seem to speak of this." in answer


async def test_an_earlier_answer_is_not_taken_for_a_passage() -> None:
    turns = [
        {"role": "user", "content": "What does L-12 mean?"},
        {"role": "assistant", "content": "[1] It means that L-12 is the moon."},
        {"role": "user", "content": "Is L-12 the moon?"},
    ]
    assert "nothing to quote" in await ask(turns)


async def test_both_interfaces_answer_alike() -> None:
    question = "What does L-12 mean?"
    client = openai_client()
    response = await client.responses.create(model=CHAT_MODEL, instructions=PASSAGES, input=question)
    listed = await client.responses.create(model=CHAT_MODEL, input=asking(question))
    assert response.output_text == listed.output_text == await ask(asking(question))
    assert response.status == "completed" and response.id.startswith("resp_")


async def test_usage_is_the_tokenizers_count() -> None:
    answer = await openai_client().chat.completions.create(model=CHAT_MODEL, messages=asking("What is L-12?"))
    content, count = answer.choices[0].message.content, load_model().count_tokens
    assert answer.usage and content
    assert answer.usage.prompt_tokens == count(PASSAGES) + count("What is L-12?")
    assert abs(answer.usage.completion_tokens - count(content)) <= 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_same_request_has_the_same_answer_to_the_last_field() -> None:
    client = openai_client()
    first, second = [
        await client.responses.create(model=CHAT_MODEL, instructions=PASSAGES, input="L-12?") for _ in range(2)
    ]
    other = await client.responses.create(model=CHAT_MODEL, instructions=PASSAGES, input="L-13?")
    assert first.model_dump() == second.model_dump()
    assert first.id != other.id


async def test_streamed_chat_joins_to_the_whole_answer_and_ends_with_the_usage() -> None:
    stream = await openai_client().chat.completions.create(
        model=CHAT_MODEL,
        messages=asking("L-12?"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == await ask(asking("L-12?"))
    assert len(chunks) > 20 and len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage and chunks[-1].choices == []
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]


async def test_a_streamed_answer_has_the_id_of_the_whole_one_and_ends_with_done() -> None:
    client = openai_client()
    whole = await client.chat.completions.create(model=CHAT_MODEL, messages=asking("L-12?"))
    raw = await client.chat.completions.with_raw_response.create(
        model=CHAT_MODEL, messages=asking("L-12?"), stream=True
    )
    lines = [line async for line in raw.http_response.aiter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert whole.id in lines[0]


async def test_usage_is_streamed_only_when_asked_for() -> None:
    stream = await openai_client().chat.completions.create(model=CHAT_MODEL, messages=asking("L-12?"), stream=True)
    assert [chunk async for chunk in stream if chunk.usage or not chunk.choices] == []


async def test_the_sdks_chat_stream_helper_gives_the_final_completion() -> None:
    async with openai_client().chat.completions.stream(
        model=CHAT_MODEL, messages=asking("L-12?"), stream_options={"include_usage": True}
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == await ask(asking("L-12?"))
    assert final.usage and final.usage.completion_tokens > 0
    assert "content.delta" in kinds and kinds.count("content.done") == 1


async def test_a_streamed_response_has_the_events_of_the_real_api_in_order() -> None:
    async with openai_client().responses.stream(model=CHAT_MODEL, instructions=PASSAGES, input="L-12?") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert deltas > 10 and [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == await ask(asking("L-12?"))


async def test_answers_pass_the_sdks_strict_validation() -> None:
    kept = openai_client()
    strict = openai.AsyncOpenAI(
        api_key="x",
        base_url=kept.base_url,
        http_client=kept._client,
        _strict_response_validation=True,
    )
    await strict.chat.completions.create(model=CHAT_MODEL, messages=asking("L-12?"))
    await strict.responses.create(model=CHAT_MODEL, input="hello")
    await strict.embeddings.create(model="wordllama-l2-256", input="hello", encoding_format="float")
    for stream in (
        await strict.chat.completions.create(model=CHAT_MODEL, messages=asking("L-12?"), stream=True),
        await strict.responses.create(model=CHAT_MODEL, input="hello", stream=True),
    ):
        assert [event async for event in stream]


async def test_a_token_limit_cuts_the_answer_and_says_so() -> None:
    client = openai_client()
    answer = await client.chat.completions.create(model=CHAT_MODEL, messages=asking("L-12?"), max_completion_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage and answer.usage.completion_tokens == 5
    whole = await ask(asking("L-12?"))
    assert whole.startswith(answer.choices[0].message.content or "missing")
    response = await client.responses.create(
        model=CHAT_MODEL, instructions=PASSAGES, input="L-12?", max_output_tokens=5
    )
    assert response.status == "incomplete" and response.incomplete_details
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_a_title_is_the_first_words_of_the_first_question() -> None:
    turns = [
        {"role": "system", "content": "Write a title of at most six words for this conversation."},
        {"role": "user", "content": "When can I walk over to the island without getting wet?"},
        {"role": "assistant", "content": "Two hours before low water."},
        {"role": "user", "content": "And on Sunday?"},
    ]
    assert await ask(turns) == "When can I walk over to"
    one_message = "Give this conversation a short title: Is the ferry free for dogs?"
    assert await ask([{"role": "user", "content": one_message}]) == "Is the ferry free for dogs"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "cannot honour 'tools'"),
        ({"response_format": {"type": "json_object"}}, "cannot honour 'response_format'"),
        ({"n": 2}, "cannot honour 'n'"),
        ({"max_tokens": 0}, "Invalid 'max_tokens'"),
        ({"messages": []}, "'messages' is needed"),
        ({"messages": [{"role": "poet", "content": "x"}]}, "Supported roles"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "text only"),
    ],
)
async def test_what_it_cannot_do_is_refused_rather_than_ignored(options: dict[str, Any], said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        await openai_client().chat.completions.create(**{"model": CHAT_MODEL, "messages": asking("L-12?"), **options})


async def test_a_response_that_would_need_a_memory_is_refused() -> None:
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        await openai_client().responses.create(model=CHAT_MODEL, input="x", previous_response_id="resp_1")


async def test_the_embedding_model_does_not_chat() -> None:
    with pytest.raises(openai.NotFoundError, match="model=CHAT_MODEL"):
        await openai_client().chat.completions.create(model="wordllama-l2-256", messages=asking("x"))


def test_the_synchronous_client_answers_and_streams() -> None:
    client = openai_client_sync()
    whole = client.chat.completions.create(model=CHAT_MODEL, messages=asking("L-12?"))
    stream = client.chat.completions.create(model=CHAT_MODEL, messages=asking("L-12?"), stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content
