"""A fingerprint of what a database holds: whether a copy is what was once built can be told by reading it."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import asyncpg

from course_lib.postgres.losing import causes

UNREADABLE = ("XX", "58")  # classes of SQLSTATE: internal errors such as corrupted data, and errors of the file system

FIRST_OWN = 16384  # oids below are PostgreSQL's (FirstNormalObjectId in its transam.h)
CATALOGUE = f"""
    SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
        SELECT concat_ws(' ', oid, relname, relkind, relnatts, relchecks, relhastriggers, relhasrules, relrowsecurity,
                         pg_relation_size(oid), pg_relation_size(reltoastrelid))
        FROM pg_class WHERE oid >= {FIRST_OWN}
        UNION ALL
        SELECT concat_ws(' ', attrelid, attnum, attname, atttypid, atttypmod, attnotnull, atthasdef)
        FROM pg_attribute WHERE attrelid >= {FIRST_OWN}
        UNION ALL
        SELECT concat_ws(' ', oid, conname, contype, conkey) FROM pg_constraint WHERE oid >= {FIRST_OWN}
        UNION ALL
        SELECT concat_ws(' ', oid, tgname, tgenabled) FROM pg_trigger WHERE oid >= {FIRST_OWN}
        UNION ALL
        SELECT concat_ws(' ', oid, proname, md5(prosrc)) FROM pg_proc WHERE oid >= {FIRST_OWN}
    ) AS own (line)
"""
"""Numbers as they stand in the catalogue: a copy of the files has the same."""

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
    lines = [str(await connection.fetchval(CATALOGUE))]
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
