"""A record for each request: what becomes of an engine's connections goes to the record of whoever asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments.pool import hooks


@contextmanager
def record_each(engine: AsyncEngine, recorder_of: hooks.Which) -> Iterator[None]:
    """For the length of a block, listen to ``engine`` and its pool once, however many records there are.

    Args:
        recorder_of: the record of whoever runs now, as for ``query_log.log_each``.
    """
    hooks.listen(engine.sync_engine, recorder_of)
    try:
        yield
    finally:
        hooks.stop(engine.sync_engine, recorder_of)
