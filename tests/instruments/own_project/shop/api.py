"""The app behind HTTP. Routes with ``def`` run in threads of FastAPI's, routes with ``async def`` in its loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, selectinload

from shop.engines import NewAsyncSession, NewSession, async_engine
from shop.models import Order
from shop.plain import buyers, buyers_async


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await async_engine.dispose()


app = FastAPI(lifespan=lifespan)


def get_session() -> Iterator[Session]:
    with NewSession() as session:
        yield session


async def get_async_session() -> AsyncIterator[AsyncSession]:
    async with NewAsyncSession() as session:
        yield session


Sync = Annotated[Session, Depends(get_session)]
Async = Annotated[AsyncSession, Depends(get_async_session)]


class Buyer(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    name: str


class Bought(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    customer: Buyer


@app.get("/sync/buyers")
def sync_buyers(session: Sync) -> list[str]:
    return buyers(session)


@app.get("/sync/orders", response_model=list[Bought])
def sync_orders(session: Sync) -> Sequence[Order]:
    return session.scalars(select(Order)).all()


@app.get("/async/buyers")
async def async_buyers(session: Async) -> list[str]:
    return await buyers_async(session)


@app.get("/async/orders", response_model=list[Bought])
async def async_orders(session: Async) -> Sequence[Order]:
    return (await session.scalars(select(Order).options(selectinload(Order.customer)))).all()
