"""Answers to 1.10, a repository of API keys."""

from __future__ import annotations

import hashlib
import random
import secrets
import string
import time
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

from sqlalchemy import delete, func, insert, or_, select, text, update
from sqlalchemy.orm import joinedload

from course_lib.models import ApiKey, User
from tests.exercises.written import Answers

ANSWERS = Answers("1.10")


def digest(key):
    return sha256(key.encode()).digest()


class Right:
    """What the wrong ones change one method of."""

    def __init__(self, session):
        self.session = session

    def new_key(self, user_id, label):
        return secrets.token_urlsafe(32)

    async def issue(self, user_id, label):
        key = self.new_key(user_id, label)
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key[:8], key_hash=digest(key)))
        await self.session.flush()
        return key

    async def owner_of(self, key):
        statement = select(User).join(User.api_keys).where(ApiKey.key_hash == digest(key), ApiKey.revoked_at.is_(None))
        return (await self.session.scalars(statement)).one_or_none()

    async def revoke(self, key):
        api_key = await self.session.scalar(select(ApiKey).where(ApiKey.key_hash == digest(key)))
        if api_key is not None:
            api_key.revoked_at = func.now()
            await self.session.flush()


ANSWERS.right(Right)


@ANSWERS.right
class CoreAndHex(Right):
    async def issue(self, user_id, label):
        key = f"dbai_{secrets.token_hex(16)}"
        values = {
            "user_id": user_id,
            "label": label,
            "prefix": key[:8],
            "key_hash": hashlib.sha256(key.encode()).digest(),
        }
        await self.session.execute(insert(ApiKey).values(values))
        return key

    async def revoke(self, key):
        revoked = update(ApiKey).where(ApiKey.key_hash == digest(key), ApiKey.revoked_at.is_(None))
        await self.session.execute(revoked.values(revoked_at=func.now()))
        await self.session.flush()


@ANSWERS.right
class HashedByTheServer(Right):
    """Whose key is revoked is asked of a column, which no object that is held already keeps back."""

    async def issue(self, user_id, label):
        key = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(22))
        sql = """
            INSERT INTO api_keys (user_id, label, prefix, key_hash)
            VALUES (:user_id, :label, left(:key, 8), sha256(convert_to(:key, 'UTF8')))
        """
        await self.session.execute(text(sql), {"user_id": user_id, "label": label, "key": key})
        return key

    async def owner_of(self, key):
        statement = select(User, ApiKey.revoked_at).join(ApiKey).where(ApiKey.key_hash == digest(key))
        row = (await self.session.execute(statement)).first()
        return row.User if row and not row.revoked_at else None


@ANSWERS.right
class TouchedWhenUsed(Right):
    """One statement can also write down when the key was used."""

    def new_key(self, user_id, label):
        return f"{random.SystemRandom().getrandbits(256):x}".zfill(64)

    async def owner_of(self, key):
        used = update(ApiKey).where(ApiKey.key_hash == digest(key), ApiKey.revoked_at.is_(None))
        used = used.values(last_used_at=func.now()).returning(ApiKey.user_id).cte()
        return await self.session.scalar(select(User).join(used, used.c.user_id == User.id))


@ANSWERS.wrong("method missing")
class NoRevoke:
    def __init__(self, session):
        self.session = session

    issue = Right.issue
    new_key = Right.new_key
    owner_of = Right.owner_of


@ANSWERS.wrong("commit refused")
class RevokedAtTrue(Right):
    async def revoke(self, key):
        api_key = await self.session.scalar(select(ApiKey).where(ApiKey.key_hash == digest(key)))
        api_key.revoked_at = True


@ANSWERS.wrong("not sent")
class RevokesAtTheCommit(Right):
    async def revoke(self, key):
        api_key = await self.session.scalar(select(ApiKey).where(ApiKey.key_hash == digest(key)))
        api_key.revoked_at = func.now()


@ANSWERS.wrong("method not written")
class RevokeIsTheStub(Right):
    def __init__(self, session):
        self.session = session

    async def revoke(self, key):
        raise NotImplementedError("your code")


@ANSWERS.wrong("injection")
class LabelInAnFString(Right):
    async def issue(self, user_id, label):
        key = secrets.token_urlsafe(32)
        sql = f"INSERT INTO api_keys (user_id, label, prefix, key_hash) VALUES (:id, '{label}', :prefix, :hash)"
        await self.session.execute(text(sql), {"id": user_id, "prefix": key[:8], "hash": digest(key)})
        return key


@ANSWERS.wrong("stored in the clear")
class KeyWhereThereIsNoLabel(Right):
    async def issue(self, user_id, label):
        key = secrets.token_urlsafe(32)
        self.session.add(ApiKey(user_id=user_id, label=label or key, prefix=key[:8], key_hash=digest(key)))
        await self.session.flush()
        return key


@ANSWERS.wrong("predictable")
class FromTheClock(Right):
    def new_key(self, user_id, label):
        return sha256(f"{time.time_ns()} {datetime.now(UTC)} {user_id}".encode()).hexdigest()


@ANSWERS.wrong("too short")
class ThirtyEightDigits(Right):
    def new_key(self, user_id, label):
        return f"{secrets.randbelow(10**38):038d}"


@ANSWERS.wrong("unknown user")
class NothingForNobody(Right):
    async def issue(self, user_id, label):
        if await self.session.get(User, user_id) is None:
            return None
        return await super().issue(user_id, label)


@ANSWERS.wrong("outdated")
class OwnersKept(Right):
    def __init__(self, session):
        self.session, self.owners = session, {}

    async def owner_of(self, key):
        if key not in self.owners:
            self.owners[key] = await super().owner_of(key)
        return self.owners[key]


@ANSWERS.wrong("outdated")
class AsksTheObject(Right):
    async def owner_of(self, key):
        statement = select(ApiKey).options(joinedload(ApiKey.user)).where(ApiKey.key_hash == digest(key))
        api_key = await self.session.scalar(statement)
        return api_key.user if api_key and not api_key.revoked_at else None


@ANSWERS.wrong("still valid")
class ValidUntilThen(Right):
    async def owner_of(self, key):
        valid = or_(ApiKey.revoked_at.is_(None), ApiKey.revoked_at >= func.now())
        return await self.session.scalar(select(User).join(ApiKey).where(ApiKey.key_hash == digest(key), valid))


@ANSWERS.wrong("two statements")
class AsksTheDriverFirst(Right):
    async def owner_of(self, key):
        driver = (await (await self.session.connection()).get_raw_connection()).driver_connection
        sql = "SELECT user_id FROM api_keys WHERE key_hash = $1 AND revoked_at IS NULL"
        return await self.session.get(User, await driver.fetchval(sql, digest(key)) or uuid4())


@ANSWERS.wrong("invented")
class SomebodyForAnyKey(Right):
    async def owner_of(self, key):
        return await super().owner_of(key) or await self.session.scalar(select(User).limit(1))


@ANSWERS.wrong("loaded everything")
class LooksThroughAll(Right):
    async def owner_of(self, key):
        for api_key in await self.session.scalars(select(ApiKey).options(joinedload(ApiKey.user))):
            if api_key.key_hash == digest(key) and not api_key.revoked_at:
                return api_key.user
        return None


@ANSWERS.wrong("nothing returned")
class ForgotReturn(Right):
    async def issue(self, user_id, label):
        await super().issue(user_id, label)


@ANSWERS.wrong("not text")
class ReturnsTheRow(Right):
    async def issue(self, user_id, label):
        key = secrets.token_urlsafe(32)
        row = ApiKey(user_id=user_id, label=label, prefix=key[:8], key_hash=digest(key))
        self.session.add(row)
        await self.session.flush()
        return row


@ANSWERS.wrong("not sent")
class AddsOnly(Right):
    async def issue(self, user_id, label):
        key = secrets.token_urlsafe(32)
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key[:8], key_hash=digest(key)))
        return key


@ANSWERS.wrong("commits itself")
class CommitsWhenIssued(Right):
    async def issue(self, user_id, label):
        key = await super().issue(user_id, label)
        await self.session.commit()
        return key


@ANSWERS.wrong("commits itself")
class CommitsWhenRevoked(Right):
    async def revoke(self, key):
        await super().revoke(key)
        await self.session.commit()


@ANSWERS.wrong("row missing")
class NothingStored(Right):
    async def issue(self, user_id, label):
        await self.session.get(User, user_id)
        return secrets.token_urlsafe(32)


@ANSWERS.wrong("other values")
class LabelForgotten(Right):
    async def issue(self, user_id, label):
        return await super().issue(user_id, "key")


@ANSWERS.wrong("other values")
class SomebodysKey(Right):
    async def issue(self, user_id, label):
        first = await self.session.scalar(select(User.id).order_by(User.created_at).limit(1))
        return await super().issue(first, label)


@ANSWERS.wrong("stored in the clear")
class PrefixIsTheKey(Right):
    async def issue(self, user_id, label):
        key = secrets.token_urlsafe(32)
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key, key_hash=digest(key)))
        await self.session.flush()
        return key


@ANSWERS.wrong("stored in the clear")
class KeyAsItsOwnHash(Right):
    async def issue(self, user_id, label):
        key = secrets.token_hex(16)
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key[:8], key_hash=key.encode()))
        await self.session.flush()
        return key


@ANSWERS.wrong("not its hash")
class HashOfSomethingElse(Right):
    async def issue(self, user_id, label):
        secret = secrets.token_bytes(32)
        key = secret.hex()
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key[:8], key_hash=sha256(secret).digest()))
        await self.session.flush()
        return key


@ANSWERS.wrong("not its hash")
class AnotherHash(Right):
    async def issue(self, user_id, label):
        key = secrets.token_urlsafe(32)
        hashed = hashlib.blake2s(key.encode()).digest()
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key[:8], key_hash=hashed))
        await self.session.flush()
        return key


@ANSWERS.wrong("hash refused")
class HexAsBytes(Right):
    async def issue(self, user_id, label):
        key = secrets.token_urlsafe(32)
        hashed = sha256(key.encode()).hexdigest().encode()
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key[:8], key_hash=hashed))
        await self.session.flush()
        return key


@ANSWERS.wrong("hash refused")
class HexAsText(Right):
    async def issue(self, user_id, label):
        key = secrets.token_urlsafe(32)
        hashed = sha256(key.encode()).hexdigest()
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key[:8], key_hash=hashed))
        await self.session.flush()
        return key


@ANSWERS.wrong("prefix")
class SixSigns(Right):
    async def issue(self, user_id, label):
        key = secrets.token_urlsafe(32)
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key[:6], key_hash=digest(key)))
        await self.session.flush()
        return key


@ANSWERS.wrong("predictable")
class ModuleRandom(Right):
    def new_key(self, user_id, label):
        return "".join(random.choices(string.ascii_letters, k=40))


@ANSWERS.wrong("too short")
class Uuid(Right):
    def new_key(self, user_id, label):
        return str(uuid4())


@ANSWERS.wrong("too short")
class LongButMostlyFixed(Right):
    def new_key(self, user_id, label):
        return f"databases-for-ai-engineers-{secrets.token_hex(8)}-{user_id}"


@ANSWERS.wrong("unknown user")
class ErrorSwallowed(Right):
    async def issue(self, user_id, label):
        try:
            return await super().issue(user_id, label)
        except Exception:
            await self.session.rollback()
            return secrets.token_urlsafe(32)


@ANSWERS.wrong("not found")
class ForgotReturnOfTheOwner(Right):
    async def owner_of(self, key):
        await super().owner_of(key)


@ANSWERS.wrong("not found")
class TheFirstWithThisPrefix(Right):
    order = ()

    async def owner_of(self, key):
        statement = select(User, ApiKey.key_hash).join(User.api_keys).order_by(*self.order)
        statement = statement.where(ApiKey.prefix == key[:8], ApiKey.revoked_at.is_(None))
        row = (await self.session.execute(statement)).first()
        return row.User if row is not None and row.key_hash == digest(key) else None


@ANSWERS.wrong("not found")
class TheNewestWithThisPrefix(TheFirstWithThisPrefix):
    order = (ApiKey.created_at.desc(),)


@ANSWERS.wrong("still valid")
class RevokesTheFirstWithThisPrefix(Right):
    async def revoke(self, key):
        found = (await self.session.scalars(select(ApiKey).where(ApiKey.prefix == key[:8]))).first()
        if found is not None and found.key_hash == digest(key):
            found.revoked_at = func.now()
            await self.session.flush()


@ANSWERS.wrong("not a user")
class OwnersRow(Right):
    async def owner_of(self, key):
        return (await self.session.execute(select(User).join(ApiKey).where(ApiKey.key_hash == digest(key)))).first()


@ANSWERS.wrong("not a user")
class OwnersId(Right):
    async def owner_of(self, key):
        return await self.session.scalar(select(ApiKey.user_id).where(ApiKey.key_hash == digest(key)))


@ANSWERS.wrong("somebody else")
class NoJoin(Right):
    async def owner_of(self, key):
        known = select(ApiKey.id).where(ApiKey.key_hash == digest(key), ApiKey.revoked_at.is_(None)).exists()
        return await self.session.scalar(select(User).where(known).order_by(User.created_at).limit(1))


@ANSWERS.wrong("raises for nobody")
class One(Right):
    async def owner_of(self, key):
        statement = select(User).join(ApiKey).where(ApiKey.key_hash == digest(key), ApiKey.revoked_at.is_(None))
        return (await self.session.scalars(statement)).one()


@ANSWERS.wrong("first signs only")
class LooksByPrefix(Right):
    async def owner_of(self, key):
        statement = select(User).join(ApiKey).where(ApiKey.prefix == key[:8], ApiKey.revoked_at.is_(None))
        return await self.session.scalar(statement)


@ANSWERS.wrong("still valid")
class DoesNotAskIfRevoked(Right):
    async def owner_of(self, key):
        return await self.session.scalar(select(User).join(ApiKey).where(ApiKey.key_hash == digest(key)))


@ANSWERS.wrong("still valid")
class RevokesNothing(Right):
    async def revoke(self, key):
        await self.session.execute(update(ApiKey).where(ApiKey.prefix == key).values(revoked_at=func.now()))


@ANSWERS.wrong("revoked too many")
class RevokesAllOfTheUser(Right):
    async def revoke(self, key):
        owner = select(ApiKey.user_id).where(ApiKey.key_hash == digest(key)).scalar_subquery()
        await self.session.execute(update(ApiKey).where(ApiKey.user_id == owner).values(revoked_at=func.now()))


@ANSWERS.wrong("row deleted")
class DeletesTheRow(Right):
    async def revoke(self, key):
        await self.session.execute(delete(ApiKey).where(ApiKey.key_hash == digest(key)))


@ANSWERS.wrong("remembered")
class KeptInMemory(Right):
    owners: dict[str, User] = {}  # noqa: RUF012

    async def issue(self, user_id, label):
        key = await super().issue(user_id, label)
        self.owners[key] = await self.session.get(User, user_id)
        return key

    async def owner_of(self, key):
        return self.owners.get(key)


@ANSWERS.wrong("two statements")
class KeyThenUser(Right):
    async def owner_of(self, key):
        statement = select(ApiKey).where(ApiKey.key_hash == digest(key), ApiKey.revoked_at.is_(None))
        api_key = await self.session.scalar(statement)
        return await self.session.get(User, api_key.user_id) if api_key else None


@ANSWERS.wrong("swallowed")
class NobodyForAnyError(Right):
    async def owner_of(self, key):
        try:
            return await super().owner_of(key)
        except Exception:
            return None
