"""Rows of the embedding cache that judges stage, and what others see of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises.lesson_07.scenes.stored import a_vector
from course_lib.judging.attempt import Attempt
from course_lib.llm.names import embedding_model

PUT = """
    INSERT INTO embedding_cache (content_hash, model, embedding, claimed_until)
    SELECT CAST(r.key AS bytea), :model, CAST(r.embedding AS vector),
           clock_timestamp() + r.seconds * interval '1 second'
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (key text, embedding text, seconds float)
    ON CONFLICT (content_hash, model) DO UPDATE
    SET embedding = excluded.embedding, claimed_until = excluded.claimed_until
"""
CLAIM = """
    INSERT INTO embedding_cache (content_hash, model, claimed_until)
    VALUES (:key, :model, clock_timestamp() + interval '1 minute')
"""
LOOK = """
    SELECT content_hash, embedding::text AS embedding, claimed_until IS NULL AS is_kept,
           coalesce(claimed_until > clock_timestamp(), false) AS is_claimed,
           CAST(extract(epoch FROM claimed_until - clock_timestamp()) AS float) AS seconds
    FROM embedding_cache WHERE model = :model
"""

OF_OTHERS = """
    SELECT md5(coalesce(string_agg(c::text, '' ORDER BY content_hash, model), ''))
    FROM embedding_cache AS c WHERE model <> :model
"""
TRIES = 40_000  # one in about a thousand is such a text

Vectors = dict[str, list[float]]


def key_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def put_vectors(
    attempt: Attempt, texts: Sequence[str], model: str | None = None, seconds: float | None = None
) -> Vectors:
    """Vectors that no model would give these texts, kept, or until so many ``seconds`` from now; these vectors."""
    vectors = {text: a_vector() for text in texts}
    await _put(attempt, {text: str(vector) for text, vector in vectors.items()}, model, seconds)
    return vectors


async def put_claims(attempt: Attempt, texts: Sequence[str], seconds: float, model: str | None = None) -> None:
    """Claims of somebody else that run out in so many seconds."""
    await _put(attempt, dict.fromkeys(texts), model, seconds)


async def _put(attempt: Attempt, cells: Mapping[str, str | None], model: str | None, seconds: float | None) -> None:
    rows = [{"key": f"\\x{key_of(text).hex()}", "embedding": cell, "seconds": seconds} for text, cell in cells.items()]
    await attempt.sql(PUT, rows=json.dumps(rows), model=model or embedding_model())


@asynccontextmanager
async def being_claimed(attempt: Attempt, text: str) -> AsyncIterator[AsyncSession]:
    """Another process claims a text and has not committed; who ends the session's transaction takes the claim back."""
    async with attempt.judge_session() as session:
        await session.execute(sa.text(CLAIM), {"key": key_of(text), "model": embedding_model()})
        yield session


class Cell(NamedTuple):
    """A row: its vector as text, whether it is there for good, whether its time is still to come, and how far off."""

    embedding: str | None
    is_kept: bool
    is_claimed: bool
    seconds: float | None


async def look(attempt: Attempt) -> dict[bytes, Cell]:
    """What others see, by the hash."""
    return {bytes(key): Cell(*cell) for key, *cell in await attempt.sql(LOOK, model=embedding_model())}


async def rows_of_others(attempt: Attempt) -> str:
    """A fingerprint of the rows of other models."""
    print_: str = await attempt.value(OF_OTHERS, model=embedding_model())
    return print_


def texts_in_two_orders() -> tuple[list[str], list[str]]:
    """Three texts and the same ones the other way round; a set of either keeps its order, and so does one of the keys.

    In a set the order is one of hashes, which another process has otherwise. Two texts whose hashes meet change places
    with the order in which they come, so that one process is enough to see it.
    """
    for _ in range(TRIES):
        texts = [token_hex(4) for _ in range(3)]
        if all(list({*row}) == row for line in (texts, [key_of(text) for text in texts]) for row in (line, line[::-1])):
            break
    return texts, texts[::-1]


def numbers(vector: Any) -> list[float] | None:
    """As 32 bits hold them; None if it is no vector."""
    try:
        values = json.loads(vector) if isinstance(vector, str) else vector
        return [float(value) for value in np.asarray(values, dtype=np.float32)]
    except (TypeError, ValueError):
        return None
