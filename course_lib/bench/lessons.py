"""How long each lesson and each solution notebook takes to run from its first cell to its last."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from course_lib.bench.report import Measurement, timed, write_report
from course_lib.cli.lab import jupyter_environment
from course_lib.notebooks import execute
from course_lib.settings import REPOSITORY

LIMIT_SECONDS = 60.0
SLOWER = {"04": 90.0}  # builds indexes


def measure(quick: bool) -> None:
    """Execute copies, print and write ``bench-results/lessons``."""
    found = []
    with tempfile.TemporaryDirectory(prefix="course-bench-") as folder:
        os.environ.update(jupyter_environment())
        os.environ["COURSE_WORK"] = folder  # solving the exercises here is nobody's progress
        for path in sorted([*REPOSITORY.glob("notebooks/*.ipynb"), *REPOSITORY.glob("solutions/*.ipynb")]):
            copy = Path(folder) / path.name
            shutil.copy(path, copy)
            seconds = [timed(lambda copy=copy: execute(copy)) for _ in range(1 if quick else 3)]  # type: ignore[misc]
            limit = SLOWER.get(path.name[:2], LIMIT_SECONDS)
            found.append(Measurement.of(f"{path.parent.name}/{path.name}", seconds, limit, "kernel's start included"))
    write_report("lessons", "From the first cell to the last", found)
