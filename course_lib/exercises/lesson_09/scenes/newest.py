"""The newest messages of a conversation, with the index that this needs, and in seven ways that cannot use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import ColumnElement, Select, String, cast, func, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.judging.testing.plugin import CaseHere
from course_lib.models import Message
from course_lib.postgres.address import libpq_uri

HOW = {
    "dropped": "has lost its index",
    "cast": "compares the conversation's id as text",
    "function": "puts the number of a message into a function",
    "order": "sorts by time, and its index is by number",
    "tie": "sorts by number and then by time, which its index does not hold",
    "hash": "has a hash index, which finds the conversation and knows no order",
    "other index": "walks through an index over all conversations, and filters",
}
"""What each mutant does, in words."""
PAGE = 20

UNIQUE = "uq_messages_conversation_id_seq"
DROP = f"ALTER TABLE messages DROP CONSTRAINT {UNIQUE}"
SCHEMA = {
    "dropped": (DROP,),
    "hash": (DROP, "CREATE INDEX ix_messages_conversation_id ON messages USING hash (conversation_id)"),
    "other index": (DROP, "CREATE INDEX ix_messages_seq ON messages (seq)"),
    "other name": (DROP, "CREATE UNIQUE INDEX ix_messages_newest ON messages (conversation_id, seq DESC)"),
}
"""What is changed in it, by the name of the case."""
SEEN = """
    SELECT count(*), count(DISTINCT conversation_id),
           (SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'messages'::regclass)
    FROM messages
"""


def _newest(conversation: ColumnElement[bool], number: Any, order: Sequence[Any], before: int) -> Select[int, str, str]:
    return select(Message.seq, Message.role, Message.content).where(conversation, number < before).order_by(*order)


def _statement(name: str, conversation_id: UUID, before: int) -> Select[int, str, str]:
    its, number = Message.conversation_id == conversation_id, Message.seq
    if name == "cast":
        its = cast(Message.conversation_id, String) == str(conversation_id)
    if name == "function":
        coalesced = func.coalesce(number, 0)
        return _newest(its, coalesced, [coalesced.desc()], before)
    by_time = Message.created_at.desc()
    orders: dict[str, list[Any]] = {"order": [by_time], "tie": [number.desc(), by_time]}
    order = orders.get(name, [number.desc()])
    return _newest(its, number, order, before)


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def _schema(_case: CaseHere, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for statement in SCHEMA.get(_case.name, ()):
            await connection.execute(text(statement))


@pytest.fixture
def newest(_case: CaseHere) -> Callable[[UUID, int], Select[int, str, str]]:
    def newest(conversation_id: UUID, before: int) -> Select[int, str, str]:
        """The statement for the 20 newest messages whose number is less than ``before``, newest first."""
        with psycopg.connect(libpq_uri(make_url(_case.url)), autocommit=True) as witness:
            messages, conversations, known = witness.execute(SEEN.encode()).fetchone() or (0, 0, 0)
        _case.note(messages=messages, conversations=conversations, known=int(known))
        return _statement(_case.name, conversation_id, before).limit(PAGE)

    return newest
