"""Users and their API keys."""

from __future__ import annotations

import secrets
from hashlib import sha256
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from course_lib.models import ApiKey, User
from course_lib.repositories.generic import NotFound, Repository

KEY_BYTES = 32  # of randomness: nobody guesses it, so a fast hash without salt is enough
PREFIX = 8  # characters kept readable, for people to tell their keys apart


class EmailTaken(ValueError):
    """Somebody already has this address."""

    def __init__(self, email: str) -> None:
        super().__init__(f"{email} already has an account")
        self.email = email


class UserRepository(Repository[User]):
    model = User

    async def by_email(self, email: str) -> User | None:
        """The user with this address, however it is capitalised."""
        return await self.session.scalar(select(User).where(User.email == email.strip().lower()))

    async def register(self, email: str, name: str) -> User:
        """A new user. Whether the address is free is decided by the constraint, so two at once cannot both get it.

        Raises:
            EmailTaken: it is not free. The transaction stays usable: only the INSERT was undone.
            IntegrityError: another constraint refuses it, for instance because it is no address.
        """
        address = email.strip().lower()
        user = User(email=address, name=name)
        try:
            async with self.session.begin_nested():
                self.session.add(user)
        except IntegrityError as error:
            if getattr(error.driver_exception, "constraint_name", None) == "uq_users_email":
                raise EmailTaken(address) from error
            raise
        return user

    async def issue_key(self, user_id: UUID, label: str) -> str:
        """A new API key. It is returned this once; the table keeps its hash.

        Raises:
            IntegrityError: there is no such user.
        """
        key = secrets.token_urlsafe(KEY_BYTES)
        self.session.add(ApiKey(user_id=user_id, label=label, prefix=key[:PREFIX], key_hash=hash_key(key)))
        await self.session.flush()
        return key

    async def by_key(self, key: str) -> User | None:
        """Whose API key this is; None when it is nobody's or has been revoked. Notes that the key was used."""
        statement = (
            update(ApiKey)
            .where(ApiKey.key_hash == hash_key(key), ApiKey.revoked_at.is_(None))
            .values(last_used_at=func.now())
            .returning(ApiKey.user_id)
        )
        user_id = await self.session.scalar(statement)
        return None if user_id is None else await self.get(user_id)

    async def spend(self, user_id: UUID, tokens: int) -> int:
        """Count ``tokens`` as used, in one statement that loses no concurrent one, and return what is left.

        Raises:
            NotFound: there is no such user.
            IntegrityError: it is more than the limit allows (``ck_users_tokens``).
        """
        statement = (
            update(User)
            .where(User.id == user_id)
            .values(tokens_used=User.tokens_used + tokens)
            .returning(User.token_limit - User.tokens_used)
        )
        left = await self.session.scalar(statement)
        if left is None:
            raise NotFound(User, user_id)
        return left


def hash_key(key: str) -> bytes:
    """SHA-256 of the key, as ``api_keys.key_hash`` stores it: 32 bytes."""
    return sha256(key.encode()).digest()
