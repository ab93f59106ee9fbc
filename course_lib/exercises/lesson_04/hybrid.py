"""4.8: vectors and words together, measured by questions with known answers."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import choice, token_hex
from typing import Any, ClassVar
from uuid import UUID

import numpy as np
from sqlalchemy import text

from course_lib.data.corpus import GoldenQuestion, golden_questions
from course_lib.judging.asking import ask, expect_list, fetched
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, message_of, one_line
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows
from course_lib.judging.trouble import sqlstate_of
from course_lib.llm.names import OFFLINE_EMBEDDING_MODEL

SYNTAX_ERROR = "42601"
K, FEWER, MOST = 10, 7, 20
FETCHED = 150  # rows that may come to the client for one question; there are a few more chunks
MARGIN = 0.03  # of the mean reciprocal rank. Usual ways of fusing reach .04 to .09; words joined by AND .025
ALIKE = 0.75  # of the first three places are as in one half: then the other half counts for next to nothing
WORDLESS = "What is that and how is it to be?"  # nothing but stop words
SIGNS = '\'Is it "50 % & more" (or <less>): {mark} a|b !? \\'

ADD_WORDS = (
    "ALTER TABLE document_chunks ADD COLUMN words tsvector "
    "GENERATED ALWAYS AS (to_tsvector('english', content)) STORED",
    "CREATE INDEX document_chunks_words ON document_chunks USING gin (words)",
)
OTHER_MODEL = "SELECT id, content FROM document_chunks WHERE embedding_model <> :model"
EMBED_AGAIN = """
    UPDATE document_chunks SET embedding = v.embedding, embedding_model = :model FROM vectors AS v
    WHERE v.id = document_chunks.id
"""
OF_EVERY_STATUS = """
    UPDATE documents SET status = (ARRAY['uploaded', 'processing', 'ready', 'failed'])[1 + place % 4]
    FROM (SELECT id, row_number() OVER (ORDER BY random()) AS place FROM documents) AS numbered
    WHERE numbered.id = documents.id
"""
SOURCES = "SELECT c.id, d.source, d.status FROM document_chunks AS c JOIN documents AS d ON d.id = c.document_id"
HIDE_SOURCES = "UPDATE documents SET source = gen_random_uuid()::text, title = 'Untitled'"
BY_VECTOR = "SELECT id FROM document_chunks ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :k"
BY_WORDS = """
    WITH asked AS (SELECT replace(plainto_tsquery('english', :question)::text, '&', '|')::tsquery AS q)
    SELECT id FROM document_chunks, asked WHERE words @@ q ORDER BY ts_rank(words, q) DESC, id LIMIT :k
"""


class Hybrid(Exercise):
    """Two rankings fused, each with what the other lacks."""

    id = "4.8"
    title = "Words and vectors"
    answer = "hybrid_search"
    minutes = 20
    points = 2
    level = "senior"
    hints: ClassVar = (
        "Print `plainto_tsquery('english', question)` for a long question. How many passages hold all of these words?",
        "`replace(plainto_tsquery('english', :question)::text, '&', '|')::tsquery` asks for any of the words. "
        "`ts_rank(words, query)` is greater for a passage that has more of them.",
        "Distances and ranks are numbers of different kinds, places are not: number both lists with "
        "`row_number() OVER (ORDER BY …)`, and give a chunk `1 / (60 + place)` from each list that it is in. A FULL "
        "JOIN keeps chunks of only one list.",
    )
    why = (
        "An embedding knows what a question is about, and hardly tells one number or name from another; words are the "
        "other way round, and find nothing that was said differently. Reciprocal rank fusion adds places instead of "
        "scores, so nothing has to be calibrated. The words are joined by OR: a question as people write it has a "
        "dozen, and no passage holds them all. Whether fusing helps depends on the questions, so it is measured, on "
        "questions that nothing was tuned with."
    )
    follow_up = (
        "Half of the questions are bare error codes, and full-text search finds each at once. Would you still give "
        "both lists the same weight? How would you find out, and on which questions?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`hybrid_search` returned None. | Did you forget `return`?",
        "not a list": "`hybrid_search` returned {kind}, and a list of ids was asked for. "
        "| `(await session.scalars(…)).all()`",
        "not ids": "The list holds {kind}, and ids of chunks were asked for. | `scalars` instead of `execute`.",
        "twice": "In one list {count} chunk(s) came twice. | Who is in both halves is one chunk with a better score.",
        "signs": "For the question {question} the server says: {said}. "
        "| `to_tsquery` reads operators. `plainto_tsquery` and `websearch_to_tsquery` take what people write.",
        "written into": "Words of the question stand in the text of a statement: `{statement}`. "
        "| A value goes beside the statement, as a parameter. The next question has a quote in it.",
        "no words": "For the question {question!r} {count} chunks came, and k was {k}. "
        "| It has nothing but stop words. Who is found by one half alone is found, and all of the k if need be.",
        "short": "For the question {question!r} {count} chunks came, and k was {k}. "
        "| Who is found by one half alone is found. How are the two joined, and how many does each half bring?",
        "too many": "{count} chunks came for k = {k}. | LIMIT belongs after the fusion, too.",
        "reads everything": "For one question {rows} rows came to the client. "
        "| Sort and fuse on the server, with a LIMIT in each half.",
        "left out": "In {n} lists of chunks there is none of a document whose status is {status!r}. "
        "| Search in all documents, whatever their status.",
        "vectors alone": "{same:.0%} of what the vectors alone put into the first three places stands there, and the "
        "mean reciprocal rank is {mrr:.3f}. | What does the half with the words find? Must all words of the question "
        "be in the passage?",
        "words alone": "{same:.0%} of what the words alone put into the first three places stands there, and the mean "
        "reciprocal rank is {mrr:.3f}. | Do the scores of the vectors count for anything?",
        "no better": "Mean reciprocal rank over {n} questions: {mrr:.3f}; vectors alone have {dense:.3f}, words alone "
        "{words:.3f}, and {margin} more than the better of them was asked for. "
        "| Are both lists sorted the right way round? Do the two scores have the same size?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        stage = await _Stage.set(attempt)
        await self._ask_odd_ones(attempt, stage)
        found = []
        for question, vector in zip(stage.questions, stage.vectors, strict=True):
            found.append(await self._ask(attempt, _in_other_letters(question.text), vector))
        await self._compare(attempt, stage, found)
        await expect_errors_to_rise(attempt, stage.questions[0].text, stage.vectors[0])

    async def _ask_odd_ones(self, attempt: Attempt, stage: _Stage) -> None:
        vector, mark = stage.vectors[0], token_hex(4)
        await self._ask(attempt, SIGNS.format(mark=mark), vector, k=FEWER, mark=mark)
        await self._ask(attempt, stage.questions[0].text, vector, k=1)
        for k in (MOST, K):
            count = len(await self._ask(attempt, WORDLESS, vector, short_is_wrong=False, k=k))
            attempt.expect(count == k, "no words", question=WORDLESS, count=count, k=k)

    async def _ask(
        self, attempt: Attempt, question: str, vector: list[float], *, short_is_wrong: bool = True, k: int = K,
        mark: str = "",
    ) -> list[UUID]:  # fmt: skip
        try:
            depth = () if question == WORDLESS and k == K else (k,)  # ten is what the signature says
            found = expect_list(attempt, await ask(attempt, question, vector, *depth))
        except Wrong as wrong:
            self._look_for_marks(attempt, mark)
            error = wrong.__cause__
            if sqlstate_of(error) == SYNTAX_ERROR and "tsquery" in str(error):
                said = message_of(error) if error else ""
                raise attempt.wrong("signs", question=question, said=said) from error
            raise
        self._look_for_marks(attempt, mark)
        odd = [id for id in found if not isinstance(id, UUID)]
        attempt.expect(not odd, "not ids", kind=article(odd[0]) if odd else "")
        attempt.expect(len(set(found)) == len(found), "twice", count=len(found) - len(set(found)))
        attempt.expect(len(found) <= k, "too many", count=len(found), k=k)
        rows = fetched(attempt.log)
        attempt.expect(rows <= FETCHED, "reads everything", rows=rows)
        if short_is_wrong:
            attempt.expect(len(found) == k, "short", question=question, count=len(found), k=k)
        return list(found)

    def _look_for_marks(self, attempt: Attempt, mark: str) -> None:
        """A word of the question that stands in a statement's text was written into it."""
        written = [statement.sql for statement in attempt.log.statements if mark and mark in statement.sql]
        attempt.expect(not written, "written into", statement=one_line(written[0], 120) if written else "")

    async def _compare(self, attempt: Attempt, stage: _Stage, found: list[list[UUID]]) -> None:
        statuses = {stage.statuses[id] for ids in found for id in ids if id in stage.statuses}
        missing = sorted(set(stage.statuses.values()) - statuses)
        attempt.expect(not missing, "left out", n=len(found), status=missing[0] if missing else "")
        by_vector, by_words = await stage.halves(attempt)
        mrr, dense, words = (stage.mean_reciprocal_rank(lists) for lists in (found, by_vector, by_words))
        if mrr >= max(dense, words) + MARGIN:
            return
        for mistake, half in (("vectors alone", by_vector), ("words alone", by_words)):
            same = _share_of_the_first(half, found)
            attempt.expect(same < ALIKE, mistake, same=same, mrr=mrr)
        numbers = {"n": len(found), "mrr": mrr, "dense": dense, "words": words, "margin": MARGIN}
        raise attempt.wrong("no better", **numbers)


@dataclass(frozen=True)
class _Stage:
    """The questions that the task does not show, their vectors; of each chunk's document the source and the status."""

    questions: list[GoldenQuestion]
    vectors: list[list[float]]
    sources: dict[UUID, str]
    statuses: dict[UUID, str]

    @classmethod
    async def set(cls, attempt: Attempt) -> _Stage:
        for statement in ADD_WORDS:
            await attempt.sql(statement)
        await _use_the_offline_model(attempt)
        questions = [question for number, question in enumerate(golden_questions()) if number % 3 != 2]
        vectors = _embed([question.text for question in questions])
        await attempt.sql(OF_EVERY_STATUS)
        rows = await attempt.sql(SOURCES)
        await attempt.sql(HIDE_SOURCES)  # nothing can be looked up by them
        of_each = [{id: row[place] for id, *row in rows} for place in range(2)]
        return cls(questions, vectors, *of_each)

    async def halves(self, attempt: Attempt) -> tuple[list[list[UUID]], list[list[UUID]]]:
        """What either half finds without the other."""
        by_vector, by_words = [], []
        async with attempt.judge_session() as session:
            for question, vector in zip(self.questions, self.vectors, strict=True):
                nearest = await session.scalars(text(BY_VECTOR), {"vector": str(vector), "k": K})
                by_vector.append(list(nearest))
                worded = await session.scalars(text(BY_WORDS), {"question": question.text, "k": K})
                by_words.append(list(worded))
        return by_vector, by_words

    def mean_reciprocal_rank(self, found: list[list[UUID]]) -> float:
        """1 for a right document in the first place, 1/2 in the second, 0 for none: the mean over all questions."""
        return float(np.mean([self._reciprocal_rank(q, ids) for q, ids in zip(self.questions, found, strict=True)]))

    def _reciprocal_rank(self, question: GoldenQuestion, ids: list[UUID]) -> float:
        places = [place for place, id in enumerate(ids, start=1) if self.sources.get(id) in question.documents]
        return 1 / places[0] if places else 0.0


def _in_other_letters(question: str) -> str:
    """The same words, as another person would type them."""
    return choice((question.lower(), question.upper(), f"  {question} ?!", question.rstrip("?")))


def _share_of_the_first(wanted: list[list[UUID]], found: list[list[UUID]]) -> float:
    """How much of the first three places of ``wanted`` stands in those of ``found``, in the mean."""
    both = [(one[:3], set(other[:3])) for one, other in zip(wanted, found, strict=True) if one]
    return float(np.mean([len(others.intersection(ones)) / len(ones) for ones, others in both]))


async def _use_the_offline_model(attempt: Attempt) -> None:
    """A better model may leave nothing for words to add, so the task is about this one, whatever key is set."""
    rows = await attempt.sql(OTHER_MODEL, model=OFFLINE_EMBEDDING_MODEL)
    if len(rows):
        vectors = _embed(rows.column("content"))
        await attempt.sql("CREATE TABLE vectors (id uuid, embedding vector)")
        together = zip(rows.column("id"), vectors, strict=True)
        await add_rows(attempt, "vectors", [{"id": id, "embedding": str(vector)} for id, vector in together])
        await attempt.sql(EMBED_AGAIN, model=OFFLINE_EMBEDDING_MODEL)
        await attempt.sql("DROP TABLE vectors")


def _embed(texts: list[Any]) -> list[list[float]]:
    from course_lib.llm.offline.embedding_model import load_model  # takes a moment, and most exercises need none

    vectors: list[list[float]] = load_model().embed(texts).tolist()
    return vectors
