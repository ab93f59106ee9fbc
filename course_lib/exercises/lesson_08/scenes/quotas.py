"""Tokens that a user may spend in a window of time, in a table that the judges of this lesson make."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Uuid

from course_lib.judging.attempt import Attempt

TABLE = """
    CREATE TABLE quotas (
        user_id uuid PRIMARY KEY, token_limit integer NOT NULL, tokens_used integer NOT NULL,
        resets_at timestamptz NOT NULL
    )
"""
SET = """
    INSERT INTO quotas VALUES (:user, :limit, :used, now() + CAST(:left AS interval))
    ON CONFLICT (user_id) DO UPDATE SET
        token_limit = excluded.token_limit, tokens_used = excluded.tokens_used, resets_at = excluded.resets_at
"""
QUOTAS = Table(
    "quotas", MetaData(),
    Column("user_id", Uuid, primary_key=True), Column("token_limit", Integer), Column("tokens_used", Integer),
    Column("resets_at", DateTime(timezone=True)),
)  # fmt: skip


class Quota(NamedTuple):
    """A row, as others see it."""

    used: int
    resets_at: datetime


class Account:
    """A user's row, set for each scene anew."""

    def __init__(self, attempt: Attempt, user: UUID) -> None:
        self.attempt, self.user = attempt, user

    async def set(self, limit: int, used: int, left: timedelta) -> None:
        """``left`` is the time until the window ends; it has ended where that is negative."""
        await self.attempt.sql(SET, user=self.user, limit=limit, used=used, left=left)

    async def row(self) -> Quota:
        rows = await self.attempt.sql("SELECT tokens_used, resets_at FROM quotas WHERE user_id = :u", u=self.user)
        return Quota(*rows[0])

    async def used(self) -> int:
        return (await self.row()).used

    async def book(self, more: int) -> None:
        """Another process spends tokens."""
        await self.attempt.sql(
            "UPDATE quotas SET tokens_used = tokens_used + :more WHERE user_id = :u", more=more, u=self.user
        )

    async def renew(self, used: int) -> None:
        """Another process has begun a new window, and spent tokens of it."""
        await self.attempt.sql(
            "UPDATE quotas SET tokens_used = :used, resets_at = resets_at + interval '1 hour' WHERE user_id = :u",
            used=used, u=self.user,
        )  # fmt: skip

    async def left(self) -> float:
        """Seconds until the window ends."""
        return ((await self.row()).resets_at - await self.now()).total_seconds()

    async def now(self) -> datetime:
        """By the server's clock."""
        moment: datetime = await self.attempt.value("SELECT clock_timestamp()")
        return moment
