"""What cannot be stored or searched for is a sentence that says what and where, before the server is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from course_lib.data.harvest import missing_packages
from course_lib.db import copy_rows, make_session_factory
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog, Rows
from course_lib.llm import embed_texts
from course_lib.models import DocumentChunk, User
from course_lib.models.documents import content_hash
from course_lib.repositories import RagRepository
from course_lib.repositories.rag import Embedding, Embeddings, NewDocument, embed, embed_question, ingest

TEXTS = ["Ropes are kept dry.", "A wet rope freezes overnight."]
HALF = "\ud83d"  # the first of the two surrogates that would be a smiling face


@pytest.fixture
def sessions(binary: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return make_session_factory(binary)


def drawn(count: int, tokens: int | None = None) -> Embeddings:
    vectors = np.random.default_rng(1).standard_normal((count, 256)).astype(np.float32)
    return Embeddings(vectors, "m", [3] * (count if tokens is None else tokens))


TAKERS: dict[str, Callable[[AsyncSession, Any], Awaitable[Any]]] = {
    "ingest": lambda session, one: ingest(make_session_factory(session.bind), uuid4(), "ropes", "Ropes", one),
    "unchanged": lambda session, one: RagRepository(session).unchanged(uuid4(), "ropes", one, "m"),
    "embed": lambda _, one: embed(one),
    "embed_texts": lambda _, one: embed_texts(one),
    "document_ids": lambda session, one: RagRepository(session).search(uuid4(), drawn(1)[0], document_ids=one),
    "columns": lambda session, one: copy_rows(session, User, one, [("Ada",)]),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("one", ["Ropes.", b"Ropes."])
async def test_one_text_in_place_of_a_list_is_not_taken_letter_by_letter(
    taker: str, one: object, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session:
        with pytest.raises(CourseError, match="letter by letter") as caught:
            await TAKERS[taker](session, one)
    assert "[" in caught.value.mend


def test_one_text_is_no_list_of_passages_either() -> None:
    with pytest.raises(CourseError, match="letter by letter"):
        NewDocument("ropes", "Ropes", "Ropes.", drawn(6))
    with pytest.raises(CourseError, match="letter by letter"):
        content_hash("Ropes.")
    with pytest.raises(CourseError, match="letter by letter"):
        Rows("name", [["Ada"]])
    assert missing_packages("nobody-has-this") == ["nobody-has-this"]  # which takes one name for one name


@pytest.mark.parametrize(
    ("source", "title", "texts", "where"),
    [
        ("ropes", "Ropes", [TEXTS[0], "wet\0rope"], r"chunks\[1\] of 'ropes' has a NUL at position 3"),
        ("ropes", "Ropes", [f"a {HALF}"], r"chunks\[0\] of 'ropes' has half a surrogate pair, .+ at position 2"),
        ("ropes", "Rop\0s", TEXTS, "The title of 'ropes' has a NUL at position 3"),
        ("rop\0s", "Ropes", TEXTS, r"The source 'rop\\x00s' has a NUL at position 3"),
        (f"ropes{HALF}", "Ropes", TEXTS, r"The source 'ropes\\ud83d' has half a surrogate pair"),
        ("ropes", "Ropes", [TEXTS[0], 5], r"chunks\[1\] of 'ropes' is of type int, and a text is wanted"),
        ("ropes", None, TEXTS, "The title of 'ropes' is of type NoneType"),
    ],
)
async def test_what_postgresql_cannot_store_names_the_document_and_the_place(
    source: str, title: str, texts: list[str], where: str, binary: AsyncEngine,
    sessions: async_sessionmaker[AsyncSession], user: User,
) -> None:  # fmt: skip
    with QueryLog(binary) as log:
        with pytest.raises(CourseError, match=where):
            NewDocument(source, title, texts, drawn(len(texts)))
        with pytest.raises(CourseError, match=where) as caught:
            await ingest(sessions, user.id, source, title, texts)
    assert log.count == 0
    str(caught.value).encode()  # a terminal can show it


async def test_what_the_sentence_recommends_can_be_stored(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    split = "a \ud83d\ude00 in two halves, and \ud83d alone"
    mended = split.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    with pytest.raises(CourseError) as caught:
        NewDocument("faces", "Faces", [split], drawn(1))
    assert '.encode("utf-16", "surrogatepass").decode("utf-16", "replace")' in caught.value.mend
    assert mended == "a 😀 in two halves, and \ufffd alone"
    stored = await ingest(sessions, user.id, "faces", "Faces", [mended])
    async with sessions() as session:
        chunk = select(DocumentChunk.content).where(DocumentChunk.document_id == stored.id)
        assert await session.scalar(chunk) == mended


async def test_a_text_that_no_model_can_be_sent_is_named_by_its_place() -> None:
    with pytest.raises(CourseError, match=r"texts\[2\] has half a surrogate pair"):
        await embed([*TEXTS, HALF])
    with pytest.raises(CourseError, match=r"texts\[0\] has half a surrogate pair"):
        await embed_question(HALF)


@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_there_is_a_token_count_for_each_passage(tokens: int) -> None:
    with pytest.raises(CourseError, match=f"ropes has 2 passages and {tokens} token counts"):
        NewDocument("ropes", "Ropes", TEXTS, drawn(2, tokens))


@pytest.mark.parametrize("ef_search", [0, -1, 1001, 2.5, True, "100"])
@pytest.mark.parametrize("exact", [True, False])
async def test_an_impossible_ef_search_is_refused_whichever_way_is_taken(
    ef_search: Any, exact: bool, sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    async with sessions() as session:
        with pytest.raises(CourseError, match="ef_search is a number from 1 to 1000"):
            await RagRepository(session).search(user.id, drawn(1)[0], ef_search=ef_search, exact=exact)


async def test_a_question_without_a_direction_is_a_sentence(
    sessions: async_sessionmaker[AsyncSession], user: User
) -> None:
    async with sessions() as session:
        for vector in (np.zeros(256, dtype=np.float32), [0.0] * 256):
            with pytest.raises(CourseError, match="no cosine distance") as caught:
                await RagRepository(session).search(user.id, Embedding(vector, "m"))  # type: ignore[arg-type]
            assert "embed_question" in caught.value.mend
        assert await session.scalar(select(func.count()).select_from(DocumentChunk)), "there was something to find"
