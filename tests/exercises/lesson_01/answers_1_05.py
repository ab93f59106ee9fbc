"""Answers to 1.5, a tag on a document."""

from __future__ import annotations

import asyncio
import json

from sqlalchemy import Text, bindparam, cast, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.attributes import flag_modified

from course_lib.models import Document
from tests.exercises.written import Answers

ANSWERS = Answers("1.5")


@ANSWERS.right
async def subscript(session, document_id, key, value):
    statement = update(Document).where(Document.id == document_id).values({Document.meta[key]: value})
    found = await session.scalar(statement.returning(Document.id))
    await session.commit()
    return found is not None


@ANSWERS.right
async def locked_and_set_anew(session, document_id, key, value):
    async with session.begin():
        document = await session.get(Document, document_id, with_for_update=True)
        if document is None:
            return False
        document.meta = {**document.meta, key: value}
    return True


@ANSWERS.right
async def locked_and_flagged(session, document_id, key, value):
    document = await session.scalar(select(Document).where(Document.id == document_id).with_for_update())
    if not document:
        return False
    document.meta[key] = value
    flag_modified(document, "meta")
    await session.commit()
    return True


@ANSWERS.right
async def raw_jsonb_set(session, document_id, key, value):
    sql = "UPDATE documents SET meta = jsonb_set(meta, ARRAY[:key], CAST(:value AS jsonb)) WHERE id = :id"
    result = await session.execute(text(sql), {"key": key, "value": json.dumps(value), "id": document_id})
    await session.commit()
    return bool(result.rowcount)


@ANSWERS.right
async def core_jsonb_set(session, document_id, key, value):
    changed = func.jsonb_set(Document.meta, [key], cast(value, JSONB))
    result = await session.execute(update(Document).where(Document.id == document_id).values(meta=changed))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.right
async def advisory_lock(session, document_id, key, value):
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(document_id), 0))))
    meta = await session.scalar(select(Document.meta).where(Document.id == document_id))
    if meta is None:
        return False
    await session.execute(update(Document).where(Document.id == document_id).values(meta={**meta, key: value}))
    await session.commit()
    return True


@ANSWERS.right
async def again_and_again(session, document_id, key, value):
    while True:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        try:
            document = await session.get(Document, document_id, populate_existing=True)
            if document is None:
                return False
            document.meta = {**document.meta, key: value}
            await session.commit()
            return True
        except DBAPIError as error:
            await session.rollback()
            if error.driver_exception.sqlstate != "40001":
                raise


@ANSWERS.right
async def expression_on_the_object(session, document_id, key, value):
    document = await session.get(Document, document_id)
    if document is None:
        return False
    document.meta = Document.meta.op("||")(cast({key: value}, JSONB))
    await session.commit()
    return True


def merging(document_id, key, value):
    return update(Document).where(Document.id == document_id).values(meta=Document.meta.concat({key: value}))


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, document_id, key, value):
    await session.execute(merging(document_id, key, value))
    await session.commit()


@ANSWERS.wrong("not a bool")
async def returns_the_meta(session, document_id, key, value):
    meta = await session.scalar(merging(document_id, key, value).returning(Document.meta))
    await session.commit()
    return meta or False


@ANSWERS.wrong("refused")
async def compares_with_true(session, document_id, key, value):
    found = await session.scalar(merging(document_id, key, value).returning(Document.id))
    await session.commit()
    return found is True


@ANSWERS.wrong("refused an empty one")
async def takes_nothing_in_it_for_nobody(session, document_id, key, value):
    meta = await session.scalar(select(Document.meta).where(Document.id == document_id).with_for_update())
    if not meta:
        return False
    await session.execute(update(Document).where(Document.id == document_id).values(meta={**meta, key: value}))
    await session.commit()
    return True


@ANSWERS.wrong("gave up")
async def three_tries(session, document_id, key, value):
    for _ in range(3):
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        try:
            result = await session.execute(merging(document_id, key, value))
            await session.commit()
            return result.rowcount == 1
        except DBAPIError as error:
            await session.rollback()
            if error.driver_exception.sqlstate != "40001":
                raise
    return None


@ANSWERS.wrong("not noticed")
async def changed_in_place(session, document_id, key, value):
    document = await session.get(Document, document_id)
    if document is None:
        return False
    document.meta[key] = value
    await session.commit()
    return True


@ANSWERS.wrong("not noticed")
async def same_dict_set_again(session, document_id, key, value):
    document = await session.get(Document, document_id, with_for_update=True)
    if document is None:
        return False
    meta = document.meta
    meta[key] = value
    document.meta = meta
    session.add(document)
    await session.commit()
    return True


@ANSWERS.wrong("not committed")
async def forgot_commit(session, document_id, key, value):
    return (await session.execute(merging(document_id, key, value))).rowcount == 1


@ANSWERS.wrong("not committed")
async def only_keys_that_are_there(session, document_id, key, value):
    changed = func.jsonb_set(Document.meta, [key], cast(value, JSONB), False)
    result = await session.execute(update(Document).where(Document.id == document_id).values(meta=changed))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("key missing")
async def dots_are_levels(session, document_id, key, value):
    changed = func.jsonb_set(Document.meta, key.split("."), cast(value, JSONB))
    result = await session.execute(update(Document).where(Document.id == document_id).values(meta=changed))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("wrong value")
async def merged_with_the_old_one(session, document_id, key, value):
    async with session.begin():
        document = await session.get(Document, document_id, with_for_update=True)
        if document is None:
            return False
        old = document.meta.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        document.meta = {**document.meta, key: {**old, **value} if both else value}
    return True


@ANSWERS.wrong("value read as SQL")
async def value_in_an_f_string(session, document_id, key, value):
    sql = f"UPDATE documents SET meta = meta || jsonb_build_object(:key, '{json.dumps(value)}'::jsonb) WHERE id = :id"
    result = await session.execute(text(sql).bindparams(bindparam("key", type_=Text)), {"key": key, "id": document_id})
    await session.commit()
    return result.rowcount == 1


LOCK = asyncio.Lock()


@ANSWERS.wrong("held in the process")
async def lock_in_memory(session, document_id, key, value):
    async with LOCK:
        document = await session.get(Document, document_id)
        if document is None:
            return False
        document.meta = {**document.meta, key: value}
        await session.commit()
        return True


@ANSWERS.wrong("broke off")
async def one_more_try(session, document_id, key, value):
    async def once():
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        result = await session.execute(merging(document_id, key, value))
        await session.commit()
        return result.rowcount == 1

    try:
        return await once()
    except DBAPIError:
        await session.rollback()
        return await once()


@ANSWERS.wrong("old value kept")
async def laid_underneath(session, document_id, key, value):
    statement = update(Document).where(Document.id == document_id)
    result = await session.execute(statement.values(meta=cast({key: value}, JSONB).concat(Document.meta)))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("more than meta")
async def deleted_and_inserted(session, document_id, key, value):
    document = await session.get(Document, document_id, with_for_update=True)
    if document is None:
        return False
    await session.execute(delete(Document).where(Document.id == document_id))
    fields = {"id": document.id, "user_id": document.user_id, "source": document.source, "title": document.title}
    await session.execute(insert(Document).values(**fields, meta={**document.meta, key: value}))
    await session.commit()
    return True


@ANSWERS.wrong("others lost")
async def in_its_place(session, document_id, key, value):
    statement = update(Document).where(Document.id == document_id).values(meta={key: value})
    result = await session.execute(statement)
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("wrong value")
async def dumped_twice(session, document_id, key, value):
    result = await session.execute(merging(document_id, key, json.dumps(value)))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("key missing")
async def keyword_instead_of_key(session, document_id, key, value):
    statement = update(Document).where(Document.id == document_id)
    result = await session.execute(statement.values(meta=Document.meta.concat(dict(key=value))))
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("key missing")
async def blanks_taken_off(session, document_id, key, value):
    return await subscript(session, document_id, key.strip(), value)


@ANSWERS.wrong("refused")
async def a_key_is_not_empty(session, document_id, key, value):
    return await subscript(session, document_id, key, value) if key else False


@ANSWERS.wrong("wrong value")
async def nothing_without_a_value(session, document_id, key, value):
    tag = "jsonb_strip_nulls(jsonb_build_object(CAST(:key AS text), CAST(:value AS jsonb)))"
    values = {"key": key, "value": json.dumps(value), "id": document_id}
    result = await session.execute(text(f"UPDATE documents SET meta = meta || {tag} WHERE id = :id"), values)
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("key read as SQL")
async def key_in_an_f_string(session, document_id, key, value):
    sql = f"UPDATE documents SET meta = jsonb_set(meta, '{{{key}}}', CAST(:value AS jsonb)) WHERE id = :id"
    result = await session.execute(text(sql), {"value": json.dumps(value), "id": document_id})
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("key read as SQL")
async def key_in_a_path_text(session, document_id, key, value):
    sql = (
        "UPDATE documents SET meta = jsonb_set(meta, CAST(CAST(:path AS text) AS text[]), CAST(:value AS jsonb)) "
        "WHERE id = :id"
    )
    values = {"path": f"{{{key}}}", "value": json.dumps(value), "id": document_id}
    result = await session.execute(text(sql), values)
    await session.commit()
    return result.rowcount == 1


@ANSWERS.wrong("other documents")
async def all_documents(session, document_id, key, value):
    result = await session.execute(update(Document).values(meta=Document.meta.concat({key: value})))
    await session.commit()
    return result.rowcount > 0


@ANSWERS.wrong("unknown document")
async def always_true(session, document_id, key, value):
    await session.execute(merging(document_id, key, value))
    await session.commit()
    return True


@ANSWERS.wrong("unknown document")
async def none_has_no_meta(session, document_id, key, value):
    document = await session.get(Document, document_id, with_for_update=True)
    document.meta = document.meta | {key: value}
    await session.commit()
    return True


@ANSWERS.wrong("overwritten")
async def read_then_written_back(session, document_id, key, value):
    document = await session.get(Document, document_id)
    if document is None:
        return False
    document.meta = {**document.meta, key: value}
    await session.commit()
    return True


@ANSWERS.wrong("broke off")
async def no_patience(session, document_id, key, value):
    document = await session.get(Document, document_id, with_for_update={"nowait": True})
    if document is None:
        return False
    document.meta = {**document.meta, key: value}
    await session.commit()
    return True


@ANSWERS.wrong("swallowed")
async def any_error_is_a_no(session, document_id, key, value):
    try:
        result = await session.execute(merging(document_id, key, value))
        await session.commit()
    except Exception:
        return False
    return result.rowcount == 1
