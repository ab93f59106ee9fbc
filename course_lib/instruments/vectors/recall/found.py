"""What was found out, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from course_lib.instruments.plan import Plan

LINE = "font-family:var(--jp-code-font-family,monospace);margin:0;line-height:1.45"


@dataclass(frozen=True)
class Recall:
    """How many of the truly nearest rows a search found.

    Attributes:
        recall: the mean over all queries of the share found, 0.0 to 1.0.
        k: how many rows each query asked for.
        queries: how many queries were asked.
        rows: how many rows a query returned, on average.
        short: how many queries returned fewer rows than there were to be found.
        indexes: all indexes that the search used, those on vectors first.
        vector_indexes: those of them that are HNSW or IVFFlat.
        exact: True when it was seen to sort by distance without one of these, False when it used one; None when how
            it searched was not seen, as with a search on a connection of its own.
        milliseconds, exact_milliseconds: the median of the searches, and of the exact ones.
        plan: of the first search, analyzed; None if what was searched by was seen by no event of SQLAlchemy.
        exact_plan: of the first exact search, analyzed.
        settings: what the searches ran under, besides the server's own.
    """

    recall: float
    k: int
    queries: int
    rows: float
    short: int
    indexes: tuple[str, ...]
    vector_indexes: tuple[str, ...]
    exact: bool | None
    milliseconds: float = field(compare=False)
    exact_milliseconds: float = field(compare=False)
    plan: Plan | None = field(compare=False)
    exact_plan: Plan = field(compare=False)
    settings: Mapping[str, str]

    @property
    def lines(self) -> list[str]:
        """Numbers in the first line only: they differ from one build of an index to the next."""
        short = f", {self.short} of {self.queries} queries short" if self.short else ""
        lines = [f"recall {self.recall:.2f} · {self.rows:.1f} of {self.k} rows{short}"]
        lines.append(self._searched_by())
        held = "with" if self.plan else "on that connection"
        lines += [f"{held} {name} = {value}" for name, value in self.settings.items()]
        return lines

    def _searched_by(self) -> str:
        used = ", ".join(self.indexes)
        if self.exact is None:
            seen = f"searched by {used} and by more" if used else "searched"
            return f"{seen}, which was not seen on the connection given"
        return f"searched by {used or 'no index'}" + (": an exact search" if self.exact else "")

    def __str__(self) -> str:
        return "\n".join(self.lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        first, *others = (escape(line, quote=False) for line in self.lines)
        body = "\n".join([f"<b>{first}</b>", *(f'<span style="opacity:.75">{line}</span>' for line in others)])
        return f'<pre style="{LINE}">{body}</pre>'
