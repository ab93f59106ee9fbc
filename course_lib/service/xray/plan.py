"""The plan of a request's search, for its user: run again, and told without what it was asked for or how much is there.

Constants of a plan are the user's question and its vector; counts of rows that a step throws away are other people's.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from course_lib.instruments import PlanNode, explain
from course_lib.instruments.plan.rendering import render_text
from course_lib.service.xray.record import Record

CONSTANT = re.compile(r"'(?:[^']|'')*'")


async def plan_of_search(sessions: async_sessionmaker[AsyncSession], record: Record) -> str | None:
    """The tree as text; None when the request has not searched."""
    if record.search is None:
        return None
    statement, parameters = record.search
    async with sessions() as session:
        plan = await explain(session, statement, parameters, analyze=True)
    return render_text(_bare(plan.node, statement.text))


def _bare(node: PlanNode, sql: str) -> PlanNode:
    """The step and all below it. That one never ran says which way the search took, and is left."""
    hide = partial(CONSTANT.sub, lambda match: match[0] if match[0] in sql else "'…'")
    return replace(
        node,
        condition=node.condition and hide(node.condition),
        filter=node.filter and hide(node.filter),
        order_by=node.order_by and hide(node.order_by),
        sort_key=tuple(map(hide, node.sort_key)),
        group_key=tuple(map(hide, node.group_key)),
        rows_actual=0 if node.loops == 0 else None,
        removed_by_filter=None,
        children=tuple(_bare(child, sql) for child in node.children),
    )
