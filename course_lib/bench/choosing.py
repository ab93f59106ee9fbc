"""pgvector, an embedded engine and libraries on the same vectors at the same recall: everything but the search, too."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import numpy as np
import psutil

from course_lib.bench.choosing_report import Changed, Chosen, Searched, say, write_choices
from course_lib.bench.chunk_table import build_table, connected
from course_lib.bench.engines import INSTALL
from course_lib.bench.filters import REPOSITORY, Filters
from course_lib.bench.installed_stores import STORES, version_of
from course_lib.bench.killed import ADDED, kill_process, kill_server
from course_lib.bench.lanes import BATCH, Within, deleting, inserting, rising, rows_to_delete, torn, within_tenants
from course_lib.bench.large_server import LargeServer, large_server
from course_lib.bench.pgvector_store import PgvectorStore
from course_lib.bench.points import Numbers, Points, Vectors, make_points
from course_lib.bench.report import seconds_text
from course_lib.bench.stores import BareEdgeStore, Store

QUICK_ROWS, ROWS = 5_000, 20_000
QUERIES, QUICK_QUERIES = 500, 200
MOST_FRESH = 10_000  # rows added beside searches: a tenth of the rows, up to so many
R = TypeVar("R")
SECONDS_PER_ROW = 0.012  # on two idle cores, only to say how long it will take


@dataclass(frozen=True)
class Work:
    """What every engine gets: the rows, right answers to the questions, rows that come later."""

    points: Points
    truth: Numbers
    fresh: Vectors

    @property
    def later(self) -> Vectors:
        """Rows that are added beside searches."""
        return self.fresh[: -(BATCH + ADDED)]

    @property
    def known(self) -> tuple[int, Vectors]:
        """A row that is never deleted: its number and its vector."""
        _, block = next(self.points.blocks())
        number = next(number for number, gone in enumerate(rows_to_delete(self.points.rows)) if number != gone)
        return number, block[number]


def measure(quick: bool, sizes: Sequence[int] = ()) -> None:
    """Measure each size, print and write ``bench-results/choosing-…``: tables, pictures, and all numbers as JSON."""
    for rows in sizes or [QUICK_ROWS if quick else ROWS]:
        say(f"\nChoosing, {rows:,} rows: about {max(1, rows * SECONDS_PER_ROW / 60):.0f} min on two idle cores.")
        asyncio.run(_measure(rows, QUICK_QUERIES if quick else QUERIES))


async def _measure(rows: int, queries: int) -> None:
    async with large_server(rows, durable=True) as server:
        later = min(MOST_FRESH, rows // 10)
        drawn = make_points(server.folder, rows, queries + later + BATCH + ADDED)
        points, fresh = replace(drawn, queries=drawn.queries[:queries]), drawn.queries[queries:]
        work = Work(points, points.nearest(points.queries), fresh)
        chosen: list[Chosen | tuple[str, str]] = [await _pgvector(server, work)]
        for name in STORES:
            one = await asyncio.to_thread(_in_process, name, server.folder, work)
            chosen.append(one)
            say(f"  {name}: {'measured' if isinstance(one, Chosen) else one[1]}")
        write_choices(rows, str(server.memory), chosen)


async def _pgvector(server: LargeServer, work: Work) -> Chosen:
    async with connected(server.url) as connection:
        built = await build_table(connection, server.url, work.points, server.memory)
        say(f"  pgvector: loaded in {seconds_text(built.load)}, indexed in {seconds_text(built.build)}")
        version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        server_version = await connection.fetchval("SHOW server_version")
        store = await asyncio.to_thread(PgvectorStore, server.url)
        disk, build = store.size(), built.load + built.build
        searched = await asyncio.to_thread(_search, store, work)
        by_repository = await Filters(connection, work.points, searched.ef).by_repository(server.url)
        searched.within.extend(Within(one.share, REPOSITORY, one.found, one.index) for one in by_repository)
        changed = await asyncio.to_thread(_change, store, work, searched.ef)
        memory = _memory_of(server)
        await asyncio.to_thread(store.close)
    known = work.fresh[-ADDED:], work.known, searched.ef
    killed = await asyncio.to_thread(kill_server, server, _after(work), *known)
    named = f"{version} in PostgreSQL {server_version.split()[0]}"
    return Chosen.of(store, named, build, memory, disk, searched, changed, killed=killed)


def _after(work: Work) -> int:
    """The number of the first row after those that were added, and after half a unit of work."""
    return work.points.rows + len(work.later) + BATCH // 2


def _search(store: Store, work: Work) -> Searched:
    """What a filled store finds, with and without a tenant."""
    curve = list(rising(store, work.points, work.truth))
    searched = Searched(curve, [])
    searched.within.extend(within_tenants(store, work.points, searched.ef))
    return searched


def _change(store: Store, work: Work, ef: int) -> Changed:
    """In an order in which nothing spoils what comes after it."""
    deleted = deleting(store, work.points, ef)
    inserted = inserting(store, work.points, work.later, ef)
    start = work.points.rows + len(work.later)
    half = torn(store, start, work.fresh[len(work.later) : len(work.later) + BATCH])
    return Changed(deleted, inserted, half)


def _in_process(name: str, folder: Path, work: Work) -> Chosen | tuple[str, str]:
    """An engine in a process of its own; its name and a sentence where that cannot be."""
    if find_spec(STORES[name][0]) is None:
        return name, f"not installed; for it: {INSTALL}"
    place = folder / name
    place.mkdir()
    try:
        chosen = _alone(_filled_and_lived, name, place, work)
        if name == "qdrant-edge":
            chosen.searched.within[:0] = _alone(_bare, place.with_name("bare"), work, chosen.searched.ef)
    except BrokenProcessPool:
        return name, "its process was killed, probably for want of memory"
    known = work.fresh[-ADDED:], work.known, chosen.searched.ef
    killed = kill_process(name, place, _after(work), *known)
    shutil.rmtree(place)
    return replace(chosen, killed=killed)


def _alone(function: Callable[..., R], *arguments: object) -> R:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _filled_and_lived(name: str, folder: Path, work: Work) -> Chosen:
    module, make = STORES[name]
    __import__(module)  # before its memory is looked at
    process = psutil.Process()
    before = process.memory_info().rss
    began = perf_counter()
    store = _filled(make(folder, work.points.rows), work.points)
    build, memory = perf_counter() - began, process.memory_info().rss - before
    store.save()
    disk = _bytes_in(folder)
    searched = _search(store, work)
    changed = _change(store, work, searched.ef)
    began = perf_counter()
    store.save()
    saved = perf_counter() - began
    store.close()
    return Chosen.of(store, version_of(name), build, memory, disk, searched, changed, save=saved)


def _bare(folder: Path, work: Work, ef: int) -> list[Within]:
    folder.mkdir()
    store = _filled(BareEdgeStore(folder, work.points.rows), work.points)
    found = list(within_tenants(store, work.points, ef))
    store.close()
    shutil.rmtree(folder)
    return found


def _filled(store: Store, points: Points) -> Store:
    for start, block in points.blocks():
        ids = start + np.arange(len(block))
        store.add(ids, block, points.tenants[start : start + len(block)])
    store.finish()
    return store


def _bytes_in(folder: Path) -> int:
    """What its files take on the disk, which is less than their length where they have holes."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(stat.st_blocks * 512 if os.name != "nt" else stat.st_size for stat in stats)


def _memory_of(server: LargeServer) -> int | None:
    """All processes of the server, what they share counted once; None where the system does not say."""
    first = server.cluster.process()
    assert first is not None
    sizes = [getattr(one.memory_full_info(), "pss", None) for one in [first, *first.children()]]
    return None if None in sizes else sum(size for size in sizes if size is not None)
