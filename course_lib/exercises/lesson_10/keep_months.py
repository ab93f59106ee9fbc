"""10.5: a partition for each month, made in time and dropped in time, among readers and writers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from secrets import choice, randbelow
from typing import Any, ClassVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from course_lib.exercises.lesson_10.scenes.months import (
    COUNT,
    DEFAULT,
    INSERT,
    Month,
    Night,
    Row,
    add_usage,
    make_usage,
    tables_read,
    usage_rows,
    values_of,
)
from course_lib.judging.asking import DEADLOCK, calling_it, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import message_of

EAST = timezone(timedelta(hours=5, minutes=45))
IN_THE_WAY = "default partition"  # what the server says of rows that stand there
OVERLAP, EXISTS, NOT_NOW = "42P17", "42P07", "55000"  # SQLSTATEs
THEIRS = "written meanwhile"


class KeepMonths(Exercise):
    """Whole months of UTC, rows that move in one transaction, and locks in everybody's order."""

    id = "10.5"
    title = "A partition for each month"
    answer = "keep_months"
    minutes = 25
    points = 3
    level = "senior"
    recipe = "empty"
    hints: ClassVar = (
        "Count months as `year * 12 + month - 1`, of `today` in UTC: then the year's end is no case of its own. Which "
        "numbers must have a partition, and which must not?",
        "`ATTACH PARTITION` and `CREATE TABLE … PARTITION OF` fail while a row of that month stands in the default. "
        "Make the table with `(LIKE usage INCLUDING ALL)`, move the rows with `DELETE … RETURNING *` inside of an "
        "INSERT, then attach: all of it in one transaction, or somebody reads the moment in between.",
        "A writer may have a row in the default that you do not see yet, and it is committed before your ATTACH. So "
        "the locks come first: `LOCK TABLE usage IN ACCESS EXCLUSIVE MODE`, which is the parent and then its "
        "partitions, the order in which readers come, too. Bounds are written with their zone: `…+00:00`.",
    )
    why = (
        "Bounds are moments, so they carry their zone, and months are those of UTC wherever the server lives. Rows "
        "that fell into the default have to leave it before their month can be attached, and in the same transaction, "
        "since a table that is not attached is not read. The lock comes before the DELETE: what a writer commits after "
        "that cannot be in the way. And it begins with the parent, as every reader does, so that nobody meets anybody "
        "halfway. With the months made ahead none of this takes longer than a moment: the default is empty."
    )
    follow_up = (
        "The default holds forty million rows of this month, and nobody may wait for longer than a second. In which "
        "steps do you get them into a partition?"
    )
    mistakes: ClassVar = {
        "default in the way": "`keep_months` raised {error}: rows of that month stand in the default partition. "
        "| They have to leave it before the month can be attached.",
        "overlap": "`keep_months` raised {error}: {said}. "
        "| A bound without a zone is midnight in the session's zone, and the other months are those of UTC.",
        "exists": "`keep_months` raised {error}: {said}. | Some months are there already. The job runs every night.",
        "concurrently": "`keep_months` raised {error}: {said}. "
        "| Not while there is a default partition. A plain DETACH or DROP holds its lock for a moment.",
        "rows lost": "{count} row(s) of {month} (in UTC) are gone, and that month is kept. "
        "| Which month is `today` in UTC, and how many before it are kept? What had the default in it?",
        "rows changed": "{count} row(s) of {month} (in UTC) are there with other values than before. "
        "| Rows move whole, with their id.",
        "old rows": "{count} row(s) from before {oldest} are still there. "
        "| Old ones stand in partitions, and in the default too.",
        "no default": "After `keep_months` the table has no default partition. "
        "| What comes for a month that nobody made would be refused.",
        "no partition": "After `keep_months`, called for {today}, {month} has no partition of its own. "
        "| From `keep` months before the month of `today` to `ahead` months after it, without a gap.",
        "not pruned": "A question for {month} (in UTC) reads {count} tables: {tables}. "
        "| From the first moment of a month in UTC to the first of the next.",
        "old partition": "The partition `{table}` is too old, and still there. "
        "| DELETE leaves its pages and its locks: the partition itself has to go.",
        "left detached": "The table `{table}` was detached, and still exists. | Nobody else drops it.",
        "again": "Called again on the same day, it raised {error}: {said}. | The job runs every night.",
        "overtaken": "A writer stored rows and committed while `keep_months` ran, and it raised {error}: rows of that "
        "month stand in the default partition. "
        "| They were not visible when you moved what was there. What keeps writers out before you look?",
        "seen missing": "Somebody read the table while `keep_months` was at work, and {count} row(s) of kept months "
        "were not there. "
        "| Rows in a table that is not attached are read by nobody, so moving and attaching is one transaction. And "
        "who has listed the partitions and waits at the default does not look into one that is attached meanwhile: "
        "keep readers out of the table itself.",
        "reader failed": "Somebody read the table while `keep_months` was at work, and was told: {said}. "
        "| A reader locks the table and then its partitions. Who takes a partition first, and the table while holding "
        "it, meets readers halfway.",
        "met a reader": "Somebody read the table while `keep_months` was at work, and it raised {error}: {said}. "
        "| A reader locks the table and then its partitions. In which order do you?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        night = _first_night()
        old = await make_usage(attempt, night)
        await self._runs(attempt, night, old)
        with calling_it(attempt, "again"):
            await self._runs(attempt, night, old)
        following = Night(night.today + timedelta(days=40), night.keep - 1, night.ahead)
        gone = [month for month in night.months if month < following.months[0]]
        fresh = [month for month in following.months if month not in night.months]
        await add_usage(attempt, fresh)
        with self._told(attempt, overtaken=True):
            await self._runs_among_others(attempt, following, fresh, [*old, *gone])

    async def _runs(self, attempt: Attempt, night: Night, old: list[Month]) -> None:
        before = await usage_rows(attempt)
        with self._told(attempt):
            await attempt.call(attempt.engine, night.today, night.keep, night.ahead)
        await self._expect_all(attempt, night, before, old)

    async def _runs_among_others(self, attempt: Attempt, night: Night, fresh: list[Month], old: list[Month]) -> None:
        """A writer has rows of ``fresh`` months in the default, not committed; a reader waits while the job does."""
        before = await usage_rows(attempt)
        moments = [month.first + timedelta(days=3, seconds=randbelow(86_400)) for month in fresh]
        async with attempt.judge_session() as writer:
            await writer.execute(text(INSERT), values_of(moments, THEIRS))
            job = asyncio.ensure_future(attempt.call(attempt.engine, night.today, night.keep, night.ahead))
            await until_blocked(attempt, job, 1)
            reader = asyncio.ensure_future(_read(attempt, night))
            await _until(attempt, job, reader)
            await writer.commit()
            _, seen = await asyncio.gather(job, reader, return_exceptions=True)
        if isinstance(seen, DBAPIError):
            raise attempt.wrong("reader failed", said=message_of(seen).rstrip(".")) from seen
        await job
        kept = sum(count for row, count in before.items() if row[0] >= night.oldest)
        missing = kept - await reader
        attempt.expect(missing <= 0, "seen missing", count=missing)
        theirs = {row: count for row, count in (await usage_rows(attempt)).items() if row[4] == THEIRS}
        lost = [moment for moment in moments if moment not in {row[0] for row in theirs}]
        attempt.expect(not lost, "rows lost", count=len(lost), month=str(Month.of(lost[0])) if lost else "")
        before.update(theirs)
        await self._expect_all(attempt, night, before, old)

    @contextmanager
    def _told(self, attempt: Attempt, overtaken: bool = False) -> Iterator[None]:
        """What the server refuses, by what it means here."""
        in_the_way = "overtaken" if overtaken else "default in the way"
        with (
            calling_it(attempt, in_the_way, saying=IN_THE_WAY),
            calling_it(attempt, "overlap", saying=OVERLAP),
            calling_it(attempt, "exists", saying=EXISTS),
            calling_it(attempt, "concurrently", saying=NOT_NOW),
            calling_it(attempt, "met a reader", saying=DEADLOCK),
        ):
            yield

    async def _expect_all(self, attempt: Attempt, night: Night, before: Any, old: list[Month]) -> None:
        after = await usage_rows(attempt)
        _expect_rows(attempt, night, before, after)
        default = await attempt.value(DEFAULT)
        attempt.expect(default not in (None, "-"), "no default")
        for month in night.months:
            tables = await tables_read(attempt, month)
            attempt.expect(tables != [default], "no partition", month=str(month), today=night.today.isoformat())
            numbers = {"month": str(month), "count": len(tables), "tables": ", ".join(tables)}
            attempt.expect(len(tables) == 1, "not pruned", **numbers)
        for month in old:
            stays = [table for table in await tables_read(attempt, month) if table != default]
            attempt.expect(not stays, "old partition", table=stays[0] if stays else "")
            there = await attempt.value("SELECT to_regclass(:table) IS NOT NULL", table=month.table)
            attempt.expect(not there, "left detached", table=month.table)


def _first_night() -> Night:
    """On a first of the month: the month in UTC is not that of ``today``'s own zone."""
    new_year = datetime(choice((2025, 2026, 2027)), 1, 1, 1 + randbelow(4), randbelow(60), tzinfo=EAST)
    return Night(new_year + timedelta(days=choice((0, 0, 59, 181))), 3 + randbelow(3), 2 + randbelow(2))


async def _read(attempt: Attempt, night: Night) -> int:
    async with attempt.judge_session() as session:
        return int(await session.scalar(text(COUNT), {"first": night.oldest, "but": THEIRS}) or 0)


async def _until(attempt: Attempt, job: asyncio.Future[Any], reader: asyncio.Future[int]) -> None:
    """Until the reader stands in the queue too, or has got its answer."""
    both = asyncio.ensure_future(until_blocked(attempt, job, 2))
    either: set[asyncio.Future[Any]] = {both, reader}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not both.done():
        both.cancel()
        await asyncio.wait({both})


def _expect_rows(attempt: Attempt, night: Night, before: Any, after: Any) -> None:
    kept = {row: count for row, count in before.items() if row[0] >= night.oldest}
    ids = {row[1] for row in after}
    lost: list[Row] = [row for row in kept if row not in after]
    changed = [row for row in lost if row[1] in ids or _twin(row, after)]
    gone = [row for row in lost if row not in changed]
    for mistake, rows in (("rows lost", gone), ("rows changed", changed)):
        months = [str(Month.of(row[0])) for row in rows]
        attempt.expect(not rows, mistake, count=months.count(months[0]) if months else 0, month="".join(months[:1]))
    more = [row for row in after if row[0] >= night.oldest and after[row] > before[row]]
    attempt.expect(not more, "rows changed", count=len(more), month=str(Month.of(more[0][0])) if more else "")
    older = sum(count for row, count in after.items() if row[0] < night.oldest)
    attempt.expect(not older, "old rows", count=older, oldest=f"{night.oldest:%Y-%m-%d} UTC")


def _twin(row: Row, after: Any) -> bool:
    """Whether it is there under another id."""
    return any(other[0] == row[0] and other[2:] == row[2:] for other in after)
