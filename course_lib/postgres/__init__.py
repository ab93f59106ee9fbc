"""The PostgreSQL server behind the lessons: a disposable one, or any that ``DATABASE_URL`` names."""

from course_lib.postgres.databases import Database, clone, drop, list_databases, sweep
from course_lib.postgres.server import Server, find_server, renew_embedded, running_server, stop_embedded
from course_lib.postgres.templates import ensure_template

__all__ = [
    "Database",
    "Server",
    "clone",
    "drop",
    "ensure_template",
    "find_server",
    "list_databases",
    "renew_embedded",
    "running_server",
    "stop_embedded",
    "sweep",
]
