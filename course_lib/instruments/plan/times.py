"""Where the time of a plan went: to each step its own, so that all together make the whole.

PostgreSQL reports a step's time with that of the steps it takes its rows from. Three kinds of step do not stand where
their time is counted, or not as one process counts it:

- a CTE hangs at the top of its query, and runs while the scan that reads it asks for rows;
- an InitPlan hangs there, too, and runs inside the step that first needs its value;
- below a Gather several processes run side by side, and each adds its own time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Raw: TypeAlias = Mapping[str, Any]
GATHERS = ("Gather", "Gather Merge")


def own_times(root: Raw) -> tuple[dict[int, float], dict[int, float]]:
    """By the ``id()`` of each raw node: milliseconds with what runs inside of it, and without; on the clock.

    Both are empty unless the plan was analyzed with ``timing``.
    """
    if "Actual Total Time" not in root:
        return {}, {}
    clock: dict[int, float] = {}
    _read_clock(root, 1.0, clock)
    inside, apart = _inside(root, clock)
    own: dict[int, float] = {}
    for top in (root, *apart):
        _allot(top, clock[id(top)], clock, inside, own)
    return clock, own


def below(raw: Raw) -> list[Raw]:
    return list(raw.get("Plans", ()))


def walk(raw: Raw) -> Iterator[Raw]:
    """The node and all below it, each before its children."""
    yield raw
    for child in below(raw):
        yield from walk(child)


def _read_clock(raw: Raw, processes: float, clock: dict[int, float]) -> None:
    """``processes``: how many ran this step side by side."""
    clock[id(raw)] = raw["Actual Total Time"] * raw["Actual Loops"] / processes
    for child in below(raw):
        several = 1.0
        if raw["Node Type"] in GATHERS and child.get("Parent Relationship") == "Outer":
            several = max(1.0, child["Actual Loops"] / max(1, raw["Actual Loops"]))
        _read_clock(child, processes * several, clock)


def _inside(root: Raw, clock: Mapping[int, float]) -> tuple[dict[int, list[Raw]], list[Raw]]:
    """What runs inside of each node; and what runs inside of none: a CTE that writes and is read by nobody."""
    inside: dict[int, list[Raw]] = {id(node): [] for node in walk(root)}
    apart = []
    for node in walk(root):
        for child in below(node):
            where = _where_it_runs(root, node, child, clock)
            if where is None:
                apart.append(child)
            else:
                inside[id(where)].append(child)
    return inside, apart


def _where_it_runs(root: Raw, node: Raw, child: Raw, clock: Mapping[int, float]) -> Raw | None:
    name = str(child.get("Subplan Name", ""))
    if child.get("Parent Relationship") != "InitPlan":
        return node
    within = {id(step) for step in walk(child)}
    if name.startswith("CTE "):
        reads = [step for step in walk(root) if step.get("CTE Name") == name[4:] and id(step) not in within]
        return max(reads, key=lambda step: clock[id(step)], default=None)
    return max(_evaluates(node, f"({name})", within), key=lambda step: clock[id(step)], default=node)


def _evaluates(node: Raw, value: str, within: set[int]) -> Iterator[Raw]:
    """The steps below ``node`` that mention ``value``. What is mentioned below a Gather is evaluated there, before."""
    for child in below(node):
        if id(child) in within:
            continue
        found = list(_evaluates(child, value, within))
        if child["Node Type"] in GATHERS and found:
            yield child
        else:
            yield from found
    if any(value in str(said) for key, said in node.items() if key != "Plans"):
        yield node


def _allot(
    node: Raw, budget: float, clock: Mapping[int, float], inside: Mapping[int, list[Raw]], own: dict[int, float]
) -> None:
    """Give ``budget`` to ``node`` and to what runs inside of it, by their clocks; these never quite agree."""
    asked = sum(clock[id(child)] for child in inside[id(node)])
    share = min(1.0, budget / asked) if asked else 0.0
    own[id(node)] = max(0.0, budget - asked)
    for child in inside[id(node)]:
        _allot(child, share * clock[id(child)], clock, inside, own)
