"""Run the migrations over asyncpg. The course calls this with an address; ``alembic`` in a terminal finds its own."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from course_lib.models import Base
from course_lib.postgres.address import parse_url

config = context.config


def address() -> str:
    """The database to migrate: what the caller put into ``config.attributes``, else DATABASE_URL."""
    url = config.attributes.get("url") or os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit(
            "Which database?\n  → DATABASE_URL=postgresql://user@host/database alembic upgrade head\n"
            "  The course's own databases are migrated when a lesson opens; see: course db list"
        )
    return url


def configure(**options: object) -> None:
    context.configure(target_metadata=Base.metadata, **options)
    with context.begin_transaction():
        context.run_migrations()


def migrate(connection: Connection) -> None:
    # two processes that start at once must not both create alembic_version
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1202613)")
    configure(connection=connection)


async def online() -> None:
    engine = create_async_engine(parse_url(str(address())), poolclass=pool.NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if context.is_offline_mode():
    configure(dialect_name="postgresql", literal_binds=True)
else:
    asyncio.run(online())
