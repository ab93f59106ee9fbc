"""Answers to 2.6, everything of a user."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import defer, joinedload, selectinload

from course_lib.models import Conversation, Document, DocumentChunk, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("2.6")
CHUNKS = func.count(DocumentChunk.id)


def documents_of(user_id):
    statement = select(Document.title, CHUNKS.label("chunks")).outerjoin(Document.chunks)
    return statement.where(Document.user_id == user_id).group_by(Document.id).order_by(Document.title)


def conversations_of(user_id):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.created_at)
    return statement.options(selectinload(Conversation.messages))


def plain(conversation):
    messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
    return {"title": conversation.title, "messages": messages}


async def exported(session, user_id, documents=documents_of, conversations=conversations_of):
    """What the wrong ones change a part of."""
    user = await session.get(User, user_id)
    if user is None:
        return None
    return {
        "name": user.name,
        "email": user.email,
        "documents": [dict(row) for row in (await session.execute(documents(user_id))).mappings()],
        "conversations": [plain(found) for found in await session.scalars(conversations(user_id))],
    }


@ANSWERS.right
async def four_queries(session, user_id):
    return await exported(session, user_id)


@ANSWERS.right
async def options_on_the_user(session, user_id):
    paths = selectinload(User.conversations).selectinload(Conversation.messages), selectinload(User.documents)
    user = await session.scalar(select(User).where(User.id == user_id).options(*paths))
    if user is None:
        return None
    numbers = select(DocumentChunk.document_id, func.count()).join(Document).where(Document.user_id == user_id)
    chunks = dict((await session.execute(numbers.group_by(DocumentChunk.document_id))).tuples().all())
    documents = sorted(user.documents, key=lambda document: document.title)
    conversations = sorted(user.conversations, key=lambda conversation: conversation.created_at)
    return {
        "id": str(user.id),
        "name": user.name,
        "email": user.email,
        "documents": [{"title": found.title, "chunks": chunks.get(found.id, 0)} for found in documents],
        "conversations": [plain(found) for found in conversations],
    }


@ANSWERS.right
async def one_path_joined(session, user_id):
    path = joinedload(User.conversations).joinedload(Conversation.messages)
    statement = select(User).where(User.id == user_id).options(path)
    user = (await session.scalars(statement)).unique().one_or_none()
    if user is None:
        return None
    number = select(func.count()).where(DocumentChunk.document_id == Document.id).scalar_subquery()
    documents = select(Document.title, number).where(Document.user_id == user_id).order_by(Document.title)
    conversations = sorted(user.conversations, key=lambda conversation: conversation.created_at)
    return {
        "name": user.name,
        "email": user.email,
        "documents": [{"title": title, "chunks": chunks} for title, chunks in await session.execute(documents)],
        "conversations": tuple(plain(found) for found in conversations),
    }


ONE_JSON = """
        SELECT jsonb_build_object(
            'name', name, 'email', email,
            'documents', coalesce((
                SELECT jsonb_agg(jsonb_build_object('title', title, 'chunks', (
                    SELECT count(*) FROM document_chunks AS k WHERE k.document_id = d.id)) ORDER BY title)
                FROM documents AS d WHERE d.user_id = u.id), '[]'),
            'conversations', coalesce((
                SELECT jsonb_agg(jsonb_build_object('title', title, 'messages', coalesce((
                    SELECT jsonb_agg(jsonb_build_object('role', role, 'content', content) ORDER BY seq)
                    FROM messages AS m WHERE m.conversation_id = c.id), '[]')) ORDER BY created_at)
                FROM conversations AS c WHERE c.user_id = u.id), '[]')) AS export
        FROM users AS u WHERE id = :id
"""


@ANSWERS.right
async def one_json_from_the_server(session, user_id):
    return await session.scalar(text(ONE_JSON).columns(export=JSONB), {"id": user_id})


@ANSWERS.right
async def through_the_driver_alone(session, user_id):
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    found = await driver.fetchrow(f"SELECT export::text FROM ({ONE_JSON}) AS one".replace(":id", "$1"), user_id)
    return found and json.loads(found["export"])


@ANSWERS.right
async def five_queries_in_one_snapshot(session, user_id):
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    user = (await session.execute(select(User.name, User.email).where(User.id == user_id))).mappings().one_or_none()
    if user is None:
        return None
    mine = Conversation.user_id == user_id
    rows = select(Message.conversation_id, Message.role, Message.content).join(Conversation).where(mine)
    messages = defaultdict(list)
    for id, role, content in await session.execute(rows.order_by(Message.seq)):
        messages[id].append({"role": role, "content": content})
    titles = select(Conversation.id, Conversation.title).where(mine).order_by(Conversation.created_at)
    own = select(Document.id, Document.title).where(Document.user_id == user_id).order_by(Document.title)
    documents = (await session.execute(own)).all()
    numbers = select(DocumentChunk.document_id, CHUNKS).where(DocumentChunk.document_id.in_([d.id for d in documents]))
    chunks = dict((await session.execute(numbers.group_by(DocumentChunk.document_id))).tuples().all())
    return {
        **user,
        "documents": [{"title": found.title, "chunks": chunks.get(found.id, 0)} for found in documents],
        "conversations": [{"title": c.title, "messages": messages[c.id]} for c in await session.execute(titles)],
    }


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id):
    await exported(session, user_id)


@ANSWERS.wrong("not a dict")
async def the_user_itself(session, user_id):
    return await session.get(User, user_id)


@ANSWERS.wrong("keys")
async def other_names(session, user_id):
    export = await exported(session, user_id)
    return export and {"user": export.pop("name"), **export}


@ANSWERS.wrong("other shape")
async def titles_only(session, user_id):
    export = await exported(session, user_id)
    if export:
        export["documents"] = [document["title"] for document in export["documents"]]
    return export


@ANSWERS.wrong("raised")
async def two_at_once_on_one_session(session, user_id):
    """One of the two fails, and the other is still running when the session is closed."""
    user, documents = await asyncio.gather(session.get(User, user_id), session.execute(documents_of(user_id)))
    return {"name": user.name, "documents": documents.all()}


@ANSWERS.wrong("not plain")
async def objects_inside(session, user_id):
    export = await exported(session, user_id)
    if export:
        export["conversations"] = (await session.scalars(conversations_of(user_id))).all()
    return export


@ANSWERS.wrong("not plain")
async def uuid_inside(session, user_id):
    export = await exported(session, user_id)
    return export and {"id": user_id, **export}


@ANSWERS.wrong("loaded on access")
async def messages_lazy(session, user_id):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.created_at)
    return await exported(session, user_id, conversations=lambda _: statement)


@ANSWERS.wrong("not unique")
async def joined_without_unique(session, user_id):
    statement = select(User).where(User.id == user_id).options(joinedload(User.documents))
    return (await session.scalars(statement)).one_or_none()


@ANSWERS.wrong("unknown user")
async def empty_export_for_nobody(session, user_id):
    empty = {"name": None, "email": None, "documents": [], "conversations": []}
    return await exported(session, user_id) or empty


@ANSWERS.wrong("profile")
async def somebodys_name(session, user_id):
    export = await exported(session, user_id)
    return export and {**export, "name": export["email"].split("@")[0]}


@ANSWERS.wrong("strangers")
async def everybodys_documents(session, user_id):
    statement = select(Document.title, CHUNKS.label("chunks")).outerjoin(Document.chunks)
    statement = statement.group_by(Document.id).order_by(Document.title)
    return await exported(session, user_id, documents=lambda _: statement)


@ANSWERS.wrong("twice")
async def two_collections_in_one_join(session, user_id):
    def documents(user_id):
        statement = select(Document.title, func.count(DocumentChunk.id).label("chunks")).select_from(User)
        statement = statement.join(User.documents).join(User.conversations).outerjoin(Document.chunks)
        grouped = statement.where(User.id == user_id).group_by(Document.id, Conversation.id)
        return grouped.order_by(Document.title)

    return await exported(session, user_id, documents=documents)


@ANSWERS.wrong("missing")
async def documents_without_chunks_dropped(session, user_id):
    statement = select(Document.title, CHUNKS.label("chunks")).join(Document.chunks)
    statement = statement.where(Document.user_id == user_id).group_by(Document.id).order_by(Document.title)
    return await exported(session, user_id, documents=lambda _: statement)


@ANSWERS.wrong("wrong chunks")
async def counts_multiplied(session, user_id):
    statement = select(Document.title, CHUNKS.label("chunks")).select_from(User).join(User.documents)
    statement = statement.outerjoin(Document.chunks).outerjoin(User.conversations).where(User.id == user_id)
    statement = statement.group_by(Document.id).order_by(Document.title)
    return await exported(session, user_id, documents=lambda _: statement)


@ANSWERS.wrong("other messages")
async def answers_only(session, user_id):
    said = selectinload(Conversation.messages.and_(Message.role == "assistant"))
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.created_at)
    return await exported(session, user_id, conversations=lambda _: statement.options(said))


@ANSWERS.wrong("other messages")
async def paired_by_place(session, user_id):
    export = await exported(session, user_id)
    if export:
        messages = [found["messages"] for found in export["conversations"]]
        for conversation, said in zip(export["conversations"], reversed(messages), strict=True):
            conversation["messages"] = said
    return export


@ANSWERS.wrong("order")
async def conversations_by_update(session, user_id):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.updated_at)
    statement = statement.options(selectinload(Conversation.messages))
    return await exported(session, user_id, conversations=lambda _: statement)


@ANSWERS.wrong("too many statements")
async def a_query_per_conversation(session, user_id):
    user = await session.get(User, user_id)
    if user is None:
        return None
    conversations = sorted(await user.awaitable_attrs.conversations, key=lambda found: found.created_at)
    for conversation in conversations:
        await conversation.awaitable_attrs.messages
    documents = [dict(row) for row in (await session.execute(documents_of(user_id))).mappings()]
    profile = {"name": user.name, "email": user.email}
    return {**profile, "documents": documents, "conversations": [plain(found) for found in conversations]}


@ANSWERS.wrong("multiplied")
async def everything_in_one_join(session, user_id):
    paths = joinedload(User.documents), joinedload(User.conversations).joinedload(Conversation.messages)
    statement = select(User).where(User.id == user_id).options(*paths)
    user = (await session.scalars(statement)).unique().one_or_none()
    if user is None:
        return None
    documents = [dict(row) for row in (await session.execute(documents_of(user_id))).mappings()]
    conversations = sorted(user.conversations, key=lambda found: found.created_at)
    profile = {"name": user.name, "email": user.email}
    return {**profile, "documents": documents, "conversations": [plain(found) for found in conversations]}


@ANSWERS.wrong("loaded everything")
async def chunks_loaded_to_be_counted(session, user_id):
    user = await session.get(User, user_id)
    if user is None:
        return None
    chunks = selectinload(Document.chunks).options(defer(DocumentChunk.embedding))
    own = select(Document).where(Document.user_id == user_id).order_by(Document.title).options(chunks)
    documents = [{"title": d.title, "chunks": len(d.chunks)} for d in await session.scalars(own)]
    conversations = [plain(found) for found in await session.scalars(conversations_of(user_id))]
    return {"name": user.name, "email": user.email, "documents": documents, "conversations": conversations}


@ANSWERS.wrong("missing")
async def documents_grouped_by_title(session, user_id):
    def by_title(user_id):
        statement = select(Document.title, CHUNKS.label("chunks")).outerjoin(Document.chunks)
        return statement.where(Document.user_id == user_id).group_by(Document.title).order_by(Document.title)

    return await exported(session, user_id, documents=by_title)


@ANSWERS.wrong("chunks travelled")
async def chunks_gathered_to_be_counted(session, user_id):
    export = await exported(session, user_id)
    chunks = func.json_agg(DocumentChunk.__table__.table_valued()).filter(DocumentChunk.id.is_not(None))
    statement = select(Document.title, chunks).outerjoin(Document.chunks).where(Document.user_id == user_id)
    found = await session.execute(statement.group_by(Document.id).order_by(Document.title))
    return export and export | {"documents": [{"title": title, "chunks": len(all or [])} for title, all in found]}


@ANSWERS.wrong("too many statements")
async def messages_by_the_hundred(session, user_id):
    statement = select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.created_at)
    statement = statement.options(selectinload(Conversation.messages, chunksize=100))
    return await exported(session, user_id, conversations=lambda _: statement)
