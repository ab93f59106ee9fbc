"""What the database refuses that is no fault of a client: a COMMIT when everything else has gone well, or anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from course_lib.exercises.lesson_08.scenes.serving import Reply
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.rising import HIDE, SHOW

REFUSE = (
    """
    CREATE OR REPLACE FUNCTION not_now() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_not_now'; END $$
""",
    """
    CREATE CONSTRAINT TRIGGER not_now AFTER {change} DEFERRABLE INITIALLY {moment}
    FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION not_now()
""",
)


@asynccontextmanager
async def refusing_commits(
    attempt: Attempt, change: str, table: str, when: str = "true", *, at_once: bool = False
) -> AsyncIterator[None]:
    """Until the block ends, the COMMIT of such a change of the table is refused, by a constraint ``ck_not_now``.

    Args:
        at_once: the change itself is refused, and not its COMMIT.
    """
    moment = "IMMEDIATE" if at_once else "DEFERRED"
    for statement in REFUSE:
        await attempt.sql(statement.format(change=f"{change} ON {table}", when=when, moment=moment))
    try:
        yield
    finally:
        await attempt.sql(f"DROP TRIGGER not_now ON {table}")


async def expect_a_fault(attempt: Attempt, what: str, ask: Callable[[], Awaitable[Reply]]) -> None:
    """Ask while no table can be found.

    Raises:
        Wrong: "swallowed", the client was told anything but a status from 500 on.
    """
    await attempt.sql(HIDE)
    try:
        reply = await ask()
    finally:
        await attempt.sql(SHOW)
    if reply.status < 500:
        sentence = f"When no table could be found, `{what}` was answered with {reply.status}."
        look = "Catch only what you have an answer for: everything else rises, and the client gets a 500."
        raise Wrong("swallowed", sentence, look)
