"""Bytes of a table's parts, calculated or measured, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from course_lib.instruments.rows import Rows

TABLE, TOAST, TOAST_INDEX, INDEX = "table", "TOAST", "TOAST's index", "index"
UNITS = ("bytes", "KB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Sizes:
    """Bytes by part. Two of the same rows can be added: ``table_size(…) + index_size(…)``.

    Attributes:
        rows: how many rows it is for.
        parts: name to bytes; ``table``, ``TOAST``, ``TOAST's index``, ``index``, or an index by its name.
    """

    rows: int
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def index(self) -> int:
        """Bytes of the indexes on vectors: all parts but those of the table."""
        return sum(size for name, size in self.parts.items() if name not in (TABLE, TOAST, TOAST_INDEX))

    @property
    def per_row(self) -> float:
        """Bytes of all parts, for each row."""
        return self.total / self.rows if self.rows else 0.0

    def __add__(self, other: Sizes) -> Sizes:
        if self.rows != other.rows:
            raise ValueError(f"Sizes of {self.rows:,} and of {other.rows:,} rows make no sum.")
        return Sizes(self.rows, {**self.parts, **other.parts})

    @property
    def table(self) -> Rows:
        """The parts as a table: what each takes, and its share of a row."""
        parts = [self._line(name, size) for name, size in self.parts.items() if size]
        together = [self._line("together", self.total)] if len(parts) > 1 else []
        return Rows(["part", "size", "bytes a row"], [*parts, *together])

    def _line(self, name: str, size: int) -> tuple[str, str, int]:
        return name, size_text(size), round(size / self.rows) if self.rows else 0

    def __str__(self) -> str:
        return str(self.table).rsplit("\n", 1)[0]  # its last line counts the parts

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_().split("<p>")[0]


def size_text(size: float) -> str:
    """Bytes as a person reads them, in powers of 1,024 as PostgreSQL's pg_size_pretty does."""
    unit = 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:,.{0 if unit == 0 or size >= 100 else 1}f} {UNITS[unit]}"
