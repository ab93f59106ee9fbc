"""M3: conditions that no index can serve, told by the rows that the server reads."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from secrets import choice, token_hex
from typing import ClassVar
from uuid import UUID, uuid4

from course_lib.judging.asking import ask, expect_list, expect_news, is_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user
from course_lib.models.documents import DIMENSIONS

LAST = 304  # number of the document that is looked into
OTHERS, EACH = 24, 110  # other documents, and the numbers in each
EMPTY = 500  # documents without passages
BESIDES = 20  # rows that may be read of a table besides those returned
GOODBYE = 2.0  # seconds for the server to see a closed connection off
PASSAGES = """
    INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding, embedding_model)
    SELECT CAST(:document AS uuid), i, 'passage ' || i || ' ' || md5(random()::text), 5, CAST(:vector AS vector), 'm'
    FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS i WHERE i % 5 <> 3
    ORDER BY md5(i::text)
"""
READ = """
    SELECT relname, seq_tup_read, coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables
    WHERE relname IN ('documents', 'document_chunks') ORDER BY relname
"""
AT_WORK = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND NOT pid = ANY(CAST(CAST(:watchers AS text[]) AS int[]))
"""
OBJECTS = "SELECT string_agg(relname, ', ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
Pair = tuple[int, str]


class AroundAHit(Drill):
    """A cast and a function around columns that an index has."""

    id = "M3"
    title = "Fast yesterday"
    answer = "passages_around"
    minutes = 10
    points = 2
    level = "mid"
    topics: ClassVar = ("indexes", "performance", "postgres", "rag")
    faults: ClassVar = ("whole table", "thrown away")
    hints: ClassVar = (
        "Look at the plan: `print(await explain(session, statement))`. Which index does the table have, and what would "
        "a condition have to look like for it?",
        "An index holds the values of its columns, not what a function or a cast makes of them. So the column stands "
        "alone on its side, and whatever is to be computed or converted is done to the other side.",
        "`document_id` can become a UUID before it is sent. And the distance is a range: from which number to which?",
    )
    why = (
        "The unique index on (`document_id`, `chunk_index`) is sorted by these two values. A cast of the column makes "
        "another value of each, so the server has to look at every row; on a small table nobody notices. With the "
        "document found by the index, `abs(chunk_index - n)` is computed for each of its passages, which hurts when a "
        "document is long. A column alone, compared with something that is known beforehand, is what an index answers."
    )
    follow_up = "When is an index on the expression the better repair, and what does it cost each INSERT?"
    mistakes: ClassVar = {
        "nothing returned": "`passages_around` returned None. | A list, an empty one where there is nothing.",
        "not a list": "`passages_around` returned {kind}, and a list was asked for. | `.all()` makes one.",
        "not pairs": "The list holds {kind}, and pairs of number and text were asked for. "
        "| The number an int, the text a str.",
        "strangers": "{count} of the passages belong to another document. | `document_id` is a condition.",
        "too far": "{count} of the passages are further than {width} away from number {number}. "
        "| What counts is the number, not the place in the list: numbers have gaps.",
        "missing": "{count} passages did not come that are at most {width} away from number {number}. "
        "| Both sides, both ends of the range and the number itself, whether a passage has it or not.",
        "twice": "A passage came more than once. | Once each.",
        "order": "The right passages came in another order. | By `chunk_index`.",
        "whole table": "For {count} passages the server read the table `{table}` from its beginning to its end, "
        "{rows:,} rows. | That is what was reported. Which condition is it that no index can answer?",
        "thrown away": "For {count} passages the server fetched {rows:,} rows of `{table}` by an index. "
        "| Most are thrown away afterwards: a whole document, or these numbers in every document. Which of the two "
        "columns still has something around it?",
        "schema changed": "There are other tables or indexes than before: {names}. "
        "| The tables stay as they are; the index that is needed is there.",
    }

    async def judge(self, attempt: Attempt) -> None:
        document = await _stage(attempt)
        before: list[Pair] | None = None
        number = LAST // 2
        for place, width in ((number, 2), (0, 4), (LAST, 3), (document.gap, 1)):
            found = await self._look_at(attempt, document, place, width)
            before = before or found
        await attempt.sql(
            "UPDATE document_chunks SET content = 'edited ' || content WHERE document_id = :id", id=document.id
        )
        expect_news(attempt, before, await self._look_at(attempt, document, number, 2))
        gone = await self._ask(attempt, uuid4(), number, 2)
        attempt.expect(not gone, "strangers", count=len(gone))
        await expect_errors_to_rise(attempt, str(document.id), number, 2)

    async def _ask(self, attempt: Attempt, document_id: UUID, number: int, width: int) -> list[Pair]:
        found = expect_list(attempt, await ask(attempt, str(document_id), number, width))
        for one in found:
            pair = is_list(one) and len(one) == 2 and type(one[0]) is int and isinstance(one[1], str)
            attempt.expect(pair, "not pairs", kind=article(one))
        return [(one[0], one[1]) for one in found]

    async def _look_at(self, attempt: Attempt, document: Document, number: int, width: int) -> list[Pair]:
        before = await _rows_read(attempt)
        found = await self._ask(attempt, document.id, number, width)
        objects = await attempt.value(OBJECTS)
        attempt.expect(objects == document.objects, "schema changed", names=_news(document.objects, objects))
        after = await _rows_read(attempt)
        self._compare(attempt, found, await document.passages(attempt), number, width)
        allowed = len(found) + BESIDES
        for table in before:
            whole, by_index = (now - then for now, then in zip(after[table], before[table], strict=True))
            attempt.expect(whole <= allowed, "whole table", count=len(found), table=table, rows=whole)
            attempt.expect(by_index <= allowed, "thrown away", count=len(found), table=table, rows=by_index)
        return found

    def _compare(
        self, attempt: Attempt, found: list[Pair], passages: dict[int, str], number: int, width: int
    ) -> None:  # fmt: skip
        strangers = sum(passages.get(index) != content for index, content in found)
        attempt.expect(not strangers, "strangers", count=strangers)
        far = sum(abs(index - number) > width for index, _ in found)
        attempt.expect(not far, "too far", count=far, width=width, number=number)
        attempt.expect(len(set(found)) == len(found), "twice")
        wanted = [(index, passages[index]) for index in sorted(passages) if abs(index - number) <= width]
        missing = len(wanted) - len(found)
        attempt.expect(not missing, "missing", count=missing, width=width, number=number)
        attempt.expect(found == wanted, "order")


@dataclass(frozen=True)
class Document:
    """A long document on stage. ``gap`` is a number that no passage has."""

    id: UUID
    gap: int
    objects: str
    """The names of the tables and indexes that there are."""

    async def passages(self, attempt: Attempt) -> dict[int, str]:
        """The contents by their numbers. What this reads is no part of an answer's reading."""
        found = "SELECT chunk_index, content FROM document_chunks WHERE document_id = :id"
        return dict((index, content) for index, content in await attempt.sql(found, id=self.id))


async def _stage(attempt: Attempt) -> Document:
    """A long document, and many short ones with the same numbers."""
    owner = await add_user(attempt)
    ids = [uuid4() for _ in range(1 + OTHERS + EMPTY)]
    rows = [
        {"id": id, "user_id": owner, "source": token_hex(6), "title": "Archive", "status": "ready"} for id in ids
    ]  # fmt: skip
    await add_rows(attempt, "documents", rows)
    for table in ("documents", "document_chunks"):
        await attempt.sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")  # it would read, too
    vector = str([1.0] + [0.0] * (DIMENSIONS - 1))
    for place, id in enumerate(ids[: 1 + OTHERS]):
        first, end = (0, LAST) if place == 0 else (LAST // 2 - EACH // 2, LAST // 2 + EACH // 2)
        await attempt.sql(PASSAGES, document=id, vector=vector, first=first, last=end)
    await attempt.sql("ANALYZE documents, document_chunks")
    await attempt.sql(f'ALTER DATABASE "{attempt.database.name}" SET random_page_cost = 1.1')  # as on today's disks
    return Document(ids[0], 5 * choice(range(10, 50)) + 3, await attempt.value(OBJECTS))


async def _rows_read(attempt: Attempt) -> dict[str, tuple[int, int]]:
    """How many rows of each table were read so far: from its beginning on, and by an index.

    A session tells its counts when it ends, so the learner's connections are closed first.
    """
    await attempt.engine.dispose()
    clock = asyncio.get_running_loop().time
    deadline = clock() + GOODBYE
    watchers = list(map(str, attempt.watchers))
    while clock() < deadline:
        if not await attempt.value(AT_WORK, watchers=watchers):
            break
        await asyncio.sleep(0.002)
    await attempt.sql("SELECT pg_stat_force_next_flush()")  # of the judge's own, which counts as well
    return {table: (whole, by_index) for table, whole, by_index in await attempt.sql(READ)}


def _news(before: str, now: str) -> str:
    return ", ".join(sorted(set(now.split(", ")) ^ set(before.split(", "))))
