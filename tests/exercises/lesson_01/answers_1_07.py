"""Answers to 1.7, save what was uploaded."""

from __future__ import annotations

import json

from sqlalchemy import any_, delete, func, insert, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from course_lib.models import Document
from tests.exercises.written import Answers

ANSWERS = Answers("1.7")


def last_titles(documents):
    return {document["source"]: document["title"] for document in documents}


def rows_for(user_id, documents):
    return [{"user_id": user_id, "source": s, "title": t} for s, t in last_titles(documents).items()]


def saving():
    statement = upsert(Document)
    return statement.on_conflict_do_update(
        index_elements=["user_id", "source"], set_={"title": statement.excluded.title}
    )


@ANSWERS.right
async def looks_first_then_saves(session, user_id, documents):
    sources = [document["source"] for document in documents]
    statement = select(Document.source).where(Document.user_id == user_id, Document.source.in_(sources))
    known = set(await session.scalars(statement))
    if documents:
        await session.execute(saving(), rows_for(user_id, documents))
    await session.commit()
    return {"inserted": len(set(sources) - known), "updated": len(known)}


@ANSWERS.right
async def told_by_xmax(session, user_id, documents):
    rows = rows_for(user_id, documents)
    if not rows:
        return {"updated": 0, "inserted": 0}
    async with session.begin():
        statement = saving().values(rows).returning(literal_column("documents.xmax = 0"))
        fresh = (await session.scalars(statement)).all()
    return dict(inserted=fresh.count(True), updated=fresh.count(False))


@ANSWERS.right
async def executemany_keeps_the_order(session, user_id, documents):
    """Without RETURNING each entry is an execution of its own, so the last of a source wins by itself."""
    known = await session.scalar(
        select(func.count()).where(
            Document.user_id == user_id, Document.source == any_([document["source"] for document in documents])
        )
    )
    if documents:
        await session.execute(saving(), [{"user_id": user_id, **document} for document in documents])
    await session.commit()
    return {"inserted": len(last_titles(documents)) - known, "updated": known}


@ANSWERS.right
async def raw_sql_over_json(session, user_id, documents):
    sql = """
        WITH entries AS (
            SELECT DISTINCT ON (source) source, title FROM ROWS FROM (
                jsonb_to_recordset(CAST(:documents AS jsonb)) AS (source text, title text)
            ) WITH ORDINALITY ORDER BY source, ordinality DESC
        ), saved AS (
            INSERT INTO documents (user_id, source, title) SELECT :user_id, source, title FROM entries
            ON CONFLICT (user_id, source) DO UPDATE SET title = excluded.title
            RETURNING old.id IS NULL AS fresh
        )
        SELECT count(*) FILTER (WHERE fresh) AS inserted, count(*) FILTER (WHERE NOT fresh) AS updated FROM saved
    """
    row = (await session.execute(text(sql), {"documents": json.dumps(documents), "user_id": user_id})).one()
    await session.commit()
    return row._mapping


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id, documents):
    await session.execute(saving(), rows_for(user_id, documents))
    await session.commit()


@ANSWERS.wrong("not the counts")
async def lists_instead_of_counts(session, user_id, documents):
    await session.execute(saving(), rows_for(user_id, documents))
    await session.commit()
    return {"inserted": documents, "updated": []}


@ANSWERS.wrong("already there")
async def plain_insert(session, user_id, documents):
    await session.execute(insert(Document), rows_for(user_id, documents))
    await session.commit()
    return {"inserted": len(documents), "updated": 0}


async def known_sources(session, user_id):
    return set(await session.scalars(select(Document.source).where(Document.user_id == user_id)))


@ANSWERS.wrong("same source twice")
async def not_one_of_each(session, user_id, documents):
    if not documents:
        return {"inserted": 0, "updated": 0}
    statement = saving().returning(literal_column("old.id IS NULL"))
    fresh = (await session.scalars(statement, [{"user_id": user_id, **d} for d in documents])).all()
    await session.commit()
    return {"inserted": sum(fresh), "updated": len(fresh) - sum(fresh)}


@ANSWERS.wrong("same source twice")
async def one_large_values(session, user_id, documents):
    if not documents:
        return {"inserted": 0, "updated": 0}
    known = await known_sources(session, user_id)
    await session.execute(saving().values([{"user_id": user_id, **document} for document in documents]))
    await session.commit()
    sources = {document["source"] for document in documents}
    return {"inserted": len(sources - known), "updated": len(sources & known)}


@ANSWERS.wrong("not stored")
async def forgot_commit(session, user_id, documents):
    known = await known_sources(session, user_id)
    sources = set(last_titles(documents))
    await session.execute(saving(), rows_for(user_id, documents))
    return {"inserted": len(sources - known), "updated": len(sources & known)}


@ANSWERS.wrong("old titles")
async def do_nothing(session, user_id, documents):
    known = await known_sources(session, user_id)
    sources = set(last_titles(documents))
    await session.execute(upsert(Document).on_conflict_do_nothing(), rows_for(user_id, documents))
    await session.commit()
    return {"inserted": len(sources - known), "updated": len(sources & known)}


@ANSWERS.wrong("wrong title")
async def first_wins(session, user_id, documents):
    known = await known_sources(session, user_id)
    first = list({document["source"]: document for document in reversed(documents)}.values())
    if first:
        await session.execute(saving(), rows_for(user_id, first))
    await session.commit()
    sources = set(last_titles(documents))
    return {"inserted": len(sources - known), "updated": len(sources & known)}


@ANSWERS.wrong("not stored")
async def sources_tidied(session, user_id, documents):
    return await looks_first_then_saves(
        session, user_id, [{**document, "source": document["source"].strip().lower()} for document in documents]
    )


@ANSWERS.wrong("made anew")
async def deletes_and_inserts(session, user_id, documents):
    sources = set(last_titles(documents))
    gone = await session.execute(delete(Document).where(Document.user_id == user_id, Document.source.in_(sources)))
    if sources:
        await session.execute(insert(Document), rows_for(user_id, documents))
    await session.commit()
    return {"inserted": len(sources) - gone.rowcount, "updated": gone.rowcount}


@ANSWERS.wrong("others lost")
async def replaces_the_library(session, user_id, documents):
    await session.execute(delete(Document).where(Document.user_id == user_id))
    await session.execute(insert(Document), rows_for(user_id, documents))
    await session.commit()
    return {"inserted": len(documents), "updated": 0}


@ANSWERS.wrong("other users")
async def updates_by_source(session, user_id, documents):
    known = await known_sources(session, user_id)
    fresh = [row for row in rows_for(user_id, documents) if row["source"] not in known]
    for row in rows_for(user_id, documents):
        if row["source"] in known:
            await session.execute(update(Document).where(Document.source == row["source"]).values(title=row["title"]))
    if fresh:
        await session.execute(insert(Document), fresh)
    await session.commit()
    return {"inserted": len(fresh), "updated": len(documents) - len(fresh)}


@ANSWERS.wrong("reset")
async def starts_over(session, user_id, documents):
    known = await known_sources(session, user_id)
    statement = upsert(Document)
    statement = statement.on_conflict_do_update(
        index_elements=["user_id", "source"], set_={"title": statement.excluded.title, "status": "uploaded", "meta": {}}
    )
    await session.execute(statement, rows_for(user_id, documents))
    await session.commit()
    sources = set(last_titles(documents))
    return {"inserted": len(sources - known), "updated": len(sources & known)}


@ANSWERS.wrong("wrong counts")
async def known_to_anybody(session, user_id, documents):
    sources = [document["source"] for document in documents]
    known = set(await session.scalars(select(Document.source).where(Document.source.in_(sources))))
    if documents:
        await session.execute(saving(), rows_for(user_id, documents))
    await session.commit()
    return {"inserted": len(set(sources) - known), "updated": len(known)}


@ANSWERS.wrong("wrong counts")
async def counts_entries(session, user_id, documents):
    known = await known_sources(session, user_id)
    if documents:
        await session.execute(saving(), rows_for(user_id, documents))
    await session.commit()
    updated = sum(document["source"] in known for document in documents)
    return {"inserted": len(documents) - updated, "updated": updated}


@ANSWERS.wrong("wrong counts")
async def same_title_not_counted(session, user_id, documents):
    if not documents:
        return {"inserted": 0, "updated": 0}
    statement = upsert(Document)
    title = statement.excluded.title
    statement = statement.on_conflict_do_update(
        index_elements=["user_id", "source"], set_={"title": title}, where=Document.title != title
    ).returning(literal_column("old.id IS NULL"))
    fresh = (await session.scalars(statement, rows_for(user_id, documents))).all()
    await session.commit()
    return {"inserted": sum(fresh), "updated": len(fresh) - sum(fresh)}


@ANSWERS.wrong("empty batch")
async def nothing_to_insert(session, user_id, documents):
    statement = saving().returning(literal_column("old.id IS NULL"))
    fresh = (await session.scalars(statement, rows_for(user_id, documents))).all()
    await session.commit()
    return {"inserted": sum(fresh), "updated": len(fresh) - sum(fresh)}


@ANSWERS.wrong("too many statements")
async def in_batches(session, user_id, documents):
    rows, fresh = rows_for(user_id, documents), []
    for first in range(0, len(rows), 400):
        statement = saving().values(rows[first : first + 400]).returning(literal_column("old.id IS NULL"))
        fresh += (await session.scalars(statement)).all()
    await session.commit()
    return {"inserted": sum(fresh), "updated": len(fresh) - sum(fresh)}


@ANSWERS.wrong("too many statements")
async def past_the_engine(session, user_id, documents):
    titles = last_titles(documents)
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    known = {row["source"] for row in await driver.fetch("SELECT source FROM documents WHERE user_id = $1", user_id)}
    sql = "INSERT INTO documents (user_id, source, title) VALUES ($1, $2, $3) ON CONFLICT (user_id, source) DO UPDATE"
    for source, title in titles.items():
        await driver.execute(f"{sql} SET title = excluded.title", user_id, source, title)
    return {"inserted": len(titles.keys() - known), "updated": len(titles.keys() & known)}


@ANSWERS.wrong("too many statements")
async def object_by_object(session, user_id, documents):
    known = {d.source: d for d in await session.scalars(select(Document).where(Document.user_id == user_id))}
    titles = last_titles(documents)
    for source, title in titles.items():
        if source in known:
            known[source].title = title
        else:
            session.add(Document(user_id=user_id, source=source, title=title))
            await session.flush()
    await session.commit()
    return {"inserted": len(titles.keys() - known.keys()), "updated": len(titles.keys() & known.keys())}
