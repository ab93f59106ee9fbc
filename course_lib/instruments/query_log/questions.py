"""What can be asked of a log of statements, whoever has seen them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from course_lib.instruments.query_log.statement import Repeat, Statement, repeats_of


class StatementLog(ABC):
    """Everything here is told from ``entries``."""

    @property
    @abstractmethod
    def entries(self) -> list[Statement]:
        """The statements with BEGIN, COMMIT, ROLLBACK and savepoints between them."""

    @property
    def statements(self) -> list[Statement]:
        """The statements in the order they were sent, without transaction control and drivers' own questions."""
        return [entry for entry in self.entries if not (entry.is_control or entry.by_driver)]

    @property
    def count(self) -> int:
        """How many statements were sent."""
        return len(self.statements)

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True  # an empty log is a log

    @property
    def rows(self) -> int:
        """Rows returned or changed, as far as it is told."""
        return sum(statement.rows or 0 for statement in self.statements)

    @property
    def transactions(self) -> int:
        """How many transactions that were begun something was sent in."""
        return len({entry.transaction for entry in self.entries if entry.transaction is not None})

    @property
    def seconds(self) -> float:
        """The time of all statements added up; those of several connections may have overlapped."""
        return sum(statement.seconds or 0.0 for statement in self.statements)

    @property
    def repeated(self) -> list[Repeat]:
        """Shapes that one place issued more than once, most first. See ``Repeat.n_plus_one``."""
        return repeats_of(self.statements)
