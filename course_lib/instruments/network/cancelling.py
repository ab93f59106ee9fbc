"""psycopg's ``cancel()`` through a proxy in the same interpreter.

libpq's PQcancel waits for the server's answer and holds the interpreter's lock meanwhile, so the proxy could never
pass the request on: the process would stand still for good. libpq's other way to cancel waits in Python.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

from psycopg import capabilities, generators, waiting
from sqlalchemy import Engine, event

CANCEL_SECONDS = 5
LOOK_SECONDS = 0.1  # how often an interrupt is noticed


def cancel_in_python(engine: Engine) -> None:
    """Make ``cancel()`` of every psycopg connection that ``engine`` opens one that other threads can answer."""
    if engine.dialect.driver == "psycopg" and capabilities.has_cancel_safe():
        event.listen(engine, "connect", _replace_cancel)


def _replace_cancel(connection: Any, _: object) -> None:
    driver = getattr(connection, "driver_connection", connection)  # below SQLAlchemy's own, for an asynchronous engine
    driver.cancel = partial(_cancel, weakref.proxy(driver))  # no cycle: a connection that is lost closes at once


def _cancel(connection: Any) -> None:
    """Ask the server to cancel what ``connection`` is doing.

    Raises:
        psycopg.OperationalError: the request could not be made in time.
    """
    if not connection.closed:
        request = connection.pgconn.cancel_conn()
        request.start()
        waiting.wait_conn(generators.cancel(request), LOOK_SECONDS, CANCEL_SECONDS)
