"""Answers to 3.2, keep the good rows."""

from __future__ import annotations

from sqlalchemy import insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.models import Document
from tests.exercises.written import Answers

ANSWERS = Answers("3.2")


def name_in(error):
    return error.orig.driver_exception.constraint_name


@ANSWERS.right
async def object_by_object(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            refused[index] = error.orig.__cause__.constraint_name
    return refused


@ANSWERS.right
async def savepoints_in_sql(session, user_id, documents):
    refused = {}
    connection = await session.connection()
    sql = """
        INSERT INTO documents (user_id, source, title, status, content_hash)
        VALUES (:user_id, :source, :title, :status, :content_hash)
    """
    for index, document in enumerate(documents):
        await connection.execute(text("SAVEPOINT row"))
        try:
            await connection.execute(text(sql), {"user_id": user_id, **document})
        except IntegrityError as error:
            await connection.execute(text("ROLLBACK TO SAVEPOINT row"))
            refused[index] = name_in(error)
        else:
            await connection.execute(text("RELEASE SAVEPOINT row"))
    return refused


@ANSWERS.right
async def all_at_once_if_that_goes_well(session, user_id, documents):
    rows = [{"user_id": user_id, **document} for document in documents]
    if not rows:
        return {}
    try:
        async with session.begin_nested():
            await session.execute(insert(Document), rows)
        return {}
    except IntegrityError:
        pass
    refused = {}
    for index, row in enumerate(rows):
        savepoint = await session.begin_nested()
        try:
            await session.execute(insert(Document), [row])
        except IntegrityError as error:
            await savepoint.rollback()
            refused[index] = name_in(error)
        else:
            await savepoint.commit()
    return refused


@ANSWERS.right
async def decides_in_python_as_the_table_would(session, user_id, documents):
    known = set(await session.scalars(select(Document.source).where(Document.user_id == user_id)))
    refused = {}
    for index, document in enumerate(documents):
        if document["title"] is None:
            refused[index] = None
        elif len(document["content_hash"] or bytes(32)) != 32 or document["content_hash"] == b"":
            refused[index] = "ck_documents_content_hash"
        elif document["status"] not in ("uploaded", "processing", "ready", "failed"):
            refused[index] = "ck_documents_status"
        elif document["source"] in known:
            refused[index] = "uq_documents_user_id_source"
        else:
            known.add(document["source"])
            session.add(Document(user_id=user_id, **document))
    await session.flush()
    return refused


@ANSWERS.right
async def rehearsed_and_left_to_the_callers_commit(session, user_id, documents):
    refused, good = {}, []
    rehearsal = await session.begin_nested()
    for index, document in enumerate(documents):
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
            good.append(document)
        except IntegrityError as error:
            refused[index] = name_in(error)
    await rehearsal.rollback()
    session.add_all([Document(user_id=user_id, **document) for document in good])
    return refused


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id, documents):
    for document in documents:
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError:
            continue


@ANSWERS.wrong("not a dict")
async def a_list_of_pairs(session, user_id, documents):
    return list((await object_by_object(session, user_id, documents)).items())


@ANSWERS.wrong("not caught")
async def all_or_nothing(session, user_id, documents):
    if documents:
        await session.execute(insert(Document), [{"user_id": user_id, **document} for document in documents])
    return {}


@ANSWERS.wrong("begun already")
async def begins_again(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            async with session.begin():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("transaction lost")
async def no_savepoint(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            await session.execute(insert(Document).values(user_id=user_id, **document))
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("transaction lost")
async def swallowed_inside_of_the_block(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        async with session.begin_nested():
            try:
                await session.execute(insert(Document).values(user_id=user_id, **document))
            except IntegrityError as error:
                refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("commits itself")
async def commits_each_row(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
            await session.commit()
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("caller's work lost")
async def rolls_back_everything(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            await session.execute(insert(Document).values(user_id=user_id, **document))
        except IntegrityError as error:
            await session.rollback()
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("good rows lost")
async def stops_at_the_first(session, user_id, documents):
    refused = {}
    try:
        async with session.begin_nested():
            for index, document in enumerate(documents):  # noqa: B007 (where it stopped)
                await session.execute(insert(Document).values(user_id=user_id, **document))
    except IntegrityError as error:
        refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("good rows lost")
async def a_refused_source_is_taken(session, user_id, documents):
    refused, seen = {}, set()
    for index, document in enumerate(documents):
        if document["source"] in seen:
            refused[index] = "uq_documents_user_id_source"
            continue
        seen.add(document["source"])
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("good rows lost")
async def the_last_of_each_source(session, user_id, documents):
    last = {document["source"]: index for index, document in enumerate(documents)}
    refused = {}
    for index, document in enumerate(documents):
        if last[document["source"]] != index:
            refused[index] = "uq_documents_user_id_source"
            continue
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("wrong value")
async def without_the_hash_when_it_is_good(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        given = {**document, "content_hash": None} if len(document["content_hash"]) == 32 else document
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **given))
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("changed what was there")
async def overwrites(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        statement = upsert(Document).values(user_id=user_id, **document)
        statement = statement.on_conflict_do_update(index_elements=["user_id", "source"], set_=document)
        try:
            async with session.begin_nested():
                await session.execute(statement)
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("not reported")
async def does_nothing_on_conflict(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            async with session.begin_nested():
                await session.execute(upsert(Document).values(user_id=user_id, **document).on_conflict_do_nothing())
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("not reported")
async def by_source(session, user_id, documents):
    refused = await object_by_object(session, user_id, documents)
    return {documents[index]["source"]: name for index, name in refused.items()}


@ANSWERS.wrong("reported although stored")
async def all_are_reported(session, user_id, documents):
    refused = await object_by_object(session, user_id, documents)
    return {index: refused.get(index) for index in range(len(documents))}


@ANSWERS.wrong("wrong name")
async def the_class_of_the_error(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            refused[index] = type(error.orig).__name__
    return refused


@ANSWERS.wrong("other error hidden")
async def catches_too_much(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except DBAPIError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("wrong name")
async def asks_in_an_order_of_its_own(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        if document["status"] not in ("uploaded", "processing", "ready", "failed"):
            refused[index] = "ck_documents_status"
            continue
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("good rows lost")
async def looks_at_everybodys_sources(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        if await session.scalar(select(Document.id).where(Document.source == document["source"]).limit(1)):
            refused[index] = "uq_documents_user_id_source"
            continue
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("made fit")
async def untitled(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            try:
                async with session.begin_nested():
                    session.add(Document(user_id=user_id, **{**document, "title": document["title"] or "Untitled"}))
            except IntegrityError:
                refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("another order")
async def by_name(session, user_id, documents):
    refused = {}
    for index, document in sorted(enumerate(documents), key=lambda pair: pair[1]["source"]):
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("caller's object lost")
async def empties_the_session(session, user_id, documents):
    refused = {}
    for index, document in enumerate(documents):
        try:
            async with session.begin_nested():
                session.add(Document(user_id=user_id, **document))
        except IntegrityError as error:
            session.expunge_all()
            refused[index] = name_in(error)
    return refused


@ANSWERS.wrong("not reported")
async def looked_for_in_the_list(session, user_id, documents):
    refused = {}
    for document in documents:
        try:
            async with session.begin_nested():
                await session.execute(insert(Document).values(user_id=user_id, **document))
        except IntegrityError as error:
            refused[documents.index(document)] = name_in(error)
    return refused
