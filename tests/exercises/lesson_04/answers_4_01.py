"""Answers to 4.1, nearest, of one kind."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Float, bindparam, select, text
from sqlalchemy.orm import contains_eager

from course_lib.models import Document, DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("4.1")
NEAR = """
    SELECT content, 1 - (embedding <=> CAST(:vector AS vector)) AS similarity
    FROM document_chunks JOIN documents ON documents.id = document_id
    WHERE user_id = :user_id AND status = 'ready' AND embedding_model = :model
    ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :k
"""


def far(vector):
    return DocumentChunk.embedding.cosine_distance(vector)


def own(user_id, model, *columns):
    return (
        select(DocumentChunk.content, *columns)
        .join(DocumentChunk.document)
        .where(Document.user_id == user_id, Document.status == "ready", DocumentChunk.embedding_model == model)
    )


@ANSWERS.right
async def sql(session, user_id, vector, model, k):
    values = {"user_id": user_id, "vector": str(vector), "model": model, "k": k}
    return (await session.execute(text(NEAR), values)).all()


@ANSWERS.right
async def labelled(session, user_id, vector, model, k):
    similarity = (1 - far(vector)).label("similarity")
    statement = own(user_id, model, similarity).order_by(similarity.desc()).limit(k)
    return [(row.content, row.similarity) for row in await session.execute(statement)]


@ANSWERS.right
async def operator(session, user_id, vector, model, k):
    distance = DocumentChunk.embedding.op("<=>", return_type=Float)(
        bindparam("v", vector, DocumentChunk.embedding.type)
    )
    mine = select(Document.id).where(Document.user_id == user_id, Document.status == "ready")
    statement = select(DocumentChunk.content, distance).where(
        DocumentChunk.document_id.in_(mine), DocumentChunk.embedding_model == model
    )
    found = (await session.execute(statement.order_by(distance).limit(k))).tuples().all()
    return [[content, 1 - distance] for content, distance in found]


@ANSWERS.right
async def objects_in_a_transaction(session, user_id, vector, model, k):
    async with session.begin():
        statement = (
            select(DocumentChunk, far(vector))
            .join(DocumentChunk.document)
            .options(contains_eager(DocumentChunk.document))
            .where(Document.user_id == user_id, Document.status == "ready", DocumentChunk.embedding_model == model)
            .order_by(far(vector))
            .limit(k)
        )
        return [(chunk.content, 1 - distance) for chunk, distance in await session.execute(statement)]


@ANSWERS.right
async def exists(session, user_id, vector, model, k):
    ready = DocumentChunk.document.has((Document.user_id == user_id) & (Document.status == "ready"))
    nearest = (
        select(DocumentChunk.content, far(vector).label("distance"))
        .where(ready, DocumentChunk.embedding_model == model)
        .order_by("distance")
        .limit(k)
        .subquery()
    )
    similarity = 1 - nearest.c.distance
    return tuple(await session.execute(select(nearest.c.content, similarity).order_by(similarity.desc())))


@ANSWERS.right
async def numbers_of_numpy(session, user_id, vector, model, k):
    question = np.array(vector)
    statement = own(user_id, model, DocumentChunk.embedding).order_by(far(question)).limit(k)
    found = []
    for content, embedding in await session.execute(statement):
        both = np.linalg.norm(question) * np.linalg.norm(embedding)
        found.append((content, np.float32(question @ np.array(embedding) / both)))
    return found


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, user_id, vector, model, k):
    await sql(session, user_id, vector, model, k)


@ANSWERS.wrong("not a list")
async def a_dict(session, user_id, vector, model, k):
    return dict(await sql(session, user_id, vector, model, k))


@ANSWERS.wrong("not pairs")
async def contents_only(session, user_id, vector, model, k):
    return (await session.scalars(own(user_id, model).order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("not pairs")
async def the_other_way_round(session, user_id, vector, model, k):
    return [(similarity, content) for content, similarity in await sql(session, user_id, vector, model, k)]


@ANSWERS.wrong("strangers")
async def of_everybody(session, user_id, vector, model, k):
    statement = select(DocumentChunk.content, 1 - far(vector)).join(DocumentChunk.document)
    statement = statement.where(Document.status == "ready", DocumentChunk.embedding_model == model)
    return (await session.execute(statement.order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("strangers")
async def forgot_the_join(session, user_id, vector, model, k):
    statement = select(DocumentChunk.content, 1 - far(vector)).where(
        select(Document.id).where(Document.user_id == user_id, Document.status == "ready").exists(),
        DocumentChunk.embedding_model == model,
    )
    return (await session.execute(statement.order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("not ready")
async def of_any_status(session, user_id, vector, model, k):
    statement = select(DocumentChunk.content, 1 - far(vector)).join(DocumentChunk.document)
    statement = statement.where(Document.user_id == user_id, DocumentChunk.embedding_model == model)
    return (await session.execute(statement.order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("not ready")
async def only_what_has_not_failed(session, user_id, vector, model, k):
    statement = select(DocumentChunk.content, 1 - far(vector)).join(DocumentChunk.document)
    mine = (Document.user_id == user_id, Document.status != "failed", DocumentChunk.embedding_model == model)
    return (await session.execute(statement.where(*mine).order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("other models")
async def of_any_model(session, user_id, vector, model, k):
    statement = select(DocumentChunk.content, 1 - far(vector)).join(DocumentChunk.document)
    statement = statement.where(Document.user_id == user_id, Document.status == "ready")
    return (await session.execute(statement.order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("wrong length")
async def without_limit(session, user_id, vector, model, k):
    return (await session.execute(own(user_id, model, 1 - far(vector)).order_by(far(vector)))).all()


@ANSWERS.wrong("wrong length")
async def filtered_afterwards(session, user_id, vector, model, k):
    near = select(DocumentChunk.id).order_by(far(vector)).limit(k)
    statement = own(user_id, model, 1 - far(vector)).where(DocumentChunk.id.in_(near))
    return (await session.execute(statement.order_by(far(vector)))).all()


@ANSWERS.wrong("wrong length")
async def with_all_that_tie(session, user_id, vector, model, k):
    statement = own(user_id, model, 1 - far(vector)).order_by(far(vector)).fetch(k, with_ties=True)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("furthest first")
async def distance_downwards(session, user_id, vector, model, k):
    statement = own(user_id, model, 1 - far(vector)).order_by(far(vector).desc()).limit(k)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("another measure")
async def euclidean(session, user_id, vector, model, k):
    statement = own(user_id, model, 1 - far(vector)).order_by(DocumentChunk.embedding.l2_distance(vector)).limit(k)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("another measure")
async def inner_product(session, user_id, vector, model, k):
    similarity = -DocumentChunk.embedding.max_inner_product(vector)
    return (await session.execute(own(user_id, model, similarity).order_by(similarity.desc()).limit(k))).all()


@ANSWERS.wrong("order")
async def sorted_by_text(session, user_id, vector, model, k):
    return sorted(await sql(session, user_id, vector, model, k))


@ANSWERS.wrong("distance")
async def distances(session, user_id, vector, model, k):
    return (await session.execute(own(user_id, model, far(vector)).order_by(far(vector)).limit(k))).all()


@ANSWERS.wrong("wrong numbers")
async def half_of_it(session, user_id, vector, model, k):
    statement = own(user_id, model, 1 - far(vector) / 2).order_by(far(vector)).limit(k)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("loaded more")
async def document_by_document(session, user_id, vector, model, k):
    mine = select(Document.id).where(Document.user_id == user_id, Document.status == "ready")
    found = []
    for id in (await session.scalars(mine)).all():
        statement = own(user_id, model, 1 - far(vector)).where(Document.id == id).order_by(far(vector)).limit(k)
        found += await session.execute(statement)
    return sorted(found, key=lambda pair: -pair[1])[:k]


@ANSWERS.wrong("one of two")
async def distinct(session, user_id, vector, model, k):
    similarity = (1 - far(vector)).label("similarity")
    statement = own(user_id, model, similarity).distinct().order_by(similarity.desc()).limit(k)
    return (await session.execute(statement)).all()


@ANSWERS.wrong("one of two")
async def by_text(session, user_id, vector, model, k):
    return list(dict(await sql(session, user_id, vector, model, k)).items())


@ANSWERS.wrong("other models")
async def the_model_by_a_pattern(session, user_id, vector, model, k):
    statement = select(DocumentChunk.content, 1 - far(vector)).join(DocumentChunk.document)
    mine = (Document.user_id == user_id, Document.status == "ready", DocumentChunk.embedding_model.startswith(model))
    return (await session.execute(statement.where(*mine).order_by(far(vector)).limit(k))).all()


KEPT = {}


@ANSWERS.wrong("not the nearest")
async def kept_from_before(session, user_id, vector, model, k):
    if (user_id, k) not in KEPT:
        KEPT[user_id, k] = await sql(session, user_id, vector, model, k)
    return KEPT[user_id, k]


@ANSWERS.wrong("loaded more")
async def cut_in_python(session, user_id, vector, model, k):
    return (await session.execute(own(user_id, model, 1 - far(vector)).order_by(far(vector)))).all()[:k]
