"""A plan as text and as HTML: the same tree, in HTML with its scans and indexes tinted."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from course_lib.instruments.plan.expressions import readable

if TYPE_CHECKING:
    from course_lib.instruments.plan.tree import PlanNode

SCAN = "background:rgba(230,159,0,.28);border-radius:3px;padding:0 2px"
INDEX = "background:rgba(0,145,220,.22);border-radius:3px;padding:0 2px"
BLOCK = "margin:0;line-height:1.45;background:none;color:inherit;font-family:var(--jp-code-font-family,monospace)"
RULE = "Rule"  # our name for the step above the statements that a rule has made of one


class Plain:
    """Text as it is."""

    def plain(self, text: str) -> str:
        return text

    scan = index = detail = plain


class Markup:
    """HTML with a tint for what catches the eye."""

    def plain(self, text: str) -> str:
        return escape(text, quote=False)

    def scan(self, text: str) -> str:
        return f'<span style="{SCAN}">{escape(text, quote=False)}</span>'

    def index(self, text: str) -> str:
        return f'<span style="{INDEX}">{escape(text, quote=False)}</span>'

    def detail(self, text: str) -> str:
        return f'<span style="opacity:.7">{escape(text, quote=False)}</span>'


def render_text(node: PlanNode) -> str:
    return "\n".join(_tree(node, Plain(), "", ""))


def render_html(node: PlanNode) -> str:
    return f'<pre style="{BLOCK}">' + "\n".join(_tree(node, Markup(), "", "")) + "</pre>"


def _tree(node: PlanNode, style: Plain | Markup, first: str, rest: str) -> Iterator[str]:
    """The lines of a node and all below it; ``first`` hangs it on its parent, ``rest`` stands before what follows."""
    yield first + _headline(node, style)
    below = "│   " if node.children else "    "
    for line in details(node):
        yield rest + below + style.detail(line)
    for child in node.children:
        last = child is node.children[-1]
        yield from _tree(child, style, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _headline(node: PlanNode, style: Plain | Markup) -> str:
    name = title(node)
    parts = [style.scan(name) if node.type == "Seq Scan" else style.plain(name)]
    if node.index:
        link = " on " if node.type == "Bitmap Index Scan" else " using "
        parts.append(style.plain(link) + style.index(node.index))
    if name := relation_of(node):
        parts.append(style.plain(f" on {name}"))
    if purpose := _purpose(node):
        parts.append(style.plain(f"  {purpose}"))
    if rows := spoken_rows(node):
        parts.append(style.plain(f" · {rows}"))
    return "".join(parts)


def title(node: PlanNode) -> str:
    """The step's name as EXPLAIN prints it: ``Hash Left Join``, ``HashAggregate``, ``Delete``."""
    raw = node.raw
    name = node.type
    if name == "ModifyTable":
        name = raw.get("Operation", name)
    elif name == "Aggregate":
        strategies = {"Sorted": "GroupAggregate", "Hashed": "HashAggregate", "Mixed": "MixedAggregate"}
        name = strategies.get(raw.get("Strategy", ""), name)
    elif name == RULE:
        name = f"{len(node.children)} statements, by a rule"
    elif raw.get("Join Type", "Inner") != "Inner":
        base = name if name == "Nested Loop" else name.removesuffix(" Join")
        name = f"{base} {raw['Join Type']} Join"
    if raw.get("Scan Direction") == "Backward":
        name += " Backward"
    if raw.get("Parallel Aware"):
        name = f"Parallel {name}"
    return f"[{raw['Subplan Name']}] {name}" if "Subplan Name" in raw else name


def relation_of(node: PlanNode) -> str:
    """What a step reads or changes, as EXPLAIN prints it: ``messages``, ``messages m``, ``generate_series number``."""
    if node.source is None:
        return ""
    alias = node.raw.get("Alias", node.source)
    return node.source + (f" {alias}" if alias != node.source else "")


def _purpose(node: PlanNode) -> str:
    if node.sort_key:
        return "by " + ", ".join(map(readable, node.sort_key))
    if node.group_key:
        return "by " + ", ".join(map(readable, node.group_key))
    if node.condition and node.type in ("Hash Join", "Merge Join"):
        return "on " + readable(node.condition)
    return ""


def details(node: PlanNode) -> list[str]:
    """What a scan asks for and what it throws away, a line each."""
    lines = []
    if node.condition and node.type not in ("Hash Join", "Merge Join"):
        lines.append(f"condition: {readable(node.condition)}")
    if node.order_by:
        lines.append(f"order by: {readable(node.order_by)}")
    if node.filter:
        lines.append(f"filter: {readable(node.filter)}")
    if node.removed_by_filter:
        lines.append(f"removed by filter: {_rows(node.removed_by_filter)}")
    return lines


def spoken_rows(node: PlanNode) -> str:
    """``5 rows``, ``193 rows in 50 loops``, ``never run``; nothing unless analyzed."""
    if node.rows_actual is None or node.loops is None:
        return ""
    if node.loops == 0:
        return "never run"
    if node.type in ("ModifyTable", RULE) and node.rows_actual == 0:
        return ""  # it returns none, which would read as if it had changed none
    return _rows(node.rows_actual) + (f" in {node.loops:,} loops" if node.loops > 1 else "")


def _rows(number: int) -> str:
    return f"{number:,} row" + ("" if number == 1 else "s")
