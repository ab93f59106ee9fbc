"""What is asked of every store: searches, a tenant's rows, deletes, inserts beside searches, half a unit of work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from course_lib.bench.engines import EF_SEARCH, ENOUGH
from course_lib.bench.points import PASSES, SHARES, Found, Numbers, Points, Series, Vectors, quietest
from course_lib.bench.stores import Store

BATCH = 100  # rows of a call that adds or deletes
DELETED = 0.1  # the share of all rows that goes
SOME = 100  # queries for each way of filtering
MOST_SEARCHES = 100_000  # beside the inserts


@dataclass(frozen=True)
class Within:
    """A tenant's ten nearest, searched one ``way``; ``said`` is what the engine says of it."""

    share: float
    way: str
    found: Found
    said: str = ""


@dataclass(frozen=True)
class Deleted:
    """``returned`` deleted rows came back in all searches afterwards, which found ``found``; seconds and bytes.

    ``upkeep`` are the seconds of what the engine's documentation asks for after that.
    """

    rows: int
    seconds: float
    returned: int
    found: Found
    upkeep: float


@dataclass(frozen=True)
class Inserted:
    """``rows`` in ``seconds`` beside searches: ``alone`` before, ``beside`` meanwhile. ``at_once``: the share of the
    last rows that a search found right after; ``upkeep`` seconds of what is to be done after many."""

    rows: int
    seconds: float
    alone: Found
    beside: Found
    at_once: float
    upkeep: float


def rising(store: Store, points: Points, truth: Numbers) -> Iterator[Found]:
    """Searches without a filter with rising ef_search, until nearly all is found."""
    for query in points.queries:
        store.search(query, EF_SEARCH[-1])  # brings the graph into memory
    for ef in EF_SEARCH:
        found = quietest([_searched(store, points.queries, truth, ef) for _ in range(PASSES)])
        yield found
        if found.recall >= ENOUGH:
            return


def _searched(
    store: Store, queries: Vectors, truth: Numbers, ef: int, tenant: int | None = None, way: str = ""
) -> Found:
    series = Series(truth)
    for query in queries:
        began = perf_counter()
        series.note(began, store.search(query, ef, tenant, way))
    return series.found(ef)


def within_tenants(store: Store, points: Points, ef: int) -> Iterator[Within]:
    """Each way for each tenant, at the ef_search that is enough without a filter."""
    queries = points.queries[:SOME]
    truth = {tenant: points.nearest(queries, tenant) for tenant in SHARES}
    for way in store.ways:
        for tenant, share in SHARES.items():
            _searched(store, queries[:10], truth[tenant], ef, tenant, way)
            found = _searched(store, queries, truth[tenant], ef, tenant, way)
            yield Within(share, way, found, store.explain(way, queries[0], tenant))


def rows_to_delete(rows: int) -> Numbers:
    """Numbers of a tenth of the rows, in order, the same in every run."""
    generator = np.random.Generator(np.random.PCG64(7))
    return np.sort(generator.choice(rows, int(rows * DELETED), replace=False))


def deleting(store: Store, points: Points, ef: int) -> Deleted:
    """A tenth of all rows goes, drawn from all tenants."""
    gone = rows_to_delete(points.rows)
    began = perf_counter()
    for batch in np.array_split(gone, -(-len(gone) // BATCH)):
        store.delete(batch)
    seconds = perf_counter() - began
    left = replace(points, tenants=np.isin(np.arange(points.rows), gone).astype(np.int64))
    truth, forbidden = left.nearest(points.queries, 0), set(gone.tolist())
    returned = sum(len(forbidden.intersection(map(int, store.search(query, ef)))) for query in points.queries)
    found = _searched(store, points.queries, truth, ef)
    began = perf_counter()
    store.upkeep()
    return Deleted(len(gone), seconds, returned, found, perf_counter() - began)


def inserting(store: Store, points: Points, fresh: Vectors, ef: int) -> Inserted:
    """One thread adds ``fresh`` rows, another searches; the recall is not looked at, rows come meanwhile."""
    unknown = np.zeros((MOST_SEARCHES, 1), dtype=np.int64)
    alone = _searched(store, points.queries, unknown, ef)
    ids = points.rows + np.arange(len(fresh))

    def add() -> float:
        began = perf_counter()
        for start in range(0, len(fresh), BATCH):
            block = fresh[start : start + BATCH]
            store.add(ids[start : start + BATCH], block, np.ones(len(block), dtype=np.int64))
        return perf_counter() - began

    series, number = Series(unknown), 0
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(add)
        while not (adding.done() and number) and number < MOST_SEARCHES:
            began = perf_counter()
            series.note(began, store.search(points.queries[number % len(points.queries)], ef))
            number += 1
    last = range(len(fresh) - BATCH, len(fresh))
    at_once = np.mean([int(ids[place]) in map(int, store.search(fresh[place], ef)) for place in last])
    began = perf_counter()
    store.upkeep()
    return Inserted(len(fresh), adding.result(), alone, series.found(ef), float(at_once), perf_counter() - began)


def torn(store: Store, start: int, fresh: Vectors) -> int:
    """How many rows are there of a unit of work whose program failed half-way."""
    ids = start + np.arange(len(fresh))
    with suppress(RuntimeError):
        store.add_in_two(ids, fresh, np.ones(len(fresh), dtype=np.int64))
    return store.count_of(ids)
