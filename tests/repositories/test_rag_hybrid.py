"""Words beside vectors: what they add, whose passages are found, and that no question is too odd to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.db import copy_rows, make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog
from course_lib.llm import EMBEDDING_MODEL
from course_lib.models import Document, DocumentChunk, User
from course_lib.repositories.rag import Embedding, Passage, RagRepository, embed_question
from course_lib.repositories.rag import search as searching
from course_lib.repositories.rag.hybrid import CANDIDATES, CODES, codes_of, hybrid_statement

COLUMNS = ["document_id", "chunk_index", "content", "token_count", "embedding", "embedding_model"]
STOP_WORDS = "What is that and how is it to be?"
OUT_OF_THE_DICTIONARY = "Zwölfmal qxzvb, bitte: wie lüftet man den Ofenraum?"
ODD = {
    "no word of the dictionary": OUT_OF_THE_DICTIONARY,
    "stop words": STOP_WORDS,
    "nothing": "",
    "signs": " ?! -- /* */ \\ ",
    "operators": "oven & !door | (E-417 <-> steam):* <2> 'reset",
    "quotes": """it's "the" ''oven'' $$ $1 :words %s %(x)s {k} E'\\x' """,
    "patterns": "50% of_100 \\_9 %%% ___ 9%9",
    "very long": "How does 1 oven with E-417 go on? " * 1_250,
    "ten thousand words": " ".join(f"word{n}" for n in range(10_000)),
    "four megabytes": "E-417 oven " * 400_000,
    "a long word": "x" * 5_000,
    "Chinese": "烤箱显示E-417是什么意思?",
    "Arabic": "ماذا يعني رمز العطل في الفرن؟",
    "emoji": "🥖🔥 E-417 👩‍🍳?",
}


async def id_of(session: AsyncSession, slug: str) -> UUID:
    return (await session.scalars(select(User.id).where(User.email == f"{slug}@example.org"))).one()


async def ask(session: AsyncSession, slug: str, question: str, k: int = 10, **narrow: Any) -> list[Passage]:
    asked = await embed_question(question or "nothing")
    return await RagRepository(session).search_both(await id_of(session, slug), question, asked, k, **narrow)


@pytest.mark.parametrize(
    ("slug", "question", "place"),
    [
        ("ada", "What happened to prism 41?", ("ada/lamp-and-lens", 1)),
        ("emeka", "Who is Ferdinand?", ("emeka/out-of-hours-rota", 4)),
        ("goran", "where is 31-402", ("goran/engine-troubleshooting", 1)),
        ("farah", "what is tap c3 for", ("farah/chlorine-dosing", 3)),
    ],
)
async def test_a_code_or_a_name_brings_its_passage_to_the_front(
    slug: str, question: str, place: tuple[str, int], session: AsyncSession
) -> None:
    found = await ask(session, slug, question, k=3)
    assert (found[0].source, found[0].chunk_index) == place


async def test_the_same_question_finds_each_users_own(session: AsyncSession) -> None:
    for slug, source in (("bruno", "bruno/oven-faults"), ("chidi", "chidi/dome-faults")):
        found = await ask(session, slug, "What does E-417 mean and what do I do first?", k=30)
        assert found[0].source == source
        assert {passage.source.partition("/")[0] for passage in found} == {slug}
    assert await RagRepository(session).search_both(uuid4(), "E-417", await embed_question("E-417")) == []


@pytest.mark.parametrize("question", ODD.values(), ids=ODD)
async def test_no_question_is_too_odd(question: str, session: AsyncSession) -> None:
    asked = await embed_question("Which oven bakes evenly?")
    user_id = await id_of(session, "bruno")
    found = await RagRepository(session).search_both(user_id, question, asked, 30)
    by_vector = await RagRepository(session).search(user_id, asked, 30)
    assert {passage.id for passage in found} == {passage.id for passage in by_vector}
    assert await RagRepository(session).search_both(user_id, question, asked, 30) == found


@pytest.mark.parametrize("question", [STOP_WORDS, "", "qxzvb"])
async def test_without_a_word_in_common_the_vectors_decide(question: str, session: AsyncSession) -> None:
    asked, user_id = await embed_question("Which oven bakes evenly?"), await id_of(session, "bruno")
    found = await RagRepository(session).search_both(user_id, question, asked, 30)
    assert found == await RagRepository(session).search(user_id, asked, 30)


async def test_the_score_is_the_similarity_and_the_share_of_words_by_their_rarity(session: AsyncSession) -> None:
    """Computed here once more, in Python, over all of one user's passages."""
    question = "How do I feed the starter, and is E-422 about the door?"
    asked, user_id = await embed_question(question), await id_of(session, "bruno")
    by_vector = await RagRepository(session).search(user_id, asked, 100)
    stems_of = text("SELECT tsvector_to_array(to_tsvector('english', :text))")
    words = set(await session.scalar(stems_of, {"text": question}) or ())
    held = {
        p.id: words & set(await session.scalar(stems_of, {"text": f"{p.title} {p.content}"}) or ()) for p in by_vector
    }
    have = {word: sum(word in of for of in held.values()) for word in words}
    weight = {word: np.log(1 + (len(held) - n + 0.5) / (n + 0.5)) for word, n in have.items()}
    total = sum(weight.values())
    scores = {p.id: 1 - p.distance + 0.4 * sum(weight[w] for w in held[p.id]) / total for p in by_vector}
    found = await RagRepository(session).search_both(user_id, question, asked, 100)
    assert [p.id for p in found] == sorted(scores, key=lambda id: -scores[id])
    assert [p.id for p in found] != [p.id for p in by_vector]


async def test_one_statement_and_one_round_trip(engine: AsyncEngine, session: AsyncSession) -> None:
    asked, user_id = await embed_question("E-417"), await id_of(session, "bruno")
    with QueryLog(engine) as log:
        await RagRepository(session).search_both(user_id, "E-417", asked, 7)
    assert (log.count, log.rows) == (1, 7)


async def test_a_choice_of_documents_and_a_date_narrow_it(session: AsyncSession) -> None:
    mine = list(await session.scalars(select(Document.id).where(Document.user_id == await id_of(session, "bruno"))))
    others = list(await session.scalars(select(Document.id).where(Document.user_id == await id_of(session, "chidi"))))
    found = await ask(session, "bruno", "E-417", k=100, document_ids=[mine[0], *others])
    assert {passage.document_id for passage in found} == {mine[0]}
    assert await ask(session, "bruno", "E-417", document_ids=[]) == []
    assert await ask(session, "bruno", "E-417", document_ids=others) == []
    latest = select(func.max(Document.updated_at)).where(Document.id.in_(mine))
    day = await session.scalar(latest)
    assert len({passage.document_id for passage in await ask(session, "bruno", "E-417", k=100, since=day)}) == 1
    assert await ask(session, "bruno", "E-417", since=datetime.now(UTC) + timedelta(1)) == []


async def test_another_models_vectors_and_documents_in_the_making_are_not_found(session: AsyncSession) -> None:
    first = (await ask(session, "bruno", "E-417"))[0]
    await session.execute(update(DocumentChunk).where(DocumentChunk.id == first.id).values(embedding_model="another"))
    now = await ask(session, "bruno", "E-417", k=100)
    assert first.id not in {passage.id for passage in now}
    await session.execute(update(Document).where(Document.id == now[0].document_id).values(status="processing"))
    later = await ask(session, "bruno", "E-417", k=100)
    assert now[0].document_id not in {passage.document_id for passage in later}
    await session.rollback()


async def test_equal_scores_come_in_the_order_of_source_and_place(session: AsyncSession) -> None:
    """Four documents with the same passage twice, stored in no order."""
    user = User(email="twice@example.org", name="Twice")
    session.add(user)
    await session.flush()
    vector = (await embed_question("Bread")).vector
    for source in ("d", "b", "c", "a"):
        document = Document(user_id=user.id, source=source, title="Same", status="ready")
        document.chunks = [
            DocumentChunk(
                chunk_index=n, content="The same.", token_count=2, embedding=vector, embedding_model=EMBEDDING_MODEL
            )
            for n in (1, 0)
        ]
        session.add(document)
        await session.flush()
    found = await RagRepository(session).search_both(user.id, "same bread", Embedding(vector, EMBEDDING_MODEL))
    assert [(p.source, p.chunk_index) for p in found] == [(source, n) for source in "abcd" for n in (0, 1)]
    await session.rollback()


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(searching, "EXACT_UP_TO", 50)
    hybrid_statement.cache_clear()
    yield
    hybrid_statement.cache_clear()


@pytest.mark.parametrize("size", ["usual", "large"])
async def test_a_code_is_found_however_far_its_vector_lies(
    size: str, binary: AsyncEngine, request: pytest.FixtureRequest
) -> None:
    """Of 1,000 passages 200 are compared, and this one is the 600th."""
    if size == "large":
        request.getfixturevalue("small_limit")
    drawn = np.random.default_rng(5).standard_normal((1001, 256)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    asked = Embedding(drawn[1000], "lots")
    far = int(np.argsort(-(drawn[:1000] @ asked.vector))[600])
    async with make_session_factory(binary)() as session:
        users = [User(email=f"{name}@example.org", name=name) for name in ("many", "other")]
        session.add_all(users)
        await session.flush()
        documents = [Document(user_id=user.id, source="log", title="Log", status="ready") for user in users]
        session.add_all(documents)
        await session.flush()
        rows = [
            (document.id, n, f"Entry {n}: {'Fault ZX_9042 again' if n == far else 'nothing'}.", 3, drawn[n], "lots")
            for document in documents
            for n in range(1000)
        ]
        await copy_rows(session, DocumentChunk, COLUMNS, rows)
        rag = RagRepository(session)
        assert CANDIDATES < 1000
        found = await rag.search_both(users[0].id, "what about zx_9042?", asked, 3)
        assert found[0].chunk_index == far and {p.document_id for p in found} == {documents[0].id}
        assert len(await rag.search_both(users[0].id, "what about zx_9042?", asked, 300)) == 300
        narrowed = await rag.search_both(users[0].id, "zx_9042", asked, 3, document_ids=[documents[1].id])
        assert narrowed == []
        await session.rollback()


def test_codes_are_what_has_a_digit_and_three_signs() -> None:
    assert codes_of("What is E-417, and (SH-2024-017)? Not 5 or 12.") == ["%e-417%", "%sh-2024-017%"]
    assert codes_of("zx_9042 at 50%") == [r"%zx\_9042%"]
    assert len(codes_of(" ".join(f"A-{n}" for n in range(1000)))) == CODES
    assert codes_of("no codes here") == []


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
async def test_what_is_no_number_of_passages(k: Any, sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        with pytest.raises(CourseError, match="k is how many passages"):
            await RagRepository(session).search_both(uuid4(), "x", await embed_question("x"), k)


@pytest.mark.parametrize("question", ["a\0b", "half \ud83d"])
async def test_what_postgresql_cannot_read_is_refused_before(question: str, session: AsyncSession) -> None:
    asked = await embed_question("x")
    with pytest.raises(CourseError, match="The question has"):
        await RagRepository(session).search_both(uuid4(), question, asked)
    zeros = Embedding(np.zeros(256, np.float32), EMBEDDING_MODEL)
    with pytest.raises(CourseError, match="all zeros"):
        await RagRepository(session).search_both(uuid4(), "x", zeros)
