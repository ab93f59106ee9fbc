"""One kernel for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import Kernel
from tests.postgres import conftest

shared_folder = conftest.shared_folder


@pytest.fixture(scope="module")
def fresh_kernel(shared_folder: Path) -> Iterator[Kernel]:
    """In which no cell has run yet, when the module's first test asks for it."""
    running = Kernel(shared_folder / "home", COURSE_WORK=str(shared_folder / "work"))
    yield running
    running.end()
