"""A plan as a tree of nodes, read from PostgreSQL's JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from course_lib.errors import CourseError
from course_lib.instruments.plan.rendering import RULE, render_html, render_text
from course_lib.instruments.plan.times import own_times

if TYPE_CHECKING:
    from course_lib.instruments.pictures import Picture

CONDITIONS = ("Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "TID Cond")
FILTERS = ("Filter", "Join Filter", "One-Time Filter")
SOURCES = ("Relation Name", "CTE Name", "Function Name", "Table Function Name", "Tuplestore Name", "Alias")
REMOVALS = ("Rows Removed by Filter", "Rows Removed by Join Filter")

Times: TypeAlias = tuple[dict[int, float], dict[int, float]]


@dataclass(frozen=True)
class PlanNode:
    """One step of a plan.

    Attributes:
        type: PostgreSQL's name for it, for example ``Seq Scan``, ``Index Scan``, ``Hash Join``, ``ModifyTable``.
        relation: the table it reads or changes.
        source: what it reads: the table, or a CTE, a function, a subquery, by the name it has in the statement.
        index: the index it uses.
        condition: what the index, or the join, is asked for; as PostgreSQL writes it, constants included.
        filter: what rows are tested against after they were found.
        order_by: what an index is asked to sort by, as in a search for nearest vectors.
        sort_key, group_key: what is sorted or grouped by.
        rows_estimated: per loop, as the planner expects.
        rows_actual: all loops together; None unless analyzed. PostgreSQL reports the mean of the loops with two
            decimals, so beyond a hundred loops the sum is rounded.
        removed_by_filter: rows found and thrown away, all loops together; None unless analyzed.
        loops: how often the step ran; 0 means never; None unless analyzed.
        cost: of the first row and of all rows, in the planner's own unit, per loop.
        milliseconds: the time of the step and those below it, all loops together, on the clock: processes that run
            side by side count once. None unless analyzed.
        own_milliseconds: without what ran inside of it; of all steps together no more than the whole.
        children: the steps it takes its rows from.
        raw: everything PostgreSQL said about the step.
    """

    type: str
    relation: str | None
    source: str | None
    index: str | None
    condition: str | None
    filter: str | None
    order_by: str | None
    sort_key: tuple[str, ...]
    group_key: tuple[str, ...]
    rows_estimated: int
    rows_actual: int | None
    removed_by_filter: int | None
    loops: int | None
    cost: tuple[float, float] = field(repr=False)
    milliseconds: float | None = field(repr=False)
    own_milliseconds: float | None = field(repr=False)
    children: tuple[PlanNode, ...] = field(repr=False)
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any], times: Times | None = None) -> PlanNode:
        """A node and all below it, from the ``Plan`` object of EXPLAIN (FORMAT JSON)."""
        clock, own = times = times or own_times(raw)
        loops = raw.get("Actual Loops")
        return cls(
            type=raw["Node Type"],
            relation=raw.get("Relation Name"),
            source=_first(raw, SOURCES),
            index=raw.get("Index Name"),
            condition=_first(raw, CONDITIONS),
            filter=_first(raw, FILTERS),
            order_by=raw.get("Order By"),
            sort_key=tuple(raw.get("Sort Key", ())),
            group_key=tuple(raw.get("Group Key", ())),
            rows_estimated=round(raw["Plan Rows"]),
            rows_actual=_total(raw.get("Actual Rows"), loops),
            removed_by_filter=_total(_first(raw, REMOVALS), loops),
            loops=loops,
            cost=(raw["Startup Cost"], raw["Total Cost"]),
            milliseconds=clock.get(id(raw)),
            own_milliseconds=own.get(id(raw), 0.0) if clock else None,
            children=tuple(cls.read(child, times) for child in raw.get("Plans", ())),
            raw=raw,
        )

    @property
    def own_cost(self) -> float:
        """The estimated cost of the step without those below it."""
        return max(0.0, self.cost[1] - sum(child.cost[1] for child in self.children))

    def walk(self) -> Iterator[PlanNode]:
        """This node and all below it, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()


def _first(raw: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((raw[name] for name in names if name in raw), None)


def _total(mean: float | None, loops: int | None) -> int | None:
    return None if mean is None or loops is None else round(mean * loops)


def _together(plans: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One plan of several: a step above them that only adds up."""
    nodes = [raw["Plan"] for raw in plans]
    summed = {"Startup Cost", "Total Cost", "Plan Rows", "Actual Rows", "Actual Total Time"}
    top = {name: sum(node[name] for node in nodes) for name in summed if all(name in node for node in nodes)}
    loops = {"Actual Loops": 1} if "Actual Loops" in nodes[0] else {}
    times = {name: sum(raw[name] for raw in plans) for name in ("Planning Time", "Execution Time") if name in plans[0]}
    return {"Plan": {"Node Type": RULE, "Plans": nodes, **top, **loops}, **times}


@dataclass(frozen=True)
class Plan:
    """A statement's plan. Iterating over it gives its nodes, each before its children.

    What it shows is the same in every run: no costs, no times; rows only when it was analyzed.
    """

    node: PlanNode
    analyzed: bool
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read_all(cls, answer: Sequence[Any]) -> Plan:
        """A plan from all that EXPLAIN (FORMAT JSON) returns: an object for each statement that rules left of one.

        Raises:
            CourseError: nothing is to be done.
        """
        plans = [raw for raw in answer if isinstance(raw, Mapping) and "Plan" in raw]
        if not plans:
            raise CourseError(
                "PostgreSQL has nothing to do for this statement, so there is no plan.",
                "A rule DO INSTEAD NOTHING, or IF NOT EXISTS of a table that exists, leaves nothing of it.",
            )
        return cls.read(plans[0] if len(plans) == 1 else _together(plans))

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Plan:
        """A plan from one object that EXPLAIN (FORMAT JSON) returns."""
        node = PlanNode.read(raw["Plan"])
        return cls(node, node.loops is not None, raw)

    @property
    def nodes(self) -> list[PlanNode]:
        return list(self.node.walk())

    def __iter__(self) -> Iterator[PlanNode]:
        return self.node.walk()

    @property
    def node_types(self) -> list[str]:
        """``["Limit", "Sort", "Seq Scan"]``."""
        return [node.type for node in self]

    def uses_index(self, name: str | None = None) -> bool:
        """True when the plan uses the index ``name``; without a name, when it uses any."""
        return any(node.index is not None and name in (None, node.index) for node in self)

    @property
    def indexes(self) -> list[str]:
        """The names of the indexes it uses, each once, in the order of its nodes."""
        return list(dict.fromkeys(node.index for node in self if node.index is not None))

    @property
    def rows_removed(self) -> int | None:
        """Rows found and thrown away by filters, all steps together; None unless analyzed."""
        return sum(node.removed_by_filter or 0 for node in self) if self.analyzed else None

    def scans(self, relation: str) -> list[PlanNode]:
        """The nodes that read the table ``relation``."""
        return [node for node in self if node.relation == relation and node.type != "ModifyTable"]

    @property
    def rows(self) -> int:
        """Rows of the result: counted when analyzed, else as the planner expects."""
        return self.node.rows_estimated if self.node.rows_actual is None else self.node.rows_actual

    @property
    def cost(self) -> float:
        """The planner's estimate of all rows, in its own unit, in which reading a page in order is 1.0."""
        return self.node.cost[1]

    @property
    def milliseconds(self) -> float | None:
        """What running it took, planning not included; None unless analyzed."""
        return self.raw.get("Execution Time")

    @property
    def planning_milliseconds(self) -> float | None:
        """What planning took, where PostgreSQL says so: when analyzed, or with ``summary=True``."""
        return self.raw.get("Planning Time")

    def __str__(self) -> str:
        return render_text(self.node)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return render_html(self.node)

    def plot(self) -> Picture:
        """The tree as boxes, bluer the larger its share of the time; of the estimated cost unless analyzed."""
        from course_lib.instruments.plan.picture import draw

        return draw(self)
