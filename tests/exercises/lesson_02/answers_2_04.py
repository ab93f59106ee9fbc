"""Answers to 2.4, a list without vectors."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace

from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import contains_eager, joinedload, load_only, raiseload, selectinload, subqueryload

from course_lib.models import Document, DocumentChunk, User
from tests.exercises.written import Answers

ANSWERS = Answers("2.4")
SHOWN = (DocumentChunk.chunk_index, DocumentChunk.content)


def own(user_id):
    return select(Document).where(Document.user_id == user_id).order_by(Document.title)


@dataclass
class Passage:
    chunk_index: int
    content: str


@dataclass
class Paper:
    title: str
    chunks: list[Passage] = field(default_factory=list)


@ANSWERS.right
async def load_only_what_is_shown(session, user_id):
    return (await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))).all()


@ANSWERS.right
async def deferred_for_good(session, user_id):
    chunks = subqueryload(Document.chunks).defer(DocumentChunk.embedding, raiseload=True)
    return list(await session.scalars(own(user_id).options(chunks)))


@ANSWERS.right
async def joined(session, user_id):
    chunks = joinedload(Document.chunks).defer(DocumentChunk.embedding)
    return tuple((await session.scalars(own(user_id).options(chunks, load_only(Document.title)))).unique())


@ANSWERS.right
async def contained(session, user_id):
    statement = own(user_id).outerjoin(Document.chunks).order_by(DocumentChunk.chunk_index)
    option = contains_eager(Document.chunks).options(load_only(*SHOWN), raiseload("*"))
    return (await session.scalars(statement.options(option))).unique().all()


@ANSWERS.right
async def columns_into_dataclasses(session, user_id):
    statement = select(Document.id, Document.title, *SHOWN).outerjoin(DocumentChunk)
    statement = statement.where(Document.user_id == user_id).order_by(Document.title, DocumentChunk.chunk_index)
    papers = {}
    for id, title, index, content in await session.execute(statement):
        paper = papers.setdefault(id, Paper(title))
        if index is not None:
            paper.chunks.append(Passage(index, content))
    return list(papers.values())


@ANSWERS.right
async def rows_as_chunks(session, user_id):
    documents = (await session.execute(select(Document.id, Document.title).where(Document.user_id == user_id))).all()
    of = defaultdict(list)
    mine = text("document_id = ANY(CAST(:ids AS uuid[]))")  # for an array the driver asks for its type
    chunks = select(DocumentChunk.document_id, *SHOWN).where(mine).order_by(DocumentChunk.chunk_index)
    for chunk in await session.execute(chunks, {"ids": [document.id for document in documents]}):
        of[chunk.document_id].append(chunk)
    papers = [SimpleNamespace(title=document.title, chunks=of[document.id]) for document in documents]
    return sorted(papers, key=lambda paper: paper.title)


@ANSWERS.right
async def gathered_by_the_server(session, user_id):
    sql = """
        SELECT title, coalesce(jsonb_agg(jsonb_build_object('chunk_index', chunk_index, 'content', content)
                                         ORDER BY chunk_index) FILTER (WHERE c.id IS NOT NULL), '[]') AS chunks
        FROM documents AS d LEFT JOIN document_chunks AS c ON c.document_id = d.id
        WHERE user_id = :user_id GROUP BY d.id ORDER BY title
    """
    found = await session.execute(text(sql).columns(chunks=JSONB), {"user_id": user_id})
    return [Paper(row.title, [Passage(**chunk) for chunk in row.chunks]) for row in found]


class Shown(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ShownChunk(Shown):
    chunk_index: int
    content: str


class ShownDocument(Shown):
    title: str
    chunks: list[ShownChunk]


@ANSWERS.right
async def schemas(session, user_id):
    found = await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))
    return [ShownDocument.model_validate(document) for document in found]


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id):
    await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))


@ANSWERS.wrong("not a list")
async def forgot_all(session, user_id):
    return await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))


@ANSWERS.wrong("not documents")
async def rows(session, user_id):
    return (await session.execute(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))).all()


@ANSWERS.wrong("not documents")
async def only_texts(session, user_id):
    found = await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))
    return [Paper(document.title, [chunk.content for chunk in document.chunks]) for document in found]


@ANSWERS.wrong("chunks not a list")
async def none_for_no_chunks(session, user_id):
    found = await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))
    return [Paper(document.title, document.chunks or None) for document in found]


@ANSWERS.wrong("loaded on access")
async def touches_them(session, user_id):
    documents = (await session.scalars(own(user_id))).all()
    return [Paper(document.title, list(document.chunks)) for document in documents]


@ANSWERS.wrong("not unique")
async def joined_without_unique(session, user_id):
    return (await session.scalars(own(user_id).options(joinedload(Document.chunks).load_only(*SHOWN)))).all()


@ANSWERS.wrong("not loaded")
async def content_left_out(session, user_id):
    chunks = selectinload(Document.chunks).load_only(DocumentChunk.chunk_index)
    return (await session.scalars(own(user_id).options(chunks))).all()


@ANSWERS.wrong("strangers")
async def forgot_owner(session, user_id):
    statement = select(Document).order_by(Document.title).options(selectinload(Document.chunks).load_only(*SHOWN))
    return (await session.scalars(statement)).all()


@ANSWERS.wrong("twice")
async def joined_in_vain(session, user_id):
    statement = own(user_id).outerjoin(Document.chunks).options(selectinload(Document.chunks).load_only(*SHOWN))
    return (await session.scalars(statement)).all()


@ANSWERS.wrong("documents missing")
async def inner_join(session, user_id):
    statement = own(user_id).join(Document.chunks).order_by(DocumentChunk.chunk_index)
    statement = statement.options(contains_eager(Document.chunks).load_only(*SHOWN))
    return (await session.scalars(statement)).unique().all()


@ANSWERS.wrong("documents missing")
async def ready_ones_only(session, user_id):
    statement = own(user_id).where(Document.status == "ready")
    return (await session.scalars(statement.options(selectinload(Document.chunks).load_only(*SHOWN)))).all()


@ANSWERS.wrong("other chunks")
async def first_chunks_only(session, user_id):
    found = await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))
    return [Paper(document.title, document.chunks[:3]) for document in found]


@ANSWERS.wrong("order of chunks")
async def chunks_unordered(session, user_id):
    statement = own(user_id).outerjoin(Document.chunks).options(contains_eager(Document.chunks).load_only(*SHOWN))
    return (await session.scalars(statement)).unique().all()


@ANSWERS.wrong("order")
async def documents_unordered(session, user_id):
    statement = select(Document).where(Document.user_id == user_id)
    return (await session.scalars(statement.options(selectinload(Document.chunks).load_only(*SHOWN)))).all()


@ANSWERS.wrong("too many statements")
async def one_query_each(session, user_id):
    papers = []
    for document in (await session.scalars(own(user_id))).all():
        chunks = select(*SHOWN).where(DocumentChunk.document_id == document.id).order_by(DocumentChunk.chunk_index)
        papers.append(Paper(document.title, (await session.execute(chunks)).all()))
    return papers


@ANSWERS.wrong("loaded everything")
async def chunks_of_everybody(session, user_id):
    documents = (await session.scalars(own(user_id))).all()
    of = defaultdict(list)
    chunks = select(DocumentChunk.document_id, *SHOWN).order_by(DocumentChunk.chunk_index)
    for chunk in await session.execute(chunks):
        of[chunk.document_id].append(chunk)
    return [Paper(document.title, of[document.id]) for document in documents]


@ANSWERS.wrong("vectors travelled")
async def whole_chunks(session, user_id):
    return (await session.scalars(own(user_id).options(selectinload(Document.chunks)))).all()


@ANSWERS.wrong("vectors travelled")
async def gathered_with_everything(session, user_id):
    chunks = select(func.coalesce(func.json_agg(DocumentChunk.__table__.table_valued()), text("'[]'::json")))
    chunks = chunks.where(DocumentChunk.document_id == Document.id).scalar_subquery()
    statement = select(Document.title, chunks).where(Document.user_id == user_id).order_by(Document.title)
    papers = []
    for title, found in await session.execute(statement):
        passages = sorted((Passage(c["chunk_index"], c["content"]) for c in found), key=lambda p: p.chunk_index)
        papers.append(Paper(title, passages))
    return papers


@ANSWERS.wrong("merged")
async def grouped_by_title(session, user_id):
    statement = select(Document.title, *SHOWN).outerjoin(DocumentChunk).where(Document.user_id == user_id)
    papers = {}
    for title, index, content in await session.execute(statement.order_by(Document.title, DocumentChunk.chunk_index)):
        paper = papers.setdefault(title, Paper(title))
        if index is not None:
            paper.chunks.append(Passage(index, content))
    return list(papers.values())


@ANSWERS.wrong("other chunks")
async def numbered_anew(session, user_id):
    found = await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))
    return [Paper(d.title, [Passage(i, c.content) for i, c in enumerate(d.chunks)]) for d in found]


@ANSWERS.wrong("other chunks")
async def cut_to_ten_thousand_characters(session, user_id):
    found = await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))
    return [Paper(d.title, [Passage(c.chunk_index, c.content[:10_000]) for c in d.chunks]) for d in found]


@ANSWERS.wrong("other chunks")
async def stripped_of_blanks(session, user_id):
    found = await session.scalars(own(user_id).options(selectinload(Document.chunks).load_only(*SHOWN)))
    return [Paper(d.title, [Passage(c.chunk_index, c.content.rstrip()) for c in d.chunks]) for d in found]


@ANSWERS.wrong("twice")
async def joined_with_conversations_too(session, user_id):
    statement = own(user_id).join(Document.user).join(User.conversations)
    return (await session.scalars(statement.options(selectinload(Document.chunks).load_only(*SHOWN)))).all()
