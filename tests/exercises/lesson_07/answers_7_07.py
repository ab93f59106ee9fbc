"""7.7: a document deleted with its copies."""

from hashlib import sha256

from sqlalchemy import delete, exists, func, select, text, tuple_
from sqlalchemy.exc import DBAPIError

from course_lib.models import CachedEmbedding, Conversation, Document, DocumentChunk, Message
from tests.exercises.written import Answers

ANSWERS = Answers("7.7")
KEY = tuple_(CachedEmbedding.content_hash, CachedEmbedding.model)
HASH = func.sha256(func.convert_to(DocumentChunk.content, "UTF8"))
NEEDED = exists().where(CachedEmbedding.content_hash == HASH, DocumentChunk.embedding_model == CachedEmbedding.model)


async def owns(session, user_id, document_id):
    mine = select(Document.id).where(Document.id == document_id, Document.user_id == user_id)
    return await session.scalar(mine.with_for_update()) is not None


async def keys_of(session, document_id):
    passages = select(DocumentChunk.content, DocumentChunk.embedding_model).filter_by(document_id=document_id)
    return sorted({(sha256(content.encode()).digest(), model) for content, model in await session.execute(passages)})


async def lock(session, keys):
    order = (CachedEmbedding.content_hash, CachedEmbedding.model)
    await session.execute(select(CachedEmbedding.model).where(KEY.in_(keys)).order_by(*order).with_for_update())


async def forget(session, keys):
    unclaimed = CachedEmbedding.claimed_until.is_(None)
    await session.execute(delete(CachedEmbedding).where(KEY.in_(keys), unclaimed, ~NEEDED))


def is_of(one, document_id):
    return isinstance(one, dict) and one.get("document_id") == str(document_id)


def citing(document_id):
    return select(Message).where(Message.meta.contains({"sources": [{"document_id": str(document_id)}]}))


def citing_of(user_id, document_id):
    return citing(document_id).join(Conversation).where(Conversation.user_id == user_id)


async def unquote(session, user_id, document_id, citing=citing_of):
    for message in await session.scalars(citing(user_id, document_id)):
        others = [one for one in message.meta["sources"] if not is_of(one, document_id)]
        message.meta = {**message.meta, "sources": others}


async def remove(session, document_id):
    await session.execute(delete(Document).where(Document.id == document_id))


@ANSWERS.right
async def by_keys_and_locks(sessions, user_id, document_id):
    async with sessions.begin() as session:
        if not await owns(session, user_id, document_id):
            return False
        keys = await keys_of(session, document_id)
        await lock(session, keys)
        await remove(session, document_id)
        await forget(session, keys)
        await unquote(session, user_id, document_id)
    return True


@ANSWERS.right
async def in_sql(sessions, user_id, document_id):
    values = {"user": user_id, "id": document_id}
    async with sessions() as session:
        await session.execute(text("LOCK TABLE embedding_cache IN SHARE ROW EXCLUSIVE MODE"))
        went = text("SELECT 1 FROM documents WHERE id = :id AND user_id = :user FOR UPDATE")
        if await session.scalar(went, values) is None:
            return False
        await session.execute(
            text("""
                DELETE FROM embedding_cache c USING document_chunks p
                WHERE p.document_id = :id AND c.claimed_until IS NULL AND c.model = p.embedding_model
                    AND c.content_hash = sha256(convert_to(p.content, 'UTF8'))
                    AND NOT EXISTS (
                        SELECT 1 FROM document_chunks o WHERE o.document_id <> :id
                            AND o.content = p.content AND o.embedding_model = p.embedding_model
                    )
            """),
            values,
        )
        await session.execute(
            text("""
                UPDATE messages m SET meta = jsonb_set(meta, '{sources}', (
                    SELECT coalesce(jsonb_agg(s ORDER BY n), '[]')
                    FROM jsonb_array_elements(meta -> 'sources') WITH ORDINALITY AS t (s, n)
                    WHERE s ->> 'document_id' IS DISTINCT FROM CAST(CAST(:id AS uuid) AS text)
                ))
                FROM conversations c WHERE c.id = m.conversation_id AND c.user_id = :user
                    AND m.meta -> 'sources' @> jsonb_build_array(jsonb_build_object('document_id', CAST(:id AS uuid)))
            """),
            values,
        )
        await session.execute(text("DELETE FROM documents WHERE id = :id"), values)
        await session.commit()
        return True


@ANSWERS.right
async def serializable_until_it_holds(sessions, user_id, document_id):
    while True:
        try:
            async with sessions.begin() as session:
                await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                if await session.scalar(select(Document).filter_by(id=document_id, user_id=user_id)) is None:
                    return False
                keys = await keys_of(session, document_id)
                await unquote(session, user_id, document_id)
                await remove(session, document_id)
                await forget(session, keys)
            return True
        except DBAPIError as error:
            if error.orig.sqlstate != "40001":
                raise


def in_order(*steps):
    """An answer that takes only these steps, in one transaction."""

    async def answer(sessions, user_id, document_id):
        async with sessions.begin() as session:
            if not await owns(session, user_id, document_id):
                return False
            keys = await keys_of(session, document_id)
            for step in steps:
                await step(session, user_id, document_id, keys)
        return True

    return answer


async def step_lock(session, user_id, document_id, keys):
    await lock(session, keys)


async def step_remove(session, user_id, document_id, keys):
    await remove(session, document_id)


async def step_forget(session, user_id, document_id, keys):
    await forget(session, keys)


async def step_unquote(session, user_id, document_id, keys):
    await unquote(session, user_id, document_id)


@ANSWERS.wrong("not deleted")
async def does_not_commit(sessions, user_id, document_id):
    async with sessions() as session:
        if not await owns(session, user_id, document_id):
            return False
        await remove(session, document_id)
        return True


@ANSWERS.wrong("wrong return")
async def returns_how_many(sessions, user_id, document_id):
    return int(await by_keys_and_locks(sessions, user_id, document_id)) or False


@ANSWERS.wrong("not theirs")
async def asks_not_whose(sessions, user_id, document_id):
    async with sessions.begin() as session:
        keys = await keys_of(session, document_id)
        await remove(session, document_id)
        await forget(session, keys)
        await unquote(session, user_id, document_id)
    return True


@ANSWERS.wrong("not theirs")
async def takes_it_for_there(sessions, user_id, document_id):
    async with sessions.begin() as session:
        document = await session.get(Document, document_id)
        if document.user_id != user_id:
            return False
        await session.delete(document)
    return True


@ANSWERS.wrong("others changed")
async def all_documents_of_the_user(sessions, user_id, document_id):
    async with sessions.begin() as session:
        if not await owns(session, user_id, document_id):
            return False
        await session.execute(delete(Document).where(Document.user_id == user_id))
    return True


@ANSWERS.wrong("vectors left")
async def by_foreign_keys_alone(sessions, user_id, document_id):
    return await in_order(step_remove)(sessions, user_id, document_id)


@ANSWERS.wrong("vectors left")
async def looks_before_it_deletes(sessions, user_id, document_id):
    return await in_order(step_lock, step_forget, step_remove, step_unquote)(sessions, user_id, document_id)


@ANSWERS.wrong("vectors left")
async def forgets_the_model(sessions, user_id, document_id):
    async def by_text(session, user_id, document_id, keys):
        hashes = [content_hash for content_hash, _ in keys]
        others = exists().where(CachedEmbedding.content_hash == HASH)
        unneeded = CachedEmbedding.claimed_until.is_(None) & ~others
        await session.execute(delete(CachedEmbedding).where(CachedEmbedding.content_hash.in_(hashes), unneeded))

    return await in_order(step_lock, step_remove, by_text, step_unquote)(sessions, user_id, document_id)


@ANSWERS.wrong("vectors taken")
async def takes_all_its_vectors(sessions, user_id, document_id):
    async def all_of_them(session, user_id, document_id, keys):
        unclaimed = CachedEmbedding.claimed_until.is_(None)
        await session.execute(delete(CachedEmbedding).where(KEY.in_(keys), unclaimed))

    return await in_order(step_remove, all_of_them, step_unquote)(sessions, user_id, document_id)


@ANSWERS.wrong("vectors taken")
async def asks_the_user_alone(sessions, user_id, document_id):
    async def own(session, user_id, document_id, keys):
        mine = select(DocumentChunk.id).join(Document).where(Document.user_id == user_id)
        needed = mine.where(CachedEmbedding.content_hash == HASH).correlate(CachedEmbedding).exists()
        unclaimed = CachedEmbedding.claimed_until.is_(None)
        await session.execute(delete(CachedEmbedding).where(KEY.in_(keys), unclaimed, ~needed))

    return await in_order(step_lock, step_remove, own, step_unquote)(sessions, user_id, document_id)


@ANSWERS.wrong("claims taken")
async def takes_claims(sessions, user_id, document_id):
    async def claims_too(session, user_id, document_id, keys):
        await session.execute(delete(CachedEmbedding).where(KEY.in_(keys), ~NEEDED))

    return await in_order(step_lock, step_remove, claims_too, step_unquote)(sessions, user_id, document_id)


@ANSWERS.wrong("quotations left")
async def leaves_the_quotations(sessions, user_id, document_id):
    return await in_order(step_lock, step_remove, step_forget)(sessions, user_id, document_id)


@ANSWERS.wrong("quotations left")
async def takes_one_source(sessions, user_id, document_id):
    async def first_one(session, user_id, document_id, keys):
        for message in await session.scalars(citing_of(user_id, document_id)):
            sources = list(message.meta["sources"])
            sources.remove(next(one for one in sources if is_of(one, document_id)))
            message.meta = {**message.meta, "sources": sources}

    return await in_order(step_lock, step_remove, step_forget, first_one)(sessions, user_id, document_id)


@ANSWERS.wrong("quotations left")
async def changes_the_list_in_place(sessions, user_id, document_id):
    async def in_place(session, user_id, document_id, keys):
        for message in await session.scalars(citing_of(user_id, document_id)):
            others = [one for one in message.meta["sources"] if not is_of(one, document_id)]
            message.meta["sources"] = others  # of which the session learns nothing

    return await in_order(step_lock, step_remove, step_forget, in_place)(sessions, user_id, document_id)


@ANSWERS.wrong("meta changed")
async def empties_meta(sessions, user_id, document_id):
    async def emptied(session, user_id, document_id, keys):
        for message in await session.scalars(citing_of(user_id, document_id)):
            message.meta = {}

    return await in_order(step_lock, step_remove, step_forget, emptied)(sessions, user_id, document_id)


@ANSWERS.wrong("meta changed")
async def loses_what_has_no_document(sessions, user_id, document_id):
    async def compared(session, user_id, document_id, keys):
        for message in await session.scalars(citing_of(user_id, document_id)):
            others = [one for one in message.meta["sources"] if isinstance(one, dict) and "document_id" in one]
            message.meta = {**message.meta, "sources": [one for one in others if not is_of(one, document_id)]}

    return await in_order(step_lock, step_remove, step_forget, compared)(sessions, user_id, document_id)


@ANSWERS.wrong("conversations changed")
async def in_all_conversations(sessions, user_id, document_id):
    async def everywhere(session, user_id, document_id, keys):
        await unquote(session, user_id, document_id, lambda _, id: citing(id))

    return await in_order(step_lock, step_remove, step_forget, everywhere)(sessions, user_id, document_id)


@ANSWERS.wrong("half deleted")
async def in_three_transactions(sessions, user_id, document_id):
    async with sessions.begin() as session:
        if not await owns(session, user_id, document_id):
            return False
        keys = await keys_of(session, document_id)
        await remove(session, document_id)
    async with sessions.begin() as session:
        await lock(session, keys)
        await forget(session, keys)
    async with sessions.begin() as session:
        await unquote(session, user_id, document_id)
    return True


@ANSWERS.wrong("error swallowed")
async def goes_on_without_the_cache(sessions, user_id, document_id):
    async with sessions.begin() as session:
        if not await owns(session, user_id, document_id):
            return False
        keys = await keys_of(session, document_id)
        await remove(session, document_id)
        await unquote(session, user_id, document_id)
    try:
        async with sessions.begin() as session:
            await forget(session, keys)
    except DBAPIError:
        pass
    return True


@ANSWERS.wrong("failed at once")
async def serializable_without_a_second_try(sessions, user_id, document_id):
    async with sessions.begin() as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        if await session.scalar(select(Document).filter_by(id=document_id, user_id=user_id)) is None:
            return False
        keys = await keys_of(session, document_id)
        await unquote(session, user_id, document_id)
        await remove(session, document_id)
        await forget(session, keys)
    return True


@ANSWERS.wrong("left by two")
async def without_a_lock(sessions, user_id, document_id):
    return await in_order(step_remove, step_forget, step_unquote)(sessions, user_id, document_id)


@ANSWERS.wrong("left by two")
async def locks_what_nobody_else_locks(sessions, user_id, document_id):
    return await in_order(step_remove, step_forget, step_lock, step_unquote)(sessions, user_id, document_id)


@ANSWERS.wrong("left by two")
async def locks_all_rows_but_its_own(sessions, user_id, document_id):
    async def step_lock_others(session, user_id, document_id, keys):
        others = select(CachedEmbedding.model).where(KEY.not_in(keys))
        order = (CachedEmbedding.content_hash, CachedEmbedding.model)
        await session.execute(others.order_by(*order).with_for_update())

    steps = (step_lock_others, step_remove, step_forget, step_unquote)
    return await in_order(*steps)(sessions, user_id, document_id)


@ANSWERS.wrong("quotations left")
async def looks_for_entries_with_more_in_them(sessions, user_id, document_id):
    async def step_unquote_those(session, user_id, document_id, keys):
        entry = {"document_id": str(document_id)}
        for message in await session.scalars(citing_of(user_id, document_id)):
            others = [
                one for one in message.meta["sources"] if not (isinstance(one, dict) and one.items() > entry.items())
            ]
            message.meta = {**message.meta, "sources": others}

    steps = (step_lock, step_remove, step_forget, step_unquote_those)
    return await in_order(*steps)(sessions, user_id, document_id)


@ANSWERS.wrong("swallowed")
async def takes_an_error_for_nothing_there(sessions, user_id, document_id):
    try:
        async with sessions() as session:
            if not await owns(session, user_id, document_id):
                return False
    except DBAPIError:
        return False
    return await by_keys_and_locks(sessions, user_id, document_id)
