"""``course test``, ``lint`` and ``notebooks``: what authors and CI run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile

import typer

from course_lib.cli.lab import jupyter_environment, leave_as_found
from course_lib.errors import CourseError
from course_lib.notebooks import execute
from course_lib.postgres import find_server
from course_lib.settings import REPOSITORY


def run_lint() -> int:
    """Ruff over code and notebooks, then mypy. Returns the first exit code that is not 0."""
    for arguments in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        code = subprocess.run([sys.executable, "-m", *arguments], cwd=REPOSITORY, check=False).returncode
        if code:
            return code
    return 0


def run_checks(arguments: list[str]) -> int:
    """Lint, then pytest with nbval, one process per core; ``arguments`` go to pytest."""
    code = run_lint()
    if code:
        return code
    command = [sys.executable, "-m", "pytest", "-n", "auto", *arguments]
    server = asyncio.run(find_server())
    try:
        return subprocess.run(command, cwd=REPOSITORY, env=jupyter_environment(), check=False).returncode
    finally:
        leave_as_found(server)


def execute_notebooks(numbers: list[str]) -> None:
    """Execute ``notebooks/`` and ``solutions/`` in place, all or those of the given numbers."""
    os.environ.update(jupyter_environment())
    prefixes = tuple(f"{number.zfill(2)}_" for number in numbers) or ("",)
    paths = [path for folder in ("notebooks", "solutions") for path in sorted((REPOSITORY / folder).glob("*.ipynb"))]
    chosen = [path for path in paths if path.name.startswith(prefixes)]
    if not chosen:
        raise CourseError("No notebook has that number.", "Look into notebooks/ for the numbers there are.")
    with tempfile.TemporaryDirectory() as work:
        os.environ["COURSE_WORK"] = work  # solving the exercises here is not the author's progress
        for path in chosen:
            execute(path)
            typer.echo(f"{path.relative_to(REPOSITORY)} executed and stored.")
