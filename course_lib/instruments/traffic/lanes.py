"""Which sessions, statements and locks beside the workers' are drawn, and in which row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from course_lib.instruments.query_log.fold import shape_of
from course_lib.instruments.traffic.record import MODES, Record, SeenLock, SeenStatement, Span

MOST_SESSIONS, MOST_STATEMENTS = 4, 6
NOTABLE = 0.01  # of the time that is drawn: how long a weak lock, or a statement that takes none, must last
TOLERANCE = 0.01  # seconds between two looks
WEAK = MODES[:3]  # those of reading and writing rows
STRONGEST = MODES[-1]


@dataclass
class Session:
    """One session, or several by turns, as when a migration takes another connection for each step."""

    transactions: list[Span] = field(default_factory=list)
    statements: list[SeenStatement] = field(default_factory=list)
    locks: list[SeenLock] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        """When it did anything, in order."""
        spans = [*self.transactions, *((one.began, one.ended) for one in self.statements)]
        return sorted([*spans, *(span for lock in self.locks for span in lock.spans)])

    @property
    def is_autovacuum(self) -> bool:
        return bool(self.statements) and all(one.text.startswith("autovacuum:") for one in self.statements)

    @property
    def weight(self) -> tuple[int, float]:
        """Of several, those come first that keep others from more, then those that last longer."""
        return max((MODES.index(lock.mode) for lock in self.locks), default=-1), length(self.spans)

    def take(self, other: Session) -> None:
        self.transactions += other.transactions
        self.statements += other.statements
        self.locks += other.locks

    def rows(self) -> list[tuple[str, list[Span], list[Span]]]:
        """A row for each mode, the strongest first: its name, when it was held, when it was waited for."""
        found: dict[tuple[int, str], tuple[list[Span], list[Span]]] = {}
        for lock in self.locks:
            held, waited = found.setdefault((-MODES.index(lock.mode), lock.index), ([], []))
            (held if lock.granted else waited).extend(lock.spans)
        rows: list[tuple[str, list[Span], list[Span]]] = []
        for (place, index), (held, waited) in sorted(found.items()):
            mode = MODES[-place]
            if mode not in WEAK or waited or not any(covers(stronger, held) for _, stronger, _ in rows):
                rows.append((f"{mode} on {index}" if index else mode, held, waited))
        return rows


def length(spans: Sequence[Span]) -> float:
    return sum(ended - began for began, ended in spans)


def covers(spans: Sequence[Span], others: Sequence[Span]) -> bool:
    """True when each of ``others`` lies in one of ``spans``."""
    return all(
        any(began <= other[0] + TOLERANCE and other[1] <= ended + TOLERANCE for began, ended in spans)
        for other in others
    )


def apart(spans: Sequence[Span], others: Sequence[Span]) -> bool:
    """True when none of the one overlaps any of the other."""
    return all(one[1] <= other[0] or other[1] <= one[0] for one in spans for other in others)


def sessions_of(record: Record, seconds: float) -> tuple[list[Session], int]:
    """The sessions that are drawn, in the order in which they began, and how many there is no room for.

    Args:
        seconds: the time that is drawn.
    """
    by_pid: dict[int, Session] = defaultdict(Session)
    for statement in record.statements:
        by_pid[statement.pid].statements.append(statement)
    for lock in record.locks:
        if lock.mode not in WEAK or lock.seconds >= NOTABLE * seconds:
            by_pid[lock.pid].locks.append(lock)
    for session in by_pid.values():
        if any(lock.mode == STRONGEST and not lock.index for lock in session.locks):  # that of an index adds nothing
            session.locks = [lock for lock in session.locks if not lock.index]
    found = [
        session
        for session in by_pid.values()
        if session.locks or any(one.seconds >= NOTABLE * seconds for one in session.statements)
    ]
    for pid, session in by_pid.items():
        session.transactions.extend(record.transactions.get(pid, ()))
    packed = _pack(found)
    shown = sorted(packed, key=lambda session: session.weight, reverse=True)[:MOST_SESSIONS]
    return [session for session in packed if session in shown], len(packed) - len(shown)


def _pack(sessions: Sequence[Session]) -> list[Session]:
    """Those that do not overlap share a lane."""
    rows: list[Session] = []
    for session in sorted(sessions, key=lambda session: session.spans):
        alike = (row for row in rows if row.is_autovacuum is session.is_autovacuum)
        free = next((row for row in alike if apart(row.spans, session.spans)), None)
        if free is None:
            rows.append(session)
        else:
            free.take(session)
    return rows


def named_statements(sessions: Sequence[Session], table: str) -> list[list[SeenStatement]]:
    """The statements that are written out, each with its repetitions, in the order in which they began.

    Those that name the table go before others, and those that took long before those that did not.
    """
    by_shape: dict[str, list[SeenStatement]] = defaultdict(list)
    for session in sessions:
        for statement in session.statements:
            by_shape[shape_of(statement.text)].append(statement)

    def weight(repeats: list[SeenStatement]) -> tuple[bool, float]:
        return table.split(".")[-1].strip('"') in repeats[0].text, sum(one.seconds for one in repeats)

    kept = sorted(by_shape.values(), key=weight, reverse=True)[:MOST_STATEMENTS]
    return sorted((sorted(group, key=lambda one: one.began) for group in kept), key=lambda group: group[0].began)
