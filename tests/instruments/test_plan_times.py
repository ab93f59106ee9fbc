"""Own times of a plan's steps make the whole, wherever PostgreSQL hangs a step and however many processes ran it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments import Plan, explain

TWICE = """
    WITH recent AS MATERIALIZED (SELECT conversation_id, count(*) AS n FROM messages GROUP BY 1)
    SELECT * FROM recent AS r JOIN recent AS s USING (conversation_id) ORDER BY r.n
"""
LATEST = "SELECT id FROM messages WHERE seq = (SELECT max(seq) FROM messages) ORDER BY created_at"
COUNTED_UP = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 500) SELECT sum(n) FROM t"
WRITTEN = "WITH made AS (INSERT INTO users (email, name) VALUES ('p@q.r', 'P') RETURNING id) SELECT 1"
HALVES = "SELECT m, count(*) FROM large WHERE n > (SELECT min(n) FROM large) GROUP BY m ORDER BY m"


def own(plan: Plan) -> float:
    return sum(node.own_milliseconds or 0.0 for node in plan)


@pytest.mark.parametrize("statement", [TWICE, LATEST, COUNTED_UP], ids=["CTE read twice", "InitPlan", "recursive CTE"])
async def test_own_times_make_the_whole(engine: AsyncEngine, statement: str) -> None:
    plan = await explain(engine, statement, analyze=True)
    assert own(plan) == pytest.approx(plan.node.milliseconds)
    assert all((node.own_milliseconds or 0.0) >= 0 for node in plan)


async def test_parallel_workers_count_once_on_the_clock(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("CREATE TABLE large AS SELECT n, n % 9 AS m FROM generate_series(1, 60000) n"))
        await connection.execute(text("ANALYZE large"))
        for setting in ("parallel_setup_cost = 0", "parallel_tuple_cost = 0", "min_parallel_table_scan_size = 0"):
            await connection.execute(text(f"SET LOCAL {setting}"))
        plan = await explain(connection, HALVES, analyze=True)
        await connection.rollback()
    gathers = [node for node in plan if node.type in ("Gather", "Gather Merge")]
    assert gathers
    assert own(plan) == pytest.approx(plan.node.milliseconds)
    for gather in gathers:
        [child] = gather.children
        assert child.loops in (1, 2, 3)
        assert child.milliseconds == pytest.approx(child.raw["Actual Total Time"])


async def test_a_cte_that_writes_and_is_read_by_nobody_stands_beside_the_whole(engine: AsyncEngine) -> None:
    plan = await explain(engine, WRITTEN, analyze=True)
    assert (plan.node.milliseconds or 0) < own(plan) <= (plan.milliseconds or 0)


def test_times_without_timing_are_none() -> None:
    raw = {"Node Type": "Result", "Plan Rows": 1, "Startup Cost": 0.0, "Total Cost": 0.01, "Actual Loops": 1}
    plan = Plan.read({"Plan": raw | {"Actual Rows": 1.0}})
    assert (plan.node.milliseconds, plan.node.own_milliseconds) == (None, None)


def step(kind: str, milliseconds: float, *below: dict[str, Any], loops: int = 1, **more: Any) -> dict[str, Any]:
    """A raw node as EXPLAIN has it: the time is the mean of its loops."""
    rows = {"Plan Rows": 1, "Startup Cost": 0.0, "Total Cost": 1.0, "Actual Rows": 1.0}
    return rows | {
        "Node Type": kind, "Actual Total Time": milliseconds, "Actual Loops": loops, "Plans": list(below), **more,
    }  # fmt: skip


def times(raw: dict[str, Any]) -> dict[str, float]:
    return {f"{node.type} {node.source or ''}".strip(): node.own_milliseconds or 0 for node in Plan.read({"Plan": raw})}


def test_a_cte_runs_inside_of_the_scan_that_reads_most_of_it() -> None:
    cte = step("Aggregate", 6.0, **{"Parent Relationship": "InitPlan", "Subplan Name": "CTE recent"})
    first = step("CTE Scan", 7.0, **{"CTE Name": "recent", "Alias": "r"})
    second = step("CTE Scan", 1.0, **{"CTE Name": "recent", "Alias": "s", "Parent Relationship": "Inner"})
    root = step("Nested Loop", 10.0, cte, first, second)
    assert [node.own_milliseconds for node in Plan.read({"Plan": root})] == [2.0, 6.0, 1.0, 1.0]


def test_an_initplan_runs_inside_of_the_step_that_needs_it_or_of_the_gather_above_that() -> None:
    once = step("Limit", 3.0, **{"Parent Relationship": "InitPlan", "Subplan Name": "InitPlan 1"})
    scan = step("Seq Scan", 5.0, **{"Filter": "(seq = (InitPlan 1).col1)", "Parent Relationship": "Outer"})
    assert times(step("Sort", 6.0, once, scan)) == {"Sort": 1.0, "Limit": 3.0, "Seq Scan": 2.0}
    below = scan | {"Actual Loops": 3, "Actual Total Time": 2.0}
    gathered = step("Gather", 5.5, below, **{"Parent Relationship": "Outer"})
    assert times(step("Sort", 6.0, once, gathered)) == {"Sort": 0.5, "Limit": 3.0, "Gather": 0.5, "Seq Scan": 2.0}


def test_clocks_that_do_not_agree_give_nobody_more_than_there_is() -> None:
    root = step("Sort", 4.0, step("Seq Scan", 5.0), step("Seq Scan", 5.0))
    assert [node.own_milliseconds for node in Plan.read({"Plan": root})] == [0.0, 2.0, 2.0]
