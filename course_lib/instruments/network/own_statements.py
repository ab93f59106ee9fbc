"""What drivers ask a server on their own: told by the whole text, so that nobody's own question is taken for one."""

from __future__ import annotations

import re
from functools import cache

from asyncpg import connection as asyncpg_connection
from asyncpg import introspection

ON_CONNECTING = {  # SQLAlchemy's dialects, once for an engine; asyncpg and psycopg
    "select pg_catalog.version()", "select current_schema()", "show standard_conforming_strings",
    "show transaction isolation level", "show transaction_isolation",
}  # fmt: skip
AROUND_INTROSPECTION = {  # of types, by asyncpg
    "select current_setting('jit') as cur, set_config('jit', 'off', false) as new",
    "select set_config('jit', $1, false)",
}
WHEN_GIVEN_BACK = {"select pg_advisory_unlock_all()", "close all", "unlisten *", "reset all", "discard all"}
"""asyncpg's pool, see ``asyncpg.Connection.get_reset_query``."""
EXACT = {
    text
    for module in (introspection, asyncpg_connection)
    for text in vars(module).values()
    if isinstance(text, str) and "pg_type" in text
}
PSYCOPG_TYPE = re.compile(  # psycopg's TypeInfo and its kin, see psycopg/_typeinfo.py
    r"SELECT\s+typname AS name, oid, typarray AS array_oid,\s+oid::regtype::text AS regtype, typdelim AS delimiter\s+"
    r"FROM pg_type t\s+WHERE t\.oid = to_regtype\(\$1\)\s+ORDER BY t\.oid\s*"
)
PSYCOPG_FORGETS = re.compile(r'DEALLOCATE "?_pg3_[0-9a-f]+"?')
EMPTY = re.compile(r"[\s;]*")


@cache
def asked_by_a_driver(sql: str) -> bool:
    """True when ``sql`` is a question that a driver, SQLAlchemy or pgvector asks for itself."""
    if sql in EXACT or EMPTY.fullmatch(sql):
        return True
    plain = " ".join(sql.lower().split()).rstrip("; ")
    return (
        plain in ON_CONNECTING or plain in AROUND_INTROSPECTION or plain in WHEN_GIVEN_BACK
        or PSYCOPG_TYPE.fullmatch(sql) is not None or PSYCOPG_FORGETS.fullmatch(sql) is not None
    )  # fmt: skip
