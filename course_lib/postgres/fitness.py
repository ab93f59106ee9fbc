"""Whether a server can serve lessons: its version, pgvector, and what the role that logs in may do there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import asyncpg

from course_lib.errors import CourseError
from course_lib.postgres.binaries import MAJOR
from course_lib.postgres.reliance import DIFFERENT, READ_ONLY, settings_for

MINIMUM_PGVECTOR = (0, 8, 4)  # older ones can corrupt or lose parts of an HNSW index (pgvector's CHANGELOG)
LEAST_CONNECTIONS = 18  # the heaviest check (5.6) was seen to hold 17 with the lesson that is open beside it


POOLED = """
    SELECT EXISTS (
        SELECT FROM pg_database WHERE datdba = pg_roles.oid AND starts_with(datname::text, rolname || '_')
        AND shobj_description(pg_database.oid, 'pg_database') LIKE '{%"kind": "pool"%}'
    ) AND NOT (rolcreatedb OR rolsuper)
"""
"""Whether databases were made ahead for a role that may make none; ``database_pool`` looks at them more closely."""


@dataclass(frozen=True)
class Fitness:
    """What a server answered that will do; ``settings`` and ``pooled`` as in ``Server``."""

    version: str
    pgvector: str
    settings: dict[str, str]
    pooled: bool = False


async def ask_fitness(connection: asyncpg.Connection[Any], where: str) -> Fitness:
    """Ask a server what it is, and refuse one that will not do.

    Raises:
        CourseError: the first thing that is missing.
    """
    row = await connection.fetchrow(
        f"""
        SELECT current_setting('server_version_num')::int AS number,
               split_part(current_setting('server_version'), ' ', 1) AS version,
               (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS pgvector,
               rolcreatedb OR rolsuper AS may_create, ({POOLED}) AS pooled,
               CASE WHEN rolsuper OR rolconnlimit < 0 THEN NULL ELSE rolconnlimit END AS connections,
               quote_ident(current_user) AS role,
               pg_is_in_recovery() AS standby, ({READ_ONLY}) AS read_only, ({DIFFERENT}) AS different
        FROM pg_roles WHERE rolname = current_user
        """
    )
    assert row is not None
    refuse_unfit(row, where)
    return Fitness(row["version"], row["pgvector"], settings_for(row["different"]), row["pooled"])


def refuse_unfit(row: asyncpg.Record, where: str) -> None:
    """Raise the sentence for the first thing that ``row`` (see ``ask_fitness``) shows to be missing."""
    if row["number"] < MAJOR * 10_000:
        raise CourseError(
            f"{where} is PostgreSQL {row['version']}; the course needs {MAJOR} or newer.",
            "Unset DATABASE_URL to use the embedded server, or run: docker compose up -d",
        )
    if row["pgvector"] is None:
        raise CourseError(
            f"{where} has no pgvector.",
            "Install pgvector on that server, or unset DATABASE_URL to use the embedded one.",
        )
    if tuple(int(part) for part in re.findall(r"\d+", row["pgvector"])[:3]) < MINIMUM_PGVECTOR:
        needed = ".".join(map(str, MINIMUM_PGVECTOR))
        raise CourseError(
            f"{where} has pgvector {row['pgvector']}; the course needs {needed} or newer.",
            "Update pgvector on that server, or unset DATABASE_URL to use the embedded one.",
        )
    if row["standby"] or row["read_only"]:
        kind = "is a standby, which can only be read" if row["standby"] else "is set to read only by who runs it"
        raise CourseError(
            f"{where} {kind}; the course creates databases.",
            "Let DATABASE_URL name a server that can be written, or unset it to use the embedded one.",
        )
    if not row["may_create"] and not row.get("pooled"):
        raise CourseError(
            f"Your role on {where} may not create databases, and every lesson gets a fresh one.",
            f"Ask its administrator for: ALTER ROLE {row['role']} CREATEDB;",
        )
    if row["connections"] is not None and row["connections"] < LEAST_CONNECTIONS:
        raise CourseError(
            f"Your role on {where} may hold {row['connections']} connections at once; lessons and checks need more.",
            f"Ask its administrator for: ALTER ROLE {row['role']} CONNECTION LIMIT {LEAST_CONNECTIONS};",
        )
