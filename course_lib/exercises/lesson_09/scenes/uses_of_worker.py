"""Tests that use a learner's ``worker_url`` as those of one worker do: they write, look round, fail and forget.

pytest is given this file, in two processes at once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from course_lib.judging.quoting import article
from course_lib.judging.testing.plugin import CaseHere
from course_lib.postgres.address import libpq_uri

OTHER = {"gw1": "gw11", "gw11": "gw1"}
PATIENCE = 3.0  # seconds, for the other worker to be there
OPEN: list[Any] = []  # what a test has forgotten to close
HERE = "SELECT current_database(), oid::bigint FROM pg_database WHERE datname = current_database()"
TABLES = "SELECT count(*) FROM pg_tables WHERE tablename IN ('users', 'messages', 'alembic_version')"
USERS = "SELECT count(*) FROM users"
WRITE = "INSERT INTO users (email, name) VALUES ('ada@example.org', 'Ada')"


def connect(worker_url: Any, case: CaseHere) -> psycopg.Connection[Any]:
    case.note(kind=article(worker_url))
    connection = psycopg.connect(libpq_uri(make_url(worker_url)), autocommit=True)
    name, oid = value(connection, HERE)
    case.note(name=name, oid=oid)
    return connection


def value(connection: psycopg.Connection[Any], query: str) -> Any:
    return connection.execute(query.encode()).fetchone()


def test_begins(worker_url: Any, _case: CaseHere) -> None:
    with connect(worker_url, _case) as connection:
        _case.note(tables=value(connection, TABLES)[0])
        _case.note(before=value(connection, USERS)[0])
        connection.execute(WRITE.encode())
    if _case.options.get("killed"):
        os._exit(1)
    here, there = (Path(str(name)) for name in (_case.options["worker_id"], OTHER.get(_case.options["worker_id"])))
    here.touch()
    end = time.monotonic() + (PATIENCE if _case.options.get("together") else 0)
    while not there.exists() and time.monotonic() < end:
        time.sleep(0.01)


def test_goes_on(worker_url: Any, _case: CaseHere) -> None:
    with connect(worker_url, _case) as connection:
        _case.note(users=value(connection, USERS)[0])


def test_leaves_a_connection_and_fails(worker_url: Any, _case: CaseHere) -> None:
    OPEN.append(connect(worker_url, _case))
    OPEN[0].execute(b"BEGIN")
    OPEN[0].execute(USERS.encode())
    pytest.fail("on purpose")
