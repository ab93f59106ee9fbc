"""The search, as one statement that takes whichever way suits the size of what may be searched.

An HNSW index knows nothing of users. It hands out the nearest passages of everybody, and a filter throws away what
is not the user's. For who owns much of the table that works: a few are thrown away, and with an iterative scan the
index is asked for more until there are enough. For who owns one row in a hundred it reads thousands of passages and
still misses some of the nearest. There the exact way is better and faster: read all of the user's passages, sort.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeGuard
from uuid import UUID

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import ARRAY, BindParameter, DateTime, Text, TextClause, Uuid, bindparam, text

from course_lib.errors import CourseError
from course_lib.llm import DIMENSIONS

EF_SEARCH = 100
"""Candidates the index keeps in hand: recall@10 of .98 on 96,000 real passages of 256 dimensions."""

EXACT_UP_TO = 5_000
"""Passages that are compared one by one, in about 1 ms a thousand. Of 100,000 that is 5%, where the index takes as
long and finds less."""

EF_SEARCH_MOST = 1000
"""pgvector's own limit."""

OVERFETCH = 2
"""Times k that the index is asked for, before the nearest k of them are taken.

Behind a filter, ``ef_search`` counts the candidates of all users: of a hundred, ten are left to who owns a tenth, and
all of them would be the answer. The best ten of twenty are righter: recall .98 instead of .96.
"""

_MINE = "d.user_id = :user_id AND d.status = 'ready'"

# Subqueries with OFFSET 0 are planned by themselves: per document the index on (document_id, chunk_index), whatever
# the planner takes the number of documents to be.
_ONE_BY_ONE = """
    SELECT c.* FROM mine CROSS JOIN LATERAL (
        SELECT id, document_id, chunk_index, content, embedding <=> :question AS distance
        FROM document_chunks WHERE document_id = mine.id AND embedding_model = :model OFFSET 0
    ) c"""

# few: how many documents hold EXACT_UP_TO passages, going by the table's average. mine: an owner of more than that
# is large, and need not be read to the end. large: more documents, or fewer that are long.
NEAREST = """
WITH few AS MATERIALIZED (
    SELECT ceil({exact_up_to} * greatest(d.reltuples, 1) / greatest(c.reltuples, d.reltuples, 1))::int AS documents
    FROM pg_class d, pg_class c WHERE d.oid = 'documents'::regclass AND c.oid = 'document_chunks'::regclass
), mine AS MATERIALIZED (
    SELECT d.id FROM documents d WHERE {mine} LIMIT (SELECT documents + 1 FROM few)
), size AS MATERIALIZED (
    SELECT (SELECT count(*) FROM mine) > (SELECT documents FROM few) OR EXISTS (
        SELECT FROM mine CROSS JOIN LATERAL (SELECT FROM document_chunks WHERE document_id = mine.id OFFSET 0) passages
        OFFSET {exact_up_to}
    ) AS large
), nearest AS (
    ({one_by_one} WHERE NOT (SELECT large FROM size) ORDER BY distance, id LIMIT {k})
    UNION ALL
    (
        SELECT c.id, c.document_id, c.chunk_index, c.content, c.embedding <=> :question AS distance
        FROM document_chunks c
        WHERE (SELECT large AND {settings} FROM size)
            AND c.embedding_model = :model
            AND (SELECT {mine} FROM documents d WHERE d.id = c.document_id)
        ORDER BY distance LIMIT {enough}
    )
)"""

# True always. In the WHERE of the index's branch it is evaluated once, before the index is first read, and is_local
# ends it with the transaction: the settings travel with the search, in one round trip.
_SETTINGS = """set_config('hnsw.ef_search', :ef_search, true)
                || set_config('hnsw.iterative_scan', 'relaxed_order', true) <> ''"""

_EXACTLY = "WITH mine AS MATERIALIZED (SELECT d.id FROM documents d WHERE {mine}), nearest AS ({one_by_one})"

_FOUND = """
SELECT c.id, c.document_id, d.source, d.title, c.chunk_index, c.content, c.distance
FROM (SELECT * FROM nearest ORDER BY distance LIMIT {k}) c JOIN documents d ON d.id = c.document_id
ORDER BY c.distance
"""


@dataclass(frozen=True)
class Passage:
    """A passage that was found, where it stands, and its cosine distance from the question, 0 to 2."""

    id: UUID
    document_id: UUID
    source: str
    title: str
    chunk_index: int
    content: str
    distance: float


def check_numbers(k: object, ef_search: object) -> None:
    """Refuse here what the server would refuse, or not look at, depending on which way the search goes.

    Raises:
        CourseError: ``k`` is no number of passages, or ``ef_search`` not from 1 to 1000.
    """
    if not _is_count(k):
        raise CourseError(f"k is how many passages are wanted, and {k!r} is none.", "Such as k=10")
    if not _is_count(ef_search) or ef_search > EF_SEARCH_MOST:
        raise CourseError(
            f"ef_search is a number from 1 to {EF_SEARCH_MOST}, and {ef_search!r} is none of them.",
            f"Leave it out for {EF_SEARCH}.",
        )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@lru_cache
def search_statement(k: int, by_document: bool = False, by_date: bool = False, exact: bool = False) -> TextClause:
    """The search for ``k`` passages, with the parameters ``user_id``, ``model`` and ``question``.

    Without ``exact`` also ``ef_search``, as a text; with ``by_document`` ``document_ids``; with ``by_date`` ``since``.
    Written as SQL and kept, because building and hashing an expression of this size costs more than running it. ``k``
    is part of the text: of a LIMIT that is a parameter the planner knows nothing, and assumes a tenth of the table.
    """
    return statement_of((_EXACTLY if exact else NEAREST) + _FOUND, k, by_document, by_date, exact)


def statement_of(sql: str, k: int, by_document: bool, by_date: bool, exact: bool, **values: object) -> TextClause:
    """``sql`` with what ``NEAREST`` and the like leave open, and its parameters with their types."""
    mine = _MINE + " AND d.id = ANY(:document_ids)" * by_document + " AND d.updated_at >= :since" * by_date
    sql = sql.format(
        mine=mine, one_by_one=_ONE_BY_ONE, settings=_SETTINGS, exact_up_to=EXACT_UP_TO, k=k, enough=k * OVERFETCH,
        **values,
    )  # fmt: skip
    parameters: list[BindParameter[Any]] = [
        bindparam("user_id", type_=Uuid()),
        bindparam("model", type_=Text()),
        bindparam("question", type_=VECTOR(DIMENSIONS)),
        *[bindparam("ef_search", type_=Text())] * (not exact),
        *[bindparam("document_ids", type_=ARRAY(Uuid()))] * by_document,
        *[bindparam("since", type_=DateTime(timezone=True))] * by_date,
    ]
    return text(sql).bindparams(*parameters)


def search_parameters(
    user_id: UUID, question: object, model: str, ef_search: int, document_ids: list[UUID] | None, since: datetime | None
) -> dict[str, object]:
    """Values for ``search_statement``; what it has no use for is left out by SQLAlchemy."""
    return {
        "user_id": user_id, "model": model, "question": question, "ef_search": str(ef_search),
        "document_ids": document_ids, "since": since,
    }  # fmt: skip
