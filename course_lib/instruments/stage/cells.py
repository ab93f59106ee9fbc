"""A row of the scene: what one actor does, and what that brings to the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from course_lib.instruments.query_log import Statement
from course_lib.instruments.query_log.rendering import lines_of
from course_lib.instruments.stage.step import Step
from course_lib.instruments.stage.words import counted, spoken_values

Band = Literal["", "open", "waiting", "failed"]  # how an actor's transaction stands; failed: only ROLLBACK is possible
Tone = Literal["plain", "wait", "error", "quiet"]
SHOWN_STATEMENTS = 5


@dataclass
class Part:
    """A lane at one moment: its actor's last step and how its transaction stands."""

    lane: int
    name: str
    step: Step | None
    band: Band
    transactional: bool  # not AUTOCOMMIT


@dataclass(frozen=True)
class Cell:
    """What one actor does in a row, or what befalls it there.

    Attributes:
        head: the SQL, the call, ``COMMIT``, ``goes on``.
        details: the values, or the statements a function sent.
        freed_by: the lane of who let this step go on.
        inside: a transaction is open while this happens.
        band: how the actor's transaction stands afterwards.
    """

    lane: int
    kind: Literal["sql", "call", "mark", "echo", "end"]
    head: str
    details: tuple[str, ...] = ()
    outcome: str = ""
    tone: Tone = "plain"
    freed_by: int | None = None
    inside: bool = True
    band: Band = ""


@dataclass(frozen=True)
class Row:
    """One step and all it led to. ``label`` is its number; empty when nobody stepped, ``end`` for the block's end."""

    label: str
    cells: tuple[Cell, ...]


def cell_of(part: Part, step: Step, before: Band) -> Cell:
    """The step as it stands when the stage has settled."""
    sent = step.statements
    details: tuple[str, ...] = (spoken_values(step.values),) if step.values else ()
    if step.kind != "sql":
        details = folded([entry for entry in sent if step.kind == "call" or not entry.is_control])
    inside = part.transactional and (bool(before) or bool(sent))
    cell = Cell(part.lane, step.kind, step.what, tuple(filter(None, details)), step.outcome, inside=inside)
    if not step.is_over:
        return replace(cell, tone="wait", band="waiting")
    if step.error is not None:
        return replace(cell, tone="error", band=part.band)
    if step.kind == "mark":
        if step.what == "COMMIT" and before == "failed":
            return replace(cell, outcome="✗ rolled back instead: it had failed", tone="error", band=part.band)
        return replace(cell, outcome="" if sent or before else "nothing was open", tone="quiet", band=part.band)
    return replace(cell, band=part.band)


def waited_first(cell: Cell, name: str) -> Cell:
    """The cell of a step that closed a circle of waits, at the moment it did."""
    return replace(cell, outcome=f"waits for {name}", tone="wait", band="waiting")


def echo_of(part: Part, step: Step, already_sent: int, freed_by: int | None) -> Cell:
    """How a step ended, or stands now, that had been waiting."""
    details = folded(step.statements[already_sent:]) if step.kind == "call" else ()
    cell = Cell(part.lane, "echo", "", details, step.outcome, inside=part.transactional, band=part.band)
    if not step.is_over:
        return replace(cell, outcome=f"now {step.outcome}", tone="wait", band="waiting")
    if step.error is not None:
        return replace(cell, tone="error", freed_by=freed_by)
    if details:
        return replace(cell, head="goes on", freed_by=freed_by)
    between = " " if step.outcome.startswith("→") else ": "
    return replace(cell, head=f"goes on{between}{step.outcome}", outcome="", freed_by=freed_by)


def end_of(part: Part) -> Cell:
    """The block was left: what was open is rolled back."""
    return Cell(part.lane, "end", "rolled back", inside=part.transactional)


def folded(sent: Sequence[Statement]) -> tuple[str, ...]:
    """The statements of a function, one line each, repeats counted; BEGIN is told by the band."""
    lines = [line for group in lines_of([entry for entry in sent if entry.sql != "BEGIN"]) for line in group]
    counts = [f"{line.times} × " if line.times > 1 else "" for line in lines]
    room = max(map(len, counts), default=0) if any(line.mark for line in lines) else 0
    texts = [
        f"{count:<{room}}{line.mark}{' ' * bool(line.mark)}{line.sql}"
        for count, line in zip(counts, lines, strict=True)
    ]
    if len(texts) <= SHOWN_STATEMENTS:
        return tuple(texts)
    hidden = len(texts) - SHOWN_STATEMENTS + 1
    return (*texts[: SHOWN_STATEMENTS - 2], f"… {counted(hidden, 'more line')}", texts[-1])
