"""10.1: how large an index will be, said before it is built."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from secrets import randbelow
from typing import Any, ClassVar

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article

WITHIN = 0.15
WIDE_ROWS, ROWS = 300, 800  # of the indexes that are built, and a few more: enough for pages to be many
CLOSE = 0.06  # to the numbers alone, or to what is said of another case
UNITS = {"KB": 2**10, "thousands": 10**3, "MB": 2**20, "millions": 10**6, "GB": 2**30, "pages": 2**13}
TYPES = {"vector": (4, "{}", "vector_l2_ops"), "halfvec": (2, "{}", "halfvec_l2_ops"),
         "bit": (1 / 8, "binary_quantize({})", "bit_hamming_ops")}  # fmt: skip
"""Bytes of a number, how a vector becomes one, and an operator class."""
ALIKE = {"links left out": ("few links", "many links"), "type left out": ("one a page", "halves")}
"""Mistakes, and two cases of the same dimensions of which the same is said then."""
PARTS = 40  # vectors that the others are sums of, twice: all sums are different
FILL = """
    WITH parts AS MATERIALIZED (
        SELECT n, (SELECT array_agg(random() - 0.5) FROM generate_series(1, {dimensions}) WHERE n >= 0)::vector AS part
        FROM generate_series(0, {last}) AS n
    ) INSERT INTO {table} SELECT i, ({made})::{kind}({dimensions}) FROM generate_series(0, {rows} - 1) AS i
    JOIN parts AS one ON one.n = i % {parts} JOIN parts AS two ON two.n = {parts} + i / {parts}
"""
INDEX = """
    CREATE INDEX {table}_index ON {table} USING hnsw (embedding {operators}) WITH (m = {m}, ef_construction = {ef})
"""
SIZES = "SELECT pg_relation_size('{table}_index'), pg_total_relation_size('{table}')"


@dataclass(frozen=True)
class Case:
    """An index that is asked about for ``asked`` rows, and built over ``rows``."""

    name: str
    dimensions: int
    kind: str
    m: int
    rows: int
    asked: int

    @property
    def payload(self) -> float:
        """Bytes that the numbers alone take."""
        return self.asked * self.dimensions * TYPES[self.kind][0]

    @property
    def words(self) -> str:
        return f"{self.asked:,} rows of {self.kind}({self.dimensions}) with m = {self.m}"


@dataclass(frozen=True)
class Said:
    """What the answer says of a case, beside what was built; all for the rows that were asked about."""

    case: Case
    said: float
    index: float
    whole: float  # the table, its TOAST and the index

    @property
    def off(self) -> float:
        """As a share of what it took: 0.2 is a fifth too much."""
        return self.said / self.index - 1

    @property
    def right(self) -> bool:
        return abs(self.off) <= WITHIN


def some_cases() -> list[Case]:
    """A case for each step, and for what else decides; other numbers each time."""
    both = 1240 + randbelow(260)  # one page a row as vector, half a page as halfvec, and a fifth of either stays free
    short = 48 + randbelow(16)
    kinds = [
        ("two a page", 630 + randbelow(130), "vector", 16),
        ("one a page", both, "vector", 16),
        ("two pages", 1982 + randbelow(19), "vector", 16),
        ("halves", both, "halfvec", 16),
        ("few links", short, "vector", 8),
        ("many links", short, "vector", 40),
        ("bits", 1500 + randbelow(1500), "bit", 16),
    ]
    return [
        Case(name, dimensions, kind, m, _rows(dimensions, kind), 100_000 * (1 + randbelow(40)))
        for name, dimensions, kind, m in kinds
    ]


def _rows(dimensions: int, kind: str) -> int:
    return randbelow(100) + (ROWS if kind == "bit" or dimensions < 100 else WIDE_ROWS)


class IndexBytes(Exercise):
    """Pages, not numbers: whole elements on each, and their neighbours beside them."""

    id = "10.1"
    title = "How large will it be"
    answer = "index_bytes"
    recipe = "empty"
    points = 3
    minutes = 15
    level = "mid"
    seconds = 20.0  # for who builds samples
    statement_seconds = 8
    hints: ClassVar = (
        "There are two ways: calculate what lies on a page, or build the index over a few hundred random vectors, look "
        "with `pg_relation_size`, and multiply. A sample must have the same type, dimensions and `m`.",
        "On a page of 8,192 bytes, 8,160 are free. An element takes 72 bytes and its value (8 + 4 × dimensions for "
        "`vector`); its neighbours take 4 + 2 × m × 6. Each is rounded up to 8 bytes and has a pointer of 4. How many "
        "pairs fit, if none is cut?",
        "Where a pair does not fit one page, the neighbours go to the next, and the next element begins a third one: "
        "two pages a row. One element in m has more neighbours than most; for 15% that may be forgotten. Divide rows "
        "by pairs on a page, round up, multiply by 8,192.",
    )
    why = (
        "An index is read and kept page by page, so its size goes in steps: two vectors of 768 numbers share a page, "
        "one of 1,024 fills a page as one of 1,536 does, and at 2,000 the neighbours need another. The layout tells it "
        "without a server, and for any number of rows. A sample tells it without knowing the layout, for this version "
        "and these settings, and includes what you did not think of; it needs a server and a few seconds. Do both "
        "once: where they differ, you have learned something."
    )
    follow_up = (
        "The table is updated all day: each new version of a row is another element in the index, until VACUUM has "
        "been there. What do you plan for, and what do you watch?"
    )
    mistakes: ClassVar = {
        "not a number": "`index_bytes` returned {kind}, and a number of bytes was asked for. "
        "| Did you forget `return`?",
        "not scaled": "For {n:,} rows it says {said:,.0f} bytes, and for {rows:,} of the same {other:,.0f}. "
        "| A sample's size has to be multiplied by rows / rows of the sample. (Equal vectors share elements, and how "
        "many do is chance: those of a sample should all be different.)",
        "unit": "It says {said:,.0f} for {words}, which would be about right in {unit}. | Bytes were asked for.",
        "links left out": "With m = 8 and with m = 40 it says the same, {said:,.0f} bytes for 1,000 rows of "
        "vector({dimensions}). | Each element has room for 2 × m neighbours, whether it has them or not.",
        "type left out": "It says the same for vector({dimensions}) and halfvec({dimensions}), {said:,.0f} bytes for "
        "1,000 rows. | `kind` says how many bytes a number has: four, two, or an eighth.",
        "payload": "{said:,.0f} bytes for {words} are about what the numbers alone take, and the index that was built "
        "took {more:.1f} times that. | What else lies on a page, and what stays free because nothing is cut?",
        "whole table": "{said:,.0f} bytes for {words} are about what table and index take together. "
        "| Asked for is the index alone: `pg_relation_size` of it.",
        "last step": "It is right up to one page for each row, and says {said:,.0f} bytes for {words}, where the index "
        "that was built took {more:.1f} times that. | Do element and neighbours still fit one page together?",
        "off": "For {words} it says {said:,.0f} bytes, {far:.0%} too {way} by the index that was built. "
        "| How many elements with their neighbours fit one page? (In a sample, equal vectors share elements, and the "
        "first pages count for too much where there are few.)",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        cases = some_cases()
        said = [await self._ask(attempt, case, case.asked) for case in cases]
        await self._ask_for_more(attempt, cases[0], said[0])
        found = [await self._build(attempt, number, case, said[number]) for number, case in enumerate(cases)]
        wrong = [one for one in found if not one.right]
        if wrong:
            raise _diagnosed(attempt, found, wrong)

    async def _ask(self, attempt: Attempt, case: Case, rows: int) -> float:
        async with attempt.session() as session:
            said = await attempt.call(session, rows, case.dimensions, case.kind, case.m)
        number = math.nan
        if isinstance(said, Real | Decimal) and not isinstance(said, bool):
            with suppress(ArithmeticError, ValueError):
                number = float(said)
        attempt.expect(math.isfinite(number), "not a number", kind=article(said))
        return number

    async def _ask_for_more(self, attempt: Attempt, case: Case, said: float) -> None:
        """The same index for another number of rows, of which its size has to be a multiple.

        Raises:
            Wrong: "not scaled".
        """
        rows = 100_000 if case.asked >= 1_000_000 else 10_000_000
        other = await self._ask(attempt, case, rows)
        each, others = said / case.asked, other / rows
        alike = each / 2 <= others <= 2 * each
        attempt.expect(alike and each > 0, "not scaled", n=case.asked, said=said, rows=rows, other=other)

    async def _build(self, attempt: Attempt, number: int, case: Case, said: float) -> Said:
        """A sample of the judge's own, made once all has been said: nobody could look at its size."""
        table, (_, made, operators) = f"judged_{number}", TYPES[case.kind]
        places: dict[str, Any] = {
            "table": table, "dimensions": case.dimensions, "kind": case.kind, "rows": case.rows, "parts": PARTS,
            "made": made.format("one.part + two.part"), "last": PARTS + case.rows // PARTS,
        }  # fmt: skip
        await attempt.sql(f"CREATE TABLE {table} (id bigint, embedding {case.kind}({case.dimensions}))")
        await attempt.sql(FILL.format(**places))
        await attempt.sql(INDEX.format(table=table, operators=operators, m=case.m, ef=2 * case.m))
        ((index, whole),) = await attempt.sql(SIZES.format(table=table))
        await attempt.sql(f"DROP TABLE {table}")
        share = case.asked / case.rows
        return Said(case, said, (index - 2**13) * share, whole * share)  # without its first page, of which there is one


def _diagnosed(attempt: Attempt, found: list[Said], wrong: list[Said]) -> Wrong:
    """Which mistake explains what was said, from what concerns all cases to what concerns one."""
    by = {one.case.name: one for one in found}
    first = wrong[0]
    numbers = {"words": first.case.words, "said": first.said}
    for unit, size in UNITS.items():
        if all(abs(one.said * size / one.index - 1) <= WITHIN for one in found):
            return attempt.wrong("unit", unit=unit, **numbers)
    if all(abs(one.said / one.case.payload - 1) <= CLOSE for one in found):
        return attempt.wrong("payload", more=first.index / max(first.said, 1), **numbers)
    if all(abs(one.said / one.whole - 1) <= WITHIN for one in wrong):
        return attempt.wrong("whole table", **numbers)
    for name, pair in {
        "links left out": ("few links", "many links"),
        "type left out": ("one a page", "halves"),
    }.items():
        less, more = (by[one].said / by[one].case.asked for one in pair)
        if more and abs(less / more - 1) <= CLOSE:
            return attempt.wrong(name, said=1000 * less, dimensions=by[pair[0]].case.dimensions)
    if [one.case.name for one in wrong] == ["two pages"] and first.off < 0:
        return attempt.wrong("last step", more=first.index / max(first.said, 1), **numbers)
    worst = max(wrong, key=lambda one: abs(math.log(max(one.said, 1) / one.index)))
    way = "much" if worst.off > 0 else "little"
    return attempt.wrong("off", words=worst.case.words, said=worst.said, far=abs(worst.off), way=way)
