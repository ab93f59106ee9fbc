"""Answers to M5, somebody else's passage."""

from __future__ import annotations

from sqlalchemy import String, cast, func, or_, select, text, union

from course_lib.models import Document, DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("M5")
READY = Document.status == "ready"
NEWEST = (Document.created_at.desc(), Document.id, DocumentChunk.chunk_index)
JOINED = "FROM documents d JOIN document_chunks c ON c.document_id = d.id WHERE"
MAY_READ = "(d.user_id = :user_id OR d.meta -> 'shared_with' ? CAST(:user_id AS text))"
HAS_WORD = "(strpos(lower(c.content), lower(:word)) > 0 OR strpos(lower(d.title), lower(:word)) > 0)"
ORDER = "ORDER BY d.created_at DESC, d.id, c.chunk_index"


def has(column, word):
    return func.strpos(func.lower(column), word.lower()) > 0


def anywhere(word):
    return or_(has(DocumentChunk.content, word), has(Document.title, word))


def readable(user_id):
    return or_(Document.user_id == user_id, Document.meta["shared_with"].has_key(str(user_id)))


def passages(*conditions):
    both = select(Document.title, DocumentChunk.content).join(DocumentChunk.document)
    return both.where(*conditions).order_by(*NEWEST)


async def page_of(session, found, limit, counted=None):
    """A page of a statement, and the count of it or of another."""
    whole = (found if counted is None else counted).order_by(None).subquery()
    total = await session.scalar(select(func.count()).select_from(whole))
    rows = await session.execute(found.limit(limit))
    return {"passages": [tuple(row) for row in rows], "total": total}


async def in_sql(session, user_id, word, limit, condition, counted=None, joined=JOINED):
    values = {"user_id": user_id, "word": word}
    found = text(f"SELECT d.title, c.content {joined} {condition} {ORDER} LIMIT :limit")
    rows = (await session.execute(found, values | {"limit": limit})).all()
    total = await session.scalar(text(f"SELECT count(*) {joined} {counted or condition}"), values)
    return {"passages": [tuple(row) for row in rows], "total": total}


@ANSWERS.right
async def parentheses(session, user_id, word, limit):
    return await in_sql(session, user_id, word, limit, f"d.status = 'ready' AND {MAY_READ} AND {HAS_WORD}")


@ANSWERS.right
async def subselect_of_what_may_be_read(session, user_id, word, limit):
    allowed = select(Document.id).where(READY, readable(user_id))
    return await page_of(session, passages(Document.id.in_(allowed), anywhere(word)), limit)


@ANSWERS.right
async def one_statement_with_a_window(session, user_id, word, limit):
    found = passages(READY, readable(user_id), anywhere(word)).add_columns(func.count().over())
    rows = (await session.execute(found.limit(limit))).all()
    return {"passages": [(row[0], row[1]) for row in rows], "total": rows[0][2] if rows else 0}


@ANSWERS.right
async def union_of_own_and_shared(session, user_id, word, limit):
    own = select(Document.id).where(Document.user_id == user_id, READY)
    shared = select(Document.id).where(Document.meta["shared_with"].contains([str(user_id)]), READY)
    return await page_of(session, passages(Document.id.in_(union(own, shared)), anywhere(word)), limit)


@ANSWERS.right
async def filtered_in_python(session, user_id, word, limit):
    columns = Document.user_id, Document.meta, Document.title, DocumentChunk.content
    rows = await session.execute(select(*columns).join(DocumentChunk.document).where(READY).order_by(*NEWEST))
    found = [
        (title, content)
        for owner, meta, title, content in rows
        if (owner == user_id or str(user_id) in (meta.get("shared_with") or []))
        and (word.lower() in content.lower() or word.lower() in title.lower())
    ]
    return {"passages": found[:limit], "total": len(found)}


@ANSWERS.wrong("strangers")
async def parentheses_around_the_wrong_pair(session, user_id, word, limit):
    in_text, in_title = HAS_WORD[1:-1].split(" OR ")
    condition = f"(d.status = 'ready' AND {MAY_READ} AND {in_text}) OR (d.status = 'ready' AND {in_title})"
    return await in_sql(session, user_id, word, limit, condition, f"{MAY_READ} AND {HAS_WORD}")


@ANSWERS.wrong("strangers")
async def named_anywhere_in_meta(session, user_id, word, limit):
    named = has(cast(Document.meta, String), str(user_id))
    return await page_of(session, passages(READY, or_(Document.user_id == user_id, named), anywhere(word)), limit)


@ANSWERS.wrong("strangers")
async def shared_with_anybody(session, user_id, word, limit):
    shared = Document.meta["shared_with"].astext.is_not(None)
    return await page_of(session, passages(READY, or_(Document.user_id == user_id, shared), anywhere(word)), limit)


@ANSWERS.wrong("strangers")
async def an_outer_join_that_lets_everything_through(session, user_id, word, limit):
    joined = f"FROM document_chunks c JOIN documents d ON d.id = c.document_id LEFT JOIN users u ON {MAY_READ} WHERE"
    condition = f"d.status = 'ready' AND {HAS_WORD} AND (u.id IS NULL OR u.id = :user_id)"
    return await in_sql(session, user_id, word, limit, condition, joined=joined)


@ANSWERS.wrong("total leaks")
async def only_what_was_reported(session, user_id, word, limit):
    condition = f"d.status = 'ready' AND {MAY_READ} AND {HAS_WORD}"
    return await in_sql(session, user_id, word, limit, condition, f"d.status = 'ready' AND {HAS_WORD}")


@ANSWERS.wrong("total leaks")
async def counted_with_the_old_condition(session, user_id, word, limit):
    right = passages(READY, readable(user_id), anywhere(word))
    old = passages(or_(READY & readable(user_id) & has(DocumentChunk.content, word), has(Document.title, word)))
    return await page_of(session, right, limit, old)


@ANSWERS.wrong("total of the page")
async def length_of_the_page(session, user_id, word, limit):
    found = await page_of(session, passages(READY, readable(user_id), anywhere(word)), limit)
    return found | {"total": len(found["passages"])}


@ANSWERS.wrong("wrong total")
async def counted_documents(session, user_id, word, limit):
    right = passages(READY, readable(user_id), anywhere(word))
    documents = select(Document.id).join(DocumentChunk.document).where(READY, readable(user_id), anywhere(word))
    return await page_of(session, right, limit, documents.distinct())


@ANSWERS.wrong("not ready")
async def status_with_the_text_only(session, user_id, word, limit):
    either = or_(READY & has(DocumentChunk.content, word), has(Document.title, word))
    return await page_of(session, passages(readable(user_id), either), limit)


@ANSWERS.wrong("without the word")
async def everything_that_may_be_read(session, user_id, word, limit):
    return await page_of(session, passages(READY, readable(user_id)), limit)


@ANSWERS.wrong("shared missing")
async def only_ones_own(session, user_id, word, limit):
    return await page_of(session, passages(READY, Document.user_id == user_id, anywhere(word)), limit)


@ANSWERS.wrong("titles missing")
async def texts_only(session, user_id, word, limit):
    return await page_of(session, passages(READY, readable(user_id), has(DocumentChunk.content, word)), limit)


@ANSWERS.wrong("missing")
async def as_it_is_spelled(session, user_id, word, limit):
    found = func.strpos(DocumentChunk.content, word) > 0
    return await page_of(session, passages(READY, readable(user_id), found | has(Document.title, word)), limit)


@ANSWERS.wrong("without the word")
async def as_a_pattern(session, user_id, word, limit):
    found = or_(*[column.ilike(f"%{word}%") for column in (Document.title, DocumentChunk.content)])
    return await page_of(session, passages(READY, readable(user_id), found), limit)


@ANSWERS.wrong("twice")
async def once_for_the_title_and_once_for_the_text(session, user_id, word, limit):
    rows = []
    for column in (Document.title, DocumentChunk.content):
        rows += (await session.execute(passages(READY, readable(user_id), has(column, word)))).all()
    return {"passages": [tuple(row) for row in rows][:limit], "total": len(rows)}


@ANSWERS.wrong("too many")
async def without_the_limit(session, user_id, word, limit):
    return await page_of(session, passages(READY, readable(user_id), anywhere(word)), None)


@ANSWERS.wrong("too few")
async def left_out_after_the_limit(session, user_id, word, limit):
    right = passages(READY, readable(user_id), anywhere(word))
    first = passages(READY, anywhere(word)).add_columns(Document.id).limit(limit)
    allowed = set(await session.scalars(select(Document.id).where(readable(user_id))))
    page = await page_of(session, right, limit)
    return page | {"passages": [tuple(row[:2]) for row in await session.execute(first) if row[2] in allowed]}


@ANSWERS.wrong("order")
async def first_upload_first(session, user_id, word, limit):
    found = passages(READY, readable(user_id), anywhere(word)).order_by(None)
    return await page_of(session, found.order_by(Document.created_at, DocumentChunk.chunk_index), limit)


@ANSWERS.wrong("not a page")
async def list_alone(session, user_id, word, limit):
    return (await page_of(session, passages(READY, readable(user_id), anywhere(word)), limit))["passages"]


@ANSWERS.wrong("not a page")
async def titles_alone(session, user_id, word, limit):
    found = await page_of(session, passages(READY, readable(user_id), anywhere(word)), limit)
    return found | {"passages": [title for title, _ in found["passages"]]}


@ANSWERS.wrong("nothing returned")
async def nothing_said(session, user_id, word, limit):
    await page_of(session, passages(READY, readable(user_id), anywhere(word)), limit)
