"""What the project tests with the fixture and the instruments."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from shop import plain
from shop.engines import NewAsyncSession, NewSession, async_engine, engine
from shop.models import Order
from sqlalchemy import Engine, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from course_lib.instruments import PoolGauge, QueryBudget, QueryLog, Stage, explain

Ordered = Callable[[int], None]
Budget = Callable[[int | QueryLog], QueryBudget]
BY_NUMBER = "SELECT * FROM shop.order WHERE id = 1"


def line_with(function: Callable[..., object], words: str) -> str:
    """Where ``words`` stand in a function of ``shop/plain.py``, as the log names it."""
    lines, first = inspect.getsourcelines(function)
    return f"shop/plain.py:{first + next(at for at, line in enumerate(lines) if words in line)}"


async def test_async_orders_take_the_same_statements_for_1_and_50(
    client: httpx.AsyncClient, ordered: Ordered, query_budget: Budget
) -> None:
    ordered(1)
    with query_budget(2) as one:
        assert len((await client.get("/async/orders")).json()) == 1
    ordered(50)
    async with query_budget(one) as fifty:
        assert len((await client.get("/async/orders")).json()) == 50
    assert [statement.shape for statement in fifty.statements] == [statement.shape for statement in one.statements]


async def test_a_route_with_def_is_told_by_its_line(client: httpx.AsyncClient, ordered: Ordered) -> None:
    ordered(3)
    with QueryLog(engine) as log:
        await client.get("/sync/buyers")
    expected = line_with(plain.buyers, "order.customer.name")
    assert [statement.where for statement in log.statements] == [expected] * 4
    assert [(repeat.count, repeat.n_plus_one) for repeat in log.repeated] == [(3, True)]
    assert log.entries[-1].where and log.entries[-1].where.startswith("shop/api.py:"), "ROLLBACK"


async def test_a_route_with_async_def_is_told_by_its_line(client: httpx.AsyncClient, ordered: Ordered) -> None:
    ordered(3)
    with QueryLog(async_engine) as log:
        await asyncio.gather(*(client.get("/async/buyers") for _ in range(3)))
    expected = line_with(plain.buyers_async, "get_one")
    assert [statement.where for statement in log.statements].count(expected) == 9
    ends = {entry.where.partition(":")[0] for entry in log.entries if entry.sql == "ROLLBACK" and entry.where}
    assert ends == {"shop/api.py"}


async def test_a_relationship_that_a_response_model_reads_is_told_by_the_library(
    client: httpx.AsyncClient, ordered: Ordered
) -> None:
    ordered(3)
    with QueryLog() as log:
        await client.get("/sync/orders")
    assert log.count == 4
    assert {str(statement.where).partition("/")[0] for statement in log.statements[1:]} <= {"pydantic", "fastapi"}
    assert log.repeated[0].n_plus_one


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_served_app_is_watched_from_the_test(
    kind: str, server: httpx.Client, ordered: Ordered, query_budget: Budget
) -> None:
    ordered(4)
    watched = engine if kind == "sync" else async_engine
    with query_budget(5) as log, PoolGauge(watched) as gauge:
        assert len(server.get(f"/{kind}/buyers").json()) == 4
    function = plain.buyers if kind == "sync" else plain.buyers_async
    words = "order.customer.name" if kind == "sync" else "get_one"
    assert log.statements[-1].where == line_with(function, words)
    assert (gauge.requests, gauge.checkouts, gauge.statements) == (1, 1, 5)
    for picture in (log.plot(), gauge.plot()):
        assert "text/html" in picture._repr_mimebundle_()[0]


def test_plain_code_has_a_budget_too(ordered: Ordered, query_budget: Budget) -> None:
    ordered(3)
    with query_budget(4) as log, NewSession() as session:
        assert len(plain.buyers(session)) == 3
    assert log.count == 4


async def test_plain_async_code_has_a_budget_too(ordered: Ordered, query_budget: Budget) -> None:
    ordered(3)
    async with query_budget(4) as log, NewAsyncSession() as session:
        assert len(await plain.buyers_async(session)) == 3
    assert log.count == 4
    await async_engine.dispose()


def test_a_gauge_names_threads_and_sees_a_connection_that_is_held(ordered: Ordered) -> None:
    ordered(1)
    with PoolGauge(engine) as gauge, NewSession() as session:
        session.scalars(select(Order)).all()
        assert gauge.still_out == 1
    assert gauge.still_out == 0
    assert gauge.held_idle > 0


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_two_who_add_to_one_order_wait_for_each_other(kind: str, ordered: Ordered) -> None:
    ordered(1)
    watched: Engine | AsyncEngine = engine if kind == "sync" else async_engine
    add = plain.add if kind == "sync" else plain.add_async
    async with Stage(watched) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        await ada(add, 1, 5)
        waiting = await bruno(add, 1, 7)
        assert waiting.waits_for == ("Ada",)
        await ada.commit()
        assert waiting.value == 12
        await bruno.commit()
    assert waiting.statements[1].where == line_with(add, "get_one"), "the first is BEGIN"
    assert stage.plot().png()
    with NewSession() as session:
        assert session.scalar(select(func.sum(Order.total))) == 12
    await async_engine.dispose()


async def test_a_plan_is_read_from_either_engine(ordered: Ordered) -> None:
    ordered(1)
    assert explain(engine, BY_NUMBER).uses_index("order_pkey")
    assert (await explain(async_engine, BY_NUMBER, analyze=True)).uses_index("order_pkey")
    await async_engine.dispose()


class TestAnEngineMadeForTheTest:
    @pytest.fixture
    async def query_budget_engine(self) -> AsyncIterator[AsyncEngine]:
        made = create_async_engine(async_engine.url)
        yield made
        await made.dispose()

    async def test_only_its_statements_count(
        self, ordered: Ordered, query_budget: Budget, query_budget_engine: AsyncEngine
    ) -> None:
        ordered(1)
        async with query_budget(1), query_budget_engine.connect() as connection:
            await connection.execute(select(Order.id))
            with NewSession() as session:
                plain.buyers(session)
