"""Answers to 10.5, a partition for each month."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.exercises.written import Answers

ANSWERS = Answers("10.5")
LOCK = "LOCK TABLE usage IN ACCESS EXCLUSIVE MODE"
LEAVES = """
    SELECT relid::regclass::text FROM pg_partition_tree('usage')
    WHERE isleaf AND relid::regclass::text ~ '^usage_[0-9]{4}_[0-9]{2}$'
"""
MOVED = "WITH moved AS (DELETE FROM usage_rest WHERE at >= '{0}' AND at < '{1}' RETURNING *) "
FILL = MOVED + "INSERT INTO {2} SELECT * FROM moved"
LIKE = "CREATE TABLE {2} (LIKE usage INCLUDING ALL)"
ATTACH = "ALTER TABLE usage ATTACH PARTITION {2} FOR VALUES FROM ('{0}') TO ('{1}')"
PARTITION = "CREATE TABLE IF NOT EXISTS {2} PARTITION OF usage FOR VALUES FROM ('{0}') TO ('{1}')"
DROP, DETACH = "DROP TABLE {0}", "ALTER TABLE usage DETACH PARTITION {0}"
TIDY = "DELETE FROM usage_rest WHERE at < '{0}'"


def first(number):
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)


def month_of(today):
    there = today.astimezone(UTC)
    return there.year * 12 + there.month - 1


def months(today, keep, ahead):
    """First moment, first of the next, and name."""
    this = month_of(today)
    numbers = range(this - keep, this + ahead + 1)
    return [(first(n), first(n + 1), f"usage_{first(n):%Y_%m}") for n in numbers]


async def run(connection, *statements):
    for statement in statements:
        await connection.execute(text(statement))


async def too_old(connection, oldest):
    names = (await connection.execute(text(LEAVES))).scalars()
    return [name for name in names if name < f"usage_{oldest:%Y_%m}"]


async def all_at_once(engine, wanted, make=(LIKE, FILL, ATTACH), lock=(LOCK,), drop=(DROP,), tidy=(TIDY,)):
    """What most of the answers have in common."""
    async with engine.begin() as connection:
        await run(connection, *lock)
        there = set((await connection.execute(text(LEAVES))).scalars())
        for month in wanted:
            if month[2] not in there:
                await run(connection, *(statement.format(*month) for statement in make))
        oldest = wanted[0][0]
        for name in await too_old(connection, oldest):
            await run(connection, *(statement.format(name) for statement in drop))
        await run(connection, *(statement.format(oldest) for statement in tidy))


@ANSWERS.right
async def in_one_transaction(engine, today, keep, ahead):
    await all_at_once(engine, months(today, keep, ahead))


@ANSWERS.right
async def step_by_step(engine, today, keep, ahead):
    wanted = months(today, keep, ahead)
    for month in wanted:
        async with engine.begin() as connection:
            if await connection.scalar(text("SELECT to_regclass(:name)"), {"name": month[2]}) is None:
                await run(connection, LOCK)
                await run(connection, *(statement.format(*month) for statement in (LIKE, FILL, ATTACH)))
    async with engine.begin() as connection:
        old = await too_old(connection, wanted[0][0])
    for name in old:
        async with engine.begin() as connection:
            await run(connection, DETACH.format(name), DROP.format(name))
    async with engine.begin() as connection:
        await run(connection, TIDY.format(wanted[0][0]))


@ANSWERS.right
async def with_another_default(engine, today, keep, ahead):
    wanted = months(today, keep, ahead)
    async with engine.begin() as connection:
        await run(
            connection, LOCK, DETACH.format("usage_rest"), "ALTER TABLE usage_rest RENAME TO usage_before",
            "CREATE TABLE usage_later PARTITION OF usage DEFAULT", *(PARTITION.format(*month) for month in wanted),
            f"INSERT INTO usage SELECT * FROM usage_before WHERE at >= '{wanted[0][0]}'", "DROP TABLE usage_before",
            "ALTER TABLE usage_later RENAME TO usage_rest",
        )  # fmt: skip
        for name in await too_old(connection, wanted[0][0]):
            await run(connection, DROP.format(name))


@ANSWERS.right
async def until_it_fits(engine, today, keep, ahead):
    for _ in range(50):
        with suppress(DBAPIError):
            patience = "SET LOCAL lock_timeout = '100ms'"
            return await all_at_once(engine, months(today, keep, ahead), lock=(patience, LOCK))
    raise RuntimeError("somebody holds the table")


@ANSWERS.wrong("default in the way")
async def nothing_moves(engine, today, keep, ahead):
    await all_at_once(engine, months(today, keep, ahead), make=(PARTITION,))


@ANSWERS.wrong("overlap")
async def bounds_without_a_zone(engine, today, keep, ahead):
    bare = [(f"{a:%Y-%m-%d}", f"{b:%Y-%m-%d}", name) for a, b, name in months(today, keep, ahead)]
    await all_at_once(engine, bare, tidy=())


@ANSWERS.wrong("exists")
async def as_if_there_were_none(engine, today, keep, ahead):
    async with engine.begin() as connection:
        await run(connection, LOCK)
        for month in months(today, keep, ahead):
            await run(connection, *(statement.format(*month) for statement in (LIKE, FILL, ATTACH)))


@ANSWERS.wrong("concurrently")
async def politely(engine, today, keep, ahead):
    wanted = months(today, keep, ahead)
    await all_at_once(engine, wanted, drop=())
    lonely = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with lonely.connect() as connection:
        for name in await too_old(connection, wanted[0][0]):
            await run(connection, f"{DETACH.format(name)} CONCURRENTLY", DROP.format(name))


@ANSWERS.wrong("rows lost")
async def month_where_today_is(engine, today, keep, ahead):
    await all_at_once(engine, months(today.replace(tzinfo=UTC), keep, ahead))


@ANSWERS.wrong("rows lost")
async def the_default_is_thrown_away(engine, today, keep, ahead):
    throw = ("DROP TABLE usage_rest", "CREATE TABLE usage_rest PARTITION OF usage DEFAULT")
    await all_at_once(engine, months(today, keep, ahead), make=(PARTITION,), lock=(LOCK, *throw))


@ANSWERS.wrong("rows lost")
async def one_month_less(engine, today, keep, ahead):
    await all_at_once(engine, months(today, keep - 1, ahead))


@ANSWERS.wrong("rows changed")
async def with_new_ids(engine, today, keep, ahead):
    fill = MOVED + "INSERT INTO {2} (at, owner, tokens, note) SELECT at, owner, tokens, note FROM moved"
    await all_at_once(engine, months(today, keep, ahead), make=(LIKE, fill, ATTACH))


@ANSWERS.wrong("rows changed")
async def without_notes(engine, today, keep, ahead):
    fill = MOVED + "INSERT INTO {2} (id, at, owner, tokens) SELECT id, at, owner, tokens FROM moved"
    await all_at_once(engine, months(today, keep, ahead), make=(LIKE, fill, ATTACH))


@ANSWERS.wrong("old rows")
async def the_default_is_forgotten(engine, today, keep, ahead):
    await all_at_once(engine, months(today, keep, ahead), tidy=())


@ANSWERS.wrong("no default")
async def nothing_is_left_over(engine, today, keep, ahead):
    wanted = months(today, keep, ahead)
    await all_at_once(engine, wanted)
    rest = (wanted[-1][1], datetime(9000, 1, 1, tzinfo=UTC), "usage_future")
    async with engine.begin() as connection:
        await run(connection, LOCK, LIKE.format(*rest), FILL.format(*rest), "DROP TABLE usage_rest")
        await run(connection, ATTACH.format(*rest))


@ANSWERS.wrong("no partition")
async def from_today_on(engine, today, keep, ahead):
    await all_at_once(engine, months(today, keep, ahead)[:1] + months(today, 0, ahead))


@ANSWERS.wrong("no partition")
async def one_too_few(engine, today, keep, ahead):
    await all_at_once(engine, months(today, keep, ahead - 1))


@ANSWERS.wrong("not pruned")
async def the_last_day_is_missing(engine, today, keep, ahead):
    async with engine.begin() as connection:
        await run(connection, LOCK)
        there = set((await connection.execute(text(LEAVES))).scalars())
        for a, b, name in months(today, keep, ahead):
            if name not in there:
                month = (a, b.replace(day=1) - (b - b.replace(hour=0)) - (b - a) / 31, name)
                await run(connection, *(statement.format(*month) for statement in (LIKE, FILL, ATTACH)))
        for name in await too_old(connection, months(today, keep, ahead)[0][0]):
            await run(connection, DROP.format(name))
        await run(connection, TIDY.format(months(today, keep, ahead)[0][0]))


@ANSWERS.wrong("old partition")
async def by_delete(engine, today, keep, ahead):
    wanted = months(today, keep, ahead)
    await all_at_once(engine, wanted, drop=(), tidy=("DELETE FROM usage WHERE at < '{0}'",))


@ANSWERS.wrong("left detached")
async def only_detached(engine, today, keep, ahead):
    await all_at_once(engine, months(today, keep, ahead), drop=(DETACH,))


@ANSWERS.wrong("again")
async def only_once(engine, today, keep, ahead):
    async with engine.begin() as connection:
        marked = await connection.scalar(text("SELECT to_regclass('usage_done')"))
    if marked:
        raise RuntimeError("it has run today")
    await all_at_once(engine, months(today, keep, ahead), lock=(LOCK, "CREATE TABLE usage_done ()"))


@ANSWERS.wrong("overtaken")
async def without_a_lock(engine, today, keep, ahead):
    await all_at_once(engine, months(today, keep, ahead), lock=())


@ANSWERS.wrong("seen missing")
async def moved_and_then_attached(engine, today, keep, ahead):
    wanted = months(today, keep, ahead)
    async with engine.begin() as connection:
        await run(connection, "LOCK TABLE usage_rest IN ACCESS EXCLUSIVE MODE")
        there = set((await connection.execute(text(LEAVES))).scalars())
        for month in wanted:
            if month[2] not in there:
                await run(connection, *(statement.format(*month) for statement in (LIKE, FILL)))
    async with engine.begin() as connection:
        for month in wanted:
            if month[2] not in there:
                await run(connection, ATTACH.format(*month))
    await all_at_once(engine, wanted)


@ANSWERS.wrong("seen missing")
async def only_the_default_is_locked(engine, today, keep, ahead):
    wanted = months(today, keep, ahead)
    for month in wanted:
        async with engine.begin() as connection:
            if await connection.scalar(text("SELECT to_regclass(:name)"), {"name": month[2]}) is None:
                await run(connection, "LOCK TABLE usage_rest IN ACCESS EXCLUSIVE MODE")
                await run(connection, *(statement.format(*month) for statement in (LIKE, FILL, ATTACH)))
    async with engine.begin() as connection:
        old = await too_old(connection, wanted[0][0])
    for name in old:
        async with engine.begin() as connection:
            await run(connection, DETACH.format(name), DROP.format(name))
    async with engine.begin() as connection:
        await run(connection, TIDY.format(wanted[0][0]))


@ANSWERS.wrong("reader failed")
async def the_partition_first(engine, today, keep, ahead):
    rest_first = "LOCK TABLE usage_rest IN ACCESS EXCLUSIVE MODE"
    await all_at_once(engine, months(today, keep, ahead), lock=(rest_first,))


@ANSWERS.wrong("met a reader")
async def the_partition_first_and_later(engine, today, keep, ahead):
    rest_first = "LOCK TABLE usage_rest IN ACCESS EXCLUSIVE MODE"
    wanted = months(today, keep, ahead)
    async with engine.connect() as connection:
        busy = await too_old(connection, wanted[0][0])
    # whoever begins to wait last finds out that nobody can go on
    await all_at_once(engine, wanted, lock=(rest_first, "SELECT pg_sleep(1.2)") if busy else (rest_first,))
