"""Blocks of ``as_user`` beside each other, and the two users whom they are for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Any, Self
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.judging.attempt import Attempt
from course_lib.judging.quoting import article
from course_lib.judging.staging import add_rows, add_user

CONNECTIONS = 2
READ = text("SELECT title FROM documents")
PRETEND = text("SELECT set_config('app.user_id', :id, true)")


class Spilt(RuntimeError):
    """What goes wrong in a block."""


async def read(session: AsyncSession) -> set[str]:
    return set((await session.scalars(READ)).all())


async def nothing(_: AsyncSession) -> None:
    """What comes first in a block."""


class Block:
    """A block of ``as_user`` in a task of its own, as requests have; it does one thing after the other."""

    def __init__(self, attempt: Attempt, user: UUID) -> None:
        self.user = user
        self._attempt = attempt
        self._orders: asyncio.Queue[tuple[Callable[[AsyncSession], Awaitable[Any]], asyncio.Future[Any]] | None]
        self._orders = asyncio.Queue()
        self._error: Spilt | None = None
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        block = self._attempt.answer(self._attempt.engine, self.user)
        manager = hasattr(block, "__aenter__") and hasattr(block, "__aexit__")
        if asyncio.iscoroutine(block):
            block.close()
        self._attempt.expect(manager, "not a context manager", kind=article(block))
        async with block as session:
            self._attempt.expect(isinstance(session, AsyncSession), "not a session", kind=article(session))
            while order := await self._orders.get():
                action, done = order
                try:
                    done.set_result(await action(session))
                except Exception as error:
                    done.set_exception(error)
            if self._error is not None:
                raise self._error

    async def begun(self) -> Self:
        """This block, when it has begun. Raises what the beginning raises."""
        await self.do(nothing)
        return self

    async def do(self, action: Callable[[AsyncSession], Awaitable[Any]]) -> Any:
        """What ``action(session)`` returns in the block. Raises what it raises, or what the block has ended with."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._orders.put_nowait((action, done))
        await asyncio.wait({done, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            await self.task
        return await done

    async def end(self, error: Spilt | None = None) -> None:
        """The block comes to its end, or raises ``error``. Raises what comes out of it."""
        self._error = error
        self._orders.put_nowait(None)
        await self.task


class Stage:
    """Two users with documents, and the blocks that are open.

    Attributes:
        titles: of each of them.
        one: the first of them.
    """

    def __init__(self, attempt: Attempt, titles: dict[UUID, set[str]]) -> None:
        self.attempt = attempt
        self.titles = titles
        self.one = next(iter(titles))
        self._blocks: list[Block] = []

    @classmethod
    async def made(cls, attempt: Attempt) -> Stage:
        titles = {}
        for count in (3, 4):
            user = await add_user(attempt)
            titles[user] = {f"Notes {token_hex(4)}" for _ in range(count)}
            rows = [{"user_id": user, "source": title, "title": title} for title in titles[user]]
            rows = [row | {"id": UUID(bytes=bytes.fromhex(token_hex(16)))} for row in rows]
            times = dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00+00:00")
            await add_rows(attempt, "documents", [row | times | {"status": "ready", "meta": {}} for row in rows])
        return cls(attempt, titles)

    def block(self, user: UUID) -> Block:
        self._blocks.append(Block(self.attempt, user))
        return self._blocks[-1]

    async def end_all(self) -> None:
        for block in self._blocks:
            block.task.cancel()
        if self._blocks:
            await asyncio.wait({block.task for block in self._blocks})
        self._blocks.clear()

    async def stored(self) -> set[str]:
        """What others see of the first user's, by an owner whom policies bind too where it is no superuser."""
        async with self.attempt.judge_session() as session:
            await session.execute(PRETEND, {"id": str(self.one)})
            found = await session.scalars(text("SELECT title FROM documents WHERE user_id = :id"), {"id": self.one})
            return set(found.all())

    def compare(self, block: Block, seen: set[str], mistake: str, hidden: str = "") -> None:
        own = self.titles[block.user]
        others = len(seen - own)
        numbers = {"own": len(seen & own), "all": len(own), "others": others}
        self.attempt.expect(seen == own, hidden if hidden and not others else mistake, **numbers)

    async def expect_error(self, block: Block) -> None:
        spilt = Spilt("it went wrong in the block")
        try:
            await block.end(spilt)
        except Spilt:
            return
        raise self.attempt.wrong("error swallowed")

    async def expect_nobody(self, how: str) -> None:
        """Sessions of the same pool that nobody has told anything, on all its connections."""
        sessions = [self.attempt.session() for _ in range(CONNECTIONS)]
        try:
            seen = [await read(session) for session in sessions]
        finally:
            for session in sessions:
                await session.close()
        count = max(len(titles) for titles in seen)
        self.attempt.expect(not count, "left behind", how=how, count=count)
