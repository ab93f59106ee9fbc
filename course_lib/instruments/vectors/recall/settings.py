"""Settings that last for a savepoint, so that none of them stays on a connection of the pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from course_lib.errors import CourseError

FRESH_PLANS = {"plan_cache_mode": "force_custom_plan"}
EXACT = {
    **FRESH_PLANS,
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_seqscan": "on",  # with both switched off PostgreSQL would choose by cost again
    "enable_sort": "on",
}


def search_settings(
    ef_search: int | None, probes: int | None, iterative_scan: str | None, others: Mapping[str, object] | None
) -> dict[str, str]:
    """By their names in PostgreSQL; only what was given. ``iterative_scan`` is IVFFlat's where probes are given."""
    method = "hnsw" if probes is None else "ivfflat"
    wanted: dict[str, object | None] = {
        "hnsw.ef_search": ef_search,
        "ivfflat.probes": probes,
        f"{method}.iterative_scan": iterative_scan,
        **(others or {}),
    }
    return {name: _written(value) for name, value in wanted.items() if value is not None}


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@asynccontextmanager
async def under(connection: AsyncConnection, settings: Mapping[str, str]) -> AsyncIterator[None]:
    """A savepoint with these settings and fresh plans; rolled back, settings and all.

    Raises:
        CourseError: PostgreSQL does not take one of them.
    """
    async with connection.begin_nested() as savepoint:
        # SET takes no bound parameters, set_config does
        wanted = {**FRESH_PLANS, **settings}
        try:
            await connection.execute(select(*(func.set_config(name, value, True) for name, value in wanted.items())))
        except DBAPIError as error:
            said = str(error.orig.__cause__ or error.orig) if error.orig else str(error)
            raise CourseError(
                f"PostgreSQL does not take a setting of the search: {said}.", "SHOW name; tells what it is now."
            ) from error
        yield
        await savepoint.rollback()
