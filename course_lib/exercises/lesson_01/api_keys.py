"""1.10: a repository of keys that are shown once and never kept."""

from __future__ import annotations

import math
import random
from contextlib import nullcontext
from hashlib import sha256
from itertools import zip_longest
from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.exercises.lesson_01.scenes.alike import add_keys_that_begin_alike
from course_lib.exercises.lesson_01.scenes.clock import standing_clock
from course_lib.instruments import Rows
from course_lib.judging.asking import UNIQUE, calling_it, fetched, readable
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, NotAttempted, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.rising import expect_methods_to_raise
from course_lib.judging.source import is_stub
from course_lib.judging.staging import add_user
from course_lib.models import ApiKey, User

PREFIX = 8
ROWS = 3
KEYS = 24  # enough to see which signs of a key vary, and which signs it is made of
BITS = 127  # 128 were asked for; the estimate is this exact
METHODS = ("issue", "owner_of", "revoke")


class StoreOfApiKeys(Exercise):
    """A class around a session: random keys, hashes at rest, one statement to log in."""

    id = "1.10"
    title = "A repository of API keys"
    answer = "ApiKeys"
    minutes = 25
    points = 4
    level = "senior"
    hints: ClassVar = (
        "A stolen copy of the table must be worthless, and whoever brings a key must still be found: what can be "
        "computed "
        "from the key each time, but not back?",
        "`secrets.token_urlsafe(32)` is a random key. `sha256(key.encode()).digest()` has the 32 bytes that the column "
        "takes.",
        "`flush()` sends the INSERT, so that an unknown user is an error now; the commit is the caller's.",
        "One statement: `select(User).join(ApiKey)`, where the hash is equal and `revoked_at` is NULL.",
    )
    why = (
        "A random key of 128 bits cannot be guessed, so a fast hash without salt is enough, and being the same each "
        "time it "
        "can be looked up through the unique index. Leaving the commit to the caller lets several repositories share a "
        "transaction."
    )
    follow_up = "For passwords SHA-256 would be wrong. Why is it right here, and what would a keyed hash (HMAC) add?"
    mistakes: ClassVar = {
        "method missing": "`ApiKeys` has no method `{method}`. "
        "| Three are asked for: `issue`, `owner_of` and `revoke`.",
        "method not written": "`{method}` is still the stub, and other methods are written. "
        "| Three are asked for: `issue`, `owner_of` and `revoke`.",
        "commit refused": "The caller's commit failed with {error}. "
        "| What is still pending in the session is sent then: is every value of the right type?",
        "nothing returned": "`issue` returned None. | The key is shown once: return it.",
        "not text": "`issue` returned {kind}, and the key was asked for as text. | A `str` that the user can copy.",
        "not sent": "`{method}` returned, and what it was to write had not been sent. "
        "| `flush` sends what the session has planned, so that an error comes where it belongs.",
        "commits itself": "`{method}` committed, before its caller wanted to. "
        "| Flush, and leave the commit to whoever opened the session.",
        "row missing": "After `issue` and the caller's commit, the table holds {count} rows more than before. "
        "| One key, one row.",
        "other values": "The row of the key does not have the {column} that was asked for. "
        "| User and label are arguments of `issue`.",
        "injection": "It took the label {first!r}, and for the label {label!r} it raised {error}. "
        "| Pass values as values, never inside the SQL text.",
        "stored in the clear": "The key itself can be read in the row, in `{column}`. "
        "| Keep the hash and the first signs, nothing more.",
        "not its hash": "`key_hash` is not the SHA-256 hash of the key that was returned. "
        "| `sha256(key.encode()).digest()`, of exactly the text that the user gets.",
        "hash refused": "The table refused the hash with {error}. "
        "| 32 bytes are wanted: `digest()`, and not `hexdigest()`.",
        "prefix": "`prefix` is {prefix!r}, and the first {length} signs of the key were asked for. | `key[:8]`",
        "predictable": "With `random` seeded alike and the clock standing still, the same key came twice. "
        "| What can be computed can be guessed: `random` is for games, a clock for everybody. `secrets` is for keys.",
        "too short": "The {length} signs of a key vary too little: about {bits} random bits; 128 were asked for. "
        "| `secrets.token_urlsafe(32)`. A UUID has 122.",
        "unknown user": "For a user who does not exist, `issue` raised no error and returned {kind}. "
        "| The flush is where the server says no.",
        "not found": "`owner_of` returned None for a key that was just issued, whose first signs other keys have too. "
        "| Compare the hash of the key with `key_hash`, in the query: a prefix is not unique.",
        "not a user": "`owner_of` returned {kind}, and a `User` was asked for. "
        "| `select(User)`, and `scalar` for the object.",
        "somebody else": "`owner_of` returned somebody else than the key's owner. | Is the join over `user_id`?",
        "raises for nobody": "For a key that was never issued, `owner_of` raised {error}. | None was asked for.",
        "invented": "For a key that was never issued, `owner_of` returned a user. | Compare the hash of the whole key.",
        "first signs only": "A key that only begins like an issued one was accepted. "
        "| The prefix is for people. Compare the hash.",
        "still valid": "A revoked key still finds its owner{when}. | Revoked means that `revoked_at` is not NULL.",
        "revoked too many": "Revoking one key changed {count} other rows of `api_keys`. | Only the row with this hash.",
        "row deleted": "Revoking a key deleted its row. "
        "| Who had which key until when is asked later: set `revoked_at`.",
        "remembered": "`owner_of` answered without asking the database. "
        "| Another process may have revoked the key by now.",
        "outdated": "A key that was found, and then revoked by another session, was found once more. "
        "| Another process may have revoked it: ask the database each time, with `revoked_at` in the query.",
        "loaded everything": "`owner_of` fetched {rows} rows to find one key. "
        "| The hash is a condition of the query, not a comparison in Python.",
        "two statements": "`owner_of` sent {count} statements, and it runs with every request: one was asked for. "
        "| A join gives the user with the key.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id, other_id = await add_user(attempt), await add_user(attempt)
        first, awkward = f"laptop {token_hex(2)}", f'it\'s "blue" :x %s {token_hex(2)}'
        keys = [await self._issues(attempt, user_id, first)]
        with calling_it(attempt, "injection", SQLAlchemyError, first=first, label=awkward):
            keys += [await self._issues(attempt, other_id, awkward)]
        await self._issues(attempt, other_id, "")
        await self._refuses_an_unknown_user(attempt)
        await add_keys_that_begin_alike(attempt, [_hash(key) for key in keys])
        await self._finds_owners(attempt, {keys[0]: user_id, keys[1]: other_id})
        await self._revokes(attempt, keys[0], user_id)
        await self._asks_each_time(attempt, keys[1], other_id)
        await self._cannot_be_guessed(attempt, user_id)
        async with attempt.session() as session:
            store = await self._store(attempt, session)
            await expect_methods_to_raise(attempt, store, owner_of=(keys[0],), revoke=(keys[0],))

    async def _issues(self, attempt: Attempt, user_id: UUID, label: str) -> str:
        before = await _rows(attempt)
        async with attempt.session() as session:
            store = await self._store(attempt, session)
            try:
                key = await self._call(attempt, store, "issue", user_id, label)
            except Wrong as wrong:
                if _is_about_the_hash(wrong):
                    raise attempt.wrong("hash refused", error=kind_of(wrong.__cause__)) from wrong.__cause__
                raise
            attempt.expect(key is not None, "nothing returned")
            attempt.expect(isinstance(key, str), "not text", kind=article(key))
            attempt.expect(len(await _rows(attempt)) == len(before), "commits itself", method="issue")
            here = await _in_its_transaction(session, "SELECT count(*) FROM api_keys")
            await self._commit(attempt, session)
        shown = str(key)
        added = [row for row in await _rows(attempt) if row not in list(before)]
        attempt.expect(len(added) == 1, "row missing", count=len(added))
        attempt.expect(here > len(before), "not sent", method="issue")
        self._inspect(attempt, shown, dict(zip(before.columns, added[0], strict=True)), user_id, label)
        return shown

    async def _commit(self, attempt: Attempt, session: AsyncSession) -> None:
        """The caller's commit, which sends what the store has left pending."""
        try:
            await session.commit()
        except SQLAlchemyError as error:
            raise attempt.wrong("commit refused", error=kind_of(error)) from error

    async def _store(self, attempt: Attempt, session: AsyncSession) -> Any:
        store = await attempt.call(session)
        for method in METHODS:
            attempt.expect(callable(getattr(store, method, None)), "method missing", method=method)
        return store

    async def _call(self, attempt: Attempt, store: Any, method: str, *arguments: Any) -> Any:
        """One method of it; the stub of one is no stub of all."""
        try:
            return await attempt.call(*arguments, function=getattr(store, method))
        except NotAttempted:
            if all(is_stub(getattr(store, name)) for name in METHODS):
                raise
            raise attempt.wrong("method not written", method=method) from None

    def _inspect(self, attempt: Attempt, key: str, row: dict[str, Any], user_id: UUID, label: str) -> None:
        attempt.expect(row["user_id"] == user_id, "other values", column="user")
        for column, value in row.items():
            shown = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            clear = key in shown or (column in ("prefix", "key_hash") and len(shown) > 2 * PREFIX and shown in key)
            attempt.expect(not clear, "stored in the clear", column=column)
        attempt.expect(row["label"] == label, "other values", column="label")
        attempt.expect(bytes(row["key_hash"]) == sha256(key.encode()).digest(), "not its hash")
        attempt.expect(row["prefix"] == key[:PREFIX], "prefix", prefix=row["prefix"], length=PREFIX)

    async def _refuses_an_unknown_user(self, attempt: Attempt) -> None:
        async with attempt.session() as session:
            store = await self._store(attempt, session)
            try:
                said = await self._call(attempt, store, "issue", uuid4(), "nobody's")
            except Wrong as wrong:
                if wrong.mistake != "raised":
                    raise
            else:
                raise attempt.wrong("unknown user", kind=article(said))

    async def _owner(self, attempt: Attempt, key: str) -> UUID | None:
        async with attempt.session() as session:
            return await self._owner_by(attempt, await self._store(attempt, session), key)

    async def _owner_by(self, attempt: Attempt, store: Any, key: str) -> UUID | None:
        owner = await self._call(attempt, store, "owner_of", key)
        attempt.expect(owner is None or isinstance(owner, User), "not a user", kind=article(owner))
        id: UUID | None = owner.id if owner is not None and readable(owner, "id") else None
        return id

    async def _finds_owners(self, attempt: Attempt, owners: dict[str, UUID]) -> None:
        for key, owner in owners.items():
            found = await self._owner(attempt, key)
            count, rows = attempt.log.count, fetched(attempt.log)
            begins_alike = key[:PREFIX] + token_hex(len(key))[: len(key) - PREFIX]
            attempt.expect(found is not None, "not found")
            if found != owner:
                known = await self._owner(attempt, begins_alike)
                raise attempt.wrong("first signs only" if known else "somebody else")
            attempt.expect(count > 0, "remembered")
        with calling_it(attempt, "raises for nobody"):
            for unknown in (token_hex(20), f'it\'s "{token_hex(20)}" :é', "", *({key.swapcase()} - {key})):
                attempt.expect(await self._owner(attempt, unknown) is None, "invented")
            attempt.expect(await self._owner(attempt, begins_alike) is None, "first signs only")
        attempt.expect(count == 1, "two statements", count=count)
        attempt.expect(rows <= ROWS, "loaded everything", rows=rows)

    async def _asks_each_time(self, attempt: Attempt, key: str, owner: UUID) -> None:
        """One store, two questions, and another session in between; the caller has listed the keys and holds them."""
        async with attempt.session() as session:
            held = (await session.scalars(select(ApiKey).where(ApiKey.user_id == owner))).all()
            store = await self._store(attempt, session)
            attempt.expect(await self._owner_by(attempt, store, key) == owner, "somebody else")
            await session.commit()
            await attempt.sql("UPDATE api_keys SET revoked_at = now() WHERE key_hash = :hash", hash=_hash(key))
            attempt.expect(await self._owner_by(attempt, store, key) is None, "outdated")
            del held

    async def _revokes(self, attempt: Attempt, key: str, owner: UUID) -> None:
        another = await self._issues(attempt, owner, "telephone")
        before = await _rows(attempt)
        async with attempt.session() as session:
            store = await self._store(attempt, session)
            await self._call(attempt, store, "revoke", key)
            attempt.expect(list(await _rows(attempt)) == list(before), "commits itself", method="revoke")
            sent = await _in_its_transaction(
                session, "SELECT count(revoked_at) FROM api_keys WHERE key_hash = :hash", hash=_hash(key)
            )
            if sent:
                found = await self._owner_by(attempt, store, key)
                attempt.expect(found is None, "still valid", when=", in the transaction that revoked it")
            await self._commit(attempt, session)
        after = await _rows(attempt)
        attempt.expect(len(after) == len(before), "row deleted")
        changed = sum(row != old for row, old in zip(after, before, strict=True))
        attempt.expect(changed <= 1, "revoked too many", count=changed - 1)
        with calling_it(attempt, "raises for nobody"):
            attempt.expect(await self._owner(attempt, key) is None, "still valid", when="")
        attempt.expect(bool(sent), "not sent", method="revoke")
        attempt.expect(await self._owner(attempt, another) == owner, "revoked too many", count=1)

    async def _cannot_be_guessed(self, attempt: Attempt, user_id: UUID) -> None:
        keys: list[str] = []

        async def issue() -> None:
            for n in range(KEYS):
                if n < 2:
                    random.seed(7)
                with standing_clock(store.issue) if n < 2 else nullcontext():
                    keys.append(await store.issue(user_id, "guess"))

        state = random.getstate()
        try:
            async with attempt.session() as session:
                store = await self._store(attempt, session)
                with calling_it(attempt, "predictable", IntegrityError, saying=UNIQUE):
                    await attempt.call(function=issue)
        finally:
            random.setstate(state)
        attempt.expect(len(set(keys)) == len(keys), "predictable")
        bits = round(_random_bits(keys))
        attempt.expect(bits >= BITS, "too short", length=len(keys[0]), bits=bits)


def _is_about_the_hash(wrong: Wrong) -> bool:
    """The table's constraint on its length, or the driver's on its type."""
    said = str(wrong.__cause__) if isinstance(wrong.__cause__, DBAPIError) else ""
    return "ck_api_keys_key_hash" in said or "bytes-like" in said


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()


async def _in_its_transaction(session: AsyncSession, statement: str, **values: Any) -> int:
    """A number as the session's own transaction sees it, without making the session send what it has planned."""
    try:
        connection = await session.connection()
        number: int = (await connection.execute(text(statement), values)).scalar_one()
    except SQLAlchemyError:  # a transaction that is broken by now: its commit tells why
        return 0
    return number


def _random_bits(keys: list[str]) -> float:
    """How many bits of a key look random: the signs at places that vary, by the number of signs in use there."""
    varying = [place for place in zip_longest(*keys, fillvalue="") if len(set(place)) > 1]
    signs = {sign for place in varying for sign in place} - {""}
    return len(varying) * math.log2(max(1, len(signs)))


async def _rows(attempt: Attempt) -> Rows:
    return await attempt.sql("SELECT id, user_id, label, prefix, key_hash, revoked_at FROM api_keys ORDER BY id")
