"""A log for each request: what an engine sends goes to the log of whoever sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments.query_log.log import QueryLog

Listeners = Sequence[tuple[str, Callable[..., None]]]


@contextmanager
def log_each(engine: AsyncEngine, log_of: Callable[[], QueryLog | None]) -> Iterator[None]:
    """For the length of a block, listen to ``engine`` once, however many logs there are.

    Args:
        log_of: the log of whoever runs now, such as one kept in a context variable, which tasks and SQLAlchemy's
            greenlets inherit; None for those that nobody watches. It need not be open: its time begins when it is made.
    """
    with listening(engine, [(name, _forward(name, log_of)) for name, _ in QueryLog()._listeners()]):
        yield


@contextmanager
def listening(engine: AsyncEngine, listeners: Listeners) -> Iterator[None]:
    """For the length of a block, each of the ``listeners`` hears the engine's events of its name."""
    for name, listener in listeners:
        event.listen(engine.sync_engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            event.remove(engine.sync_engine, name, listener)


def _forward(name: str, log_of: Callable[[], QueryLog | None]) -> Callable[..., None]:
    def listener(*facts: Any) -> None:
        log = log_of()
        if log is not None:
            log._hear(name, *facts)

    return listener
