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
from course_lib.models.documents import passage_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = dict[bytes, NDArray[np.float32]]

LEASE = timedelta(minutes=5)
"""How long a claim holds, and how long a vector that was bought waits for its passage to be stored."""

AT_ONCE = 10_000
"""Texts that are sent in one statement."""

Passed = tuple[str, str]
"""The text of a passage that was deleted, and the model of its vector."""

Known = tuple[bytes, str]
"""What the cache knows a vector by: the hash of its text, and its model."""

_TYPES: dict[str, Any] = {
    "model": Text(), "models": ARRAY(Text()), "content_hash": LargeBinary(), "hashes": ARRAY(LargeBinary()),
    "claimed": ARRAY(DateTime(timezone=True)), "lease": Interval(), "embedding": VECTOR(DIMENSIONS),
    "documents": ARRAY(Uuid()), "contents": ARRAY(Text()),
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
    DELETE FROM embedding_cache c USING (
        SELECT content_hash FROM embedding_cache
        WHERE model = :model AND embedding IS NULL
            AND (content_hash, claimed_until) IN (SELECT * FROM unnest(:hashes, :claimed))
        ORDER BY content_hash FOR UPDATE
    ) given
    WHERE c.model = :model AND c.content_hash = given.content_hash
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
# locked by one statement and looked at by the next, which sees what was committed while the first one waited. One
# statement for all of a transaction, since two of them would lock in no order.
_LOCK_OF = _statement("""
    SELECT FROM embedding_cache c WHERE (c.content_hash, c.model) IN (
        SELECT sha256(convert_to(content, 'UTF8')), embedding_model FROM document_chunks
        WHERE document_id = ANY(:documents)
    ) ORDER BY c.content_hash, c.model FOR UPDATE
""")

_FORGET_OF = _statement("""
    DELETE FROM embedding_cache c USING (
        SELECT DISTINCT content, embedding_model FROM document_chunks WHERE document_id = ANY(:documents)
    ) gone
    WHERE c.content_hash = sha256(convert_to(gone.content, 'UTF8')) AND c.model = gone.embedding_model
        AND c.claimed_until IS NULL
        AND NOT EXISTS (
            SELECT FROM document_chunks other
            WHERE other.content = gone.content AND other.embedding_model = gone.embedding_model
                AND other.document_id <> ALL(:documents)
        )
""")

_LOCK = _statement("""
    SELECT content_hash, model FROM embedding_cache
    WHERE (content_hash, model) IN (SELECT * FROM unnest(:hashes, :models))
    ORDER BY content_hash, model FOR UPDATE
""")

_FORGET = _statement("""
    DELETE FROM embedding_cache c USING unnest(:contents, :models) AS gone (content, model)
    WHERE c.content_hash = sha256(convert_to(gone.content, 'UTF8')) AND c.model = gone.model
        AND c.claimed_until IS NULL
        AND NOT EXISTS (
            SELECT FROM document_chunks p WHERE p.content = gone.content AND p.embedding_model = gone.model
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


async def forget_vectors_of(session: AsyncSession, documents: Collection[UUID]) -> None:
    """Delete the cached vectors that only passages of ``documents`` have, before those passages are deleted.

    This, ``forget_vectors`` and ``claim`` lock rows in one order: once in a transaction, none of them deadlocks.
    """
    await session.execute(_LOCK_OF, {"documents": list(documents)})
    await session.execute(_FORGET_OF, {"documents": list(documents)})


async def forget_vectors(session: AsyncSession, gone: Collection[Passed], keeping: Collection[Known] = ()) -> None:
    """Delete the cached vectors of texts that no passage has any more, after all the passages were deleted.

    Args:
        gone: texts of which passages were deleted in this transaction.
        keeping: what ``keep`` is called for later in this transaction, to be locked together with the others.
    """
    texts = {(passage_hash(content), model): content for content, model in gone}
    wanted = list({*texts, *keeping})
    if not texts:
        return
    locked = await session.execute(
        _LOCK, {"hashes": [key for key, _ in wanted], "models": [model for _, model in wanted]}
    )
    known = [(texts[key, model], model) for key, model in locked if (key, model) in texts]
    for first in range(0, len(known), AT_ONCE):
        part = known[first : first + AT_ONCE]
        given = {"contents": [content for content, _ in part], "models": [model for _, model in part]}
        await session.execute(_FORGET, given)


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
