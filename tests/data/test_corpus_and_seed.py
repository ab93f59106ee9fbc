"""The corpus is whole, and seeding it gives the same rows every time."""

from __future__ import annotations

from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.data import documents, golden_questions, users
from course_lib.data.seed import build_base, stable_id
from course_lib.db import make_engine
from course_lib.models import Base

DIGESTS = """
    SELECT md5(string_agg(row::text, '|' ORDER BY row::text)) FROM {table} AS row
"""


async def digests(engine: AsyncEngine) -> dict[str, str]:
    """A hash of all rows, for each table."""
    async with engine.connect() as connection:
        return {t: await connection.scalar(text(DIGESTS.format(table=t))) for t in Base.metadata.tables}


async def test_seeding_twice_gives_the_same_rows(engine: AsyncEngine, empty_url: URL) -> None:
    await build_base(empty_url)
    other = make_engine(empty_url)
    assert await digests(engine) == await digests(other)
    await other.dispose()


async def test_there_is_enough_for_every_lesson(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        count = {t: await connection.scalar(text(f"SELECT count(*) FROM {t}")) for t in Base.metadata.tables}
        busiest = "SELECT count(*) FROM conversations GROUP BY user_id ORDER BY 1 DESC LIMIT 1"
        assert await connection.scalar(text(busiest)) == 50
    assert count["users"] == 8
    assert count["documents"] == 40
    assert count["conversations"] == 200
    assert count["document_chunks"] >= 150
    assert count["messages"] >= 1000


async def test_messages_are_numbered_from_one_without_a_gap(engine: AsyncEngine) -> None:
    query = "SELECT count(*) FROM (SELECT FROM messages GROUP BY conversation_id HAVING max(seq) <> count(*)) AS gaps"
    async with engine.connect() as connection:
        assert await connection.scalar(text(query)) == 0


def test_documents_are_short_and_belong_to_a_user() -> None:
    owners = {user.slug for user in users()}
    assert len(documents()) == 40
    for document in documents():
        assert document.user in owners
        assert 150 <= sum(len(chunk.split()) for chunk in document.chunks) <= 400, document.source


def test_golden_questions_point_at_documents_of_the_asker() -> None:
    sources = {document.source for document in documents()}
    assert len({question.id for question in golden_questions()}) == 60
    for question in golden_questions():
        assert set(question.documents) <= sources
        assert {source.partition("/")[0] for source in question.documents} == {question.user}


def test_some_questions_have_another_answer_for_another_user() -> None:
    texts = [question.text for question in golden_questions()]
    answers = {(question.text, question.answer) for question in golden_questions()}
    assert len(texts) - len(set(texts)) == 5
    assert len(answers) == 60


def test_stable_ids_are_uuids_of_version_7_in_order_of_time() -> None:
    from datetime import UTC, datetime, timedelta

    start = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [stable_id("x", start + timedelta(seconds=n)) for n in range(100)]
    assert ids == sorted(ids)
    assert {(i.version, i.variant) for i in ids} == {(7, "specified in RFC 4122")}
