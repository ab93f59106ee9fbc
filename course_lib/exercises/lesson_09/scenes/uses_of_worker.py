"""Tests that use a learner's ``worker_url`` as those of one worker do: they write, look round, fail and forget.

pytest is given this file, in two processes at once: one is at its first test while the other comes and goes.
"""

from __future__ import annotations

import os
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from course_lib.exercises.lesson_09.scenes.workers import HERE, OVER, STAYS, wait_for
from course_lib.judging.quoting import article
from course_lib.judging.testing.plugin import CaseHere
from course_lib.postgres.address import libpq_uri

OPEN: list[Any] = []  # what a test has forgotten to close
DATABASE = "SELECT current_database(), oid::bigint FROM pg_database WHERE datname = current_database()"
TABLES = "SELECT count(*) FROM pg_tables WHERE tablename IN ('users', 'messages', 'alembic_version')"
USERS = "SELECT count(*) FROM users"
WRITE = "INSERT INTO users (email, name) VALUES ('ada@example.org', 'Ada')"


def connect(worker_url: Any, case: CaseHere) -> psycopg.Connection[Any]:
    case.note(kind=article(worker_url))
    connection = psycopg.connect(libpq_uri(make_url(worker_url)), autocommit=True)
    name, oid = value(connection, DATABASE)
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
        if _case.options.get("together") and _case.options["worker_id"] == STAYS:
            HERE.touch()
            wait_for(OVER)
            _case.note(after=value(connection, USERS)[0])


def test_goes_on(worker_url: Any, _case: CaseHere) -> None:
    with connect(worker_url, _case) as connection:
        _case.note(users=value(connection, USERS)[0])


def test_leaves_a_connection_and_fails(worker_url: Any, _case: CaseHere) -> None:
    OPEN.append(connect(worker_url, _case))
    OPEN[0].execute(b"BEGIN")
    OPEN[0].execute(USERS.encode())
    pytest.fail("on purpose")
