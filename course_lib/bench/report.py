"""Tables of measurements, printed and written."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from rich.console import Console
from rich.table import Table

from course_lib.instruments.pictures import Picture

FOLDER = Path("bench-results")


def seconds_text(value: float) -> str:
    """Seconds as a person reads them: the shorter, the finer."""
    if value < 0.01:
        return f"{value * 1000:.2f} ms"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


AMOUNTS: Mapping[str, Callable[[float], str]] = {
    "seconds": seconds_text,
    "rows/s": lambda value: f"{value:,.0f} rows/s",
    "times": lambda value: f"{value:,.2f} times" if value < 10 else f"{value:,.0f} times",
    "recall": lambda value: f"{value:.3f}",
}
"""How each unit is written."""


@dataclass(frozen=True)
class Measurement:
    """Something measured several times, in ``unit`` (see AMOUNTS). ``limit`` is what the course promises; a peer
    has none. Where ``more_is_better`` the limit is a least, and ``worst`` is the lowest."""

    what: str
    median: float
    best: float
    worst: float
    runs: int
    limit: float | None = None
    note: str = ""
    unit: str = "seconds"
    more_is_better: bool = False

    @classmethod
    def of(
        cls,
        what: str,
        values: Sequence[float],
        limit: float | None = None,
        note: str = "",
        unit: str = "seconds",
        more_is_better: bool = False,
    ) -> Measurement:
        best, worst = (max, min) if more_is_better else (min, max)
        return cls(what, median(values), best(values), worst(values), len(values), limit, note, unit, more_is_better)

    @property
    def kept(self) -> bool:
        """Whether the limit, if there is one, is kept by the worst of the runs too."""
        if self.limit is None:
            return True
        return self.worst >= self.limit if self.more_is_better else self.worst <= self.limit

    @property
    def row(self) -> list[str]:
        """As it stands in a table."""
        limit, amount = "", AMOUNTS[self.unit]
        if self.limit is not None:
            limit = f"{'≥ ' if self.more_is_better else ''}{amount(self.limit)} {'kept' if self.kept else 'BROKEN'}"
        numbers = [amount(self.median), amount(self.best), amount(self.worst)]
        return [self.what, *numbers, str(self.runs), limit, self.note]


def timed(action: Callable[[], object]) -> float:
    """Seconds that ``action`` takes."""
    start = perf_counter()
    action()
    return perf_counter() - start


def machine() -> str:
    """What the figures belong to."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def write_report(name: str, title: str, measurements: Sequence[Measurement]) -> None:
    """Print a table of measurements, and write it as Markdown and JSON to ``bench-results/``."""
    head = ["what", "median", "best", "worst", "runs", "limit", "note"]
    content = {"measurements": [asdict(measurement) for measurement in measurements]}
    write_table(name, title, head, [measurement.row for measurement in measurements], content)


def write_table(
    name: str,
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    content: Mapping[str, object],
    notes: Sequence[str] = (),
    show: bool = True,
) -> None:
    """Print any table, and write it as Markdown and, with the numbers of ``content``, as JSON.

    Args:
        name: of the files in ``bench-results/``.
        notes: lines below the table.
        show: print it too; without, only the files are written.
    """
    assert all(len(row) == len(head) for row in rows), "a cell for each column"
    FOLDER.mkdir(exist_ok=True)
    lines = [f"# {title}", "", machine(), "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += [line for note in notes for line in ("", note)]
    (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    whole = {"title": title, "machine": machine(), **content}
    (FOLDER / f"{name}.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
    if show:
        _print_table(name, title, head, rows, notes)


def _print_table(
    name: str, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]
) -> None:
    table = Table(*head, title=f"{title}\n{machine()}", title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(width=150, highlight=False, markup=False)
    console.print(table)
    for note in notes:
        console.print(note, soft_wrap=True)
    console.print(f"\nWritten to {FOLDER / name}.md and .json")


def write_picture(name: str, picture: Picture) -> None:
    """Write a picture as PNG to ``bench-results/``, beside its table."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.png").write_bytes(picture.png())
    Console().print(f"Drawn in {FOLDER / name}.png")
