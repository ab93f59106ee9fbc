"""3.6: two sessions, two rows, and a rule about both of them."""

from __future__ import annotations

import re
from secrets import choice, randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy.exc import DBAPIError

from course_lib.judging.asking import DEADLOCK, SERIALIZATION, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user, other_rows
from course_lib.judging.turns import in_turns

CHECKS_IN_THE_UPDATE = re.compile(r"\bUPDATE\s+api_keys\b.*\bSELECT\b", re.IGNORECASE | re.DOTALL)
LONG_AGO, LATER = "2026-02-01T10:00:00Z", "2100-01-01T00:00:00Z"  # what is not NULL is not active
TABLES = ("users", "api_keys")
PRINT = "(SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM {} AS t)"
PRINTS = f"SELECT {', '.join(map(PRINT.format, TABLES))}"
WATCH = """
    DO $do$ BEGIN
        CREATE SCHEMA judge;
        CREATE SEQUENCE judge.without_a_key;
        CREATE FUNCTION judge.count_without() RETURNS trigger LANGUAGE plpgsql AS $watch$
        BEGIN
            IF NOT EXISTS (SELECT FROM api_keys WHERE user_id = OLD.user_id AND revoked_at IS NULL)
            THEN PERFORM nextval('judge.without_a_key'); END IF;
            RETURN NULL;
        END $watch$;
        CREATE CONSTRAINT TRIGGER watch AFTER UPDATE OR DELETE ON api_keys
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION judge.count_without();
    END $do$
"""  # counts the commits that leave a user without an active key


class RevokeKey(Exercise):
    """Write skew: each of two transactions is right, and both together are wrong."""

    id = "3.6"
    title = "One key must remain"
    answer = "revoke_key"
    minutes = 12
    points = 2
    level = "mid"
    hints: ClassVar = (
        "Two sessions change two different rows, so neither waits for the other. What could both of them have to lock "
        "before they look?",
        "A row lock on the user (`with_for_update()`), taken before the keys are counted, lets one session look only "
        "when the other is done. Locking all of the user's active keys does it too.",
        "Or let the server find out: under SERIALIZABLE one of the two fails with SQLSTATE 40001, and is to be tried "
        "again from the start, reading included.",
        "Which user it is, `select(ApiKey.user_id)` tells; that may be read without a lock, because it never changes.",
    )
    why = (
        "A row lock protects the row, and this rule is about several rows. So whoever wants to change one of them "
        "first locks something that all of them share, then looks. At READ COMMITTED each statement sees what is "
        "committed when it starts: looked at after the lock was had, the count is true until the commit."
    )
    follow_up = (
        "Where else is a rule about several rows, such as at most three running jobs per user? When would you rather "
        "use SERIALIZABLE than a lock?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`revoke_key` returned None. | Did you forget `return`?",
        "not a bool": "`revoke_key` returned {kind}, and True or False was asked for. "
        "| Compare what came back, for example with `== 1` or `is not None`.",
        "refused": "With {active} active keys it said False and kept the key. "
        "| Only the last active one is to stay; which keys do you count?",
        "not committed": "It said True, and no other connection sees `revoked_at` set. | What makes it last?",
        "false no": "It said False for a key that it revoked, of {active} active ones. "
        "| What tells you that the UPDATE changed a row?",
        "row deleted": "The row of the key is gone. | Revoked means that `revoked_at` is set, and the row stays.",
        "other keys": "Revoking one key changed {count} other key(s). "
        "| The key's id belongs into the WHERE of the UPDATE.",
        "other users": "Revoking one key changed rows of other users. "
        "| An UPDATE that serves as a lock names the one user in its WHERE, or FOR UPDATE locks without a change.",
        "last key revoked": "The user's only key was revoked. | What is to be counted before it is revoked?",
        "counted revoked ones": "The user had {revoked} revoked keys and one active one, and the active one was "
        "revoked. "
        "| Which keys does a program still get in with?",
        "counted everybody's": "The user had one active key, other users had theirs, and it was revoked. "
        "| The rule holds for each user: whose keys do you count?",
        "false yes": "It said True for the user's last active key, and the key is as it was. "
        "| Did the UPDATE change a row? Ask it.",
        "a moment without": "It said False for the last key, and in between it had committed that the user has none. "
        "| Others see what is committed: check before the commit, not after it.",
        "changed although refused": "It said False, and a row of `{table}` is not as it was before. "
        "| False means that nothing has changed. An UPDATE that serves as a lock also moves `updated_at`: roll it "
        "back, or lock with FOR UPDATE.",
        "revoked twice": "A key that was revoked before {did}. | False was asked for, and its `revoked_at` stays.",
        "unknown key": "For an id that no key has, it {did}. | No such key means False.",
        "checked in the UPDATE": "Two sessions revoked the user's last two keys, each in an UPDATE that asked for "
        "another active key, and both were told True. "
        "| A subquery locks nothing, and sees the table as it was when the statement began. What do both have to wait "
        "for?",
        "both revoked": "Two sessions revoked the user's last two keys at once: both were told True, and no key is "
        "left. "
        "| Each has to look at the keys after the other one's commit: what could both lock before they look, and is "
        "what was looked at earlier, or in an older snapshot (REPEATABLE READ), looked at again?",
        "nobody": "Two sessions revoked the user's last two keys at once, and both were told False. "
        "| One of them has to win. Wait for a lock rather than skip it or give up at it.",
        "false answers": "Two sessions revoked the user's last two keys at once: {yes} of them said True, and {left} "
        "active keys are left. "
        "| Is the answer about what was committed?",
        "gave up at a lock": "Two sessions at once revoked two of a user's three active keys: {yes} said True, and "
        "{left} key(s) are active. "
        "| Both can go, and one remains. Wait for a lock rather than skip it or give up at it.",
        "twice the same": "Two sessions revoked the same key at once, and {yes} of them were told True. "
        "| One of them has revoked it. Ask after the wait whether it is still active, or ask the UPDATE.",
        "failed at once": "Sessions revoked keys of one user at once, and one failed with {error}. "
        "| Neither call raises an error: wait for the lock.",
        "not tried again": "Two sessions revoked keys of one user at once, and one failed with {error}, SQLSTATE "
        "40001. "
        "| This isolation level asks for another try: roll back, and begin anew with the reading.",
        "deadlock": "Two sessions revoked keys of one user at once, and one failed with {error}, SQLSTATE 40P01. "
        "| Each held what the other wanted. Lock one thing that both share, or all in the same order.",
        "locked in this process": "While one session had not committed yet, the other waited for something that is no "
        "lock of the database. "
        "| The service runs in several processes, and Python's locks are known to one of them.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(WATCH)
        await _add_keys(attempt, await add_user(attempt), active=2 + randbelow(2))
        await self._revokes(attempt)
        await self._keeps_the_last(attempt)
        await self._knows_what_is_revoked(attempt)
        await self._two_at_once(attempt)
        await self._two_of_three(attempt)
        await self._twice_the_same(attempt)
        key, _ = await _add_keys(attempt, await add_user(attempt), active=2)
        await expect_errors_to_rise(attempt, call=lambda: attempt.call(sessions_of(attempt), key))

    async def _revokes(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt)
        keys = await _add_keys(attempt, user_id, active=3)
        await attempt.sql("UPDATE users SET updated_at = now()")  # one moment for all, which names nobody
        others = await other_rows(attempt, "users", "id", user_id)
        for active in (3, 2):
            key = keys.pop(randbelow(len(keys)))
            before = await _keys(attempt)
            said = await self._ask(attempt, key)
            after = await _keys(attempt)
            attempt.expect(key in after, "row deleted")
            changed = [other for other in before if other != key and after.get(other) != before[other]]
            attempt.expect(not changed, "other keys", count=len(changed))
            revoked = after[key] is not None
            attempt.expect(revoked or not said, "not committed")
            attempt.expect(revoked, "refused", active=active)
            attempt.expect(said, "false no", active=active)
        attempt.expect(await other_rows(attempt, "users", "id", user_id) == others, "other users")

    async def _keeps_the_last(self, attempt: Attempt) -> None:
        for revoked in (0, 2 + randbelow(3)):
            said, kept, before = await self._asks_for_the_last(attempt, revoked)
            if not kept and not revoked:
                await attempt.sql("DELETE FROM api_keys")  # with nobody else's keys around, does it count right?
                _, kept, _ = await self._asks_for_the_last(attempt, revoked)
                raise attempt.wrong("counted everybody's" if kept else "last key revoked")
            attempt.expect(kept, "counted revoked ones", revoked=revoked)
            attempt.expect(not said, "false yes")
            await self._has_changed_nothing(attempt, before)
        without = await attempt.value("SELECT is_called FROM judge.without_a_key")
        attempt.expect(not without, "a moment without")

    async def _has_changed_nothing(self, attempt: Attempt, before: list[str]) -> None:
        after = await _prints(attempt)
        changed = [table for table, was, is_now in zip(TABLES, before, after, strict=True) if was != is_now]
        attempt.expect(not changed, "changed although refused", table="".join(changed[:1]))

    async def _asks_for_the_last(self, attempt: Attempt, revoked: int) -> tuple[bool, bool, list[str]]:
        """What it said for a user's only active key, whether that is still active, and ``_prints`` before."""
        user_id = await add_user(attempt)
        key, *_ = await _add_keys(attempt, user_id, active=1, revoked=revoked)
        before = await _prints(attempt)
        said = await self._ask(attempt, key)
        return said, (await _keys(attempt)).get(key, LONG_AGO) is None, before

    async def _knows_what_is_revoked(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt)
        *_, key = await _add_keys(attempt, user_id, active=2, revoked=1)
        before, all_before = await _keys(attempt), await _prints(attempt)
        with calling_it(attempt, "revoked twice", did="made it raise an error"):
            said = await self._ask(attempt, key)
        attempt.expect(not said, "revoked twice", did="was revoked with True")
        attempt.expect(await _keys(attempt) == before, "revoked twice", did="got another `revoked_at`")
        with calling_it(attempt, "unknown key", did="raised an error"):
            said = await self._ask(attempt, uuid4())
        attempt.expect(not said, "unknown key", did="returned True")
        await self._has_changed_nothing(attempt, all_before)

    async def _two_at_once(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt)
        keys = (await _add_keys(attempt, user_id, active=2, revoked=1))[:2]
        await attempt.sql("DELETE FROM users WHERE id <> :id", id=user_id)  # whose rows may have been locked instead
        in_the_database, answers = await self._in_turns(attempt, keys)
        revoked_at = await _keys(attempt)
        left = sum(revoked_at[key] is None for key in keys)
        yes = answers.count(True)
        if yes == 2 and left == 0:
            in_the_update = any(CHECKS_IN_THE_UPDATE.search(statement.sql) for statement in attempt.log.statements)
            raise attempt.wrong("checked in the UPDATE" if in_the_update else "both revoked")
        attempt.expect(yes > 0, "nobody")
        attempt.expect(yes == 1 and left == 1, "false answers", yes=yes, left=left)
        attempt.expect(in_the_database, "locked in this process")

    async def _two_of_three(self, attempt: Attempt) -> None:
        keys = await _add_keys(attempt, await add_user(attempt), active=3)
        _, answers = await self._in_turns(attempt, keys[:2])
        revoked_at = await _keys(attempt)
        yes, left = answers.count(True), sum(revoked_at[key] is None for key in keys)
        attempt.expect((yes, left) == (2, 1), "gave up at a lock", yes=yes, left=left)

    async def _twice_the_same(self, attempt: Attempt) -> None:
        key, _ = await _add_keys(attempt, await add_user(attempt), active=2)
        _, answers = await self._in_turns(attempt, [key, key])
        attempt.expect(answers.count(True) == 1, "twice the same", yes=answers.count(True))

    async def _in_turns(self, attempt: Attempt, keys: list[UUID]) -> tuple[bool, list[Any]]:
        with (
            calling_it(attempt, "failed at once", DBAPIError),
            calling_it(attempt, "not tried again", DBAPIError, saying=SERIALIZATION),
            calling_it(attempt, "deadlock", DBAPIError, saying=DEADLOCK),
        ):
            return await in_turns(attempt, *([key] for key in keys))

    async def _ask(self, attempt: Attempt, key_id: UUID) -> bool:
        said = await attempt.call(sessions_of(attempt), key_id)
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, bool), "not a bool", kind=article(said))
        return bool(said)


async def _add_keys(attempt: Attempt, user_id: UUID, active: int, revoked: int = 0) -> list[UUID]:
    """Keys of a user, the active ones first; their ids."""
    ids = [uuid4() for _ in range(active + revoked)]
    rows: list[dict[str, Any]] = [
        {"id": id, "user_id": user_id, "label": choice(("laptop", "server", "phone")), "prefix": token_hex(4)}
        | {"key_hash": f"\\x{token_hex(32)}", "created_at": LONG_AGO}
        | {"revoked_at": None if place < active else (LATER, LONG_AGO)[place % 2]}
        for place, id in enumerate(ids)
    ]
    await add_rows(attempt, "api_keys", rows)
    return ids


async def _keys(attempt: Attempt) -> dict[UUID, Any]:
    """When each key was revoked, by its id."""
    return {row[0]: row[1] for row in await attempt.sql("SELECT id, revoked_at FROM api_keys ORDER BY id")}


async def _prints(attempt: Attempt) -> list[str]:
    """A fingerprint of the rows of each of ``TABLES``."""
    return list((await attempt.sql(PRINTS))[0])
