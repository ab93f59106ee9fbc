"""S1: a feed of changes that passes by what is committed late."""

from __future__ import annotations

import asyncio
import json
from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.errors import CourseError
from course_lib.judging.asking import ask, is_list, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.staging import add_user

FULL, SMALL = 50, 7
PATIENCE = 5.0  # seconds for whatever else is open on the server to come to its end
ALIKE = 3 * SMALL + 2
RENAME = "UPDATE conversations SET title = :title, updated_at = now() WHERE id = :id"
MANY = """
    INSERT INTO conversations (user_id, title)
    SELECT :user, 'Imported ' || gen_random_uuid() FROM generate_series(1, :count) RETURNING id
"""
NOW = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text, clock_timestamp()"
STILL_OPEN = """
    SELECT pg_snapshot_xmin(pg_current_snapshot()) < CAST(CAST(:last AS text) AS xid8) OR EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < :moment
    )
"""


class ChangedSince(Drill):
    """Rows are stamped when their transaction begins, and seen when it is committed."""

    id = "S1"
    title = "The mirror misses some"
    answer = "changed_since"
    minutes = 20
    points = 3
    level = "senior"
    topics: ClassVar = ("transactions", "concurrency")
    faults: ClassVar = ("skipped", "alike")
    seconds = 12.0
    hints: ClassVar = (
        "When is `updated_at` written, and when can the feed see the row? What else may the feed have handed out in "
        "between?",
        "The cursor may only pass what nothing can come before any more. Which transactions can still bring an older "
        "row, and where does the server list them? One that has begun and not written yet is among them.",
        "Two ways. By time: nothing as young as the oldest `xact_start` in `pg_stat_activity`. By transaction: a row's "
        "`xmin` says who wrote it, and `pg_current_snapshot()` says who was not done yet.",
        "All that one transaction changes has the same `updated_at`. A page may end in the middle of it, so the cursor "
        "needs something that tells these rows apart.",
    )
    why = (
        "`now()` is the moment at which a transaction began, and others see its rows when it is committed: rows do not "
        "become visible in the order of their stamps. A number from a sequence has the same gap. So the feed stops "
        "short of the oldest transaction that is still open, and picks up the rest when that is over; an id beside "
        "the stamp lets a page end anywhere."
    )
    follow_up = (
        "Somebody leaves a transaction open overnight, and the mirror stands still until the morning. What could the "
        "writers do instead, so that a feed need not know what is open?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`changed_since` returned None. | Rows and the next cursor, as it was found.",
        "not a pair": "`changed_since` returned {kind}, and a pair of rows and cursor was asked for. "
        "| `return rows, cursor`",
        "not rows": "Among the rows is {kind}, and pairs of an id and a title were asked for. "
        "| `(id, title)`, as it was found.",
        "cursor": "The cursor is {kind}, which cannot be written as JSON. | The mirror keeps it as JSON between calls.",
        "page too long": "Asked for {limit} rows at most, it returned {count}. | The mirror's memory is limited.",
        "no end": "After {pages} pages of {limit} rows, more than there are rows, the pages were still full. "
        "| Does the cursor behind a full page lead on?",
        "skipped": "A conversation was renamed by a transaction that was open during a call; it was committed then, "
        "and no later call handed the conversation out. "
        "| That is what was reported. What had the cursor passed when the rename could be seen at last?",
        "begun": "A transaction had begun before a call and wrote only after it; what it renamed was handed out by no "
        "later call. | Its `now()` is as old as its beginning, and until it writes it has no transaction id.",
        "alike": "Of {total} conversations that one statement had written, {missing} were never handed out on pages of "
        "{limit}. | They have the same `updated_at`. Where does the next page begin?",
        "between pages": "Two conversations were renamed between two pages of a round, and of {total} that it was to "
        "hand out {missing} are not in the mirror as they are now. "
        "| A place that is counted from the beginning moves when rows do.",
        "missing": "{count} of {total} conversations were never handed out as they are now. "
        "| The first round is given all there are.",
        "held back": "While another transaction was open, a rename that had been committed before that began was not "
        "handed out. | Only what an open transaction may still come before has to wait.",
        "waits": "The call stood at a lock until somebody else's transaction was over. "
        "| It waits for nobody: what is not committed yet is handed out later.",
        "twice": "{count} conversations were handed out a second time, unchanged. "
        "| The mirror pays for each row that it is given.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt)
        late, later, early, quick = await _imported(attempt, user_id, 4)
        mirror = _Mirror(attempt)
        await mirror.round(FULL)
        await self._committed_late(attempt, mirror, late, early, quick)
        await self._written_late(attempt, mirror, later, quick)
        await self._alike(attempt, mirror, user_id)
        await self._between_pages(attempt, mirror, user_id)
        await mirror.round(FULL)
        await self._look_at_all(attempt, mirror)

    async def _committed_late(self, attempt: Attempt, mirror: _Mirror, late: UUID, early: UUID, quick: UUID) -> None:
        before = await _rename(attempt, early)
        await _all_over(attempt)
        async with attempt.judge_session() as slow:
            title = await _rename(attempt, late, slow)
            await _rename(attempt, quick)
            await self._round_while_open(attempt, mirror, slow)
            attempt.expect(mirror.titles.get(early) == before, "held back")
            await slow.commit()
        await _all_over(attempt)
        await mirror.round(FULL)
        attempt.expect(mirror.titles.get(late) == title, "skipped")

    async def _written_late(self, attempt: Attempt, mirror: _Mirror, later: UUID, quick: UUID) -> None:
        async with attempt.judge_session() as slow:
            await slow.execute(text("SELECT now()"))
            await _rename(attempt, quick)
            await self._round_while_open(attempt, mirror, slow)
            title = await _rename(attempt, later, slow)
            await self._round_while_open(attempt, mirror, slow)
            await slow.commit()
        await _all_over(attempt)
        await mirror.round(FULL)
        attempt.expect(mirror.titles.get(later) == title, "begun")

    async def _round_while_open(self, attempt: Attempt, mirror: _Mirror, slow: AsyncSession) -> None:
        running = asyncio.ensure_future(mirror.round(FULL))
        if await until_blocked(attempt, running, 1):
            await slow.rollback()
            await asyncio.wait({running})
            raise attempt.wrong("waits") from running.exception()
        await running

    async def _alike(self, attempt: Attempt, mirror: _Mirror, user_id: UUID) -> None:
        """Small pages over rows of one moment."""
        ids = await _imported(attempt, user_id, ALIKE)
        await _all_over(attempt)
        await mirror.round(SMALL)
        missing = len(set(ids) - set(mirror.titles))
        attempt.expect(not missing, "alike", total=ALIKE, missing=missing, limit=SMALL)

    async def _between_pages(self, attempt: Attempt, mirror: _Mirror, user_id: UUID) -> None:
        """One that was handed out and one that is still to come are renamed, when a round has begun."""
        ids = await _imported(attempt, user_id, ALIKE)
        await _all_over(attempt)
        for _ in range(2):
            await mirror.page(SMALL)
        for known in (True, False):
            await _rename(attempt, next((id for id in ids if (id in mirror.titles) is known), ids[0]))
        for _ in range(2):
            await mirror.round(SMALL)
            await _all_over(attempt)
        rows = await attempt.sql("SELECT id, title FROM conversations WHERE id = ANY(:ids)", ids=ids)
        missing = sum(mirror.titles.get(id) != title for id, title in rows)
        attempt.expect(not missing, "between pages", total=ALIKE, missing=missing)

    async def _look_at_all(self, attempt: Attempt, mirror: _Mirror) -> None:
        rows = await attempt.sql("SELECT id, title FROM conversations")
        count = sum(mirror.titles.get(id) != title for id, title in rows)
        attempt.expect(not count, "missing", count=count, total=len(rows))


class _Mirror:
    """Asks for changes as the statement says, and keeps what it is given.

    Attributes:
        titles: by conversation, what it was given last.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.titles: dict[UUID, str] = {}
        self._attempt = attempt
        self._cursor = "null"

    async def round(self, limit: int) -> None:
        """Pages, until one is not full.

        Raises:
            Wrong: "no end", there were more full pages than rows can fill.
        """
        most = 2 + await self._attempt.value("SELECT count(*) FROM conversations") // limit
        for _ in range(most):
            if len(await self.page(limit)) < limit:
                return
        raise self._attempt.wrong("no end", pages=most, limit=limit)

    async def page(self, limit: int) -> list[tuple[UUID, str]]:
        attempt = self._attempt
        said = await ask(attempt, json.loads(self._cursor), limit)
        attempt.expect(said is not None, "nothing returned")
        pair = is_list(said) and len(said) == 2 and is_list(said[0])
        attempt.expect(pair, "not a pair", kind=article(said))
        rows, cursor = said
        odd = next((row for row in rows if not _is_row(row)), None)
        attempt.expect(odd is None, "not rows", kind=article(odd))
        attempt.expect(len(rows) <= limit, "page too long", limit=limit, count=len(rows))
        try:
            self._cursor = json.dumps(cursor)
        except (TypeError, ValueError):
            raise attempt.wrong("cursor", kind=article(cursor)) from None
        twice = sum(self.titles.get(id) == title for id, title in rows)
        self.titles |= {id: title for id, title in rows}
        attempt.expect(not twice, "twice", count=twice)
        return [(id, title) for id, title in rows]


def _is_row(row: Any) -> bool:
    return is_list(row) and len(row) == 2 and isinstance(row[0], UUID) and isinstance(row[1], str)


async def _imported(attempt: Attempt, user_id: UUID, count: int) -> list[UUID]:
    """So many conversations written by one statement."""
    ids: list[UUID] = (await attempt.sql(MANY, user=user_id, count=count)).column("id")
    return ids


async def _rename(attempt: Attempt, id: UUID, session: AsyncSession | None = None) -> str:
    """In ``session``, or in a transaction of its own; the new title."""
    title = f"Renamed {token_hex(6)}"
    if session is None:
        await attempt.sql(RENAME, title=title, id=id)
    else:
        await session.execute(text(RENAME), {"title": title, "id": id})
    return title


async def _all_over(attempt: Attempt) -> None:
    """Wait until transactions that are open now are over: those that write, in whatever database of the server.

    Raises:
        CourseError: one of them stays open.
    """
    last, moment = (await attempt.sql(NOW))[0]
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while await attempt.value(STILL_OPEN, last=last, moment=moment):
        if asyncio.get_running_loop().time() > deadline:
            sentence = "Somebody else's transaction stays open on this server, so nothing can be said of a feed."
            raise CourseError(sentence, "End it, or wait for its end, and run the check again.")
        await asyncio.sleep(0.01)
