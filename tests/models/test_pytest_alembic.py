"""pytest-alembic's own tests, on the course's migrations: one head, up, down and up again, and nothing left to say.

Its fifth, whether a downgrade leaves no trace, hands Alembic a connection that SQLAlchemy 2.1 refuses.
"""

from __future__ import annotations

from collections.abc import Iterator

import alembic.config
import pytest
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import URL, Engine, create_engine, pool

from course_lib.settings import REPOSITORY

__all__ = [
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


@pytest.fixture
def alembic_config() -> alembic.config.Config:
    return alembic.config.Config(REPOSITORY / "alembic.ini")


@pytest.fixture
def alembic_engine(empty_url: URL) -> Iterator[Engine]:
    engine = create_engine(empty_url.set(drivername="postgresql+psycopg"), poolclass=pool.NullPool)
    yield engine
    engine.dispose()
