"""What others do meanwhile: their statements and their locks on the table, as the server tells when it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

import asyncpg

from course_lib.instruments.traffic.process.statements import Table
from course_lib.instruments.traffic.process.workers import AFTER_A_LOSS, FAILURES, Connect, Worker

PAUSE = 0.004  # seconds between two looks
LOOK = """
SELECT extract(epoch FROM clock_timestamp())::float8 AS now, pid, application_name = $1 AS is_worker, state, query,
       extract(epoch FROM xact_start)::float8 AS xact_start, extract(epoch FROM query_start)::float8 AS query_start,
       extract(epoch FROM state_change)::float8 AS state_change,
       wait_event_type = 'Lock' AND wait_event <> 'extend' AS at_lock,  -- who extends a file waits for no transaction
       modes, granted, relations
FROM pg_stat_activity LEFT JOIN (
    SELECT pid, array_agg(mode) AS modes, array_agg(granted) AS granted,
           array_agg(CASE WHEN relation <> $2 THEN relation::regclass::text ELSE '' END) AS relations
    FROM pg_locks
    WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (relation = $2 OR relation = ANY ($3) AND mode = 'AccessExclusiveLock')
    GROUP BY pid
) AS on_table USING (pid)
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND backend_type IN ('client backend', 'autovacuum worker')
  AND CASE application_name WHEN $1 THEN wait_event_type = 'Lock' AND wait_event <> 'extend' ELSE
      modes IS NOT NULL OR state <> 'idle' OR state_change > clock_timestamp() - interval '1 second' END
"""
END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND pid = ANY ($2)"
Span = list[float]  # [began, ended]


class Spans:
    """What was seen in several looks, one after another, lasted from before the first of them to the last."""

    def __init__(self) -> None:
        self._found: dict[Hashable, list[Span]] = {}
        self._seen: dict[Hashable, int] = {}

    def add(self, what: Hashable, look: int, began: float, now: float) -> None:
        spans = self._found.setdefault(what, [])
        if self._seen.get(what) == look - 1:
            spans[-1][1] = now
        else:
            spans.append([began, now])
        self._seen[what] = look

    def of(self, what: Hashable) -> list[Span]:
        return self._found.get(what, [])

    def __iter__(self) -> Iterator[tuple[Any, list[Span]]]:
        return iter(self._found.items())


def _end(row: Any, now: float) -> float:
    """Of its statement. The server's own processes have no state, and end theirs unseen."""
    return float(now if row["state"] == "active" else row["state_change"] or now)


class Watch:
    """Looks again and again, on a connection of its own. Moments are seconds on the server's clock."""

    def __init__(self, connection: asyncpg.Connection[Any], connect: Connect, name: str) -> None:
        self.connection = connection
        self._statements: dict[tuple[int, float], tuple[str, float]] = {}  # text and end by process and beginning
        self._transactions, self._locks, self._waits = Spans(), Spans(), Spans()
        self._ahead = float("-inf")  # the server's clock before perf_counter
        self._connect = connect
        self._name = name
        self._looks = 0
        self._looked = float("-inf")  # the moment of the look before

    async def look_on(self, table: Table, workers: Sequence[Worker], over: asyncio.Event) -> None:
        """Until it is over; through the loss of the server, too."""
        while not over.is_set():
            asked = perf_counter()
            try:
                rows = await self.connection.fetch(LOOK, self._name, table.oid, table.indexes)
            except FAILURES:
                await asyncio.sleep(AFTER_A_LOSS)
                with suppress(*FAILURES):
                    self.connection = await self._connect()
                continue
            here = perf_counter()
            self._looks += 1
            for row in rows:
                self._ahead = max(self._ahead, row["now"] - here)  # the answer that took least to arrive tells best
                if row["is_worker"]:
                    self._mark(row["pid"], asked, workers)
                else:
                    self._note(row, row["now"])
            self._looked = self._ahead + asked
            await asyncio.sleep(PAUSE)

    def _mark(self, pid: int, asked: float, workers: Sequence[Worker]) -> None:
        for worker in workers:
            if worker.pid == pid and worker.began < asked:
                worker.at_lock = True

    def _note(self, row: Any, now: float) -> None:
        pid, look = row["pid"], self._looks
        since = max(self._looked, row["query_start"] or now)  # it was not so in the look before
        if row["query_start"] is not None and row["query"]:
            key = (pid, row["query_start"])
            self._statements[key] = (row["query"], _end(row, now))
            if row["at_lock"]:
                self._waits.add(key, look, min(since, now), now)
        if row["xact_start"] is not None:
            self._transactions.add((pid, row["xact_start"]), look, row["xact_start"], now)
        for lock in zip(row["modes"] or (), row["granted"] or (), row["relations"] or (), strict=True):
            self._locks.add((pid, *lock), look, min(since, now), now)

    async def end(self, pids: Sequence[int]) -> None:
        """End these server processes."""
        with suppress(*FAILURES):
            await self.connection.execute(END, self._name, pids)

    def told(self, zero: float) -> dict[str, Any]:
        """What was seen, in seconds after ``zero``, a moment on the clock of this process."""
        start = zero + self._ahead

        def since(spans: list[Span]) -> list[Span]:
            return [[began - start, ended - start] for began, ended in spans]

        return {
            "statements": [
                {
                    "pid": pid, "text": text, "span": [began - start, ended - start],
                    "waits": since(self._waits.of((pid, began))),
                }
                for (pid, began), (text, ended) in self._statements.items()
            ],
            "transactions": [{"pid": pid, "spans": since(spans)} for (pid, _), spans in self._transactions],
            "locks": [
                {"pid": pid, "mode": mode, "granted": granted, "index": relation, "spans": since(spans)}
                for (pid, mode, granted, relation), spans in self._locks
            ],
        }  # fmt: skip
