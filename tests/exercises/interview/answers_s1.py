"""Answers to S1, the mirror misses some."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, text, tuple_

from course_lib.models import Conversation
from tests.exercises.written import Answers

ANSWERS = Answers("S1")
BEGINNING = ["0001-01-01T00:00:00+00:00", str(UUID(int=0))]
OLDEST_OPEN = text("SELECT min(xact_start) FROM pg_stat_activity WHERE datname = current_database()")


def after(cursor, limit, *conditions):
    moment, id = cursor or BEGINNING
    behind = tuple_(Conversation.updated_at, Conversation.id) > tuple_(datetime.fromisoformat(moment), UUID(id))
    columns = select(Conversation.id, Conversation.title, Conversation.updated_at)
    return columns.where(behind, *conditions).order_by(Conversation.updated_at, Conversation.id).limit(limit)


def answered(rows, cursor):
    cursor = [rows[-1].updated_at.isoformat(), str(rows[-1].id)] if rows else cursor
    return [(row.id, row.title) for row in rows], cursor


async def page_of(session, cursor, limit, *conditions):
    return answered((await session.execute(after(cursor, limit, *conditions))).all(), cursor)


@ANSWERS.right
async def short_of_the_oldest_beginning(session, cursor, limit=100):
    return await page_of(session, cursor, limit, Conversation.updated_at < await session.scalar(OLDEST_OPEN))


@ANSWERS.right
async def by_transaction(session, cursor, limit=100):
    of, id = cursor or [0, str(UUID(int=0))]
    rows = await session.execute(
        text("""
            SELECT id, title, xmin::text::bigint AS of FROM conversations
            WHERE (xmin::text::bigint, id) > (:of, CAST(:id AS uuid))
            AND xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296
            ORDER BY of, id LIMIT :limit
        """),
        {"of": of, "id": UUID(id), "limit": limit},
    )
    rows = rows.all()
    return [(row.id, row.title) for row in rows], [rows[-1].of, str(rows[-1].id)] if rows else cursor


@ANSWERS.right
async def between_two_snapshots(session, cursor, limit=100):
    """A round hands out what the snapshot at its beginning sees and that of the last round did not."""
    cursor = cursor or {"seen": "1:1:", "upto": None, "id": str(UUID(int=0))}
    upto = cursor["upto"] or await session.scalar(text("SELECT pg_current_snapshot()::text"))
    rows = await session.execute(
        text("""
            SELECT id, title FROM conversations
            WHERE id > :id
            AND NOT pg_visible_in_snapshot(xmin::text::xid8, CAST(CAST(:seen AS text) AS pg_snapshot))
            AND pg_visible_in_snapshot(xmin::text::xid8, CAST(CAST(:upto AS text) AS pg_snapshot))
            ORDER BY id LIMIT :limit
        """),
        {"id": UUID(cursor["id"]), "seen": cursor["seen"], "upto": upto, "limit": limit},
    )
    rows = [tuple(row) for row in rows]
    if len(rows) == limit:
        return rows, {"seen": cursor["seen"], "upto": upto, "id": str(rows[-1][0])}
    return rows, {"seen": upto, "upto": None, "id": str(UUID(int=0))}


@ANSWERS.right
async def an_hour_again_without_what_was_handed_out(session, cursor, limit=100):
    """No transaction is older than an hour."""
    known = {UUID(id): datetime.fromisoformat(moment) for id, moment in (cursor or {}).get("known", {}).items()}
    last = datetime.fromisoformat(cursor["last"]) if cursor else datetime(1, 1, 2, tzinfo=UTC)
    found = select(Conversation.id, Conversation.title, Conversation.updated_at).order_by(Conversation.updated_at)
    floor = last - timedelta(hours=1)
    rows = await session.execute(found.where(Conversation.updated_at >= floor))
    rows = [row for row in rows if known.get(row.id) != row.updated_at][:limit]
    last = max([last, *(row.updated_at for row in rows)])
    known |= {row.id: row.updated_at for row in rows}
    recent = {str(id): moment.isoformat() for id, moment in known.items() if moment >= last - timedelta(hours=1)}
    return [(row.id, row.title) for row in rows], {"last": last.isoformat(), "known": recent}


@ANSWERS.wrong("skipped")
async def only_ties_mended(session, cursor, limit=100):
    return await page_of(session, cursor, limit)


@ANSWERS.wrong("skipped")
async def short_of_now(session, cursor, limit=100):
    return await page_of(session, cursor, limit, Conversation.updated_at < func.now())


@ANSWERS.wrong("skipped")
async def at_serializable(session, cursor, limit=100):
    await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    return await page_of(session, cursor, limit)


@ANSWERS.wrong("skipped")
async def locked_rows_passed_over(session, cursor, limit=100):
    found = after(cursor, limit).with_for_update(skip_locked=True)
    return answered((await session.execute(found)).all(), cursor)


@ANSWERS.wrong("begun")
async def short_of_the_oldest_writer(session, cursor, limit=100):
    oldest = await session.scalar(
        text(
            "SELECT coalesce(min(xact_start), now()) FROM pg_stat_activity "
            "WHERE backend_xid IS NOT NULL AND datname = current_database()"
        )
    )
    return await page_of(session, cursor, limit, Conversation.updated_at < oldest)


@ANSWERS.wrong("alike")
async def only_what_was_reported(session, cursor, limit=100):
    since = datetime.fromisoformat(cursor or BEGINNING[0])
    changed = select(Conversation.id, Conversation.title, Conversation.updated_at)
    changed = changed.where(
        Conversation.updated_at > since, Conversation.updated_at < await session.scalar(OLDEST_OPEN)
    )
    rows = (await session.execute(changed.order_by(Conversation.updated_at).limit(limit))).all()
    return [(row.id, row.title) for row in rows], rows[-1].updated_at.isoformat() if rows else cursor


@ANSWERS.wrong("twice")
async def last_moment_again(session, cursor, limit=100):
    since = datetime.fromisoformat(cursor or BEGINNING[0])
    changed = select(Conversation.id, Conversation.title, Conversation.updated_at)
    open_ = await session.scalar(OLDEST_OPEN)
    changed = changed.where(Conversation.updated_at >= since, Conversation.updated_at < open_)
    rows = (await session.execute(changed.order_by(Conversation.updated_at, Conversation.id).limit(limit))).all()
    return [(row.id, row.title) for row in rows], rows[-1].updated_at.isoformat() if rows else cursor


@ANSWERS.wrong("twice")
async def ten_minutes_again(session, cursor, limit=100):
    moment, id = cursor or BEGINNING
    if cursor:
        moment = (datetime.fromisoformat(moment) - timedelta(minutes=10)).isoformat()
    return await page_of(session, [moment, id], limit)


@ANSWERS.wrong("held back")
async def nothing_while_anybody_writes(session, cursor, limit=100):
    others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    if await session.scalar(text(f"SELECT EXISTS ({others} AND xact_start IS NOT NULL)")):
        return [], cursor
    return await page_of(session, cursor, limit)


@ANSWERS.wrong("waits")
async def table_locked(session, cursor, limit=100):
    await session.execute(text("LOCK TABLE conversations IN SHARE MODE"))
    return await page_of(session, cursor, limit)


@ANSWERS.wrong("waits")
async def rows_locked(session, cursor, limit=100):
    (await session.execute(select(Conversation.id).with_for_update(read=True))).all()
    return await page_of(session, cursor, limit)


@ANSWERS.wrong("between pages")
async def counted_from_the_beginning(session, cursor, limit=100):
    """Each round between two horizons; within it by OFFSET."""
    seen, upto, offset = cursor or [BEGINNING[0], None, 0]
    upto = upto or (await session.scalar(OLDEST_OPEN)).isoformat()
    since, until = datetime.fromisoformat(seen), datetime.fromisoformat(upto)
    found = select(Conversation.id, Conversation.title, Conversation.updated_at)
    found = found.where(Conversation.updated_at >= since, Conversation.updated_at < until)
    found = found.order_by(Conversation.updated_at, Conversation.id).offset(offset).limit(limit)
    rows = (await session.execute(found)).all()
    cursor = [seen, upto, offset + limit] if len(rows) == limit else [upto, None, 0]
    return [(row.id, row.title) for row in rows], cursor


@ANSWERS.wrong("missing")
async def from_last_year_on(session, cursor, limit=100):
    young = Conversation.updated_at > func.now() - timedelta(minutes=1)
    return await page_of(session, cursor, limit, young, Conversation.updated_at < await session.scalar(OLDEST_OPEN))


@ANSWERS.wrong("no end")
async def cursor_left_where_it_was(session, cursor, limit=100):
    wandering = func.concat(Conversation.title, func.clock_timestamp()).label("title")
    rows = await session.execute(select(Conversation.id, wandering).limit(limit))
    return [tuple(row) for row in rows], cursor


@ANSWERS.wrong("page too long")
async def all_at_once(session, cursor, limit=100):
    return await page_of(session, cursor, None, Conversation.updated_at < await session.scalar(OLDEST_OPEN))


@ANSWERS.wrong("cursor")
async def cursor_as_it_is(session, cursor, limit=100):
    rows = (await session.execute(after(None, limit))).all()
    return [(row.id, row.title) for row in rows], rows[-1].updated_at


@ANSWERS.wrong("not rows")
async def ids_alone(session, cursor, limit=100):
    rows, cursor = await page_of(session, cursor, limit)
    return [id for id, _ in rows], cursor


@ANSWERS.wrong("not a pair")
async def rows_alone(session, cursor, limit=100):
    return (await page_of(session, cursor, limit))[0]


@ANSWERS.wrong("nothing returned")
async def forgotten_return(session, cursor, limit=100):
    await page_of(session, cursor, limit)
