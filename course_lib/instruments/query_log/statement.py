"""What the log keeps of a statement."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.instruments.query_log.fold import is_bulk, line_of, shape_of

NO_WORD = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*(?:[^*/]|\*(?!/)|/(?!\*)|{inner})*\*/)*+"
# comments may hold comments; two of them within each other are more than anybody writes
BEFORE = NO_WORD.format(inner=r"/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/")
CONTROL = re.compile(BEFORE + r"(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE)\b", re.IGNORECASE)
SELECT = re.compile(rf"(?:{BEFORE}\()*{BEFORE}(SELECT|WITH|TABLE|VALUES)\b", re.IGNORECASE)
LOOKS_LIKE_A_LOOP = 3  # times; twice the same question can be chance


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as it was sent.

    Attributes:
        sql: the full text, with placeholders.
        where: the line that issued it, see ``caller.issuing_line``.
        connection: which connection carried it, numbered from 1 in the order the log saw them.
        transaction: which transaction it ran in, numbered from 1; None on an AUTOCOMMIT connection.
        started: seconds since the log began.
        seconds: until the driver had the answer, network included; None while it is under way.
        rows: returned, or changed when it returns none; of a streamed result those taken so far. None where the
            driver does not tell: executemany on asyncpg, DDL.
        parameter_sets: of an executemany, else None.
        error: the class of the exception that ended it, else None.
        sqlstate: PostgreSQL's code of that error.
        parameters: only when the log was asked to keep them.
        received: rows that came to the client; of what was changed those that RETURNING brought.
        by_driver: asked by a driver for itself; only a log of the wire sees such statements.
        tables: of each column of its answer the table it comes from, whatever alias it was read through; "" for what
            is computed, and for every column of SQL given as text.
    """

    sql: str
    where: str | None
    connection: int
    transaction: int | None
    started: float
    seconds: float | None = None
    rows: int | None = None
    parameter_sets: int | None = None
    error: str | None = None
    sqlstate: str | None = None
    parameters: Any = field(default=None, repr=False)
    tables: tuple[str, ...] = field(default=(), repr=False)
    received: int = field(default=0, repr=False)
    by_driver: bool = field(default=False, repr=False)

    @property
    def line(self) -> str:
        """The SQL in one line, long lists folded."""
        return line_of(self.sql)

    @property
    def shape(self) -> str:
        """The SQL without what differs between the repeats of a loop."""
        return shape_of(self.sql)

    @property
    def is_control(self) -> bool:
        """BEGIN, COMMIT, ROLLBACK and savepoints: shown, never counted."""
        return is_control(self.sql)

    @property
    def is_select(self) -> bool:
        """SELECT, WITH, TABLE or VALUES, also in parentheses or behind a comment."""
        return SELECT.match(self.sql) is not None


def is_control(sql: str) -> bool:
    return CONTROL.match(sql) is not None


@dataclass(frozen=True, slots=True)
class Repeat:
    """A shape that one place issued ``count`` times.

    ``n_plus_one`` is True when it is a SELECT that one transaction issued three times or more without asking for
    many keys at once: what a loop over objects does when it should have loaded them together.
    """

    shape: str
    where: str | None
    count: int
    n_plus_one: bool


def repeats_of(statements: Sequence[Statement]) -> list[Repeat]:
    """The shapes issued more than once from the same place, most first."""
    seen: Counter[tuple[str, str | None]] = Counter()
    per_transaction: Counter[tuple[str, str | None, int, int | None]] = Counter()
    for statement in statements:
        place = (statement.shape, statement.where)
        seen[place] += 1
        if statement.is_select and not is_bulk(statement.sql):
            per_transaction[(*place, statement.connection, statement.transaction)] += 1
    loops = {(shape, where) for (shape, where, *_), n in per_transaction.items() if n >= LOOKS_LIKE_A_LOOP}
    return [Repeat(*place, count, place in loops) for place, count in seen.most_common() if count > 1]
