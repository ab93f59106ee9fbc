"""2.4: children without their heaviest column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, NOT_UNIQUE, naming_lazy_loads
from course_lib.exercises.lesson_02.scenes.papers import Paper, add_papers
from course_lib.judging.asking import ask, expect_list, expect_news, fetched, is_list, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.foreign import plain
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user
from course_lib.judging.threads import add_threads

STATEMENTS = 2
BYTES = 600  # per row, beside the texts; an embedding alone has over 2,000
Said = tuple[str, list[tuple[Any, Any]]]  # a document's title, and index and content of its chunks
SIZES = (0, 1, 3, 5, 8, 4, 0, 6, 2, 7, 3)


class DocumentsWithChunks(Exercise):
    """Eager loading of some columns."""

    id = "2.4"
    title = "A list without vectors"
    answer = "documents_with_chunks"
    minutes = 10
    points = 2
    level = "mid"
    hints: ClassVar = (
        "A chunk is mostly its embedding, and this page shows none. What does a chunk's SELECT name, and who decides "
        "that?",
        "A loader strategy goes on: `selectinload(Document.chunks)` takes `.load_only(…)` with the columns that are "
        "wanted, or `.defer(…)` with those that are not.",
        "`selectinload(Document.chunks).load_only(DocumentChunk.chunk_index, DocumentChunk.content)`. The key comes "
        "along by itself.",
    )
    why = (
        "A mapped class selects all its columns unless told otherwise, and a vector of 256 numbers travels as text of "
        "some 3 kB. `load_only` names what comes, `defer` names what does not. A column left out stays lazy: reading "
        "it later is a statement, in async code an error."
    )
    follow_up = (
        "Would you set `deferred=True` on the column in the model, so that no query loads it by accident? What does "
        "that change for the code that does need it?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`documents_with_chunks` returned None. | Did you forget `return`?",
        "not a list": "`documents_with_chunks` returned {kind}, and a list was asked for. "
        "| `.all()` makes a list of a result.",
        "not documents": "Where an object was asked for there is {kind}, which has no `{name}`. "
        "| Each object has `title` and `chunks`, each chunk `chunk_index` and `content`.",
        "chunks not a list": "`chunks` of {title!r} is {kind}, and a list was asked for. "
        "| Each document has all its chunks in one list, which may be empty.",
        "loaded on access": LOADED_ON_ACCESS,
        "not unique": NOT_UNIQUE,
        "not loaded": "`{name}` of a {kind} cannot be read after the session is closed. "
        "| What is read later must be among the columns that are loaded.",
        "strangers": "{count} documents came with a title that none of the user's has. "
        "| Is the owner a condition of the query?",
        "twice": "{count} titles came more often than the user has documents of them. "
        "| A join gives one row for every chunk.",
        "merged": "{count} documents came for {total}: those with the same title became one. "
        "| Group by the id. A title is no key.",
        "documents missing": "{count} of the user's documents did not come. "
        "| One that has no chunks yet, which an inner join drops, is a document too, and so is one of any status.",
        "other chunks": "{count} of {total} documents came with other chunks than their own. "
        "| All of them, whole, with the document that `document_id` names.",
        "order of chunks": "The chunks of {count} of {total} documents are not in the order of `chunk_index`. "
        "| The relationship itself is in this order. A join of your own needs an `order_by`.",
        "order": "The right documents came, but not by title from A to Z. | Let the server sort by `title`.",
        "too many statements": "{count} statements were sent for {total} documents; the budget is {budget}. "
        "| Sent most often: `{repeated}`.",
        "loaded everything": "{rows} rows were fetched for {total} documents with {chunks} chunks. "
        "| Only the user's own are wanted.",
        "vectors travelled": "{bytes:,} bytes for {chunks} chunks, whose texts are {text:,} bytes. "
        "| Which columns does the SELECT of the chunks name?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        mine, newcomer = await add_user(attempt), await add_user(attempt)
        papers = await add_papers(attempt, mine, [size + randbelow(2) * (size > 0) for size in SIZES])
        await add_threads(attempt, mine, [2, 2])
        await add_double(attempt, mine)
        before = await self._look_at(attempt, mine, papers)
        for nobody in (newcomer, uuid4()):
            documents = await self._ask(attempt, nobody)
            attempt.expect(not documents, "strangers", count=len(documents))
        gone, *left = papers
        await attempt.sql("DELETE FROM documents WHERE id = :id", id=gone.id)
        papers = sorted(left + await add_papers(attempt, mine, [3]), key=lambda paper: paper.title)
        await self._look_at(attempt, mine, papers, before)
        await expect_errors_to_rise(attempt, mine)

    async def _look_at(
        self, attempt: Attempt, user_id: UUID, papers: list[Paper], before: list[Said] | None = None
    ) -> list[Said]:
        """What the answer says of the user, which is right; it said ``before`` when other rows were there."""
        found = await self._ask(attempt, user_id)
        received, log = attempt.log.bytes_received, attempt.log
        said = _read(attempt, found)
        expect_news(attempt, before, said)
        self._compare(attempt, said, papers)
        total, chunks = len(papers), sum(len(paper.chunks) for paper in papers)
        attempt.expect(
            log.count <= STATEMENTS, "too many statements",
            count=log.count, total=total, budget=STATEMENTS, repeated=sent_most(log),
        )  # fmt: skip
        rows, text = fetched(log), sum(len(content.encode()) for paper in papers for _, content in paper.chunks)
        attempt.expect(rows <= total + chunks, "loaded everything", rows=rows, total=total, chunks=chunks)
        budget = text + BYTES * (total + chunks)
        attempt.expect(received <= budget, "vectors travelled", bytes=received, chunks=chunks, text=text)
        return said

    async def _ask(self, attempt: Attempt, user_id: UUID) -> Sequence[Any]:
        with naming_lazy_loads(attempt):
            found = await ask(attempt, user_id)
        return expect_list(attempt, found)

    def _compare(self, attempt: Attempt, found: list[Said], papers: list[Paper]) -> None:
        titles, wanted = [title for title, _ in found], [paper.title for paper in papers]
        said, stored, total = Counter(titles), Counter(wanted), len(papers)
        strangers = sum(title not in stored for title in titles)
        attempt.expect(not strangers, "strangers", count=strangers)
        twice = len(said - stored)
        attempt.expect(not twice, "twice", count=twice)
        merged = len(found) == len(said) == len(stored) < total
        attempt.expect(not merged, "merged", count=len(found), total=total)
        attempt.expect(len(titles) == total, "documents missing", count=total - len(titles))
        attempt.expect(titles == wanted, "order")
        own = sorted(((paper.title, paper.chunks) for paper in papers), key=_by_content)
        pairs = [(mine, chunks) for (_, mine), (_, chunks) in zip(sorted(found, key=_by_content), own, strict=True)]
        other = sum(sorted(mine, key=repr) != sorted(chunks, key=repr) for mine, chunks in pairs)
        attempt.expect(not other, "other chunks", count=other, total=total)
        unordered = sum(mine != chunks for mine, chunks in pairs)
        attempt.expect(not unordered, "order of chunks", count=unordered, total=total)


def _by_content(document: Said) -> tuple[str, list[str]]:
    """Documents of the same title are told apart by what is in them."""
    title, chunks = document
    return title, sorted(map(repr, chunks))


def _read(attempt: Attempt, documents: Sequence[Any]) -> list[Said]:
    """What a page would read of the objects, their session being closed."""
    read = []
    for document in documents:
        title, chunks = str(_value(attempt, document, "title")), _value(attempt, document, "chunks")
        attempt.expect(is_list(chunks), "chunks not a list", title=title, kind=article(chunks))
        read.append(
            (title, [(_value(attempt, chunk, "chunk_index"), _value(attempt, chunk, "content")) for chunk in chunks])
        )
    return read


def _value(attempt: Attempt, item: Any, name: str) -> Any:
    try:
        return plain(getattr(item, name), attempt.exercise.answer)
    except Wrong:
        raise
    except AttributeError as error:
        raise attempt.wrong("not documents", kind=article(item), name=name) from error
    except Exception as error:
        raise attempt.wrong("not loaded", kind=kind_of(item), name=name) from error
