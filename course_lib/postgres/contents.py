"""A fingerprint of what a database holds: whether a copy is what was once built can be told by reading it."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import asyncpg

from course_lib.postgres.losing import causes

UNREADABLE = ("XX", "58")  # classes of SQLSTATE: internal errors such as corrupted data, and errors of the file system

CATALOGUE = """
    WITH own AS MATERIALIZED (
        SELECT c.oid, c.relname, c.relkind, c.reltoastrelid FROM pg_class c
        WHERE relnamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                          AND d.deptype = 'e')
    )
    SELECT concat_ws(' ', 'relation', relname, relkind, pg_relation_size(oid), pg_relation_size(reltoastrelid)) AS line
    FROM own
    UNION ALL
    SELECT concat_ws(' ', 'column', relname, attnum, attname, atttypid, atttypmod, attnotnull)
    FROM own JOIN pg_attribute ON attrelid = own.oid WHERE attnum > 0 AND relkind <> 'i'
    UNION ALL
    SELECT concat_ws(' ', 'default', relname, adnum, md5(adbin::text)) FROM own JOIN pg_attrdef ON adrelid = own.oid
    UNION ALL
    SELECT concat_ws(' ', 'constraint', relname, conname, contype, conkey, confrelid, confkey, md5(conbin::text))
    FROM own JOIN pg_constraint ON conrelid = own.oid
    UNION ALL
    SELECT concat_ws(' ', 'trigger', relname, tgname, tgenabled)
    FROM own JOIN pg_trigger ON tgrelid = own.oid WHERE NOT tgisinternal
    UNION ALL
    SELECT concat_ws(' ', 'rule', relname, rulename) FROM own JOIN pg_rewrite ON ev_class = own.oid
    UNION ALL
    SELECT concat_ws(' ', 'policy', relname, polname) FROM own JOIN pg_policy ON polrelid = own.oid
    UNION ALL
    SELECT concat_ws(' ', 'function', proname, md5(prosrc)) FROM pg_proc p
    WHERE pronamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.deptype = 'e')
    UNION ALL
    SELECT concat_ws(' ', 'extension', extname, extversion) FROM pg_extension
    ORDER BY line
"""
"""Numbers and trees as they stand in the catalogue: a copy of the files has the same."""

WHOLE = "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off"
"""Rows are counted in the table, and not in an index that is whole."""

TABLES = """
    SELECT quote_ident(relname) AS quoted FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname
"""


WAY = sha256(f"{CATALOGUE}{TABLES}".encode()).hexdigest()[:4]
"""Begins each digest: those of another version of the course cannot be compared with ours."""


async def digest(connection: asyncpg.Connection[Any]) -> str:
    """32 hexadecimal digits for the catalogue of schema public, the sizes of its files and the rows of each table.

    Raises:
        asyncpg.PostgresError: something cannot be read.
    """
    await connection.execute(WHOLE)
    lines = [row["line"] for row in await connection.fetch(CATALOGUE)]
    tables = await connection.fetch(TABLES)
    counts = " UNION ALL ".join(f"SELECT {n} AS n, count(*) FROM public.{t['quoted']}" for n, t in enumerate(tables))
    if counts:
        lines += [f"rows {row['n']} {row['count']}" for row in await connection.fetch(f"{counts} ORDER BY n")]
    return WAY + sha256("\n".join(lines).encode()).hexdigest()[:28]


async def read_all(connection: asyncpg.Connection[Any]) -> None:
    """Read every row with all its values.

    Raises:
        asyncpg.PostgresError: something cannot be read.
    """
    for table in await connection.fetch(TABLES):
        await connection.execute(f"SELECT count(row::text) FROM public.{table['quoted']} AS row")


def is_unreadable(error: BaseException) -> bool:
    """True when the server said, here or in a cause, that it cannot make sense of its files."""
    return any(str(getattr(step, "sqlstate", None) or "").startswith(UNREADABLE) for step in causes(error))
