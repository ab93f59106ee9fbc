"""The embeddings endpoint: the vectors, and the refusals of the real one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from course_lib.errors import CourseError
from course_lib.llm import DIMENSIONS, EMBEDDING_MODEL, embed_texts, openai_client, openai_client_sync
from course_lib.llm.embed import batches
from course_lib.llm.offline.embedding_model import load_model

TEXTS = [
    "The ferry leaves at nine.",
    "L-12",
    "a",
    "naïve 日本 🙂",
    "Wipe the prisms with distilled water. " * 40,
    " ",
    "two\nlines",
]


async def vectors(texts: list[str], **options: Any) -> np.ndarray:
    response = await openai_client().embeddings.create(model=EMBEDDING_MODEL, input=texts, **options)
    return np.array([item.embedding for item in response.data], dtype=np.float32)


@pytest.fixture(scope="module")
def library() -> Iterator[Any]:
    """WordLlama itself; importing it sets up logging for the process, which is undone."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    from wordllama import WordLlama

    root.handlers[:], root.level = handlers, level
    spec = find_spec("wordllama")
    assert spec and spec.origin
    yield WordLlama.load(cache_dir=Path(spec.origin).parent, disable_download=True)


async def test_vectors_are_wordllamas_own_bit_for_bit(library: Any) -> None:
    own = np.vstack([library.embed(text, norm=True) for text in TEXTS])
    assert np.array_equal(await vectors(TEXTS), own)


async def test_vectors_do_not_depend_on_their_batch() -> None:
    together = await vectors(TEXTS)
    alone = np.vstack([await vectors([text]) for text in TEXTS])
    padded_out = await vectors([*TEXTS, *["a longer neighbour " * 100] * 60])
    assert np.array_equal(together, alone)
    assert np.array_equal(together, padded_out[: len(TEXTS)])


async def test_a_long_batch_is_answered_as_a_short_one_is() -> None:
    text = "A text about lighthouses and what they cost. " * 5
    assert np.array_equal((await vectors([text] * 300))[-1], (await vectors([text]))[0])


async def test_vectors_are_unit_float32_of_the_asked_length() -> None:
    for dimensions in (256, 128, 64):
        found = await vectors(TEXTS, dimensions=dimensions)
        assert found.shape == (len(TEXTS), dimensions)
        assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


async def test_a_short_vector_points_where_the_start_of_the_long_one_points() -> None:
    long, short = await vectors(TEXTS), await vectors(TEXTS, dimensions=64)
    start = long[:, :64] / np.linalg.norm(long[:, :64], axis=1, keepdims=True)
    assert np.allclose(short, start, atol=1e-6)


async def test_floats_and_base64_say_the_same() -> None:
    assert np.array_equal(await vectors(TEXTS, encoding_format="float"), await vectors(TEXTS))


async def test_related_texts_are_nearer_than_unrelated_ones() -> None:
    question, near, far = await vectors(["When does the ferry sail?", TEXTS[0], "The oven broke again."])
    assert question @ near > question @ far + 0.2


async def test_usage_counts_the_tokenizers_tokens_and_the_model_is_named() -> None:
    response = await openai_client().embeddings.create(model=EMBEDDING_MODEL, input=["Hello world", "a"])
    assert (response.usage.prompt_tokens, response.usage.total_tokens) == (3, 3)
    assert response.model == "wordllama-l2-256"


def test_the_synchronous_client_gives_the_same_vectors() -> None:
    response = openai_client_sync().embeddings.create(model=EMBEDDING_MODEL, input=TEXTS)
    found = np.array([item.embedding for item in response.data], dtype=np.float32)
    assert np.array_equal(found, load_model().embed(TEXTS))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", r"input\[0\] is an empty text"),
        (["a", ""], r"input\[1\] is an empty text"),
        ([], "one or more texts"),
        (["a", 7], "token numbers"),
        ([[1, 2, 3]], "token numbers"),
        (["a", None], r"input\[1\] is None"),
        (["a"] * 2049, "2049 texts in one request"),
        ("word " * 9000, r"maximum context length is 8192 tokens, however input\[0\] has 9001"),
        (["word " * 8000] * 40, "max 300000 tokens per request"),
    ],
    ids=["empty", "empty in list", "no texts", "number", "tokens", "none", "too many", "too long", "too much"],
)
async def test_what_the_real_api_refuses_is_a_bad_request_that_says_why(given: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        await openai_client().embeddings.create(model=EMBEDDING_MODEL, input=given)
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("dimensions", [512, 100, 0, -1, "256"])
async def test_other_lengths_are_refused(dimensions: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="256, 128 or 64"):
        await vectors(["a"], dimensions=dimensions)


async def test_another_model_is_not_found_and_the_message_says_which_one_is() -> None:
    with pytest.raises(openai.NotFoundError, match="wordllama-l2-256") as caught:
        await openai_client().embeddings.create(model="text-embedding-3-small", input="a")
    assert caught.value.code == "model_not_found"


async def test_embed_texts_keeps_the_order_over_many_batches() -> None:
    texts = [f"text number {number}" for number in range(1100)]
    found = await embed_texts(texts)
    assert found.shape == (1100, DIMENSIONS) and found.dtype == np.float32
    assert np.array_equal(found, load_model().embed(texts))


async def test_embed_texts_of_nothing_is_an_empty_array() -> None:
    assert (await embed_texts([])).shape == (0, DIMENSIONS)


async def test_embed_texts_puts_reversed_answers_back_in_order() -> None:
    found = await embed_texts(TEXTS, client=openai_client(reverse_embeddings=True))
    assert np.array_equal(found, load_model().embed(TEXTS))


async def test_embed_texts_does_not_accept_fewer_vectors_than_texts() -> None:
    with pytest.raises(CourseError, match="returned 6 vectors for 7 texts"):
        await embed_texts(TEXTS, client=openai_client(drop_embeddings=1))


def test_batches_hold_every_text_once_and_stay_within_the_limits() -> None:
    texts = ["é" * 400] * 1300 + ["x" * 260_000] + ["short"] * 3
    found = list(batches(texts))
    assert [text for _, batch in found for text in batch] == texts
    assert [start for start, _ in found] == [sum(len(b) for _, b in found[:i]) for i in range(len(found))]
    sizes = [sum(len(text.encode()) + 1 for text in batch) for _, batch in found]
    assert all(size <= 250_000 for size, (_, batch) in zip(sizes, found, strict=True) if len(batch) > 1)
    assert max(len(batch) for _, batch in found) <= 512
