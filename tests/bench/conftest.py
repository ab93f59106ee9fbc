"""A place to write reports to, which is not the reader's."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that reports are written to during a test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "bench-results"
