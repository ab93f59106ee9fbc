"""An account deleted with everything in it, and a count of what is left, for who has to show that nothing is.

What belongs to a user is found by the foreign keys of the database, not by a list: a table that is made tomorrow is
deleted and searched like those of today, or the count says that it was not.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import Document, User
from course_lib.models.documents import passage_hash
from course_lib.repositories.generic import NotFound
from course_lib.repositories.limits import forget_reservations
from course_lib.repositories.rag.cache import delete_lapsed, forget_vectors_of
from course_lib.repositories.rag.store import lock_documents

Fields = dict[str, Any]
"""A row as JSON: its columns' names and values."""

WORDS = 8
"""So many words in a row, found in a row of somebody's, were copied from there."""

_TOKEN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}|[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_WORD = re.compile(r"[^\W\d_]+")  # times are no words

_TABLES = text("""
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND n.nspname NOT LIKE 'pg\\_%'
    ORDER BY 1
""")

# Which column of which table refers to which column of which: single columns, as all keys of the course are.
_REFERENCES = text("""
    SELECT k.conrelid::regclass::text AS child, a.attname AS refers, quote_ident(a.attname) AS refers_sql,
        k.confrelid::regclass::text AS parent, b.attname AS referred
    FROM pg_constraint k
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
        JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
    WHERE k.contype = 'f'
""")


async def delete_user(session: AsyncSession, user_id: UUID) -> None:
    """Delete the account, by the foreign keys all that belongs to it, and the cached vectors nobody else's passage has.

    Waits for who is storing documents of the user; who begins later finds no user. What the user's model was asked
    for and no passage got runs out within minutes, and is deleted by whoever stores or deletes next.

    Raises:
        NotFound: there is no such user.
    """
    await lock_documents(session, user_id)
    documents = await session.scalars(select(Document.id).where(Document.user_id == user_id))
    await forget_vectors_of(session, documents.all())
    if await session.scalar(delete(User).where(User.id == user_id).returning(User.id)) is None:
        raise NotFound(User, user_id)
    await forget_reservations(session, user_id)
    await delete_lapsed(session)


@dataclass(frozen=True)
class Traces:
    """By what the rows of a user or a document, and copies of them, are told.

    ``tokens`` are ids, addresses and hashes, in hex; ``phrases`` all runs of ``WORDS`` words in their texts. What rows
    of other users, or other documents, hold as well is in neither.
    """

    tokens: frozenset[str]
    phrases: frozenset[str]


async def traces_of(session: AsyncSession, owner: User | Document) -> Traces:
    """What to look for once ``owner`` is deleted. Reads the rows of everybody: for tests and audits."""
    table, key = owner.__tablename__, str(owner.id)
    own = await _collect(session, table, "id = CAST(:id AS uuid)", key)
    others = await _collect(session, table, "id <> CAST(:id AS uuid)", key)
    return Traces(own.tokens - others.tokens, own.phrases - others.phrases)


async def count_left(session: AsyncSession, traces: Traces) -> dict[str, int]:
    """Rows that hold any of ``traces``, by table, where there are any. Reads every row of every table."""
    left = {}
    for table in await session.scalars(_TABLES):
        rows = await session.stream_scalars(text(f"SELECT to_jsonb(t) FROM {table} t"))
        count = sum([1 async for row in rows if _holds(row, traces)])
        if count:
            left[table] = count
    return left


async def _collect(session: AsyncSession, table: str, condition: str, key: str) -> Traces:
    references = (await session.execute(_REFERENCES)).all()
    tokens: set[str] = set()
    phrases: set[str] = set()
    keys: set[str] = set()
    owners: set[str] = set()
    async for place, row in _belonging(session, references, table, condition, key):
        tokens |= _tokens(row) | _hashes(row)
        phrases |= _phrases(row)
        keys |= {str(row[one.referred]) for one in references if one.parent == place}
        owners |= {str(row[one.refers]) for one in references if one.child == place}
    return Traces(frozenset(tokens - (owners - keys)), frozenset(phrases))


async def _belonging(
    session: AsyncSession, references: Sequence[Row[Any]], table: str, condition: str, key: str
) -> AsyncIterator[tuple[str, Fields]]:
    """The rows of ``table``, then those that refer to them, to those, and so on; each with its table."""
    found = list(await session.scalars(text(f"SELECT to_jsonb(t) FROM {table} t WHERE {condition}"), {"id": key}))
    waiting, seen = [(table, row) for row in found], set()
    while waiting:
        place, row = waiting.pop()
        told = (place, json.dumps(row, sort_keys=True))
        if told in seen:
            continue
        seen.add(told)
        yield place, row
        for one in references:
            if one.parent == place and row[one.referred] is not None:
                statement = text(f"SELECT to_jsonb(t) FROM {one.child} t WHERE CAST(t.{one.refers_sql} AS text) = :key")
                refer = await session.scalars(statement, {"key": str(row[one.referred])})
                waiting += [(one.child, child) for child in refer]


def _holds(row: Fields, traces: Traces) -> bool:
    return not (_tokens(row).isdisjoint(traces.tokens) and _phrases(row).isdisjoint(traces.phrases))


def _tokens(row: Fields) -> set[str]:
    """Ids, addresses and hashes in a row."""
    return set(_TOKEN.findall(json.dumps(row, ensure_ascii=False)))


def _hashes(row: Fields) -> set[str]:
    """What the cache knows a row's texts by."""
    return {passage_hash(value).hex() for value in row.values() if isinstance(value, str)}


def _phrases(row: Fields) -> set[str]:
    found = set()
    for value in _texts(list(row.values())):
        words = _WORD.findall(value.lower())
        found |= {" ".join(words[place : place + WORDS]) for place in range(len(words) - WORDS + 1)}
    return found


def _texts(value: object) -> Iterator[str]:
    """The texts in a value of JSON, however deep they are."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
