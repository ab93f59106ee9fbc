"""A plugin that looks at the database after each test, once its fixtures are torn down."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from course_lib.judging.testing.plugin import CASE
from course_lib.models.base import Base
from course_lib.postgres.address import libpq_uri

GOODBYE_SECONDS = 1.0  # for the server to see a closed connection off
TABLES = (*Base.metadata.tables, "alembic_version")
COUNTS = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in TABLES)
OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
SCHEMA = """
    SELECT md5(string_agg(said, ';' ORDER BY said)) FROM (
        SELECT indexdef AS said FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT conrelid::regclass || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT attrelid::regclass || attname || atttypid::regtype FROM pg_attribute
            JOIN pg_class AS c ON c.oid = attrelid
            WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    )
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note what is left when this test is over, fixtures and all."""
    case = item.config.stash[CASE]
    with psycopg.connect(libpq_uri(make_url(case.url)), autocommit=True) as witness:
        before = _value(witness, SCHEMA)
        result = yield
        patience = time.monotonic() + GOODBYE_SECONDS
        while (others := _value(witness, OTHERS)) and time.monotonic() < patience:
            time.sleep(0.01)
        rows: dict[str, int] = {}
        with suppress(psycopg.errors.UndefinedTable):
            rows = dict(witness.execute(COUNTS.encode()).fetchall())
        whole = bool(rows) and _value(witness, SCHEMA) == before
    version = rows.pop("alembic_version", 1)
    left = {table: count for table, count in rows.items() if count}
    case.note(after=item.name, left=left, version=version, connections=others, whole=whole)
    return result


def _value(witness: psycopg.Connection[Any], query: str) -> Any:
    row = witness.execute(query.encode()).fetchone()
    return row[0] if row else None
