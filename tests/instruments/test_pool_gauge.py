"""The gauge counts what really became of a pool's connections, whatever way the requests end."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.pool import NullPool

from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.instruments import PoolGauge

ONE = text("SELECT 1")
MakePool = Callable[..., AsyncEngine]


@pytest.fixture
async def pool_of(seeded_url: URL) -> AsyncIterator[MakePool]:
    """``pool_of(2, max_overflow=1)`` makes an engine with such a pool."""
    engines = []

    def make(size: int = 2, **options: Any) -> AsyncEngine:
        engines.append(make_engine(seeded_url, pool_size=size, **{"max_overflow": 0, **options}))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.dispose()


@asynccontextmanager
async def holding(engine: AsyncEngine, count: int) -> AsyncIterator[list[asyncio.Task[None]]]:
    """``count`` tasks that each hold a connection, after one statement, for as long as the block lasts."""
    let_go = asyncio.Event()
    ready = asyncio.Semaphore(0)

    async def hold() -> None:
        async with engine.connect() as connection:
            await connection.execute(ONE)
            ready.release()
            await let_go.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(count)]
    for _ in tasks:
        await ready.acquire()
    yield tasks
    let_go.set()
    await asyncio.gather(*tasks, return_exceptions=True)


async def ask(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(ONE)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a gauge has no event to wait for
            await asyncio.sleep(0.001)


async def test_requests_that_hold_and_requests_that_wait_are_counted(pool_of: MakePool) -> None:
    engine = pool_of(2)
    with PoolGauge(engine) as gauge:
        async with holding(engine, 2):
            others = [asyncio.create_task(ask(engine)) for _ in range(3)]
            await until(lambda: gauge.most_waiting == 3)
            assert gauge.still_out == 2
        await asyncio.gather(*others)
    assert (gauge.requests, gauge.checkouts, gauge.statements) == (5, 5, 5)
    assert (gauge.most_out, gauge.most_overflow, gauge.most_waiting) == (2, 0, 3)
    assert (gauge.timeouts, gauge.still_out, gauge.lost) == (0, 0, 0)
    assert len(gauge.waits) == 3
    assert len(gauge.holds) == 5
    assert gauge.longest_wait == max(gauge.waits) > 0
    assert gauge.held_seconds == pytest.approx(sum(gauge.holds))


async def test_the_time_in_which_nothing_runs_is_told_from_the_time_in_which_something_does(pool_of: MakePool) -> None:
    engine = pool_of(1)
    await ask(engine)
    with PoolGauge(engine) as busy:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(0.3)"))
    with PoolGauge(engine) as idle:
        async with engine.connect() as connection:
            await connection.execute(ONE)
            await asyncio.sleep(0.3)
    assert 0 <= busy.held_idle < idle.held_idle <= 1
    assert busy.longest_hold >= 0.3
    assert idle.longest_hold >= 0.3


async def test_the_end_of_a_transaction_is_work(pool_of: MakePool) -> None:
    engine = pool_of(1)
    async with engine.begin() as connection:
        await connection.execute(
            text("CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
                 "'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END'")
        )  # fmt: skip
        await connection.execute(text("CREATE TABLE slow (id int)"))
        await connection.execute(
            text("CREATE CONSTRAINT TRIGGER late AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED "
                 "FOR EACH ROW EXECUTE FUNCTION late()")
        )  # fmt: skip
    with PoolGauge(engine) as gauge:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO slow VALUES (1)"))
    assert gauge.statements == 1
    assert gauge.held_idle < 0.5


async def test_lanes_have_the_names_of_tasks_or_numbers(pool_of: MakePool) -> None:
    engine = pool_of(1)
    with PoolGauge(engine) as gauge:
        await asyncio.create_task(ask(engine), name="Ada's question")
        await asyncio.create_task(ask(engine))
        await asyncio.create_task(ask(engine))
        async with asyncio.timeout(5):
            await ask(engine)
            await ask(engine)
    assert [lane.name for lane in gauge.lanes] == ["Ada's question", "request 1", "request 2", "request 3"]
    assert [len(lane.holds) for lane in gauge.lanes] == [1, 1, 1, 2]


async def test_a_timeout_of_the_pool(pool_of: MakePool) -> None:
    engine = pool_of(1, pool_timeout=0.05)
    with PoolGauge(engine) as gauge:
        async with holding(engine, 1):
            with pytest.raises(PoolTimeout):
                await ask(engine)
    assert (gauge.timeouts, gauge.checkouts, gauge.requests) == (1, 1, 2)
    assert gauge.lanes[1].waits[0].outcome == "timed out"
    assert gauge.longest_wait >= 0.04


async def test_a_task_cancelled_while_it_waits(pool_of: MakePool) -> None:
    engine = pool_of(1)
    with PoolGauge(engine) as gauge:
        async with holding(engine, 1):
            waiting = asyncio.create_task(ask(engine))
            await until(lambda: gauge.most_waiting == 1)
            waiting.cancel()
            await asyncio.wait([waiting])
        await ask(engine)
    assert (gauge.timeouts, gauge.checkouts, gauge.still_out) == (0, 2, 0)
    assert [wait.outcome for lane in gauge.lanes for wait in lane.waits] == ["gave up"]


async def test_a_task_cancelled_while_it_holds_gives_back(pool_of: MakePool) -> None:
    engine = pool_of(1)
    with PoolGauge(engine) as gauge:
        async with holding(engine, 1) as tasks:
            tasks[0].cancel()
            await asyncio.wait(tasks)
            assert gauge.still_out == 0
    assert gauge.lost == 0


async def test_overflow(pool_of: MakePool) -> None:
    engine = pool_of(2, max_overflow=2)
    with PoolGauge(engine) as gauge:
        async with holding(engine, 3):
            pass
        async with holding(engine, 4):
            pass
    assert (gauge.most_out, gauge.most_overflow, gauge.most_waiting) == (4, 2, 0)
    assert gauge.samples[-1].out == gauge.samples[-1].overflow == 0


async def test_a_connection_that_is_never_given_back_is_out_until_it_is_lost(pool_of: MakePool) -> None:
    engine = pool_of(1)
    kept: list[AsyncConnection] = []
    with PoolGauge(engine) as gauge:
        kept.append(await engine.connect())
        await kept[0].execute(ONE)
        assert (gauge.still_out, gauge.lost) == (1, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept.clear()
            gc.collect()
        assert (gauge.still_out, gauge.lost) == (0, 1)
        await ask(engine)
    assert (gauge.checkouts, gauge.most_out, gauge.most_waiting) == (2, 1, 0)


def test_with_threads_and_a_sync_engine(sync_engine: Engine, seeded_url: URL) -> None:
    engine = create_engine(seeded_url.set(drivername="postgresql+psycopg"), pool_size=2, max_overflow=0)
    together = Barrier(6)

    def work() -> None:
        together.wait()
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_sleep(0.05)"))

    with PoolGauge(engine) as gauge:
        threads = [Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    engine.dispose()
    assert (gauge.requests, gauge.checkouts, gauge.statements, gauge.most_out) == (6, 6, 6, 2)
    assert 1 <= gauge.most_waiting <= 4
    assert (gauge.still_out, gauge.lost, gauge.timeouts) == (0, 0, 0)


def test_a_connection_of_a_sync_engine_is_lost_too(sync_engine: Engine) -> None:
    with PoolGauge(sync_engine) as gauge:
        connection = sync_engine.connect()
        connection.execute(ONE)
        del connection
        gc.collect()
    assert (gauge.lost, gauge.still_out) == (1, 0)


async def test_a_null_pool_has_nothing_to_wait_for_and_is_counted(seeded_url: URL) -> None:
    engine = make_engine(seeded_url, poolclass=NullPool)
    with PoolGauge(engine) as gauge:
        async with holding(engine, 3):
            pass
    assert (gauge.requests, gauge.checkouts, gauge.statements, gauge.most_out, gauge.still_out) == (3, 3, 3, 3, 0)
    assert (gauge.most_waiting, gauge.most_overflow) == (0, 0)
    assert "NullPool: nothing to wait for" in str(gauge)


async def test_a_pool_without_a_limit(pool_of: MakePool) -> None:
    engine = pool_of(0)
    with PoolGauge(engine) as gauge:
        async with holding(engine, 3):
            pass
    assert (gauge.most_out, gauge.most_waiting, gauge.most_overflow, gauge.still_out) == (3, 0, 0, 0)
    assert "a pool without a limit" in str(gauge)


async def test_an_engine_disposed_in_between(pool_of: MakePool) -> None:
    engine = pool_of(1)
    with PoolGauge(engine) as gauge:
        async with holding(engine, 1):
            await engine.dispose()
            async with holding(engine, 1):
                waiting = asyncio.create_task(ask(engine))
                await until(lambda: gauge.most_waiting == 1)
            await waiting
    assert (gauge.checkouts, gauge.statements, gauge.most_out, gauge.still_out) == (3, 3, 2, 0)
    assert_untouched(engine)
    await ask(engine)
    assert gauge.checkouts == 3


async def test_nested_gauges_and_gauges_that_overlap(pool_of: MakePool) -> None:
    engine = pool_of(2)
    outer, inner, late = PoolGauge(engine), PoolGauge(engine), PoolGauge(engine)
    with outer:
        await ask(engine)
        with inner:
            await ask(engine)
        late.__enter__()
        await ask(engine)
    await ask(engine)
    late.__exit__()
    await ask(engine)
    assert (outer.checkouts, inner.checkouts, late.checkouts) == (3, 1, 2)
    assert_untouched(engine)


async def test_two_engines_are_told_apart(pool_of: MakePool) -> None:
    one, other = pool_of(1), pool_of(1)
    with PoolGauge(one) as first, PoolGauge(other) as second:
        await ask(one)
        await ask(one)
        await ask(other)
    assert (first.checkouts, second.checkouts) == (2, 1)


async def test_what_was_out_before_counts(pool_of: MakePool) -> None:
    engine = pool_of(2)
    async with engine.connect() as early, AsyncSession(engine) as session:
        await session.execute(ONE)
        with PoolGauge(engine) as gauge:
            await early.execute(ONE)
            await session.close()
            await ask(engine)
    assert (gauge.most_out, gauge.still_out, gauge.checkouts, gauge.statements) == (2, 1, 1, 2)
    assert len(gauge.holds) == 1


async def test_who_waited_before_the_gauge_was_opened_and_is_served_in_it(pool_of: MakePool) -> None:
    engine = pool_of(1)
    async with holding(engine, 1):
        waiting = asyncio.create_task(ask(engine))
        await asyncio.sleep(0.05)
        gauge = PoolGauge(engine).__enter__()
    await waiting
    gauge.__exit__()
    assert (gauge.checkouts, gauge.most_out, gauge.still_out) == (1, 1, 0)


async def test_a_connection_that_cannot_be_opened_is_no_checkout(seeded_url: URL) -> None:
    engine = make_engine(seeded_url.set(database="nowhere"), pool_size=1, max_overflow=0)
    with PoolGauge(engine) as gauge:
        for _ in range(2):
            with pytest.raises(Exception, match="nowhere"):
                await ask(engine)
    assert (gauge.requests, gauge.checkouts, gauge.still_out, gauge.timeouts) == (1, 0, 0, 0)
    assert gauge.holds == []


async def test_a_statement_that_fails_is_a_statement_and_ends(pool_of: MakePool) -> None:
    engine = pool_of(1)
    with PoolGauge(engine) as gauge:
        with pytest.raises(DBAPIError):
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1 / 0"))
        await ask(engine)
    assert (gauge.statements, gauge.still_out) == (2, 0)
    assert all(hold.running is None for lane in gauge.lanes for hold in lane.holds)


async def test_engines_made_by_execution_options_share_the_pool(pool_of: MakePool) -> None:
    engine = pool_of(1)
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with PoolGauge(autocommit) as through, PoolGauge(engine) as straight:
        await ask(engine)
        await ask(autocommit)
    assert (through.checkouts, through.statements) == (straight.checkouts, straight.statements) == (2, 2)


async def test_nothing_of_it_stays(pool_of: MakePool) -> None:
    engine = pool_of(2)
    await ask(engine)
    with pytest.raises(ZeroDivisionError), PoolGauge(engine):
        assert vars(engine.pool)["_do_get"]
        await ask(engine)
        raise ZeroDivisionError
    assert_untouched(engine)


def assert_untouched(engine: AsyncEngine) -> None:
    pool: Any = engine.pool
    assert {"_do_get", "_create_connection", "_do_return_conn"}.isdisjoint(vars(pool))
    assert "get" not in vars(pool._pool)
    assert {"do_commit", "do_rollback"}.isdisjoint(vars(engine.dialect))
    assert not list(pool.dispatch.checkout)
    assert not list(engine.sync_engine.dispatch.before_cursor_execute)


async def test_a_gauge_can_be_used_again_and_not_twice_at_once(pool_of: MakePool) -> None:
    engine = pool_of(1)
    gauge = PoolGauge(engine)
    for _ in range(2):
        async with gauge:
            await ask(engine)
            with pytest.raises(CourseError, match="already open"):
                gauge.__enter__()
        assert gauge.checkouts == 1


def test_only_engines_are_watched() -> None:
    wrong: Any = "postgresql://"
    with pytest.raises(CourseError, match="str is none"):
        PoolGauge(wrong)


async def test_it_says_the_same_in_every_run(pool_of: MakePool) -> None:
    async def scene() -> str:
        engine = pool_of(1, max_overflow=1)
        with PoolGauge(engine) as gauge:
            async with holding(engine, 2):
                other = asyncio.create_task(ask(engine))
                await until(lambda: gauge.most_waiting == 1)
            await other
            connection = await engine.connect()
        said = f"{gauge!r}\n{gauge._repr_html_()}\n{gauge.plot()}"
        await connection.close()
        return said

    first = await scene()
    assert first == await scene()
    assert first.startswith(
        "4 requests on a pool of 1 + 1\n4 checkouts, 3 statements, 0 timeouts\n"
        "at most at once: 2 out, 1 of them overflow, 1 waiting\n1 connection was still out at the end\n"
    )
