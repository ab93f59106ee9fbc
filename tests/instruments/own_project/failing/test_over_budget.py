"""Tests that are meant to fail: what they say is read by the test that runs them."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from shop import plain
from shop.engines import NewSession, async_engine
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments import QueryBudget, QueryLog

Ordered = Callable[[int], None]
Budget = Callable[[int | QueryLog], QueryBudget]


def test_too_many(ordered: Ordered, query_budget: Budget) -> None:
    ordered(50)
    with query_budget(2), NewSession() as session:
        plain.buyers(session)


async def test_growth(client: httpx.AsyncClient, ordered: Ordered, query_budget: Budget) -> None:
    ordered(1)
    async with query_budget(2) as one:
        await client.get("/async/buyers")
    ordered(50)
    async with query_budget(one):
        await client.get("/async/buyers")


def test_no_loop(ordered: Ordered, query_budget: Budget) -> None:
    ordered(1)
    with query_budget(0), NewSession() as session:
        session.execute(select(1))


def test_two_lines(ordered: Ordered, query_budget: Budget) -> None:
    ordered(1)
    with query_budget(1), NewSession() as session:
        session.execute(select(1))
        session.execute(select(1))


def test_an_error_of_the_block_goes_on(query_budget: Budget) -> None:
    with query_budget(2):
        raise LookupError("the block's own")


class TestAnotherEngine:
    @pytest.fixture
    def query_budget_engine(self) -> AsyncEngine:
        return async_engine

    def test_nothing_seen(self, ordered: Ordered, query_budget: Budget) -> None:
        ordered(1)
        with query_budget(2), NewSession() as session:
            plain.buyers(session)

    def test_a_budget_of_none_is_kept(self, ordered: Ordered, query_budget: Budget) -> None:
        ordered(1)
        with query_budget(0), NewSession() as session:
            plain.buyers(session)
