"""Run the migrations over asyncpg. The course calls this with an address; ``alembic`` in a terminal finds its own.

A caller may hand over a connection or an engine in ``config.attributes["connection"]`` instead. A transaction that is
open on it stays the caller's: to commit, to roll back, and to keep other migrators away from.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from alembic import context
from sqlalchemy import Connection, Engine, func, pool, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from course_lib.commands import command
from course_lib.models import Base
from course_lib.postgres.address import parse_url

LOCK = 1_202_613  # advisory lock: one migrator at a time
POLL_SECONDS = 0.2

config = context.config


def address() -> str:
    """The database to migrate: what the caller put into ``config.attributes``, else DATABASE_URL."""
    url = config.attributes.get("url") or os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit(
            "Which database?\n  → DATABASE_URL=postgresql://user@host/database alembic upgrade head\n"
            f"  The course's own databases are migrated when a lesson opens; see: {command('db list')}"
        )
    return url


def has_a_model(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
    """Tables without a model are not ours, partitions among them; to drop one that was is written by hand."""
    return kind != "table" or parents["schema_qualified_table_name"] in Base.metadata.tables


def is_ours(item: object, name: str | None, kind: str, reflected: bool, counterpart: object) -> bool:
    """An index that no model has is ours by its name: the HNSW index is built after loading, by no migration."""
    return kind != "index" or not reflected or counterpart is not None or str(name).startswith("ix_")


def migrate(**where: Any) -> None:
    context.configure(
        target_metadata=Base.metadata,
        transaction_per_migration=True,  # else one that fails takes back the versions of those before it
        compare_server_default=True,
        include_name=has_a_model,
        include_object=is_ours,
        **where,
    )
    with context.begin_transaction():
        context.run_migrations()


@asynccontextmanager
async def turn(engine: AsyncEngine) -> AsyncIterator[None]:
    """Wait until nobody else migrates this database, and keep others waiting for the length of a block.

    Asked again and again, outside any transaction: who waits inside ``pg_advisory_lock`` holds a snapshot, and CREATE
    INDEX CONCURRENTLY waits for the end of every snapshot that is older than its own.
    """
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        while not await guard.scalar(select(func.pg_try_advisory_lock(LOCK))):  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            await guard.execute(select(func.pg_advisory_unlock(LOCK)))


async def online() -> None:
    engine = create_async_engine(parse_url(address()), poolclass=pool.NullPool)
    async with turn(engine), engine.connect() as connection:
        await connection.run_sync(lambda inside: migrate(connection=inside))
    await engine.dispose()


handed_over: Connection | Engine | None = config.attributes.get("connection")
if context.is_offline_mode():
    migrate(dialect_name="postgresql", literal_binds=True)
elif handed_over is not None:
    with handed_over.connect() if isinstance(handed_over, Engine) else nullcontext(handed_over) as connection:
        migrate(connection=connection)
else:
    asyncio.run(online())
