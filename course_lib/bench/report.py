"""Tables of measurements, printed and written."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from rich.console import Console
from rich.table import Table

FOLDER = Path("bench-results")


@dataclass(frozen=True)
class Measurement:
    """Seconds of something done several times. ``limit`` is what the course promises; a peer has none."""

    what: str
    median: float
    best: float
    worst: float
    runs: int
    limit: float | None = None
    note: str = ""

    @classmethod
    def of(cls, what: str, seconds: Sequence[float], limit: float | None = None, note: str = "") -> Measurement:
        return cls(what, median(seconds), min(seconds), max(seconds), len(seconds), limit, note)


def timed(action: Callable[[], object]) -> float:
    """Seconds that ``action`` takes."""
    start = perf_counter()
    action()
    return perf_counter() - start


def write_report(name: str, title: str, measurements: Sequence[Measurement]) -> None:
    """Print a table, and write it as Markdown and JSON to ``bench-results/``."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    rows = [_row(measurement) for measurement in measurements]
    head = ["what", "median", "best", "worst", "runs", "limit", "note"]
    table = Table(*head, title=f"{title}\n{machine}", title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)
    FOLDER.mkdir(exist_ok=True)
    lines = [f"# {title}", "", machine, "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    content = {"title": title, "machine": machine, "measurements": [asdict(m) for m in measurements]}
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    Console().print(f"\nWritten to {FOLDER / name}.md and .json")


def _row(measurement: Measurement) -> list[str]:
    limit = "" if measurement.limit is None else f"{_seconds(measurement.limit)} {_kept(measurement)}"
    numbers = [_seconds(measurement.median), _seconds(measurement.best), _seconds(measurement.worst)]
    return [measurement.what, *numbers, str(measurement.runs), limit, measurement.note]


def _kept(measurement: Measurement) -> str:
    return "kept" if measurement.limit is not None and measurement.worst <= measurement.limit else "BROKEN"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
