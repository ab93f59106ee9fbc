"""Answers to 1.8, import a long conversation."""

from __future__ import annotations

import asyncio
import json

from sqlalchemy import bindparam, insert, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import Message
from tests.exercises.written import Answers

ANSWERS = Answers("1.8")


def rows_for(conversation_id, messages, start=1):
    return [
        {**message, "conversation_id": conversation_id, "seq": seq} for seq, message in enumerate(messages, start=start)
    ]


@ANSWERS.right
async def add_all(session, conversation_id, messages):
    async with session.begin():
        session.add_all([Message(**row) for row in rows_for(conversation_id, messages)])


@ANSWERS.right
async def on_the_connection(session, conversation_id, messages):
    if messages:
        connection = await session.connection()
        await connection.execute(insert(Message.__table__), rows_for(conversation_id, messages))
        await session.commit()
    return len(messages)


@ANSWERS.right
async def values_in_batches(session, conversation_id, messages):
    rows = rows_for(conversation_id, messages)
    while rows:
        await session.execute(insert(Message).values(rows[:1000]))
        rows = rows[1000:]
    await session.commit()


@ANSWERS.right
async def copy(session, conversation_id, messages):
    rows = [{**row, "meta": json.dumps(row["meta"])} for row in rows_for(conversation_id, messages)]
    columns = list(rows[0]) if rows else []
    records = [list(row.values()) for row in rows]
    if not records:
        return
    raw = await (await session.connection()).get_raw_connection()
    await raw.driver_connection.copy_records_to_table("messages", columns=columns, records=records)
    await session.commit()


@ANSWERS.right
async def raw_sql_over_json(session, conversation_id, messages):
    sql = """
        INSERT INTO messages (conversation_id, seq, role, content, status, token_count, meta, created_at)
        SELECT :id, ordinality, role, content, status, token_count, meta, created_at
        FROM ROWS FROM (
            jsonb_to_recordset(:messages)
            AS (role text, content text, status text, token_count int, meta jsonb, created_at timestamptz)
        ) WITH ORDINALITY AS m
    """
    statement = text(sql).bindparams(bindparam("messages", type_=JSONB))
    await session.execute(statement, {"id": conversation_id, "messages": json.loads(json.dumps(messages, default=str))})
    await session.commit()


@ANSWERS.wrong("too many parameters")
async def one_large_values(session, conversation_id, messages):
    if messages:
        await session.execute(insert(Message).values(rows_for(conversation_id, messages)))
        await session.commit()


@ANSWERS.wrong("numbered from 0")
async def counts_from_nought(session, conversation_id, messages):
    await session.execute(insert(Message), rows_for(conversation_id, messages, start=0))
    await session.commit()


@ANSWERS.wrong("not stored")
async def forgot_commit(session, conversation_id, messages):
    await session.execute(insert(Message), rows_for(conversation_id, messages))


@ANSWERS.wrong("not stored")
async def forgot_to_iterate(session, conversation_id, messages):
    (session.add(Message(**row)) for row in rows_for(conversation_id, messages))
    await session.commit()


@ANSWERS.wrong("wrong length")
async def without_the_last(session, conversation_id, messages):
    await session.execute(insert(Message), rows_for(conversation_id, messages)[:-1])
    await session.commit()


@ANSWERS.wrong("wrong length")
async def each_message_once(session, conversation_id, messages):
    once = {(m["role"], m["content"], m["created_at"]): m for m in messages}
    await session.execute(insert(Message), rows_for(conversation_id, list(once.values())))
    await session.commit()


@ANSWERS.wrong("values lost")
async def zone_taken_off(session, conversation_id, messages):
    naive = [{**message, "created_at": message["created_at"].replace(tzinfo=None)} for message in messages]
    await session.execute(insert(Message), rows_for(conversation_id, naive))
    await session.commit()


@ANSWERS.wrong("numbering")
async def counts_in_tens(session, conversation_id, messages):
    rows = [{**row, "seq": 10 * row["seq"]} for row in rows_for(conversation_id, messages)]
    await session.execute(insert(Message), rows)
    await session.commit()


@ANSWERS.wrong("wrong order")
async def by_time(session, conversation_id, messages):
    by_time = sorted(messages, key=lambda message: message["created_at"])
    await session.execute(insert(Message), rows_for(conversation_id, by_time))
    await session.commit()


@ANSWERS.wrong("values lost")
async def role_and_content_only(session, conversation_id, messages):
    rows = [
        {"conversation_id": conversation_id, "seq": seq, "role": message["role"], "content": message["content"]}
        for seq, message in enumerate(messages, 1)
    ]
    await session.execute(insert(Message), rows)
    await session.commit()


@ANSWERS.wrong("swallowed")
async def error_caught(session, conversation_id, messages):
    try:
        session.add_all(Message(**row) for row in rows_for(conversation_id, messages))
        await session.commit()
    except Exception:
        await session.rollback()
        return False
    return True


@ANSWERS.wrong("half loaded")
async def commit_per_batch(session, conversation_id, messages):
    rows = rows_for(conversation_id, messages)
    for first in range(0, len(rows), 500):
        await session.execute(insert(Message), rows[first : first + 500])
        await session.commit()


@ANSWERS.wrong("swallowed")
async def bad_ones_left_out(session, conversation_id, messages):
    known = [message for message in messages if message["role"] in {"system", "user", "assistant", "tool"}]
    if known:
        await session.execute(insert(Message), rows_for(conversation_id, known))
    await session.commit()


@ANSWERS.wrong("swallowed")
async def empty_ones_made_good(session, conversation_id, messages):
    known = [{**message, "status": message["status"] or "complete"} for message in messages]
    if known:
        await session.execute(insert(Message), rows_for(conversation_id, known))
    await session.commit()


@ANSWERS.wrong("swallowed")
async def nothing_said_is_an_empty_text(session, conversation_id, messages):
    known = [{**message, "content": message["content"] or ""} for message in messages]
    if known:
        await session.execute(insert(Message), rows_for(conversation_id, known))
    await session.commit()


@ANSWERS.wrong("half loaded")
async def parts_side_by_side(session, conversation_id, messages):
    rows = rows_for(conversation_id, messages)

    async def load(part):
        async with AsyncSession(session.bind) as own, own.begin():
            await own.execute(insert(Message), part)

    await asyncio.gather(*(load(rows[first : first + 2000]) for first in range(0, len(rows), 2000)))


@ANSWERS.wrong("empty list")
async def nothing_to_insert(session, conversation_id, messages):
    await session.execute(insert(Message), rows_for(conversation_id, messages))
    await session.commit()


@ANSWERS.wrong("other conversations")
async def shortens_the_others(session, conversation_id, messages):
    session.add_all(Message(**row) for row in rows_for(conversation_id, messages))
    await session.flush()
    await session.execute(
        text("DELETE FROM messages WHERE seq > 9 AND conversation_id <> :id"), {"id": conversation_id}
    )
    await session.commit()


@ANSWERS.wrong("changed the list")
async def dicts_of_the_caller(session, conversation_id, messages):
    for seq, message in enumerate(messages, start=1):
        message["conversation_id"] = conversation_id
        message["seq"] = seq
    if messages:
        await session.execute(insert(Message), messages)
    await session.commit()


@ANSWERS.wrong("values lost")
async def mark_in_the_meta_of_the_caller(session, conversation_id, messages):
    rows = rows_for(conversation_id, messages)
    for row in rows:
        row["meta"]["imported"] = True
    if rows:
        await session.execute(insert(Message), rows)
    await session.commit()


@ANSWERS.wrong("changed the list")
async def mark_in_the_meta_afterwards(session, conversation_id, messages):
    await values_in_batches(session, conversation_id, messages)
    for message in messages:
        message["meta"].setdefault("imported", True)


@ANSWERS.wrong("too many statements")
async def batches_of_450(session, conversation_id, messages):
    rows = rows_for(conversation_id, messages)
    for first in range(0, len(rows), 450):
        await session.execute(insert(Message).values(rows[first : first + 450]))
    await session.commit()


@ANSWERS.wrong("too many statements")
async def past_the_engine(session, conversation_id, messages):
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    sql = "INSERT INTO messages (conversation_id, seq, role, content, status, token_count, meta, created_at)"
    async with driver.transaction():
        for row in rows_for(conversation_id, messages):
            values = [row[name] for name in ("role", "content", "status", "token_count")]
            meta = json.dumps(row["meta"])
            await driver.execute(
                f"{sql} VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                conversation_id, row["seq"], *values, meta, row["created_at"],
            )  # fmt: skip
