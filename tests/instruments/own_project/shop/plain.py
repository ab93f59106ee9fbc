"""What the app does without any framework."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from shop.models import Customer, Order


def buyers(session: Session) -> list[str]:
    return [order.customer.name for order in session.scalars(select(Order).order_by(Order.id))]


def add(session: Session, order_id: int, amount: int) -> int:
    order = session.get_one(Order, order_id, with_for_update=True)
    order.total += amount
    return order.total


async def add_async(session: AsyncSession, order_id: int, amount: int) -> int:
    order = await session.get_one(Order, order_id, with_for_update=True)
    order.total += amount
    return order.total


async def buyers_async(session: AsyncSession) -> list[str]:
    orders = await session.scalars(select(Order).order_by(Order.id))
    return [(await session.get_one(Customer, order.customer_id)).name for order in orders]
