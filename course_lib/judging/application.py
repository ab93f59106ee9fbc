"""The learner's code as an application is: a role that policies bind, whoever made the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.judging.attempt import Attempt

# A role that every server has, that may not pass a policy by, and owns the tables as an application's role often does.
# What it is granted is written in this one database, and goes with it.
APPLICATION = "pg_read_all_stats"
WHO = "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"


@asynccontextmanager
async def as_application(attempt: Attempt, tables: Iterable[str], connections: int = 1) -> AsyncIterator[None]:
    """Until the block ends, the learner's engine has so many connections, of an owner whom policies can bind.

    Args:
        tables: that have policies, or are to be given some.

    Raises:
        CourseError: the role of DATABASE_URL passes policies by, and cannot act as another one.
        Wrong: a connection was not given back.
    """
    ((is_superuser, passes_by),) = await attempt.sql(WHO)
    if passes_by and not is_superuser:
        raise CourseError(
            "Your role has BYPASSRLS, so it cannot be seen whether a policy holds.",
            "Let DATABASE_URL name a role without it, or a superuser, who can act as another role.",
        )
    options: dict[str, Any] = {}
    if is_superuser:
        for table in tables:
            await attempt.sql(f"ALTER TABLE {table} OWNER TO {APPLICATION}")
        await attempt.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {APPLICATION}")
        await attempt.sql(f"GRANT CREATE ON SCHEMA public TO {APPLICATION}")
        options["connect_args"] = {"server_settings": {"role": APPLICATION}}
    privileged = attempt.engine
    attempt.engine = make_engine(attempt.url, pool_size=connections, max_overflow=0, pool_timeout=2, **options)
    try:
        yield
        attempt.look_for_held_connections()
    finally:
        await attempt.engine.dispose()
        attempt.engine = privileged
