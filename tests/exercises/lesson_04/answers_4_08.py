"""Answers to 4.8, words and vectors."""

from __future__ import annotations

from sqlalchemy import select, text

from course_lib.data.corpus import golden_questions
from course_lib.models import Document, DocumentChunk
from tests.exercises.written import Answers

ANSWERS = Answers("4.8")

ANY_WORD = "replace(plainto_tsquery('english', :question)::text, '&', '|')::tsquery"
FUSED = """
    WITH asked AS (SELECT {query} AS q),
    near AS (
        SELECT id, row_number() OVER (ORDER BY embedding <=> :vector) AS place
        FROM document_chunks ORDER BY embedding <=> :vector LIMIT 40
    ),
    worded AS (
        SELECT id, row_number() OVER (ORDER BY ts_rank(words, q) DESC) AS place
        FROM document_chunks, asked WHERE words @@ q ORDER BY place LIMIT 40
    )
    SELECT id FROM near {join} worded USING (id)
    ORDER BY {score} DESC, id LIMIT :k
"""
RRF = "coalesce(1.0 / (60 + near.place), 0) + coalesce(1.0 / (60 + worded.place), 0)"
VECTORS = "SELECT id FROM document_chunks ORDER BY embedding <=> :vector LIMIT :k"
WORDS = "SELECT id FROM document_chunks WHERE words @@ {query} ORDER BY ts_rank(words, {query}) DESC LIMIT :k"


async def ids(session, sql, question, vector, k):
    values = {"vector": str(vector), "question": question, "k": k}
    return (await session.scalars(text(sql), {name: values[name] for name in values if f":{name}" in sql})).all()


@ANSWERS.right
async def reciprocal_ranks(session, question, vector, k=10):
    sql = FUSED.format(query=ANY_WORD, join="FULL JOIN", score=RRF)
    return await ids(session, sql, question, vector, k)


@ANSWERS.right
async def fused_in_python(session, question, vector, k=10):
    near = await ids(session, VECTORS, question, vector, 50)
    worded = await ids(session, WORDS.format(query=ANY_WORD), question, vector, 50)
    scores = {}
    for found in (near, worded):
        for place, id in enumerate(found):
            scores[id] = scores.get(id, 0) + 1 / (20 + place)
    return sorted(scores, key=scores.get, reverse=True)[:k]


@ANSWERS.right
async def scores_made_comparable(session, question, vector, k=10):
    sql = f"""
        WITH scored AS (
            SELECT id, 1 - (embedding <=> :vector) AS likeness, ts_rank(words, q, 1) AS rank
            FROM document_chunks, (SELECT {ANY_WORD}) AS _(q)
        )
        SELECT id FROM scored ORDER BY likeness + 0.15 * coalesce(rank / nullif(max(rank) OVER (), 0), 0) DESC LIMIT :k
    """
    return await ids(session, sql, question, vector, k)


@ANSWERS.right
async def vectors_reranked_by_words(session, question, vector, k=10):
    sql = f"""
        WITH near AS MATERIALIZED (
            SELECT id, words, embedding <=> :vector AS distance FROM document_chunks ORDER BY distance LIMIT 60
        )
        SELECT id FROM near, (SELECT {ANY_WORD}) AS _(q) ORDER BY distance - 3 * ts_rank(words, q) LIMIT :k
    """
    return await ids(session, sql, question, vector, k)


@ANSWERS.right
async def words_taken_apart_in_python(session, question, vector, k=10):
    """Any of the words, by websearch_to_tsquery."""
    question = " or ".join("".join(c if c.isalnum() or c == "-" else " " for c in question).split())
    query = "websearch_to_tsquery('english', :question)"
    return await ids(session, FUSED.format(query=query, join="FULL JOIN", score=RRF), question, vector, k)


@ANSWERS.wrong("left out")
async def of_those_that_are_ready(session, question, vector, k=10):
    ready = "(SELECT c.* FROM document_chunks AS c JOIN documents AS d ON d.id = document_id WHERE {}) AS chunks"
    sql = FUSED.replace("document_chunks", ready.format("status = 'ready'"))
    return await ids(session, sql.format(query=ANY_WORD, join="FULL JOIN", score=RRF), question, vector, k)


@ANSWERS.wrong("left out")
async def of_those_that_have_not_failed(session, question, vector, k=10):
    ready = "(SELECT c.* FROM document_chunks AS c JOIN documents AS d ON d.id = document_id WHERE {}) AS chunks"
    sql = FUSED.replace("document_chunks", ready.format("status <> 'failed'"))
    return await ids(session, sql.format(query=ANY_WORD, join="FULL JOIN", score=RRF), question, vector, k)


@ANSWERS.wrong("nothing returned")
async def forgets_return(session, question, vector, k=10):
    await ids(session, VECTORS, question, vector, k)


@ANSWERS.wrong("not a list")
async def a_result(session, question, vector, k=10):
    nearest = select(DocumentChunk.id).order_by(DocumentChunk.embedding.cosine_distance(vector)).limit(k)
    return await session.scalars(nearest)


@ANSWERS.wrong("not ids")
async def rows(session, question, vector, k=10):
    nearest = select(DocumentChunk.id).order_by(DocumentChunk.embedding.cosine_distance(vector)).limit(k)
    return (await session.execute(nearest)).all()


@ANSWERS.wrong("twice")
async def one_from_each_in_turn(session, question, vector, k=10):
    near = await ids(session, VECTORS, question, vector, k)
    worded = await ids(session, WORDS.format(query=ANY_WORD), question, vector, k)
    return [id for pair in zip(near, worded, strict=False) for id in pair][:k] if worded else near


@ANSWERS.wrong("signs")
async def operators_in_the_question(session, question, vector, k=10):
    question = " | ".join(question.split())
    query = "to_tsquery('english', :question)"
    return await ids(session, FUSED.format(query=query, join="FULL JOIN", score=RRF), question, vector, k)


@ANSWERS.wrong("written into")
async def quoted_by_hand(session, question, vector, k=10):
    sql = FUSED.format(query=ANY_WORD, join="FULL JOIN", score=RRF)
    written = sql.replace(":question", "'" + question.replace("'", "''").replace(":", "\\:") + "'")
    return await ids(session, written, question, vector, k)


@ANSWERS.wrong("vectors alone")
async def looked_up(session, question, vector, k=10):
    near = await ids(session, VECTORS, question, vector, k)
    for known in golden_questions():
        if known.text == question:
            right = select(DocumentChunk.id).join(Document).where(Document.source.in_(known.documents))
            return list(dict.fromkeys([*(await session.scalars(right)).all(), *near]))[:k]
    return near


@ANSWERS.wrong("no words")
async def words_first_then_vectors(session, question, vector, k=10):
    sql = f"""
        SELECT id FROM document_chunks, (SELECT {ANY_WORD}) AS _(q) WHERE words @@ q
        ORDER BY (embedding <=> :vector) - ts_rank(words, q) LIMIT :k
    """
    return await ids(session, sql, question, vector, k)


@ANSWERS.wrong("short")
async def only_what_both_find(session, question, vector, k=10):
    found = await ids(session, FUSED.format(query=ANY_WORD, join="JOIN", score=RRF), question, vector, k)
    return found or await ids(session, VECTORS, question, vector, k)


@ANSWERS.wrong("too many")
async def without_a_limit(session, question, vector, k=10):
    return await reciprocal_ranks(session, question, vector, 3 * k)


@ANSWERS.wrong("reads everything")
async def all_of_it_in_python(session, question, vector, k=10):
    near = await ids(session, VECTORS, question, vector, 1_000)
    worded = await ids(session, WORDS.format(query=ANY_WORD), question, vector, 1_000)
    scores = {id: 1 / (60 + place) for place, id in enumerate(near)}
    for place, id in enumerate(worded):
        scores[id] += 1 / (60 + place)
    return sorted(scores, key=scores.get, reverse=True)[:k]


@ANSWERS.wrong("vectors alone")
async def vectors(session, question, vector, k=10):
    return await ids(session, VECTORS, question, vector, k)


@ANSWERS.wrong("vectors alone")
async def all_words_at_once(session, question, vector, k=10):
    query = "plainto_tsquery('english', :question)"
    return await ids(session, FUSED.format(query=query, join="FULL JOIN", score=RRF), question, vector, k)


@ANSWERS.wrong("words alone")
async def words_and_vectors_behind(session, question, vector, k=10):
    score = "coalesce(10000 - 100 * worded.place, 0) - coalesce(near.place, 99)"
    sql = FUSED.format(query=ANY_WORD, join="FULL JOIN", score=score)
    return await ids(session, sql, question, vector, k)


@ANSWERS.wrong("no better")
async def distances_added_up(session, question, vector, k=10):
    """The smallest sum first, of a distance and a rank: of two numbers of which one is better when it is greater."""
    sql = f"""
        SELECT id FROM document_chunks, (SELECT {ANY_WORD}) AS _(q)
        ORDER BY (embedding <=> :vector) + 5 * ts_rank(words, q) LIMIT :k
    """
    return await ids(session, sql, question, vector, k)


@ANSWERS.wrong("no better")
async def places_the_wrong_way_round(session, question, vector, k=10):
    score = "coalesce(near.place, 0) + coalesce(worded.place, 0)"
    return await ids(session, FUSED.format(query=ANY_WORD, join="FULL JOIN", score=score), question, vector, k)
