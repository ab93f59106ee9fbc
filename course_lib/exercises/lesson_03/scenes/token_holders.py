"""Users of 3.4 who give each other tokens, what they have, and deadlocks without the wait for them."""

from __future__ import annotations

from secrets import randbelow
from uuid import UUID, uuid4

from course_lib.judging.attempt import Attempt
from course_lib.judging.races import MANY
from course_lib.judging.staging import add_rows, new_email, new_name

BOTH = "SELECT id, token_limit, tokens_used FROM users WHERE id IN (:giver, :taker)"
TIMES = dict.fromkeys(("created_at", "updated_at"), "2026-03-01T10:00Z")
LONGEST = "2.5 seconds"  # who pauses ever longer between two tries is to come to an end
DEADLOCKS = f"""
    DO $do$ BEGIN
        CREATE SEQUENCE deadlocks;
        EXECUTE format($make$
            CREATE FUNCTION say_deadlock() RETURNS trigger LANGUAGE plpgsql AS $say$
            BEGIN
                IF clock_timestamp() < %L AND nextval('deadlocks') <= {MANY} THEN
                    RAISE deadlock_detected USING MESSAGE = 'deadlock detected';
                END IF;
                RETURN NEW;
            END $say$
        $make$, clock_timestamp() + interval '{LONGEST}');
        CREATE TRIGGER say_deadlock BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION say_deadlock();
    END $do$
"""
"""From then on the server says of every UPDATE of a user that it was a deadlock; not for ever."""
Balances = dict[UUID, tuple[int, int]]


async def add_users(attempt: Attempt, *left: int) -> list[UUID]:
    """Users with so many unused tokens each, in the order of their ids, so that the same one is locked every time."""
    ids = sorted(uuid4() for _ in left)
    used = 1_000 + randbelow(1_000)
    rows = [
        {
            "id": id,
            "email": new_email(),
            "name": new_name(),
            "tier": "free",
            "token_limit": used + n,
            "tokens_used": used,
        }
        for id, n in zip(ids, left, strict=True)
    ]
    await add_rows(attempt, "users", [{**row, **TIMES} for row in rows])
    return ids


async def balances(attempt: Attempt, giver: UUID, taker: UUID) -> Balances:
    """(token_limit, tokens_used) of each of the two who exists."""
    rows = await attempt.sql(BOTH, giver=giver, taker=taker)
    return {id: (limit, used) for id, limit, used in rows}


def together(held: Balances) -> int:
    return sum(limit for limit, _ in held.values())
