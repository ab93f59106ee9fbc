"""What the process with the workers has seen. All moments are seconds after the block's begin."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from course_lib.instruments.network.own_statements import asked_by_a_driver
from course_lib.instruments.query_log.fold import line_of

Kind = Literal["reader", "writer", "inserter"]
Span = tuple[float, float]  # began, ended

MODES = (
    "AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock",
    "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock",
)  # fmt: skip
"""Of locks on a table, the weakest first, as ``pg_locks`` names them."""
AROUND = re.compile(r"\s*(BEGIN|START|COMMIT|END|ABORT|ROLLBACK|SAVEPOINT|RELEASE|SET|RESET|SHOW|DEALLOCATE)\b", re.I)

HALVES = (0.02, 0.002)  # seconds between the two halves of a statement at most, and of the shorter half


@dataclass(frozen=True)
class Request:
    """One request of a worker.

    Attributes:
        failure: its SQLSTATE, or the error's name where the server said none; None when it went well.
        at_lock: the server was seen to keep it at a lock.
    """

    began: float
    ended: float
    failure: str | None
    at_lock: bool

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Lane:
    """A worker and its requests in their order; ``cut_off``: it still waited a while after the block."""

    name: str
    kind: Kind
    cut_off: bool
    requests: Sequence[Request]

    @property
    def before(self) -> list[Request]:
        """Those that were answered before the block began."""
        return [request for request in self.requests if request.ended <= 0]

    @property
    def during(self) -> list[Request]:
        """Those that the block can have kept waiting, and one after it."""
        return [request for request in self.requests if request.ended > 0]


@dataclass(frozen=True)
class SeenStatement:
    """What another session ran, on one line; ``waits``: when it stood at a lock."""

    pid: int
    text: str
    began: float
    ended: float
    waits: Sequence[Span]

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def waited(self) -> float:
        """Seconds of it at a lock."""
        return sum(ended - began for began, ended in self.waits)


@dataclass(frozen=True)
class SeenLock:
    """A lock of another session on the table, or on ``index`` of it; not ``granted``: it was waited for."""

    pid: int
    mode: str
    granted: bool
    index: str
    spans: Sequence[Span]

    @property
    def seconds(self) -> float:
        return sum(ended - began for began, ended in self.spans)


@dataclass(frozen=True)
class Record:
    """Everything.

    Attributes:
        began: when the workers began, before the block: less than 0.
        ended: when the block ended.
        failures: SQLSTATE to the name of its error.
        statements: those that ran while the block did, without what drivers ask for themselves, BEGIN, SET and such.
        transactions: of each server process, when one was open.
    """

    began: float
    ended: float
    lanes: Sequence[Lane]
    failures: Mapping[str, str]
    statements: Sequence[SeenStatement]
    transactions: Mapping[int, Sequence[Span]]
    locks: Sequence[SeenLock]


def read(told: Mapping[str, Any]) -> Record:
    """What was told as JSON."""
    transactions: dict[int, list[Span]] = {}
    for seen in told["transactions"]:
        transactions.setdefault(seen["pid"], []).extend(_spans(seen["spans"], told["ended"]))
    lanes = [
        Lane(lane["name"], lane["kind"], lane["cut_off"], [Request(*request) for request in lane["requests"]])
        for lane in told["lanes"]
    ]
    locks = [
        SeenLock(lock["pid"], lock["mode"], lock["granted"], lock["index"], spans)
        for lock in told["locks"]
        if (spans := _spans(lock["spans"], told["ended"]))
    ]
    statements = _statements(told["statements"], told["ended"])
    return Record(told["began"], told["ended"], lanes, told["failures"], statements, transactions, locks)


def _spans(told: Sequence[Sequence[float]], end: float) -> list[Span]:
    """Those of the block's time."""
    return [(began, ended) for began, ended in told if ended > 0 and began < end]


def _statements(told: Sequence[Mapping[str, Any]], end: float) -> list[SeenStatement]:
    """Those of the block's time, in order. The server counts it as two when one is prepared and then executed."""
    found: list[SeenStatement] = []
    last: dict[int, SeenStatement] = {}
    for seen in sorted(told, key=lambda seen: float(seen["span"][0])):
        began, ended = seen["span"]
        one = SeenStatement(seen["pid"], line_of(seen["text"]), began, ended, _spans(seen["waits"], end))
        earlier = last.get(one.pid)
        if earlier is not None and _is_one(earlier, one):
            found.remove(earlier)
            one = replace(one, began=earlier.began, waits=[*earlier.waits, *one.waits])
        last[one.pid] = one
        found.append(one)
    return [one for one in found if one.ended > 0 and one.began < end and _is_of_interest(one.text)]


def _is_one(earlier: SeenStatement, later: SeenStatement) -> bool:
    between, shorter = later.began - earlier.ended, min(earlier.seconds, later.seconds)
    return earlier.text == later.text and between < HALVES[0] and shorter < HALVES[1]


def _is_of_interest(sql: str) -> bool:
    return not AROUND.match(sql) and not asked_by_a_driver(sql)
