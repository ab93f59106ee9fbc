"""8.7: a quota of tokens in a window, and a 429."""

import asyncio
import math
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Body, Depends, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import func, select, update

from tests.exercises.written import Answers

ANSWERS = Answers("8.7")


class Question(BaseModel):
    question: str


class Quota:
    """Reserve and settle by a locked row; the wrong answers change a part of it."""

    def __init__(self, sessions, quotas, most, window):
        self.sessions, self.quotas, self.most, self.window = sessions, quotas, most, window

    def look(self, user_id):
        return select(self.quotas).where(self.quotas.c.user_id == user_id).with_for_update()

    def change(self, user_id, **values):
        return update(self.quotas).where(self.quotas.c.user_id == user_id).values(**values)

    def refusal(self, left):
        return HTTPException(429, "used up", {"Retry-After": str(math.ceil(left.total_seconds()))})

    async def reserve(self, user_id):
        """The end of the window."""
        async with self.sessions.begin() as session:
            row = (await session.execute(self.look(user_id))).one()
            now = datetime.now(UTC)
            used, ends = (row.tokens_used, row.resets_at) if row.resets_at > now else (0, now + self.window)
            if used + self.most > row.token_limit:
                raise self.refusal(ends - now)
            await session.execute(self.change(user_id, tokens_used=used + self.most, resets_at=ends))
        return ends

    async def settle(self, user_id, ends, cost):
        async with self.sessions.begin() as session:
            row = (await session.execute(self.look(user_id))).one()
            if row.resets_at == ends:
                await session.execute(self.change(user_id, tokens_used=row.tokens_used + cost - self.most))

    async def give_back(self, user_id, ends):
        await self.settle(user_id, ends, 0)


def routes(caller, quota, ask_model):
    router = APIRouter()

    @router.post("/questions")
    async def ask(asked: Question, user_id: Annotated[UUID, Depends(caller)]):
        ends = await quota.reserve(user_id)
        try:
            reply, cost = await ask_model(asked.question)
        except Exception:
            await quota.give_back(user_id, ends)
            return JSONResponse({"detail": "no answer"}, 502)
        await quota.settle(user_id, ends, cost)
        return {"answer": reply}

    return router


@ANSWERS.right
def by_locked_rows(sessions, caller, quotas, ask_model, most, window):
    return routes(caller, Quota(sessions, quotas, most, window), ask_model)


@ANSWERS.right
def renewed_first(sessions, caller, quotas, ask_model, most, window):
    """A window is begun by a statement of its own, in the same transaction."""
    router, row = APIRouter(), quotas.c

    async def in_transaction(*statements):
        async with sessions.begin() as session:
            for statement in statements:
                said = await session.execute(statement)
            return said.first()

    @router.post("/questions", status_code=200)
    async def ask(question: Annotated[str, Body(embed=True)], user_id: Annotated[UUID, Depends(caller)]):
        mine = update(quotas).where(row.user_id == user_id)
        renew = mine.where(row.resets_at <= func.clock_timestamp())
        renew = renew.values(tokens_used=0, resets_at=func.clock_timestamp() + window)
        take = mine.where(row.tokens_used <= row.token_limit - most).values(tokens_used=row.tokens_used + most)
        taken = await in_transaction(renew, take.returning(row.resets_at))
        if taken is None:
            left = await in_transaction(select(row.resets_at - func.now()).where(row.user_id == user_id))
            seconds = int(left[0].total_seconds()) + 1
            return JSONResponse("used up", 429, headers={"retry-after": str(seconds)})
        mine = mine.where(row.resets_at == taken.resets_at)
        try:
            reply, cost = await ask_model(question)
        except BaseException as error:
            await in_transaction(mine.values(tokens_used=row.tokens_used - most).returning(row.user_id))
            if isinstance(error, Exception):
                raise HTTPException(502) from error
            raise
        await in_transaction(mine.values(tokens_used=row.tokens_used - most + cost).returning(row.user_id))
        return {"answer": reply}

    return router


def of(kind):
    """The answer that uses this quota."""

    def quota_routes(sessions, caller, quotas, ask_model, most, window):
        return routes(caller, kind(sessions, quotas, most, window), ask_model)

    quota_routes.__name__ = kind.__name__
    return quota_routes


@ANSWERS.wrong("not answered")
@of
class NeverToTheLimit(Quota):
    async def reserve(self, user_id):
        async with self.sessions.begin() as session:
            row = (await session.execute(self.look(user_id))).one()
            if row.resets_at > datetime.now(UTC) and row.tokens_used + self.most >= row.token_limit:
                raise HTTPException(429, "used up", {"Retry-After": "60"})
        return await super().reserve(user_id)


@ANSWERS.wrong("not refused")
@of
class WhileAnythingIsLeft(Quota):
    async def reserve(self, user_id):
        async with self.sessions.begin() as session:
            row = (await session.execute(self.look(user_id))).one()
            if row.tokens_used >= row.token_limit:
                raise self.refusal(row.resets_at - datetime.now(UTC))
            await session.execute(self.change(user_id, tokens_used=row.tokens_used + self.most))
        return row.resets_at


@ANSWERS.wrong("retry after")
@of
class RoundedDown(Quota):
    def refusal(self, left):
        return HTTPException(429, "used up", {"Retry-After": str(left.seconds)})


@ANSWERS.wrong("connection held")
def in_one_transaction(sessions, caller, quotas, ask_model, most, window):
    router = APIRouter()

    @router.post("/questions")
    async def ask(asked: Question, user_id: Annotated[UUID, Depends(caller)]):
        async with sessions.begin() as session:
            quota = Quota(None, quotas, most, window)
            row = (await session.execute(quota.look(user_id))).one()
            if row.tokens_used + most > row.token_limit:
                raise quota.refusal(row.resets_at - datetime.now(UTC))
            reply, cost = await ask_model(asked.question)
            await session.execute(quota.change(user_id, tokens_used=row.tokens_used + cost))
        return {"answer": reply}

    return router


@ANSWERS.wrong("wrong count")
@of
class BookedAfterwards(Quota):
    async def reserve(self, user_id):
        async with self.sessions.begin() as session:
            row = (await session.execute(self.look(user_id))).one()
        if row.tokens_used + self.most > row.token_limit:
            raise self.refusal(row.resets_at - datetime.now(UTC))
        return row.resets_at

    async def settle(self, user_id, ends, cost):
        await super().settle(user_id, ends, cost + self.most)


@ANSWERS.wrong("told too early")
@of
class SettledByATaskOfItsOwn(Quota):
    tasks = set()  # noqa: RUF012

    async def settle(self, user_id, ends, cost):
        task = asyncio.create_task(super().settle(user_id, ends, cost))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def give_back(self, user_id, ends):
        await super().settle(user_id, ends, 0)


@ANSWERS.wrong("window")
@of
class FromTheEndOfTheLast(Quota):
    async def reserve(self, user_id):
        ends = await super().reserve(user_id)
        async with self.sessions.begin() as session:
            row = (await session.execute(self.look(user_id))).one()
            if row.tokens_used == self.most:  # the first one
                ends = ends - self.window / 2
                await session.execute(self.change(user_id, resets_at=ends))
        return ends


@ANSWERS.wrong("new window")
@of
class InAnyWindow(Quota):
    async def settle(self, user_id, ends, cost):
        async with self.sessions.begin() as session:
            less = self.quotas.c.tokens_used + cost - self.most
            await session.execute(self.change(user_id, tokens_used=func.greatest(less, 0)))


@ANSWERS.wrong("wrong failure")
def given_back_and_raised(sessions, caller, quotas, ask_model, most, window):
    router, quota = APIRouter(), Quota(sessions, quotas, most, window)

    @router.post("/questions")
    async def ask(asked: Question, user_id: Annotated[UUID, Depends(caller)]):
        ends, cost = await quota.reserve(user_id), 0
        try:
            reply, cost = await ask_model(asked.question)
        finally:
            await quota.settle(user_id, ends, cost)
        return {"answer": reply}

    return router


@ANSWERS.wrong("wrong count")
@of
class NotGivenBack(Quota):
    async def give_back(self, user_id, ends):
        pass


@ANSWERS.wrong("at once")
@of
class LockedInOneProcess(Quota):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.lock = asyncio.Lock()

    def look(self, user_id):
        return select(self.quotas).where(self.quotas.c.user_id == user_id)

    async def reserve(self, user_id):
        async with self.lock:
            return await super().reserve(user_id)


@ANSWERS.wrong("others charged")
@of
class EverybodyIsCharged(Quota):
    async def reserve(self, user_id):
        ends = await super().reserve(user_id)
        async with self.sessions.begin() as session:
            over = self.quotas.c.resets_at <= func.now()
            await session.execute(sa.update(self.quotas).where(over).values(tokens_used=0))
        return ends


@ANSWERS.wrong("not answered")
def by_the_clock_of_its_start(sessions, caller, quotas, ask_model, most, window):
    started = datetime.now(UTC)

    class Stopped(Quota):
        async def reserve(self, user_id):
            async with self.sessions() as session:
                row = (await session.execute(self.look(user_id))).one()
            if row.resets_at > started and row.tokens_used + self.most > row.token_limit:
                raise self.refusal(row.resets_at - datetime.now(UTC))
            return await super().reserve(user_id)

    return routes(caller, Stopped(sessions, quotas, most, window), ask_model)


@ANSWERS.wrong("wrong failure")
def after_a_runtime_error_alone(sessions, caller, quotas, ask_model, most, window):
    quota, router = Quota(sessions, quotas, most, window), APIRouter()

    @router.post("/questions")
    async def ask(asked: Question, user_id: Annotated[UUID, Depends(caller)]):
        ends = await quota.reserve(user_id)
        try:
            reply, cost = await ask_model(asked.question)
        except RuntimeError:
            await quota.give_back(user_id, ends)
            return JSONResponse({"detail": "no answer"}, 502)
        await quota.settle(user_id, ends, cost)
        return {"answer": reply}

    return router
