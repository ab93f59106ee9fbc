"""Servers that speak OpenAI's API with an accent: what they refuse, told by their answers, and what a person can do.

The words are those of vLLM, Text Embeddings Inference, SiliconFlow, DashScope, Ollama, LM Studio and Open WebUI.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import openai

from course_lib.errors import CourseError
from course_lib.masking import masked, public_address, short

from . import DIMENSIONS
from .names import chat_model, embedding_model

_ABOUT_LENGTH = re.compile(r"dimension|matryoshka", re.I)
_ABOUT_COUNT = re.compile(
    r"batch|too many|array too long|at most|no more than|max\w*\b.{0,40}\b(inputs|items|texts)", re.I
)
_ABOUT_MODEL = re.compile(r"model", re.I)
_VERSION = re.compile(r"/v\d+\w*(/|$)")
OFFLINE = "or unset OPENAI_BASE_URL and OPENAI_API_KEY: the offline model answers"


def refuses_length(error: openai.APIStatusError) -> bool:
    """Whether the server refuses ``dimensions``, which a model without Matryoshka training cannot honour."""
    return error.status_code in (400, 422) and bool(_ABOUT_LENGTH.search(_said(error)))


def refuses_count(error: openai.APIStatusError) -> bool:
    """Whether so many texts are too many for one request of this server."""
    return error.status_code == 413 or (error.status_code in (400, 422) and bool(_ABOUT_COUNT.search(_said(error))))


def is_elsewhere(error: Exception) -> bool:
    """Whether what answered is no such endpoint: another path is not found, or answered with something else.

    For what is neither OpenAI's object nor an error the SDK raises ValueError or AttributeError.
    """
    if isinstance(error, openai.APIStatusError):
        is_page = isinstance(error.body, str)
        return error.status_code in (404, 405) and (is_page or not _ABOUT_MODEL.search(_said(error)))
    return isinstance(error, ValueError | AttributeError)


def elsewhere(client: openai.AsyncOpenAI) -> CourseError:
    """The sentence for an address at which there is no embeddings endpoint."""
    address = address_of(client)
    if _VERSION.search(urlsplit(str(client.base_url)).path):
        return CourseError(
            f"{address} answers, and has no embeddings as OpenAI's API has them.",
            f"Correct OPENAI_BASE_URL: what stands before /embeddings in the server's documentation, {OFFLINE}.",
        )
    return CourseError(
        f"{address} answers, and not as OpenAI's API does: most servers do so under /v1, which is missing.",
        f"Set OPENAI_BASE_URL to the same address with /v1 at the end: {address}/v1",
    )


def wrong_length(client: openai.AsyncOpenAI, found: int) -> CourseError:
    """The sentence for vectors that do not fit the tables."""
    return CourseError(
        f"{embedding_model()} at {address_of(client)} returned vectors that are not {DIMENSIONS} long but {found},"
        f" and the tables hold {DIMENSIONS}.",
        f"Set COURSE_EMBEDDING_MODEL to a model that obeys dimensions={DIMENSIONS}, or has {DIMENSIONS}, {OFFLINE}.",
    )


def address_of(client: openai.AsyncOpenAI | openai.OpenAI) -> str:
    """Where the client asks, as one may show it."""
    return public_address(str(client.base_url)).rstrip("/")


@contextmanager
def explained(client: openai.AsyncOpenAI | openai.OpenAI, by_chat: bool = False) -> Iterator[None]:
    """Every error of the SDK's in this block becomes a sentence, for where nobody is taught about the errors.

    Args:
        client: the one that asks.
        by_chat: it asks the chat model, and not for vectors.
    """
    try:
        yield
    except openai.OpenAIError as error:
        raise _sentence(error, address_of(client), by_chat) from error


def _sentence(error: openai.OpenAIError, address: str, by_chat: bool) -> CourseError:
    if isinstance(error, openai.APITimeoutError):
        return CourseError(f"{address} did not answer in time.", f"Try again later, {OFFLINE}.")
    if isinstance(error, openai.APIConnectionError):
        return CourseError(f"Nothing answers at {address}.", f"Start the server, correct OPENAI_BASE_URL, {OFFLINE}.")
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return CourseError(f"{address} refuses the key.", f"Correct OPENAI_API_KEY, {OFFLINE}.")
    if by_chat and is_elsewhere(error):
        return CourseError(f"{address} answers, and not as OpenAI's API does.", f"Correct OPENAI_BASE_URL, {OFFLINE}.")
    if isinstance(error, openai.NotFoundError):
        model, name = (chat_model(), "CHAT") if by_chat else (embedding_model(), "EMBEDDING")
        return CourseError(f"{address} has no model {model}.", f"Set COURSE_{name}_MODEL to one it has, {OFFLINE}.")
    did = "answer" if by_chat else "embed"
    return CourseError(
        f"{address} did not {did} what it was sent: {short(masked(str(error)), 200)}", f"Mend that, {OFFLINE}."
    )


def _said(error: openai.APIStatusError) -> str:
    """The server's message, and whatever else its answer holds: some put what they mean into a detail."""
    return f"{error.message} {error.body}"
