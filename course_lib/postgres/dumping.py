"""What a database holds, kept in files, from which another one is filled within a transaction.

``pg_dump`` writes the definitions; rows are copied in binary, and frozen as they come: a new table's can be.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from course_lib.postgres.address import libpq_environment
from course_lib.postgres.binaries import program, wheel_installation
from course_lib.postgres.databases import quoted
from course_lib.postgres.server import Server

BEFORE, AFTER, TABLES = "before.sql", "after.sql", "tables.json"
DUMP_SECONDS = 60
FOR_PSQL = ("\\restrict", "\\unrestrict")  # lines that are no SQL
OPTIONS = (
    "--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions", "--no-security-labels",
    "--exclude-extension=vector",
)  # fmt: skip
TABLES_HERE = """
    SELECT nspname, relname AS name,
        array(
            SELECT attname::text FROM pg_attribute
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
        ) AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND deptype = 'e')
    ORDER BY c.oid
"""
SEQUENCES = """
    SELECT format('SELECT setval(%L, %s, %L)', format('%I.%I', schemaname, sequencename),
                  coalesce(last_value, start_value), last_value IS NOT NULL) AS statement
    FROM pg_sequences
"""
# as where the library's index is built (``data.library``): room for the whole graph, and both processors
INDEXING = """
    SET LOCAL maintenance_work_mem = '128MB'; SET LOCAL max_parallel_maintenance_workers = 2;
    SET LOCAL min_parallel_table_scan_size = '1MB'
"""


class NoDump(Exception):
    """There is no pg_dump that this server answers."""


class FalseDump(Exception):
    """What is in the files does not fill a database."""


@dataclass(frozen=True)
class Dump:
    """A folder that ``dump`` has filled."""

    folder: Path

    async def load(self, connection: asyncpg.Connection[Any]) -> None:
        """Fill the empty database that ``connection`` is in, within the caller's transaction.

        Raises:
            FalseDump: the files are damaged.
        """
        try:
            await connection.execute((self.folder / BEFORE).read_text(encoding="utf-8"))
            for number, table in enumerate(self.tables()):
                await connection.copy_to_table(
                    table["name"], schema_name=table["nspname"], columns=table["columns"], format="binary",
                    source=self.folder / f"{number}.copy", freeze=True,
                )  # fmt: skip
            await connection.execute(INDEXING)
            await connection.execute((self.folder / AFTER).read_text(encoding="utf-8"))
        except (asyncpg.DiskFullError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
            raise
        except (asyncpg.PostgresError, OSError, ValueError, KeyError) as error:
            raise FalseDump(str(self.folder)) from error

    def tables(self) -> list[dict[str, Any]]:
        """``nspname``, ``name`` and ``columns`` of each table, in the order of the files."""
        found: list[dict[str, Any]] = json.loads((self.folder / TABLES).read_text(encoding="utf-8"))
        return found


async def dump(server: Server, database: str, folder: Path) -> Dump:
    """Write what ``database`` holds into ``folder``, which is there and empty.

    Raises:
        NoDump: the pg_dump that is here does not suit the server.
    """
    before, after = await asyncio.gather(
        asyncio.to_thread(_definitions, server, database, "pre-data"),
        asyncio.to_thread(_definitions, server, database, "post-data"),
    )
    async with server.connection(database) as connection:
        tables = [dict(row) for row in await connection.fetch(TABLES_HERE)]
        for number, table in enumerate(tables):
            await connection.copy_from_table(
                table["name"], schema_name=table["nspname"], columns=table["columns"], format="binary",
                output=folder / f"{number}.copy",
            )  # fmt: skip
        sequences = [row["statement"] for row in await connection.fetch(SEQUENCES)]
    (folder / TABLES).write_text(json.dumps(tables), encoding="utf-8")
    (folder / BEFORE).write_text(before, encoding="utf-8")
    (folder / AFTER).write_text(";\n".join([*sequences, after]), encoding="utf-8")
    return Dump(folder)


def _definitions(server: Server, database: str, section: str) -> str:
    environment = libpq_environment(server.url.set(database=database))
    for executable in _programs(server):
        command = [executable, f"--section={section}", *OPTIONS]
        kept: dict[str, Any] = {"env": environment, "capture_output": True, "stdin": subprocess.DEVNULL}
        try:
            done = subprocess.run(command, check=True, timeout=DUMP_SECONDS, **kept)
        except (OSError, subprocess.SubprocessError):
            continue
        lines = done.stdout.decode().splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(FOR_PSQL))
    raise NoDump(section)


def _programs(server: Server) -> Iterator[str]:
    """The wheel's cannot encrypt; one that is installed may be too old for the server."""
    if not server.embedded and (installed := shutil.which("pg_dump")):
        yield installed
    yield str(program(wheel_installation(), "pg_dump"))


async def freeze(connection: asyncpg.Connection[Any], tables: list[dict[str, Any]]) -> None:
    """As a template is left: rows frozen, statistics made."""
    names = ", ".join(f"{quoted(table['nspname'])}.{quoted(table['name'])}" for table in tables)
    if names:
        await connection.execute(f"VACUUM (FREEZE, ANALYZE) {names}")
