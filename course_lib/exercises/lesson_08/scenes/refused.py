"""What the database refuses at the COMMIT, when everything else has gone well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from course_lib.judging.attempt import Attempt

REFUSE = (
    """
    CREATE OR REPLACE FUNCTION not_now() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_not_now'; END $$
""",
    """
    CREATE CONSTRAINT TRIGGER not_now AFTER {change} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION not_now()
""",
)


@asynccontextmanager
async def refusing_commits(attempt: Attempt, change: str, table: str, when: str = "true") -> AsyncIterator[None]:
    """Until the block ends, the COMMIT of such a change of the table is refused, by a constraint ``ck_not_now``."""
    for statement in REFUSE:
        await attempt.sql(statement.format(change=f"{change} ON {table}", when=when))
    try:
        yield
    finally:
        await attempt.sql(f"DROP TRIGGER not_now ON {table}")
