"""What workers send to any table with a primary key: statements of a program that knows the columns it has today."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

NUMBER = "number"  # the value that is another one in every request
KEYS = 500  # rows that workers go to, drawn from the whole table
INTEGERS = ("smallint", "integer", "bigint")
TEXTS = ("text", "character varying", "citext")
TABLE = """
SELECT oid, oid::regclass::text AS name, relkind IN ('r', 'p') AS is_table,
       ARRAY(SELECT indexrelid FROM pg_index WHERE indrelid = pg_class.oid) AS indexes
FROM pg_class WHERE oid = to_regclass($1)
"""
COLUMNS = """
SELECT attnum AS number, quote_ident(attname) AS name, attname AS plain, format_type(atttypid, NULL) AS type,
       attidentity <> '' AS identity, attidentity = 'a' OR attgenerated <> '' AS computed, atthasdef AS has_default,
       EXISTS (SELECT FROM pg_constraint WHERE conrelid = attrelid AND contype = 'f' AND attnum = ANY (conkey))
           AS foreign,
       EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND attnum = ANY (indkey)) AS indexed, attlen < 0 AS wide
FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
UNIQUE = """
SELECT indkey::int2[] AS columns, indisprimary AS is_primary FROM pg_index WHERE indrelid = $1 AND indisunique
ORDER BY NOT indisprimary, indexrelid
"""


class Refused(Exception):
    """What a person reads: a sentence, and what to do."""


@dataclass(frozen=True)
class Statement:
    """SQL with ``$1``, ``$2`` …, and the name of each value: a column of the key, or ``number``."""

    sql: str
    values: Sequence[str]


@dataclass(frozen=True)
class Table:
    """What is known of the table.

    Attributes:
        oid: its number in the catalogue.
        indexes: those of its indexes.
        key: names of the primary key's columns.
        keys: some rows' keys, drawn by lot; empty when the table is.
        numbers: numbers that no row has in a column that must be unique.
        statements: makes that of a kind of worker, or refuses to.
    """

    oid: int
    indexes: Sequence[int]
    key: Sequence[str]
    keys: Sequence[Sequence[Any]]
    numbers: itertools.count[int]
    statements: dict[str, Callable[[], Statement]]

    def check(self, names: Sequence[str]) -> None:
        """Refuse names that no value has."""
        for name in names:
            if name not in (*self.key, NUMBER):
                known = ", ".join(f":{name}" for name in (*self.key, NUMBER))
                raise Refused(f"There is no value for :{name}.", f"A statement may use {known}.")

    def values(self, names: Sequence[str]) -> list[Any]:
        """One value for each name: those of a row's key belong to one row; None where the table is empty."""
        row = dict(zip(self.key, random.choice(self.keys), strict=True)) if self.keys else {}
        return [next(self.numbers) if name == NUMBER else row.get(name) for name in names]


async def study(connection: asyncpg.Connection[Any], table: str) -> Table:
    """Look at a table.

    Raises:
        Refused: there is no such table.
    """
    found = await connection.fetchrow(TABLE, table)
    if found is None or not found["is_table"]:
        raise Refused(f"There is no table {table!r} in this database.", "Its name may need its schema: 'app.messages'.")
    columns = await connection.fetch(COLUMNS, found["oid"])
    unique = await connection.fetch(UNIQUE, found["oid"])
    of_key = [column for index in unique if index["is_primary"] for column in in_order(columns, index["columns"])]
    name = found["name"]
    keys: list[Sequence[Any]] = []
    if of_key:
        listed = ", ".join(column["name"] for column in of_key)
        keys = await connection.fetch(f"SELECT {listed} FROM {name} ORDER BY random() LIMIT {KEYS}")
    fresh = choose_fresh(columns, unique)
    start = await first_free(connection, name, [column for column in fresh if column["type"] in INTEGERS])

    return Table(
        found["oid"], found["indexes"], [column["plain"] for column in of_key], keys, itertools.count(start),
        {
            "reader": lambda: reading(name, columns, of_key),
            "writer": lambda: writing(name, columns, of_key),
            "inserter": lambda: inserting(name, columns, of_key, fresh, bool(keys)),
        },
    )  # fmt: skip


def in_order(columns: Sequence[Any], numbers: Sequence[int]) -> list[Any]:
    by_number = {column["number"]: column for column in columns}
    return [by_number[number] for number in numbers if number in by_number]


def reading(name: str, columns: Sequence[Any], key: Sequence[Any]) -> Statement:
    """Every column by name, as a mapped class does."""
    return Statement(f"SELECT {listed(columns)} FROM {name} WHERE {by_key(name, key)}", plain(key))


def writing(name: str, columns: Sequence[Any], key: Sequence[Any]) -> Statement:
    """A row to itself, in the column that costs least: no index has it, and it is narrow."""
    able = sorted(
        (column for column in columns if not column["computed"]),
        key=lambda column: (column["indexed"], column["foreign"], column["wide"], column["number"]),
    )
    if not able:
        raise Refused(f"The server computes every column of {name}.", *own("writer"))
    return Statement(f"UPDATE {name} SET {able[0]['name']} = {able[0]['name']} WHERE {by_key(name, key)}", plain(key))


def inserting(name: str, columns: Sequence[Any], key: Sequence[Any], fresh: Sequence[Any], has_rows: bool) -> Statement:
    """A copy of a row, with something else in what must be unique. What the server fills in by itself is left out."""
    if not has_rows:
        raise Refused(f"An inserter copies rows, and {name} has none.", *own("inserter"))
    where = by_key(name, key)
    number = f"${len(key) + 1}::bigint"
    values = {
        column["name"]: anew(column, number) if column in fresh else column["name"]
        for column in columns
        if not column["computed"] and not column["identity"] and not (column in key and column["has_default"])
    }
    sql = f"INSERT INTO {name} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {name} WHERE {where}"
    return Statement(sql, [*plain(key), NUMBER] if number in sql else plain(key))


def choose_fresh(columns: Sequence[Any], unique: Sequence[Any]) -> list[Any]:
    """A column for each unique index in which copies differ; none for a key that the server makes."""
    chosen: list[Any] = []
    for index in unique:
        able = in_order(columns, index["columns"])
        made = [column for column in able if column["identity"] or (index["is_primary"] and column["has_default"])]
        if not made and not any(column in chosen for column in able):
            chosen += sorted(filter(can_be_new, able), key=lambda column: (column["foreign"], rank(column)))[:1]
    return chosen


def can_be_new(column: Any) -> bool:
    return not column["computed"] and column["type"] in (*INTEGERS, *TEXTS, "uuid", "bytea")


def rank(column: Any) -> int:
    return 0 if column["type"] in INTEGERS else 1


def anew(column: Any, number: str) -> str:
    """SQL for a value that no row has."""
    name, kind = column["name"], column["type"]
    if kind in INTEGERS:
        return f"{number}::{kind}"
    if kind in TEXTS:
        return f"{name} || '-' || {number}"
    return "gen_random_uuid()" if kind == "uuid" else "sha256(convert_to(gen_random_uuid()::text, 'UTF8'))"


async def first_free(connection: asyncpg.Connection[Any], name: str, integers: Sequence[Any]) -> int:
    """Somewhere above what is there. By lot, so that two traffics on one table do not meet."""
    used = [await connection.fetchval(f"SELECT max({column['name']}) FROM {name}") or 0 for column in integers]
    room = 1000 if any(column["type"] == "smallint" for column in integers) else 1_000_000
    return 1 + max(used, default=0) + random.randrange(room)


def by_key(name: str, key: Sequence[Any]) -> str:
    if not key:
        raise Refused(f"{name} has no primary key, by which workers find rows.", *own("reader"))
    return " AND ".join(f"{column['name']} = ${place}" for place, column in enumerate(key, start=1))


def listed(columns: Sequence[Any]) -> str:
    return ", ".join(column["name"] for column in columns)


def plain(columns: Sequence[Any]) -> list[str]:
    return [column["plain"] for column in columns]


def own(kind: str) -> tuple[str]:
    return (f'Give a statement of your own: {kind}s={{"{kind}": "…"}}',)
