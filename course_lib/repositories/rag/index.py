"""The HNSW index of the passages. No migration makes it: loading goes before it, and takes six times as long after."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

INDEX = "document_chunks_embedding_hnsw"

_STATE = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


async def create_index(
    engine: AsyncEngine,
    *,
    m: int = 16,
    ef_construction: int = 64,
    memory: str = "256MB",
    concurrently: bool = True,
) -> bool:
    """Build the index on ``document_chunks.embedding`` for the cosine distance, unless it is there.

    On a connection of its own, outside any transaction, because CREATE INDEX CONCURRENTLY refuses to run in one. That
    way takes about twice as long, and writers go on meanwhile. What a concurrent build leaves when it fails, an index
    that slows writing down and is never read, is dropped first.

    Args:
        m: links of each vector; ef_construction: candidates while building. pgvector's defaults.
        memory: for the graph while it is built, 1.7 KB a vector; with less the build takes several times as long.
        concurrently: False locks the table against writing instead.

    Returns:
        whether it was built.
    """
    how = "CONCURRENTLY " if concurrently else ""
    build = (
        f"CREATE INDEX {how}{INDEX} ON document_chunks USING hnsw (embedding vector_cosine_ops)"
        f" WITH (m = {int(m)}, ef_construction = {int(ef_construction)})"
    )
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        valid = await connection.scalar(_STATE, {"name": INDEX})
        if valid:
            return False
        if valid is not None:
            await connection.execute(text(f"DROP INDEX CONCURRENTLY {INDEX}"))
        await _with_memory(connection, memory, build)
    return True


async def _with_memory(connection: AsyncConnection, memory: str, build: str) -> None:
    await connection.execute(text("SELECT set_config('maintenance_work_mem', :memory, false)"), {"memory": memory})
    try:
        await connection.execute(text(build))
    finally:
        await connection.execute(text("RESET maintenance_work_mem"))  # the connection goes back to the pool
