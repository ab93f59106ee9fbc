"""Who fills the disk: PostgreSQL has no quota for a role, so the teacher looks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from course_lib.classroom.roles import require_class
from course_lib.classroom.server import class_cluster
from course_lib.postgres.server import Connection, Server

SIZES = """
    SELECT r.rolname AS role, count(d.oid)::int AS databases,
           coalesce(sum(pg_database_size(d.oid)), 0)::bigint AS size,
           (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid)::int AS connections
    FROM pg_roles r LEFT JOIN pg_database d ON d.datdba = r.oid
    WHERE r.rolname = ANY ($1) GROUP BY r.oid, r.rolname ORDER BY size DESC, role
"""


@dataclass(frozen=True)
class Share:
    """What one learner has: databases, their size in bytes with the templates among them, open connections."""

    role: str
    databases: int
    size: int
    connections: int


async def sizes(connection: Connection, slug: str) -> list[Share]:
    """The largest first.

    Raises:
        CourseError: there is no such class of the caller's.
    """
    roles = [role.name for role in await require_class(connection, slug)]
    return [Share(*row) for row in await connection.fetch(SIZES, roles)]


def free_bytes(server: Server) -> int | None:
    """What is left on the disk, where the server is this machine's own."""
    return shutil.disk_usage(class_cluster().folder).free if server.embedded else None
