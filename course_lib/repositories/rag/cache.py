"""Vectors that are bought once, whoever needs them and however many at a time.

A row of ``embedding_cache`` is first a claim, then a vector that somebody is about to store passages with, and then
one that is kept because a passage has it. The first two run out at ``claimed_until``: whoever died on the way stands
in nobody's way, and what was bought for nothing goes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import ARRAY, DateTime, Interval, LargeBinary, Text, TextClause, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import DIMENSIONS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = dict[bytes, NDArray[np.float32]]

LEASE = timedelta(minutes=5)
"""How long a claim holds, and how long a vector that was bought waits for its passage to be stored."""

_TYPES: dict[str, Any] = {
    "model": Text(), "models": ARRAY(Text()), "content_hash": LargeBinary(), "hashes": ARRAY(LargeBinary()),
    "claimed": ARRAY(DateTime(timezone=True)), "lease": Interval(), "embedding": VECTOR(DIMENSIONS),
    "documents": ARRAY(Uuid()),
}  # fmt: skip


def _statement(sql: str) -> TextClause:
    names = sorted(set(re.findall(r":(\w+)", sql)))
    return text(sql).bindparams(*(bindparam(name, type_=_TYPES[name]) for name in names))


_LOOK_UP = _statement("""
    SELECT content_hash, embedding FROM embedding_cache
    WHERE model = :model AND content_hash = ANY(:hashes)
        AND (embedding IS NOT NULL OR claimed_until > clock_timestamp())
""").columns(content_hash=LargeBinary(), embedding=VECTOR(DIMENSIONS))

# Who comes second waits until the first has committed; all go in one order, so that nobody waits in a ring.
_CLAIM = _statement("""
    INSERT INTO embedding_cache AS c (content_hash, model, claimed_until)
    SELECT content_hash, :model, clock_timestamp() + :lease FROM unnest(:hashes) AS wanted (content_hash)
    ORDER BY content_hash
    ON CONFLICT (content_hash, model) DO UPDATE SET claimed_until = excluded.claimed_until
        WHERE c.embedding IS NULL AND c.claimed_until < clock_timestamp()
    RETURNING content_hash, claimed_until
""")

_FILL = _statement("""
    UPDATE embedding_cache SET embedding = :embedding, claimed_until = clock_timestamp() + :lease
    WHERE content_hash = :content_hash AND model = :model
""")

# the time of a claim is its token: a later one of somebody else's, after this one had run out, has another
_GIVE_BACK = _statement("""
    DELETE FROM embedding_cache WHERE model = :model AND embedding IS NULL
        AND (content_hash, claimed_until) IN (SELECT * FROM unnest(:hashes, :claimed))
""")

_KEEP = _statement("""
    UPDATE embedding_cache c SET claimed_until = NULL FROM (
        SELECT content_hash FROM embedding_cache
        WHERE model = :model AND content_hash = ANY(:hashes) AND embedding IS NOT NULL AND claimed_until IS NOT NULL
        ORDER BY content_hash FOR UPDATE
    ) stored
    WHERE c.model = :model AND c.content_hash = stored.content_hash
""")

# Of two who delete the last two passages with a text, each would see the other's and leave the vector. So the rows are
# locked by one statement and looked at by the next, which sees what was committed while the first one waited.
_LOCK = _statement("""
    SELECT FROM embedding_cache c WHERE (c.content_hash, c.model) IN (
        SELECT sha256(convert_to(content, 'UTF8')), embedding_model FROM document_chunks
        WHERE document_id = ANY(:documents)
        UNION ALL SELECT * FROM unnest(:hashes, :models)
    ) ORDER BY c.content_hash, c.model FOR UPDATE
""")

_FORGET = _statement("""
    DELETE FROM embedding_cache c USING (
        SELECT DISTINCT content, embedding_model FROM document_chunks WHERE document_id = ANY(:documents)
    ) gone
    WHERE c.content_hash = sha256(convert_to(gone.content, 'UTF8')) AND c.model = gone.embedding_model
        AND c.claimed_until IS NULL
        AND (c.content_hash, c.model) NOT IN (SELECT * FROM unnest(:hashes, :models))
        AND NOT EXISTS (
            SELECT FROM document_chunks other
            WHERE other.content = gone.content AND other.embedding_model = gone.embedding_model
                AND other.document_id <> ALL(:documents)
        )
""")

_LAPSED = text("""
    DELETE FROM embedding_cache WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM embedding_cache WHERE claimed_until < clock_timestamp() FOR UPDATE SKIP LOCKED
    ))
""")

_UNNEEDED = text("""
    DELETE FROM embedding_cache c WHERE claimed_until IS NULL AND NOT EXISTS (
        SELECT FROM document_chunks p
        WHERE sha256(convert_to(p.content, 'UTF8')) = c.content_hash AND p.embedding_model = c.model
    ) RETURNING 1
""")


class EmbeddingCache:
    """The vectors of one model, by the hash of their text, in the session it is given. It never commits.

    A claim is worth something only once it is committed, and must be before a model is asked.
    """

    def __init__(self, session: AsyncSession, model: str) -> None:
        self.session = session
        self.model = model

    async def look_up(self, hashes: Collection[bytes]) -> tuple[Vectors, set[bytes]]:
        """The vectors there are, and those of ``hashes`` that somebody is buying."""
        import numpy as np

        rows = await self.session.execute(_LOOK_UP, {"model": self.model, "hashes": list(hashes)})
        found = {key: vector for key, vector in rows}
        vectors = {key: np.asarray(vector, dtype=np.float32) for key, vector in found.items() if vector is not None}
        return vectors, found.keys() - vectors.keys()

    async def claim(self, hashes: Collection[bytes]) -> dict[bytes, datetime]:
        """Those of ``hashes`` that are the caller's to buy, and until when. The others somebody has, or is buying."""
        wanted = {"model": self.model, "hashes": list(hashes), "lease": LEASE}
        claimed = {key: until for key, until in await self.session.execute(_CLAIM, wanted)}
        return {key: claimed[key] for key in hashes if key in claimed}

    async def fill(self, vectors: Vectors) -> None:
        """What was claimed, bought."""
        rows = [
            {"model": self.model, "content_hash": key, "embedding": vectors[key], "lease": LEASE}
            for key in sorted(vectors)
        ]
        await self.session.execute(_FILL, rows)

    async def give_back(self, claims: Mapping[bytes, datetime]) -> None:
        """Let somebody else buy what was claimed. What has run out and is another's by now stays theirs."""
        given = {"model": self.model, "hashes": list(claims), "claimed": list(claims.values())}
        await self.session.execute(_GIVE_BACK, given)

    async def keep(self, hashes: Collection[bytes]) -> None:
        """Passages with these texts are being stored in this transaction: their vectors do not run out any more."""
        await self.session.execute(_KEEP, {"model": self.model, "hashes": list(hashes)})


async def forget_vectors(
    session: AsyncSession, documents: Collection[UUID], staying: Collection[tuple[bytes, str]] = ()
) -> None:
    """Delete the cached vectors that only passages of ``documents`` have, before those passages are deleted.

    Args:
        staying: hashes of texts that passages will have in this transaction, with their models.
    """
    where = {
        "documents": list(documents),
        "hashes": [content_hash for content_hash, _ in staying],
        "models": [model for _, model in staying],
    }
    await session.execute(_LOCK, where)
    await session.execute(_FORGET, where)


async def delete_lapsed(session: AsyncSession) -> None:
    """Delete claims and vectors that have run out. An index finds them."""
    await session.execute(_LAPSED)


async def delete_unneeded(session: AsyncSession) -> int:
    """Delete all vectors that no passage has, and return how many; it hashes every passage.

    For what other ways left: an account deleted by SQL, a table restored. ``RagRepository`` and ``delete_user``
    leave none.
    """
    await delete_lapsed(session)
    return len((await session.execute(_UNNEEDED)).all())
