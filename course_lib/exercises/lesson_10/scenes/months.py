"""Usage by month: a table with a partition for each month of UTC, some missing, and a default that took the rest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import randbelow, token_hex

from course_lib.judging.attempt import Attempt

TICK = timedelta(microseconds=1)  # PostgreSQL's own
CREATE = (
    """
    CREATE TABLE usage (
        id uuid NOT NULL DEFAULT uuidv7(), at timestamptz NOT NULL, owner text NOT NULL,
        tokens integer NOT NULL CHECK (tokens >= 0), note text, PRIMARY KEY (id, at)
    ) PARTITION BY RANGE (at)
    """,
    "CREATE INDEX ON usage (owner, at)",
    "CREATE TABLE usage_rest PARTITION OF usage DEFAULT",
)
PARTITION = "CREATE TABLE {name} PARTITION OF usage FOR VALUES FROM ('{first}') TO ('{after}')"
INSERT = """
    INSERT INTO usage (at, owner, tokens, note)
    SELECT at, owner, tokens, note
    FROM unnest(CAST(:times AS timestamptz[]), CAST(:owners AS text[]), CAST(:tokens AS int[]), CAST(:notes AS text[]))
        AS given (at, owner, tokens, note)
"""
ROWS = "SELECT at, id::text, owner, tokens, note FROM usage"
READ_BY = "EXPLAIN (FORMAT JSON) SELECT tokens FROM usage WHERE at >= '{first}' AND at < '{after}'"
DEFAULT = "SELECT partdefid::regclass::text FROM pg_partitioned_table WHERE partrelid = to_regclass('usage')"
COUNT = "SELECT count(*) FROM usage WHERE at >= CAST(:first AS timestamptz) AND note IS DISTINCT FROM :but"

Row = tuple[datetime, str, str, int, str | None]


@dataclass(frozen=True, order=True)
class Month:
    """One of UTC, by its number since year 0."""

    number: int

    @classmethod
    def of(cls, moment: datetime) -> Month:
        there = moment.astimezone(UTC)
        return cls(there.year * 12 + there.month - 1)

    @property
    def first(self) -> datetime:
        return datetime(self.number // 12, self.number % 12 + 1, 1, tzinfo=UTC)

    @property
    def after(self) -> datetime:
        """The first moment that is no longer in it."""
        return (self + 1).first

    @property
    def table(self) -> str:
        return f"usage_{self.first:%Y_%m}"

    def __add__(self, months: int) -> Month:
        return Month(self.number + months)

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


@dataclass
class Night:
    """One run of the job: what it is called with, and which months it is about."""

    today: datetime
    keep: int
    ahead: int
    months: list[Month] = field(init=False)
    """Those that must have a partition, from the oldest that is kept on."""

    def __post_init__(self) -> None:
        this = Month.of(self.today)
        self.months = [this + more for more in range(-self.keep, self.ahead + 1)]

    @property
    def oldest(self) -> datetime:
        return self.months[0].first


async def make_usage(attempt: Attempt, night: Night) -> list[Month]:
    """The table before a first run: old months, a kept one without partition, and rows wherever rows can be.

    Returns:
        The months of the partitions that are too old.
    """
    for statement in CREATE:
        await attempt.sql(statement)
    kept = night.months
    hole = kept[1 + randbelow(night.keep - 1)]
    old = [kept[0] + back for back in (-3, -2, -1)]
    for month in [*old, *kept[: night.keep + 1]]:
        if month != hole:
            await attempt.sql(PARTITION.format(name=month.table, first=month.first, after=month.after))
    ancient, soon = kept[0] + -7, kept[-1] + 1
    await add_usage(attempt, [*old, *kept, ancient, soon, soon + 1, soon + 5])
    return old


async def add_usage(attempt: Attempt, months: Iterable[Month], note: str | None = None) -> None:
    """Three rows of each month: its first moment, its last, and one in between."""
    times = [
        moment
        for month in months
        for moment in (month.first, month.first + timedelta(days=1 + randbelow(25), minutes=7), month.after - TICK)
    ]
    await attempt.sql(INSERT, **values_of(times, note))


def values_of(times: list[datetime], note: str | None = None) -> dict[str, object]:
    return {
        "times": times, "owners": [token_hex(3) for _ in times], "tokens": [randbelow(900) for _ in times],
        "notes": [note or token_hex(2) if randbelow(3) or note else None for _ in times],
    }  # fmt: skip


async def usage_rows(attempt: Attempt) -> Counter[Row]:
    return Counter(tuple(row) for row in await attempt.sql(ROWS))


async def tables_read(attempt: Attempt, month: Month) -> list[str]:
    """Which tables a question for one month of UTC reads, as the planner means to."""
    plan = await attempt.value(READ_BY.format(first=month.first, after=month.after))
    nodes, names = [(json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]], list[str]()
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        names += [node["Relation Name"]] if "Relation Name" in node else []
    return sorted(names)
