"""Vectors at size: pgvector beside engines inside the process, on the same vectors at the same recall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console

from course_lib.bench.chunk_table import (
    INDEX,
    Built,
    Connection,
    build_table,
    connected,
    indexes_used,
    search_all,
    search_text,
    under,
)
from course_lib.bench.drawing import draw_engines, draw_filters, draw_sizes
from course_lib.bench.engines import EF_SEARCH, ENGINES, ENOUGH, Compared, compare_engine
from course_lib.bench.filters import BY_B_TREE, BY_GRAPH, REPOSITORY, Filters, write_filters
from course_lib.bench.large_server import MB, ROW_DISK, LargeServer, large_server
from course_lib.bench.points import PASSES, TARGET, Found, Numbers, Points, make_points, quietest, smallest
from course_lib.bench.report import FOLDER, machine, seconds_text, write_picture, write_table

QUICK_ROWS, ROWS, LARGE_ROWS = 10_000, 100_000, (500_000, 1_000_000)
QUERIES, QUICK_QUERIES, EXACT_QUERIES = 500, 200, 30
LIMIT_ROWS, LIMIT_P50, LIMIT_RATIO = 1_000_000, 0.005, 100  # what the course promises, at TARGET
SECONDS_PER_ROW = 0.002  # on two idle cores, from load to the last table; only to say how long it will take
SERVER = "pgvector HNSW"
HEAD = ["engine", "build", "size", "ef_search", "recall", "p50", "p95", "note"]
SIZES_HEAD = ["rows", "load", "build", "index", "ef_search", "recall", "p50", "p95", "exact p50", "ratio", "limits"]


@dataclass(frozen=True)
class Searched:
    """pgvector's figures: what was built, the series with rising ef_search, the exact scan, the repository."""

    built: Built
    curve: list[Found]
    exact: Found
    repository: Found | None = None

    @property
    def chosen(self) -> Found | None:
        return smallest(self.curve)


def measure(quick: bool, sizes: Sequence[int] = ()) -> None:
    """Measure each size, print and write ``bench-results/vectors-…`` and ``filters-…``, then ``vectors``, all sizes."""
    for rows in sizes or [QUICK_ROWS if quick else ROWS]:
        _announce(rows)
        asyncio.run(_measure(rows, QUICK_QUERIES if quick else QUERIES))
    _write_sizes()
    if not sizes:
        minutes, disk = sum(LARGE_ROWS) * SECONDS_PER_ROW / 60, max(LARGE_ROWS) * ROW_DISK / 2**30
        wanted = " ".join(f"--rows {rows}" for rows in LARGE_ROWS)
        _say(f"At size, in about {minutes:.0f} minutes and with {disk:.0f} GB of disk:")
        _say(f'  make bench ARGS="--only vectors {wanted}"')


def _announce(rows: int) -> None:
    minutes = rows * SECONDS_PER_ROW / 60
    _say(f"\nVectors, {rows:,} rows: about {max(1, minutes):.0f} min on two idle cores.")


def _say(text: str) -> None:
    Console(highlight=False, markup=False, soft_wrap=True).print(text)


async def _measure(rows: int, queries: int) -> None:
    async with large_server(rows) as server:
        points = make_points(server.folder, rows, queries)
        truth = points.nearest(points.queries)
        searched = await _pgvector(server, points, truth)
        compared: dict[str, Compared | str] = dict.fromkeys(ENGINES, "not measured")
        for name in ENGINES:
            # who has waited long and ends it keeps what there is
            _write_engines(points, searched, compared, str(server.memory), show=False)
            found = compared[name] = await asyncio.to_thread(compare_engine, name, points, truth)
            _say(f"  {name}: {found if isinstance(found, str) else f'built in {seconds_text(found.build)}'}")
        _write_engines(points, searched, compared, str(server.memory))


async def _pgvector(server: LargeServer, points: Points, truth: Numbers) -> Searched:
    async with connected(server.url) as connection:
        built = await build_table(connection, server.url, points, server.memory)
        for line in built.said:
            _say(f"  {line}")
        _say(f"  pgvector: loaded in {seconds_text(built.load)}, indexed in {seconds_text(built.build)}")
        searched = Searched(built, await _rising(connection, points, truth), await _exact(connection, points, truth))
        if searched.chosen is None or searched.chosen.setting is None:
            _say(f"  No ef_search up to {EF_SEARCH[-1]} finds {TARGET:.0%}: no search with filters.")
            return searched
        found = await Filters(connection, points, searched.chosen.setting).measure(server.url)
        write_filters(points, searched.chosen.setting, found, str(server.memory))
        write_picture(f"filters-{points.rows}", draw_filters(points.rows, found))
        half = next(one.found for one in found if one.way == REPOSITORY)
        return replace(searched, repository=half)


async def _rising(connection: Connection, points: Points, truth: Numbers) -> list[Found]:
    curve: list[Found] = []
    async with under(connection, BY_GRAPH):
        used = await indexes_used(connection, search_text(), points.queries[0])
        assert used == INDEX, f"the search went through {used}"
        async with under(connection, {"hnsw.ef_search": EF_SEARCH[-1]}):
            await search_all(connection, search_text(), points.queries, truth)  # brings the index into memory
        for ef in EF_SEARCH:
            async with under(connection, {"hnsw.ef_search": ef}):
                passes = [await search_all(connection, search_text(), points.queries, truth, ef) for _ in range(PASSES)]
            curve.append(quietest(passes))
            if curve[-1].recall >= ENOUGH:
                break
    return curve


async def _exact(connection: Connection, points: Points, truth: Numbers) -> Found:
    """With PostgreSQL's own number of parallel workers. Its recall says whether the truth is one."""
    async with under(connection, {**BY_B_TREE, "plan_cache_mode": "force_custom_plan"}):
        assert await indexes_used(connection, search_text(), points.queries[0]) == "none"
        return await search_all(connection, search_text(), points.queries[:EXACT_QUERIES], truth)


def _write_engines(
    points: Points, searched: Searched, compared: dict[str, Compared | str], memory: str, show: bool = True
) -> None:
    built = searched.built
    rows = [
        _row(SERVER, built.build, built.index_bytes, searched.curve, f"{points.rows / built.load:,.0f} rows/s by COPY"),
        _row("pgvector, exact scan", 0, built.table_bytes, [searched.exact], "size: the table"),
    ]
    if searched.repository is not None:
        note = f"as it is, among one user's half of the rows; see filters-{points.rows}"
        rows.append(_row("pgvector, RagRepository.search()", 0, 0, [searched.repository], note))
    for name, found in compared.items():
        if isinstance(found, str):
            rows.append([name, *[""] * (len(HEAD) - 2), found])
        else:
            rows.append(_row(name, found.build, found.memory, found.curve, "size: memory of its process"))
    notes = [
        f"ef_search: the smallest of {', '.join(map(str, EF_SEARCH))} that reaches recall {TARGET}; {memory}.",
        "All graphs: m 16, ef_construction 64, built on all cores. pgvector through asyncpg on a local socket.",
        f"Times of {searched.curve[0].searches} different queries, one client, warm; the quietest of {PASSES} passes.",
        *built.said,
    ]
    content = {
        "rows": points.rows,
        "memory": memory,
        "pgvector": asdict(searched),
        "engines": {name: found if isinstance(found, str) else asdict(found) for name, found in compared.items()},
    }
    title = f"The ten nearest of {points.rows:,} clustered vectors, at recall {TARGET}"
    write_table(f"vectors-{points.rows}", title, HEAD, rows, content, notes, show)
    if not show:
        return
    curves = {SERVER: searched.curve} | {n: found.curve for n, found in compared.items() if isinstance(found, Compared)}
    write_picture(f"vectors-{points.rows}", draw_engines(points.rows, curves))


def _row(name: str, build: float, size: int, curve: Sequence[Found], note: str) -> list[str]:
    chosen = smallest(curve)
    best = chosen or curve[-1]
    setting = "" if best.setting is None else str(best.setting)
    sizes = [seconds_text(build) if build else "", f"{size // MB:,} MB" if size else ""]
    note = note if chosen else f"does not reach {TARGET}; {note}"
    return [name, *sizes, setting, f"{best.recall:.3f}", seconds_text(best.p50), seconds_text(best.p95), note]


def _write_sizes() -> None:
    """Every size that was measured on this machine, now or before."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("vectors-*.json")]
    mine = sorted((one for one in reports if one["machine"] == machine()), key=lambda one: one["rows"])
    curves, rows = {}, []
    for report in mine:
        curves[report["rows"]] = [Found(**found) for found in report["pgvector"]["curve"]]
        rows.append(_size_row(report))
    notes = [f"Limits at {LIMIT_ROWS:,} rows. pgvector, m 16, ef_construction 64, one client, warm."]
    write_table("vectors", "pgvector by size", SIZES_HEAD, rows, {"sizes": mine}, notes)
    write_picture("vectors", draw_sizes(curves))


def _size_row(report: dict[str, Any]) -> list[str]:
    rows, built, exact = report["rows"], report["pgvector"]["built"], Found(**report["pgvector"]["exact"])
    curve = [Found(**found) for found in report["pgvector"]["curve"]]
    best = smallest(curve) or curve[-1]
    ratio = exact.p50 / best.p50
    limits = ""
    if rows == LIMIT_ROWS:
        asked = {
            f"recall ≥ {TARGET}": best.recall >= TARGET,
            f"p50 < {LIMIT_P50 * 1000:.0f} ms": best.p50 < LIMIT_P50,
            f"ratio ≥ {LIMIT_RATIO}": ratio >= LIMIT_RATIO,
        }
        limits = ", ".join(f"{what} {'kept' if kept else 'BROKEN'}" for what, kept in asked.items())
    cells = [f"{rows:,}", f"{rows / built['load']:,.0f} rows/s", seconds_text(built["build"])]
    cells += [f"{built['index_bytes'] // MB:,} MB", str(best.setting), f"{best.recall:.3f}"]
    return [*cells, *map(seconds_text, (best.p50, best.p95, exact.p50)), f"{ratio:,.0f}", limits]
