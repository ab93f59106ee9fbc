"""Answers to 10.6, restore to a minute ago."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from course_lib.models import Conversation, Job, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("10.6")
COMMITTED = text("SELECT pg_xact_commit_timestamp(xmin) FROM jobs WHERE id = :job")
KEPT = []
TABLES = (Conversation.__table__, Message.__table__)


async def moment_of(live, job):
    async with live.connect() as connection:
        return (await connection.execute(COMMITTED, {"job": job})).scalar_one()


async def rows_of(engine, table):
    async with engine.connect() as connection:
        return {row.id: dict(row._mapping) for row in await connection.execute(select(table))}


async def lost_rows(live, moment, restore):
    """By table, what one transaction deleted."""
    before, after = await restore(moment, inclusive=False), await restore(moment)
    lost = {}
    for table in TABLES:
        then = await rows_of(after, table)
        lost[table] = [row for id, row in (await rows_of(before, table)).items() if id not in then]
    return lost


async def put_back(live, lost, statement=None):
    """Conversations whose owner is there, then messages whose conversation is."""
    conversations, messages = (lost[table] for table in TABLES)
    async with live.begin() as connection:
        users = set((await connection.execute(select(User.id))).scalars())
        conversations = [row for row in conversations if row["user_id"] in users]
        if conversations:
            await connection.execute(upsert(TABLES[0]).on_conflict_do_nothing(), conversations)
        there = set((await connection.execute(select(Conversation.id))).scalars())
        messages = [row for row in messages if row["conversation_id"] in there]
        if messages:
            await connection.execute(upsert(TABLES[1]).on_conflict_do_nothing(), messages)


@ANSWERS.right
async def difference(live, job, restore):
    await put_back(live, await lost_rows(live, await moment_of(live, job), restore))


@ANSWERS.right
async def ids_only_from_the_state_after(live, job, restore):
    """Row by row, with savepoints for those that refer to nothing."""
    from sqlalchemy.exc import IntegrityError

    lost = await lost_rows(live, await moment_of(live, job), restore)
    async with live.begin() as connection:
        for table, rows in lost.items():
            for row in rows:
                try:
                    async with connection.begin_nested():
                        await connection.execute(insert(table).values(row))
                except IntegrityError:
                    pass


@ANSWERS.right
async def as_texts(live, job, restore):
    """PostgreSQL writes and reads the rows itself."""
    moment = await moment_of(live, job)
    before, after = await restore(moment, inclusive=False), await restore(moment, inclusive=True)
    parents = {"conversations": ("users", "user_id"), "messages": ("conversations", "conversation_id")}
    for table, (parent, key) in parents.items():
        async with after.connect() as connection:
            kept = list((await connection.execute(text(f"SELECT id FROM {table}"))).scalars())
        async with before.connect() as connection:
            query = text(f"SELECT to_jsonb(t)::text FROM {table} AS t WHERE id <> ALL(:kept)")
            lines = list((await connection.execute(query, {"kept": kept})).scalars())
        async with live.begin() as connection:
            put = text(f"""
                INSERT INTO {table} SELECT r.* FROM unnest(CAST(:lines AS text[])) AS line,
                jsonb_populate_record(NULL::{table}, line::jsonb) AS r
                WHERE r.{key} IN (SELECT id FROM {parent}) ON CONFLICT DO NOTHING
            """)
            await connection.execute(put, {"lines": lines})


@ANSWERS.wrong("nothing back")
async def looks_and_leaves(live, job, restore):
    await lost_rows(live, await moment_of(live, job), restore)


@ANSWERS.wrong("nothing back")
async def after_the_purge(live, job, restore):
    moment = await moment_of(live, job)
    before, after = await restore(moment), await restore(moment + timedelta(microseconds=1))
    lost = {}
    for table in TABLES:
        then = await rows_of(after, table)
        lost[table] = [row for id, row in (await rows_of(before, table)).items() if id not in then]
    await put_back(live, lost)


@ANSWERS.wrong("of the window")
async def when_the_job_began(live, job, restore):
    async with live.connect() as connection:
        began = (await connection.execute(select(Job.created_at).where(Job.id == job))).scalar_one()
    before, after = await restore(began), await restore(await moment_of(live, job))
    lost = {}
    for table in TABLES:
        then = await rows_of(after, table)
        lost[table] = [row for id, row in (await rows_of(before, table)).items() if id not in then]
    await put_back(live, lost)


@ANSWERS.wrong("messages missing")
async def conversations_only(live, job, restore):
    lost = await lost_rows(live, await moment_of(live, job), restore)
    await put_back(live, lost | {TABLES[1]: []})


@ANSWERS.wrong("not all back")
async def a_page_of_them(live, job, restore):
    lost = await lost_rows(live, await moment_of(live, job), restore)
    await put_back(live, lost | {TABLES[0]: lost[TABLES[0]][:5]})


@ANSWERS.wrong("changed on the way")
async def new_times(live, job, restore):
    lost = await lost_rows(live, await moment_of(live, job), restore)
    for row in lost[TABLES[0]]:
        row.pop("created_at")
    await put_back(live, lost)


@ANSWERS.wrong("back on purpose")
async def all_that_is_not_there(live, job, restore):
    before = await restore(await moment_of(live, job), inclusive=False)
    await put_back(live, {table: list((await rows_of(before, table)).values()) for table in TABLES})


@ANSWERS.wrong("back on purpose")
async def accounts_too(live, job, restore):
    moment = await moment_of(live, job)
    lost = await lost_rows(live, moment, restore)
    before = await restore(moment, inclusive=False)
    async with live.begin() as connection:
        users = list((await rows_of(before, User.__table__)).values())
        await connection.execute(upsert(User.__table__).on_conflict_do_nothing(), users)
    await put_back(live, lost)


@ANSWERS.wrong("overwritten")
async def the_backup_wins(live, job, restore):
    before = await restore(await moment_of(live, job), inclusive=False)
    rows = await rows_of(before, TABLES[0])
    async with live.begin() as connection:
        users = set((await connection.execute(select(User.id))).scalars())
        put = upsert(TABLES[0])
        put = put.on_conflict_do_update(index_elements=["id"], set_={"title": put.excluded.title})
        await connection.execute(put, [row for row in rows.values() if row["user_id"] in users])


@ANSWERS.wrong("lost since")
async def back_to_the_state_before(live, job, restore):
    before = await restore(await moment_of(live, job), inclusive=False)
    rows = [await rows_of(before, table) for table in (User.__table__, *TABLES)]
    async with live.begin() as connection:
        await connection.execute(text("DELETE FROM conversations"))
        users, conversations, messages = (list(each.values()) for each in rows)
        await connection.execute(upsert(User.__table__).on_conflict_do_nothing(), users)
        await connection.execute(insert(TABLES[0]), conversations)
        await connection.execute(insert(TABLES[1]), messages)


@ANSWERS.wrong("extra rows")
async def with_a_remark(live, job, restore):
    await difference(live, job, restore)
    async with live.begin() as connection:
        user = (await connection.execute(select(User.id).limit(1))).scalar_one()
        await connection.execute(insert(Conversation).values(user_id=user, title="rows were brought back"))


@ANSWERS.wrong("second run")
async def without_on_conflict(live, job, restore):
    lost = await lost_rows(live, await moment_of(live, job), restore)
    async with live.begin() as connection:
        users = set((await connection.execute(select(User.id))).scalars())
        conversations = [row for row in lost[TABLES[0]] if row["user_id"] in users]
        await connection.execute(insert(TABLES[0]), conversations)
        there = {row["id"] for row in conversations}
        gone = {row["id"] for row in lost[TABLES[0]]} - there
        messages = [row for row in lost[TABLES[1]] if row["conversation_id"] not in gone]
        await connection.execute(insert(TABLES[1]), messages)


@ANSWERS.wrong("too many restores")
async def step_by_step(live, job, restore):
    moment = await moment_of(live, job)
    for step in range(20):
        await restore(moment - timedelta(microseconds=20 - step))


@ANSWERS.wrong("connection held")
async def keeps_one(live, job, restore):
    await difference(live, job, restore)
    KEPT.append(await live.connect())


@ANSWERS.wrong("raised")
async def every_lost_row(live, job, restore):
    lost = await lost_rows(live, await moment_of(live, job), restore)
    async with live.begin() as connection:
        for table in TABLES:
            await connection.execute(upsert(table).on_conflict_do_nothing(), lost[table])


@ANSWERS.wrong("raised")
async def a_day_ago(live, job, restore):
    await restore(await moment_of(live, job) - timedelta(days=1))
