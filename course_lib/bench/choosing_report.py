"""The tables and pictures of what was measured for choosing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from course_lib.bench.choosing_pictures import draw_change, draw_within
from course_lib.bench.drawing import draw_engines
from course_lib.bench.killed import Killed
from course_lib.bench.lanes import Deleted, Inserted, Within
from course_lib.bench.large_server import MB
from course_lib.bench.points import TARGET, Found, smallest
from course_lib.bench.report import seconds_text, write_picture, write_table
from course_lib.bench.stores import Store

MILLION = 1_000_000
SEARCH_HEAD = ["engine", "version", "load and build", "memory", "disk", "ef_search", "recall", "p50", "p95"]
WITHIN_HEAD = ["share", "engine", "way", "rows of 10", "recall", "p50", "p95", "index in the plan"]
CHANGE_HEAD = [
    "engine", "deletes/s", "deleted ones returned", "recall after", "upkeep", "inserts/s", "p50 alone", "p50 meanwhile",
    "p95 meanwhile", "found at once", "upkeep",
]  # fmt: skip
LOSS_HEAD = ["engine", "left of 100 after half", "after SIGKILL", "first right answer", "save", "a second process",
             "in a copy of the folder"]  # fmt: skip


@dataclass(frozen=True)
class Searched:
    """The series with rising ef_search, and the ways within tenants."""

    curve: list[Found]
    within: list[Within]

    @property
    def best(self) -> Found:
        """The first that reaches TARGET, or else the last."""
        return smallest(self.curve) or self.curve[-1]

    @property
    def ef(self) -> int:
        """The smallest ef_search that is enough."""
        assert self.best.setting is not None
        return self.best.setting


@dataclass(frozen=True)
class Changed:
    """``torn`` are the rows that a failed unit of 100 left."""

    deleted: Deleted
    inserted: Inserted
    torn: int


@dataclass(frozen=True)
class Chosen:
    """One engine's figures, seconds and bytes. ``memory`` is None where the system does not say."""

    engine: str
    version: str
    settings: str
    not_for: str
    build: float
    memory: int | None
    disk: int
    searched: Searched
    changed: Changed
    save: float | None = None
    killed: Killed | None = None

    @classmethod
    def of(cls, store: Store, version: str, *figures: Any, **more: Any) -> Chosen:
        """With the store's own words."""
        return cls(store.name, version, store.settings, store.not_for, *figures, **more)


def say(text: str) -> None:
    """A line for who waits."""
    Console(highlight=False, markup=False, soft_wrap=True).print(text)


def write_choices(rows: int, memory: str, chosen: Sequence[Chosen | tuple[str, str]]) -> None:
    """Four tables and three pictures ``bench-results/choosing-…``; an engine that is missing is said so."""
    there = [one for one in chosen if isinstance(one, Chosen)]
    missing = [f"{one[0]}: {one[1]}." for one in chosen if not isinstance(one, Chosen)]
    name = f"choosing-{rows}"
    notes = [f"{one.engine} {one.version}: {one.settings}. Not made for {one.not_for}." for one in there]
    notes += [
        f"ef_search: the smallest that reaches recall {TARGET}; m 16, ef_construction 64 everywhere; {memory}.",
        "Memory: of the process, or of all the server's processes with what they share counted once.",
        *missing,
    ]
    content = {
        "rows": rows,
        "date": datetime.now(UTC).date().isoformat(),
        "command": f'make bench ARGS="--only choosing --rows {rows}"',
        "memory": memory,
        "engines": [asdict(one) for one in there],
        "missing": missing,
    }
    title = f"The ten nearest of {rows:,} clustered vectors of 256 dimensions"
    write_table(name, title, SEARCH_HEAD, [_search_row(one) for one in there], content, notes)
    write_picture(name, draw_engines(rows, {one.engine: one.searched.curve for one in there}))
    _write_within(name, rows, there)
    _write_change(name, rows, there)


def _search_row(one: Chosen) -> list[str]:
    best = one.searched.best
    memory = "not said" if one.memory is None else f"{one.memory // MB:,} MB"
    sizes = [seconds_text(one.build), memory, f"{one.disk // MB:,} MB"]
    times = [seconds_text(best.p50), seconds_text(best.p95)]
    return [one.engine, one.version, *sizes, str(best.setting), f"{best.recall:.3f}", *times]


def _write_within(name: str, rows: int, there: Sequence[Chosen]) -> None:
    found = [(one.engine, within) for one in there for within in one.searched.within]
    found.sort(key=lambda pair: -pair[1].share)
    lines = [
        [
            f"{within.share:.1%}", engine, within.way, f"{within.found.rows:.1f}", f"{within.found.recall:.3f}",
            seconds_text(within.found.p50), seconds_text(within.found.p95), within.said,
        ]
        for engine, within in found
    ]  # fmt: skip
    notes = [
        f"Each at the ef_search that reaches {TARGET} without a filter. The documented way is each engine's last one.",
        "Forced: no sequential scan and no sort, so that the graph is measured and not the planner.",
        "hnswlib raises an error when fewer than ten are found: counted as no rows.",
        "The libraries know no tenants: the filter is a set that the program keeps.",
    ]
    title = f"The ten nearest within a tenant's share of {rows:,} rows"
    write_table(f"{name}-filters", title, WITHIN_HEAD, lines, {}, notes)
    write_picture(f"{name}-filters", draw_within(title, found))


def _write_change(name: str, rows: int, there: Sequence[Chosen]) -> None:
    lines = [_change_row(one) for one in there]
    notes = [
        "Rows in batches of 100, each a transaction or a call; one thread adds, another searches.",
        "Upkeep: VACUUM ANALYZE, optimize() and flush(); the libraries have none.",
    ]
    title = f"A tenth deleted, a tenth added beside searches, {rows:,} rows"
    write_table(f"{name}-change", title, CHANGE_HEAD, lines, {}, notes)
    write_picture(f"{name}-change", draw_change(title, {one.engine: one.changed.inserted for one in there}))
    notes = [
        "Half: a unit of 100 rows in two calls, whose program fails between them.",
        "SIGKILL of the process (PostgreSQL: of its first process). A power cut was not tried.",
    ]
    write_table(f"{name}-loss", "What is left", LOSS_HEAD, [_loss_row(one) for one in there], {}, notes)


def _change_row(one: Chosen) -> list[str]:
    gone, came = one.changed.deleted, one.changed.inserted
    return [
        one.engine, f"{gone.rows / gone.seconds:,.0f}", str(gone.returned), f"{gone.found.recall:.3f}",
        seconds_text(gone.upkeep), f"{came.rows / came.seconds:,.0f}", seconds_text(came.alone.p50),
        seconds_text(came.beside.p50), seconds_text(came.beside.p95), f"{came.at_once:.0%}", seconds_text(came.upkeep),
    ]  # fmt: skip


def _loss_row(one: Chosen) -> list[str]:
    killed = one.killed
    assert killed is not None
    return [
        one.engine, str(one.changed.torn), f"{killed.there} of {killed.added}", seconds_text(killed.seconds),
        "" if one.save is None else seconds_text(one.save), killed.second,
        "" if killed.copied is None else f"{killed.copied} of {killed.added}",
    ]  # fmt: skip
