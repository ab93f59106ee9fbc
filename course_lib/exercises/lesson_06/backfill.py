"""6.5: a backfill that is interrupted, taken up again, and overtaken by writers."""

from __future__ import annotations

from functools import partial
from secrets import choice, randbelow
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

from course_lib.exercises.lesson_06.scenes.writers import MOST_CHANGED, SPOKEN, DetectorDown, Row, Seen, Talk
from course_lib.judging.asking import while_another_writes
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.races import sessions_of
from course_lib.judging.trouble import behind

HOLD = "SELECT FROM messages WHERE id = :id FOR UPDATE"
UNTOLD = 9  # messages at the beginning of which nobody can tell the language: more than any batch
MISSED = (StaleDataError, ObjectDeletedError, NoResultFound)
BEFORE_IT_FAILS = UNTOLD + 16  # texts that ``detect`` tells

Rows = dict[UUID, Row]


class Backfill(Exercise):
    """Batches by key, a value that is written only where there is none, and nothing to remember between calls."""

    id = "6.5"
    title = "A backfill among writers"
    answer = "backfill"
    minutes = 15
    points = 3
    level = "senior"
    recipe = "migrated"
    hints: ClassVar = (
        "What does a second call need to know of the first? The rows say it themselves: those that are done have a "
        "language. And where does the next batch of one call begin?",
        "`WHERE language IS NULL AND id > :last ORDER BY id LIMIT :size`: the key takes you past rows that stay NULL, "
        "wherever rows come and go.",
        "Between reading a row and writing it, somebody else can write it or delete it. Ask again in the UPDATE: "
        "`WHERE id = :id AND language IS NULL`, and do not mind when it changes no row. One `commit` for each batch.",
    )
    why = (
        "The row itself is the record of progress, so a killed process loses a batch and no more. The key leads past "
        "rows that cannot be filled; `WHERE language IS NULL` alone would bring them for ever. The condition in the "
        "UPDATE is checked on the row as it is then, so who wrote meanwhile wins. Small transactions keep writers "
        "waiting for milliseconds, and let VACUUM follow."
    )
    follow_up = (
        "The column is filled. How do you make it NOT NULL without a scan that stops everybody, and how do you know "
        "that no old program is left that writes NULL?"
    )
    mistakes: ClassVar = {
        "in circles": "`detect` was asked about the same text {times} times in one call. "
        "| Some rows stay NULL, and a batch of them comes back for ever. What takes you past them?",
        "left out": "It returned, and {count} message(s) whose language `detect` can tell are still without one. "
        "| A batch in which nothing could be told, or a row that went away, is not the end: what tells you where the "
        "next batch begins?",
        "swallowed": "`detect` raised an error, and the caller was not told. | Who started it has to know.",
        "lost work": "`detect` failed after it had told {told} languages in this call, and {lost} of them were not "
        "stored; a batch is {size}. | What is committed is kept. How often do you commit?",
        "asked again": "Called again, it asked `detect` about {count} message(s) that had a language. "
        "| What is done does not have to be read.",
        "locked": "While `detect` was asked, {locked} were locked at once, and a batch is {size}. "
        "| Locks last until the commit, and whoever writes to such a row waits for it.",
        "open too long": "A transaction was open while `detect` told {count} texts, and a batch is {size}. "
        "| A cursor or a session that reads on keeps its transaction, and VACUUM waits for that.",
        "read at once": "One statement brought {count} rows, and a batch is {size}. "
        "| The table has some hundred million rows in production: `LIMIT`.",
        "changed at once": "One transaction changed {count} rows, and a batch is {size}. "
        "| One `commit` for each batch, and batches of the size that was asked for.",
        "overwritten": "Meanwhile a writer had stored the language {theirs!r}, and in the end it is {stored!r}. "
        "| Between your SELECT and your UPDATE others write. What does the UPDATE ask for?",
        "content overwritten": "Meanwhile a writer had changed a message's content, and that is lost. "
        "| Write one column.",
        "deleted one is back": "A message that was deleted meanwhile is there again. | An UPDATE brings nobody back.",
        "stumbled": "Meanwhile writers changed and deleted messages, and it raised {error}. "
        "| An UPDATE that finds no row is no error here: the row has gone, or has a language.",
        "wrong language": "A message has the language {stored!r}, and `detect` said {told!r}. "
        "| Each row has its own, and None is not a language.",
        "written for nothing": "{count} message(s) that had a language when it was called were written again. "
        "| Every UPDATE makes a row anew, also one that changes no value.",
        "something else": "The {what} of {count} message(s) changed. | Only `language`, and only where it is NULL.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        told = [choice(SPOKEN) for _ in range(36)]
        mixed = sorted([*told[:12], *[None] * 4], key=lambda _: randbelow(1 << 30))
        talk = await Talk.of(attempt, [*[None] * UNTOLD, *told[12:], *mixed])
        await self._is_interrupted(attempt, talk, 5 + randbelow(3))
        talk.write_between()
        await self._runs(attempt, talk, 3 + randbelow(2), writing=True)
        await talk.add([choice(SPOKEN), None, choice(SPOKEN)])
        await self._runs(attempt, talk, 1, writing=False)
        await talk.add([choice(SPOKEN)] * 3, alike=True)
        await self._runs(attempt, talk, 2, writing=False, held=True)

    async def _is_interrupted(self, attempt: Attempt, talk: Talk, size: int) -> None:
        before = await talk.rows()
        with talk.detector(fail_after=BEFORE_IT_FAILS) as (detect, seen):
            try:
                await self._call(attempt, talk, detect, seen, size)
            except Wrong as wrong:
                if not any(isinstance(error, DetectorDown) for error in behind(wrong.__cause__)):
                    raise
            else:
                attempt.expect(not seen.down, "swallowed")
                self._expect_filled(attempt, talk, await talk.rows())
        rows = await talk.rows()
        self._expect_values(attempt, talk, before, rows)
        stored = {row.content for row in rows.values() if row.language is not None}
        told = [content for content in list(seen.times)[:BEFORE_IT_FAILS] if talk.tells.get(content) is not None]
        lost = sum(content not in stored for content in told)
        attempt.expect(lost <= size, "lost work", told=len(told), lost=lost, size=size)

    async def _runs(self, attempt: Attempt, talk: Talk, size: int, *, writing: bool, held: bool = False) -> None:
        """One call; if ``held``, somebody holds a message without a language until it is waited for."""
        before = await talk.rows()
        with talk.detector(writing=writing, held=held) as (detect, seen):
            call = partial(self._call, attempt, talk, detect, seen, size)
            await (while_another_writes(attempt, HOLD, {"id": talk.last}, call) if held else call())
        had = {row.content for row in before.values() if row.mine and row.language is not None}
        again = len(had & seen.times.keys())
        attempt.expect(not again, "asked again", count=again)
        rows = await talk.rows()
        self._expect_values(attempt, talk, before, rows)
        self._expect_filled(attempt, talk, rows)

    async def _call(self, attempt: Attempt, talk: Talk, detect: Any, seen: Seen, size: int) -> None:
        """One call; whatever comes of it, it was polite to others."""
        since = await attempt.value("SELECT pg_current_xact_id()")
        try:
            await attempt.call(sessions_of(attempt), detect, size)
        except Wrong as wrong:
            attempt.expect(not seen.circles, "in circles", times=max(seen.times.values(), default=0))
            error = wrong.__cause__
            if wrong.mistake == "raised":
                await self._expect_polite(attempt, seen, size, since)
            attempt.expect(not isinstance(error, MISSED), "stumbled", error=type(error).__name__)
            raise
        attempt.expect(not seen.circles, "in circles", times=max(seen.times.values(), default=0))
        await self._expect_polite(attempt, seen, size, since)

    async def _expect_polite(self, attempt: Attempt, seen: Seen, size: int, since: int) -> None:
        most = max((statement.received for statement in attempt.log.statements), default=0)
        attempt.expect(most <= size, "read at once", count=most, size=size)
        locked = f"{seen.locked} rows" if seen.locked < 1_000_000 else "all rows of the table"
        attempt.expect(seen.locked <= size, "locked", locked=locked, size=size)
        attempt.expect(seen.longest <= size, "open too long", count=seen.longest, size=size)
        changed = int(await attempt.value(MOST_CHANGED, since=since))
        attempt.expect(changed <= size, "changed at once", count=changed, size=size)

    def _expect_values(self, attempt: Attempt, talk: Talk, before: Rows, after: Rows) -> None:
        """What writers stored is there, all else is as it was, but for languages that were NULL."""
        back = talk.deleted & after.keys()
        attempt.expect(not back, "deleted one is back")
        gone = before.keys() - after.keys() - talk.deleted
        attempt.expect(not gone, "something else", what="row", count=len(gone))
        for id, (content, language) in talk.written.items():
            if id in after:
                stored = after[id].language
                attempt.expect(stored == language, "overwritten", theirs=language, stored=stored)
                attempt.expect(after[id].content == content, "content overwritten")
        others = {id: row for id, row in after.items() if id in before and id not in talk.written}
        again = [id for id, row in others.items() if before[id].language is not None and row != before[id]]
        attempt.expect(not again, "written for nothing", count=len(again))
        for what in ("content", "rest"):
            changed = [id for id, row in others.items() if getattr(row, what) != getattr(before[id], what)]
            name = "content" if what == "content" else "other columns"
            attempt.expect(not changed, "something else", what=name, count=len(changed))
        for row in others.values():
            told = talk.tells.get(row.content)
            right = not row.mine or row.language in (None, told)
            attempt.expect(right, "wrong language", stored=row.language, told=told)

    def _expect_filled(self, attempt: Attempt, talk: Talk, rows: Rows) -> None:
        left = [row for row in rows.values() if row.language is None and talk.tells.get(row.content) is not None]
        attempt.expect(not left, "left out", count=len(left))
