"""Words beside vectors, as one statement.

An embedding knows what a question is about and hardly tells one code or name from another; words do. A passage's
score is its cosine similarity, and WEIGHT times the share of the question's words that stand in its text or title. A
word counts by how rare it is among the passages that are compared: a code that one of them has outweighs a *long* or a
*much* that many have, and a question in quite other words than the passage's is left to the vectors.
"""

from __future__ import annotations

import re
from functools import lru_cache

from sqlalchemy import ARRAY, Text, TextClause, bindparam

from course_lib.repositories.rag.search import NEAREST, statement_of

WEIGHT = 0.4
"""Of the words, for a similarity that goes from -1 to 1. Chosen on the tuning half of the golden questions, where .3 to
.5 do as well."""

CANDIDATES = 200
"""Passages whose words are looked at. To read 600 characters takes to_tsvector 0.13 ms; nothing is stored for it, since
a column of words beside vector and text would push the rows over the 2 KB from which PostgreSQL moves values out."""

LONGEST = 100_000
"""Characters whose words are looked at. A tsvector holds a megabyte."""

CODES = 16
"""Codes of one question that are looked for."""

# coded: of who has more passages than are compared, those with a code of the question, however far their vector lies.
# held: the stems that a candidate and the question have in common. weighed: as BM25 weighs them. shares: added up in
# one order, so that equal passages have equal scores to the last bit.
_WORDS = """, coded AS (
    SELECT c.* FROM documents d CROSS JOIN LATERAL (
        SELECT id, document_id, chunk_index, content, embedding <=> :question AS distance
        FROM document_chunks
        WHERE document_id = d.id AND embedding_model = :model AND lower(content) LIKE ANY (:codes) OFFSET 0
    ) c
    WHERE {mine} AND cardinality(:codes) > 0 AND (SELECT count(*) >= {k} FROM nearest)
    ORDER BY distance, id LIMIT {k}
), candidates AS MATERIALIZED (
    SELECT c.*, d.source, d.title
    FROM (SELECT * FROM nearest UNION ALL SELECT * FROM coded WHERE id NOT IN (SELECT id FROM nearest)) c
    JOIN documents d ON d.id = c.document_id
), asked AS MATERIALIZED (
    SELECT lexeme FROM unnest(to_tsvector('english', :words))
), held AS MATERIALIZED (
    SELECT c.id, lexeme
    FROM candidates c CROSS JOIN LATERAL unnest(to_tsvector('english', left(c.title || ' ' || c.content, {longest})))
    JOIN asked USING (lexeme)
), weighed AS MATERIALIZED (
    SELECT lexeme, ln((every + 1)::float / (count(id) + 0.5)) AS weight
    FROM (SELECT count(*) AS every FROM candidates) CROSS JOIN asked LEFT JOIN held USING (lexeme)
    GROUP BY lexeme, every
), shares AS (
    SELECT id, sum(weight ORDER BY lexeme) / (SELECT sum(weight) FROM weighed) AS share
    FROM held JOIN weighed USING (lexeme) GROUP BY id
)
SELECT c.id, c.document_id, c.source, c.title, c.chunk_index, c.content, c.distance
FROM candidates c LEFT JOIN shares USING (id)
ORDER BY 1 - c.distance + {weight} * coalesce(share, 0) DESC, c.distance, c.source, c.chunk_index
LIMIT {found}
"""


@lru_cache
def hybrid_statement(k: int, by_document: bool = False, by_date: bool = False) -> TextClause:
    """The search by vectors and words for ``k`` passages. Parameters as of ``search_statement``, and those of
    ``words_of``."""
    values = {"found": k, "weight": WEIGHT, "longest": LONGEST}
    statement = statement_of(NEAREST + _WORDS, max(k, CANDIDATES), by_document, by_date, False, **values)
    return statement.bindparams(bindparam("words", type_=Text()), bindparam("codes", type_=ARRAY(Text())))


def words_of(text: str) -> dict[str, object]:
    """The parameters that ``text`` gives to ``hybrid_statement``."""
    text = text[:LONGEST]
    return {"words": text, "codes": codes_of(text)}


def codes_of(text: str) -> list[str]:
    """Patterns for LIKE of what looks like a code: three signs or more with a digit, in small letters."""
    found = re.findall(r"[^\W_](?:[\w./:-]*\w)?", text.lower())
    codes = dict.fromkeys(word for word in found if len(word) > 2 and re.search(r"\d", word))
    return ["%" + code.replace("_", r"\_") + "%" for code in codes][:CODES]
