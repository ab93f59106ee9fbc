"""Sizes as the server has them."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.errors import CourseError
from course_lib.instruments.sizes.found import TABLE, TOAST, TOAST_INDEX, Sizes

_TABLE = text("""
    SELECT pg_relation_size(oid) AS main, coalesce(pg_relation_size(nullif(reltoastrelid, 0)), 0) AS toast,
           (SELECT coalesce(sum(pg_relation_size(indexrelid)), 0)::bigint
            FROM pg_index WHERE indrelid = reltoastrelid) AS toast_index
    FROM pg_class WHERE oid = to_regclass(:name) AND relkind IN ('r', 'm')
""")
_INDEXES = text("""
    SELECT relname, pg_relation_size(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
    WHERE indrelid = to_regclass(:name) AND amname IN ('hnsw', 'ivfflat') ORDER BY relname
""")


async def sizes_on_disk(engine: AsyncEngine, table: str) -> Sizes:
    """Bytes of a table's rows, its TOAST, TOAST's index, and each of its HNSW and IVFFlat indexes, by its name.

    The main forks alone, as ``pg_relation_size`` counts them; the rows are counted.

    Args:
        table: its name, with its schema where that is not on the search path.

    Raises:
        CourseError: there is no such table.
    """
    async with engine.connect() as connection:
        found = (await connection.execute(_TABLE, {"name": table})).one_or_none()
        if found is None:
            raise CourseError(f"There is no table {table!r} here.", "Name one of this database, as SQL would.")
        parts = {TABLE: found.main, TOAST: found.toast, TOAST_INDEX: found.toast_index}
        parts |= {name: size for name, size in await connection.execute(_INDEXES, {"name": table})}
        quoted = await connection.scalar(text("SELECT to_regclass(:name)::text"), {"name": table})
        rows = await connection.scalar(text(f"SELECT count(*) FROM {quoted}"))
    return Sizes(int(rows or 0), parts)
