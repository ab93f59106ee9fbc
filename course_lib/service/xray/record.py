"""What is kept of one request while it runs, and what is told of it. Values of parameters are never told."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause
from sqlalchemy.pool import Pool
from starlette.types import Scope

from course_lib.instruments import QueryLog, Statement
from course_lib.instruments.pool import Recorder
from course_lib.service.xray.schemas import CallOut, HoldOut, LockOut, StatementOut, Summary, WaitOut, XRayOut


@dataclass
class Call:
    """One call to the model: when it was asked, had answered with headers, with a first byte, with all."""

    what: str
    asked: float
    status: int | None = None
    first_byte: float | None = None
    ended: float | None = None


@dataclass
class Running:
    """A statement under way, on this process of the server."""

    pid: int
    since: float


class Lock:
    """A time in which a statement was seen to wait for another session's lock."""

    def __init__(self, began: float) -> None:
        self.began = self.seen = began


class Record:
    """One request. Times are seconds since it came."""

    def __init__(self, scope: Scope, pool: Pool) -> None:
        self.id = secrets.token_hex(8)
        self.came = datetime.now(UTC)
        self.method: str = scope["method"]
        self.status: int | None = None
        self.first_byte: float | None = None
        self.ended: float | None = None
        self.calls: list[Call] = []
        self.locks: list[Lock] = []
        self.search: tuple[TextClause, Mapping[str, Any]] | None = None
        self.running: dict[int, Running] = {}  # by id of the execution context
        self._scope = scope
        self._zero = perf_counter()
        self.log = QueryLog()
        self.connections = Recorder(pool)

    def now(self) -> float:
        return perf_counter() - self._zero

    @property
    def owner(self) -> UUID | None:
        """Whose key was shown; None before that is known, and where none was needed."""
        caller = self._scope.get("state", {}).get("caller")
        return None if caller is None else caller.id

    @property
    def route(self) -> str:
        """As it is declared, without the ids that were asked for."""
        return getattr(self._scope.get("route"), "path", "")

    def end(self) -> None:
        self.ended = self.now()
        self.connections.end()
        self._scope = {name: self._scope[name] for name in ("state", "route") if name in self._scope}  # not the key

    # what is told

    def summary(self) -> Summary:
        return Summary(
            id=self.id, method=self.method, route=self.route, status=self.status, came=self.came, took=_ms(self.ended)
        )  # fmt: skip

    def told(self) -> XRayOut:
        return XRayOut(
            **self.summary().model_dump(),
            first_byte=_ms(self.first_byte),
            statements=[_statement(entry) for entry in self.log.entries],
            holds=list(self._holds()),
            waits=list(self._waits()),
            calls=[
                CallOut(what=c.what, status=c.status, asked=c.asked * 1000, first_byte=_ms(c.first_byte),
                        ended=_ms(c.ended))
                for c in self.calls
            ],
            locks=[LockOut(began=lock.began * 1000, seen=lock.seen * 1000) for lock in self.locks],
            has_search=self.search is not None,
        )  # fmt: skip

    def _holds(self) -> Iterable[HoldOut]:
        for lane in self.connections.lanes:
            for hold in lane.holds:
                yield HoldOut(taken=hold.began * 1000, given_back=_ms(hold.ended))

    def _waits(self) -> Iterable[WaitOut]:
        for lane in self.connections.lanes:
            for wait in lane.waits:
                yield WaitOut(began=wait.began * 1000, ended=_ms(wait.ended), outcome=wait.outcome)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _statement(entry: Statement) -> StatementOut:
    return StatementOut(
        sql=entry.line, issued_by=entry.where, began=entry.started * 1000, took=_ms(entry.seconds), rows=entry.rows,
        connection=entry.connection, error=entry.error, is_control=entry.is_control,
    )  # fmt: skip


@dataclass
class Kept:
    """The latest requests of the latest users, each user's by themselves."""

    of_each: int
    users: int
    _by_owner: dict[UUID, dict[str, Record]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Unless it is nobody's."""
        owner = record.owner
        if owner is None:
            return
        mine = self._by_owner.pop(owner, {})
        mine[record.id] = record
        if len(mine) > self.of_each:
            del mine[next(iter(mine))]
        self._by_owner[owner] = mine  # the latest user is last
        if len(self._by_owner) > self.users:
            del self._by_owner[next(iter(self._by_owner))]

    def of(self, owner: UUID) -> dict[str, Record]:
        """By id, oldest first."""
        return self._by_owner.get(owner, {})
