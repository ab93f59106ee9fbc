"""Vectors for texts: what is known is not bought, and what somebody else is buying is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib import llm
from course_lib.repositories.rag.cache import LEASE, EmbeddingCache

if TYPE_CHECKING:
    import numpy as np
    import openai
    from numpy.typing import NDArray

    from course_lib.repositories.rag.cache import Vectors

CALL_S = LEASE.total_seconds() * 0.8
"""Seconds that a model may take for one request, retries included: it has to end before the claim runs out."""

POLL_S = 0.1
"""Seconds between two looks at what others are buying; a request to a model takes several times that."""

Sessions = async_sessionmaker[AsyncSession]


async def buy_once(
    sessions: Sessions, texts: Mapping[bytes, str], client: openai.AsyncOpenAI | None = None
) -> tuple[Vectors, int]:
    """A vector for each of ``texts``, which are given by their hashes, and how many of them were bought here.

    One request after the other, each with as many texts as it takes: look up and claim in a short transaction, ask
    the model with none, fill in a short one. What others have claimed is looked for again, until it is there or
    their claim has run out. A request that fails gives its claims back; what was bought before it stays bought.

    Raises:
        openai.OpenAIError: the model did not answer, or refused a text; APITimeoutError, too, where it took longer
            than ``CALL_S``.
        CourseError: it answered something else than vectors.
    """
    model = llm.EMBEDDING_MODEL
    vectors: Vectors = {}
    bought = 0
    while missing := [key for key in texts if key not in vectors]:
        async with sessions.begin() as session:
            cache = EmbeddingCache(session, model)
            found, being_bought = await cache.look_up(missing)
            free = {key: texts[key] for key in missing if key not in found and key not in being_bought}
            claims = await cache.claim(_one_request(free)) if free else {}
        vectors |= found
        if claims:
            vectors |= await _buy(sessions, model, {key: texts[key] for key in claims}, claims, client)
            bought += len(claims)
        elif missing != list(found):
            await asyncio.sleep(POLL_S)
    return vectors, bought


def _one_request(texts: Mapping[bytes, str]) -> list[bytes]:
    """The first of ``texts``, as many as one request takes."""
    from course_lib.llm.embed import batches

    _, batch = next(batches(list(texts.values())))
    return list(texts)[: len(batch)]


async def _buy(
    sessions: Sessions,
    model: str,
    texts: Mapping[bytes, str],
    claims: Mapping[bytes, datetime],
    client: openai.AsyncOpenAI | None,
) -> Vectors:
    try:
        rows = await _embed(list(texts.values()), client or llm.openai_client())
        vectors = dict(zip(texts, rows, strict=True))
        async with sessions.begin() as session:
            await EmbeddingCache(session, model).fill(vectors)
    except BaseException:
        with suppress(Exception):  # the first error is the one to tell; the claims run out in any case
            await asyncio.shield(_give_back(sessions, model, claims))
        raise
    return vectors


async def _embed(texts: list[str], client: openai.AsyncOpenAI) -> NDArray[np.float32]:
    """Their vectors within ``CALL_S``. A TimeoutError would be taken for one of the database's."""
    import httpx2
    import openai

    try:
        async with asyncio.timeout(CALL_S):
            return await llm.embed_texts(texts, client=client)
    except TimeoutError as error:
        raise openai.APITimeoutError(httpx2.Request("POST", client.base_url)) from error


async def _give_back(sessions: Sessions, model: str, claims: Mapping[bytes, datetime]) -> None:
    async with sessions.begin() as session:
        await EmbeddingCache(session, model).give_back(claims)
