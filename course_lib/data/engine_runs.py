"""Stored runs of ``make bench --only choosing``: engines beside pgvector, where they are not installed.

``engines.json`` holds what the bench wrote to ``bench-results/choosing-….json``, unchanged, and a ``note`` on each run.
Each run says its machine, its date and the command that makes it again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

TARGET = 0.95  # recall at which the engines are compared


class Within(NamedTuple):
    """What one way found within a tenant's ``share`` of the rows: ``rows`` of ten, ``seconds`` the median."""

    share: float
    engine: str
    way: str
    rows: float
    recall: float
    seconds: float
    said: str


@dataclass(frozen=True)
class EngineRun:
    """One run. ``engines`` maps a name to all that was measured of it, times in seconds, sizes in bytes."""

    rows: int
    date: str
    machine: str
    command: str
    note: str
    engines: dict[str, dict[str, Any]]

    def search(self, engine: str) -> dict[str, Any]:
        """The search with the smallest ef_search that reaches TARGET: setting, recall, rows, p50, p95."""
        curve: list[dict[str, Any]] = self.engines[engine]["searched"]["curve"]
        return next((found for found in curve if found["recall"] >= TARGET), curve[-1])

    def within(self, share: float) -> list[Within]:
        """Every way of every engine to search within a tenant of this size."""
        return [
            Within(share, name, one["way"], found["rows"], found["recall"], found["p50"], one["said"])
            for name, measured in self.engines.items()
            for one in measured["searched"]["within"]
            if one["share"] == share
            for found in [one["found"]]
        ]


def engine_run(rows: int) -> EngineRun:
    """The stored run with so many rows.

    Raises:
        LookupError: there is none of that size.
    """
    runs = json.loads(Path(__file__).with_name("engines.json").read_text(encoding="utf-8"))["runs"]
    for run in runs:
        if run["rows"] == rows:
            told = {name: run[name] for name in ("rows", "date", "machine", "command", "note")}
            return EngineRun(**told, engines={one["engine"]: one for one in run["engines"]})
    raise LookupError(f"Stored are runs of {' and '.join(str(run['rows']) for run in runs)} rows, none of {rows}.")
