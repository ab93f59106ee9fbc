"""The same POST twice is done once: a key of the client's, and the response that it was given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import IdempotentRequest
from course_lib.service import problems
from course_lib.service.dependencies import Caller
from course_lib.service.problems import MEDIA_TYPE, Refused

LEASE = timedelta(minutes=10)
"""A claim without a response, older than this, belonged to a process that has died."""
KEPT = timedelta(hours=24)
"""So long a response is kept for who asks again."""


class Replay(Exception):
    """The request was done before; its response is given again."""

    def __init__(self, stored: dict[str, Any]) -> None:
        super().__init__("replay")
        self.stored = stored

    def response(self) -> Response:
        headers = {**self.stored["headers"], "Idempotency-Replayed": "true"}
        content = json.dumps(self.stored["body"])
        status = self.stored["status"]
        return Response(content, status, headers, media_type="application/json" if status < 400 else MEDIA_TYPE)


@dataclass(frozen=True)
class Once:
    """A request that may come again. Without a key every method does nothing, and each request counts."""

    user_id: UUID
    key: str | None
    route: str

    async def claim(self, session: AsyncSession, content: bytes) -> None:
        """Go on only when nobody does, or did, the same. One statement, two where somebody was first.

        In a transaction that also does the work, a second one waits here for its end. Where a model works in between,
        commit at once: then a second one is told that the first is on its way.

        Raises:
            Replay: it was done; this is its response.
            Refused: it is being done, or the key belongs to another request.
        """
        if self.key is None:
            return
        digest = sha256(self.route.encode() + b"\0" + content).digest()
        row, now = IdempotentRequest, func.clock_timestamp()
        statement = insert(row).values(
            user_id=self.user_id, key=self.key, request_hash=digest, claimed_until=now + LEASE
        )
        abandoned = row.response.is_(None) & (row.claimed_until < now) & (row.request_hash == digest)
        statement = statement.on_conflict_do_update(
            index_elements=["user_id", "key"],
            set_={"claimed_until": statement.excluded.claimed_until},
            where=abandoned,
        )
        if await session.scalar(statement.returning(row.key)) is None:
            await self._give_up(session, digest)

    async def _give_up(self, session: AsyncSession, digest: bytes) -> None:
        row = IdempotentRequest
        found = (await session.execute(select(row.request_hash, row.response).where(*self._mine))).one_or_none()
        if found is None:  # it was abandoned between the two statements
            raise Refused(problems.IN_PROGRESS, retry_after=1)
        if found.request_hash != digest:
            raise Refused(problems.KEY_REUSED, "Send another Idempotency-Key for another request.")
        if found.response is None:
            raise Refused(problems.IN_PROGRESS, retry_after=2)
        raise Replay(found.response)

    async def keep(self, session: AsyncSession, status: int, body: Any, headers: dict[str, str]) -> None:
        """Store the response, in the transaction that stores what was done."""
        if self.key is not None:
            stored = {"status": status, "headers": headers, "body": body}
            await session.execute(update(IdempotentRequest).where(*self._mine).values(response=stored))

    async def abandon(self, session: AsyncSession) -> None:
        """Nothing was done: the next one with this key may."""
        if self.key is not None:
            unanswered = IdempotentRequest.response.is_(None)
            await session.execute(delete(IdempotentRequest).where(*self._mine, unanswered))

    @property
    def _mine(self) -> tuple[Any, Any]:
        return IdempotentRequest.user_id == self.user_id, IdempotentRequest.key == self.key


async def forget_old(session: AsyncSession) -> int:
    """Delete what is older than ``KEPT``; how many that were."""
    old = IdempotentRequest.created_at < func.now() - KEPT
    gone = await session.scalars(delete(IdempotentRequest).where(old).returning(IdempotentRequest.key))
    return len(gone.all())


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=100,
        pattern=r"^[!-~]+$",
        description="Made by the client, one for each thing it wants done: the same request with it is done once.",
    ),
]


async def once(request: Request, caller: Caller, key: IdempotencyKey = None) -> Once:
    return Once(caller.id, key, f"{request.method} {request.url.path}")


OnceOnly = Annotated[Once, Depends(once)]
