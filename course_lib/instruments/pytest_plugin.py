"""A plugin of pytest for any project: the fixture ``query_budget``.

The ``conftest.py`` at the project's top names it: ``pytest_plugins = ["course_lib.instruments.pytest_plugin"]``.
SQLAlchemy is loaded with the first test that asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from course_lib.instruments.budget import QueryBudget
    from course_lib.instruments.query_log import QueryLog


@pytest.fixture
def query_budget_engine() -> Engine | AsyncEngine | None:
    """The engine whose statements count: None, for all engines of this process. A project may override it."""
    return None


@pytest.fixture
def query_budget(query_budget_engine: Engine | AsyncEngine | None) -> Callable[[int | QueryLog], QueryBudget]:
    """``with query_budget(2) as log:`` fails when the block sends more than two statements, see ``QueryBudget``.

    ``with query_budget(log):`` fails when the block sends more than an earlier one did: the way to see that the
    statements of a request stay the same for one row and for fifty.
    """
    from course_lib.instruments.budget import QueryBudget

    return lambda limit: QueryBudget(query_budget_engine, limit)
