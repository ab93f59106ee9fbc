"""Who asks? One statement for each request, so that a key is revoked now, and not when a cache forgets it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import BindParameter, bindparam, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.models import ApiKey, User

KEY: BindParameter[bytes] = bindparam("shown_hash")
NOTED_EVERY = text("interval '1 minute'")

# The index compares hashes, not keys: the time it takes says something about a hash, from which nobody gets a key.
_VALID = (ApiKey.key_hash == KEY, ApiKey.revoked_at.is_(None))
# at most once a minute: an UPDATE locks its row, and all requests with one key would go in single file
_STALE = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - NOTED_EVERY)
_NOTE = update(ApiKey).where(*_VALID, _STALE).values(last_used_at=func.now()).cte("noted")
WHO = select(User.id, User.email, ApiKey.id.label("key_id")).join(ApiKey.user).where(*_VALID).add_cte(_NOTE)


@dataclass(frozen=True)
class Asking:
    """A user, and the key that was shown. No model: nobody can reload it, or change the row by it."""

    id: UUID
    email: str
    key_id: UUID


async def who_asks(engine: AsyncEngine, key_hash: bytes) -> Asking | None:
    """Whose key has this hash; None when it is nobody's, or is revoked. The connection is free again afterwards."""
    alone = engine.execution_options(isolation_level="AUTOCOMMIT")  # one round trip, no BEGIN and no COMMIT
    async with alone.connect() as connection:
        row = (await connection.execute(WHO, {"shown_hash": key_hash})).one_or_none()
    return None if row is None else Asking(*row)
