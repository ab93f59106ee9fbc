"""``POST /embeddings`` as https://developers.openai.com/api/reference/resources/embeddings describes it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from course_lib.llm.names import OFFLINE_EMBEDDING_MODEL

from .api_error import bad_request, check_model
from .embedding_model import EmbeddingModel, load_model

DIMENSIONS = (256, 128, 64)
MAX_INPUTS = 2048
MAX_TOKENS_PER_INPUT = 8192
MAX_TOKENS_PER_REQUEST = 300_000


def create_embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request. Raises ApiError as the real API would."""
    check_model(body.get("model"), OFFLINE_EMBEDDING_MODEL, "EMBEDDING_MODEL")
    dimensions = asked_dimensions(body)
    as_base64 = asked_base64(body)
    model = load_model()
    ids = token_ids(asked_texts(body), model)
    data = [
        {"object": "embedding", "index": index, "embedding": encoded(vector, as_base64)}
        for index, vector in enumerate(model.embed_ids(ids, dimensions))
    ]
    tokens = sum(map(len, ids))
    return {
        "object": "list",
        "data": data,
        "model": OFFLINE_EMBEDDING_MODEL,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def asked_dimensions(body: dict[str, Any]) -> int:
    dimensions = body.get("dimensions")
    if dimensions is None:
        return DIMENSIONS[0]
    if dimensions not in DIMENSIONS:
        raise bad_request(
            f"Invalid value for 'dimensions' = {dimensions}. {OFFLINE_EMBEDDING_MODEL} has 256, 128 or 64.",
            param="dimensions",
        )
    return int(dimensions)


def asked_base64(body: dict[str, Any]) -> bool:
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise bad_request(f"'{encoding}' is not one of ['float', 'base64']", param="encoding_format")
    return bool(encoding == "base64")


def asked_texts(body: dict[str, Any]) -> list[str]:
    """The texts, or ApiError with the position of the first that cannot be embedded."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise invalid_input("a text or a list of one or more texts is needed")
    if len(texts) > MAX_INPUTS:
        raise invalid_input(f"{len(texts)} texts in one request, and {MAX_INPUTS} is the limit")
    for position, text in enumerate(texts):
        if isinstance(text, int | list):
            raise invalid_input("token numbers are refused offline, because tokens differ by model: send text")
        if not isinstance(text, str):
            raise invalid_input(f"input[{position}] is {text!r}, not a text")
        if not text:
            raise invalid_input(f"input[{position}] is an empty text, which has no direction: leave it out")
    return texts


def token_ids(texts: list[str], model: EmbeddingModel) -> list[list[int]]:
    """Token numbers of each text, within the limits of the real API."""
    ids = model.token_ids(texts)
    for position, tokens in enumerate(ids):
        if len(tokens) > MAX_TOKENS_PER_INPUT:
            raise bad_request(
                f"This model's maximum context length is {MAX_TOKENS_PER_INPUT} tokens, however "
                f"input[{position}] has {len(tokens)} tokens. Cut it into chunks.",
                param="input",
            )
    total = sum(map(len, ids))
    if total > MAX_TOKENS_PER_REQUEST:
        message = f"Requested {total} tokens, max {MAX_TOKENS_PER_REQUEST} tokens per request"
        raise bad_request(message, code="max_tokens_per_request")
    return ids


def invalid_input(reason: str) -> Exception:
    return bad_request(f"'$.input' is invalid: {reason}.", param="input")


def encoded(vector: np.ndarray[Any, np.dtype[np.float32]], as_base64: bool) -> str | list[float]:
    if as_base64:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return [float(value) for value in vector]
