"""The log of what passed a wire: the same questions as to a ``QueryLog``, and the bytes and connections besides."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from psycopg import errors

from course_lib.errors import CourseError
from course_lib.instruments.network.own_statements import asked_by_a_driver
from course_lib.instruments.query_log import QueryLog
from course_lib.instruments.query_log.questions import StatementLog
from course_lib.instruments.query_log.statement import Statement, is_control

if TYPE_CHECKING:
    from course_lib.instruments.network.wire import Wire

ABORTED = "PipelineAborted"  # psycopg's word for what is not run because of an error before it


@dataclass(frozen=True, slots=True)
class Passed:
    """One statement as the relay tells it, see ``relay.record.Entry``. Times are ``time.monotonic()``."""

    number: int
    connection: int
    text: int
    started: float
    ended: float | None
    received: int
    changed: int
    brings_rows: bool
    tag: bytes
    sqlstate: bytes
    sets: int
    executes: int
    answered_bytes: int
    copied_bytes: int
    transaction: int | None
    skipped: bool
    never_ran: bool


class Traffic:
    """What passed a wire since it was opened."""

    def __init__(self) -> None:
        self.passed: list[Passed] = []
        self.texts: list[str] = []
        self.connections: list[tuple[float, float | None]] = []
        self.bytes_sent = self.bytes_received = 0

    def add(
        self, known: int, texts: list[bytes], entries: list[Any], connections: list[Any], sent: int, received: int,
        trouble: str,
    ) -> None:  # fmt: skip
        """Take in what the relay tells, see ``relay.record.Record.news``.

        Raises:
            CourseError: the relay could not read something that passed.
        """
        if trouble:
            raise CourseError(f"What passed on the way to the database could not be read: {trouble}.", "Run it again.")
        self.texts[known:] = [text.decode("utf-8", "replace") for text in texts]
        for told in sorted(entries):
            self.passed[told[0] : told[0] + 1] = [Passed(*told)]
        for number, opened, closed in sorted(connections):
            self.connections[number - 1 : number] = [(opened, closed)]
        self.bytes_sent, self.bytes_received = sent, received


class WireLog(StatementLog):
    """Everything that passed while it was open, read anew at each question; after ``close`` it stays as it is.

    What drivers ask on their own is among the entries, ``by_driver``, and not among the statements.
    """

    def __init__(self, wire: Wire, beside: QueryLog | None = None) -> None:
        traffic = wire.traffic()
        self._wire = wire
        self._beside = beside
        self._first = len(traffic.passed)
        self._first_connection = len(traffic.connections)
        self._bytes = (traffic.bytes_sent, traffic.bytes_received)
        self._began = time.monotonic()
        self._ended: float | None = None
        self._kept: dict[int, tuple[Passed, Statement]] = {}
        self._last: tuple[list[Passed], list[tuple[float, float | None]], int, int] | None = None

    def close(self) -> None:
        """Look for the last time. Does nothing the second time."""
        if self._last is None:
            last, self._ended = self._look(), time.monotonic()
            self._last = last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> tuple[list[Passed], list[tuple[float, float | None]], int, int]:
        if self._last is not None:
            return self._last
        traffic = self._wire.traffic()
        sent, received = traffic.bytes_sent - self._bytes[0], traffic.bytes_received - self._bytes[1]
        return traffic.passed[self._first :], list(traffic.connections), sent, received

    # what was seen

    @property
    def entries(self) -> list[Statement]:
        """All of it."""
        passed = [entry for entry in self._look()[0] if not entry.never_ran]
        lines = self._lines()
        return [self._statement(entry, lines) for entry in passed]

    @property
    def received(self) -> int:
        """Rows that came to clients, whatever brought them."""
        return sum(statement.received for statement in self.statements)

    @property
    def bytes_sent(self) -> int:
        """Bytes from clients to the server, greetings included."""
        return self._look()[2]

    @property
    def bytes_received(self) -> int:
        """Bytes from the server to clients, greetings included."""
        return self._look()[3]

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return len(self._look()[1]) - self._first_connection

    @property
    def most_connections(self) -> int:
        """How many connections were open at once, those included that were open before."""
        ended = self._ended or time.monotonic()
        steps = []
        for opened, closed in self._look()[1]:
            if opened <= ended and (closed is None or closed >= self._began):
                steps += [(opened, 1)] + ([(closed, -1)] if closed is not None else [])
        open_now = most = 0
        for _, step in sorted(steps):
            open_now += step
            most = max(most, open_now)
        return most

    # in the words of a QueryLog

    def _statement(self, passed: Passed, lines: dict[str, deque[str | None]]) -> Statement:
        sql = self._wire.traffic_so_far.texts[passed.text]
        where = lines[sql].popleft() if lines.get(sql) else None
        known = self._kept.get(passed.number)
        if known is not None and known[0] is passed and known[1].where == where:
            return known[1]
        rows = passed.received if passed.brings_rows else passed.changed
        statement = Statement(
            sql=sql,
            where=where,
            connection=passed.connection,
            transaction=passed.transaction,
            started=passed.started - self._began,
            seconds=passed.ended - passed.started if passed.ended is not None else None,
            rows=None if is_control(sql) or not (passed.brings_rows or passed.tag[-1:].isdigit()) else rows,
            parameter_sets=passed.sets if passed.sets > 1 else None,
            error=_error(passed),
            sqlstate=passed.sqlstate.decode() or None,
            received=passed.received,
            by_driver=asked_by_a_driver(sql),
        )
        self._kept[passed.number] = (passed, statement)
        return statement

    def _lines(self) -> dict[str, deque[str | None]]:
        """Of each SQL text the lines that the log beside has seen issue it, in order.

        What happens to that log is no matter: it adorns.
        """
        lines: dict[str, deque[str | None]] = defaultdict(deque)
        try:
            for entry in self._beside.entries if self._beside is not None else ():
                lines[entry.sql].append(entry.where)
        except Exception:  # it lies in the reach of whoever is looked at
            return {}
        return lines


def _error(passed: Passed) -> str | None:
    if passed.skipped:
        return ABORTED
    if not passed.sqlstate:
        return None
    try:
        return errors.lookup(passed.sqlstate.decode()).__name__
    except KeyError:
        return "DatabaseError"
