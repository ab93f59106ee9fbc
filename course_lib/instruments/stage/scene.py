"""What happened on a stage, row by row: who did what, how it ended, whom that let go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from course_lib.instruments.stage.cells import Band, Cell, Part, Row, cell_of, echo_of, end_of, waited_first
from course_lib.instruments.stage.observer import circle_in
from course_lib.instruments.stage.step import DEADLOCK, Step, detail_of

NOT_FREED = {DEADLOCK, "55P03", "57014"}  # a waiting step that ends so was ended by the server: nobody let it go on


@dataclass
class _Pending:
    """A step shown as waiting."""

    step: Step
    waits_for: tuple[str, ...]
    sent: int


class Scene:
    """The rows so far.

    Args:
        parts: gives how every lane stands now.
        name_of: the name of who is behind a server process.
    """

    def __init__(self, parts: Callable[[], list[Part]], name_of: Callable[[int], str]) -> None:
        self.rows: list[Row] = []
        self._parts = parts
        self._name_of = name_of
        self._pending: dict[int, _Pending] = {}
        self._steps = 0

    def record(self, lane: int, before: Band) -> None:
        """The last step of ``lane``, begun when its transaction stood at ``before``, and what it led to."""
        self._steps += 1
        part = self._parts()[lane]
        step = part.step
        assert step is not None
        circle = self._circle_of([step, *(pending.step for pending in self._pending.values())])
        cell, own_end = cell_of(part, step, before), None
        if step.is_over and part.name in circle:
            own_end = echo_of(part, step, len(step.statements), self._lane_of(circle[part.name]))
            cell = waited_first(cell, circle[part.name])
        echoes = self._echoes(lane)
        if not step.is_over:
            self._pending[lane] = _Pending(step, step.waits_for, len(step.statements))
        self.rows.append(Row(str(self._steps), (cell, *_in_order(own_end, echoes))))

    def notice(self) -> None:
        """What ended by itself since the last row: at a timeout, or because a session off stage let go."""
        if echoes := self._echoes(None):
            self.rows.append(Row("", tuple(echo for echo, _ in echoes)))

    def record_end(self, lanes: Sequence[int]) -> None:
        """The block was left: the transactions of ``lanes`` were rolled back."""
        parts = self._parts()
        ends = [end_of(parts[lane]) for lane in lanes]
        self.rows.append(Row("end", (*ends, *(echo for echo, _ in self._echoes(None, lanes)))))

    def _echoes(self, main: int | None, moved: Sequence[int] = ()) -> list[tuple[Cell, Step]]:
        """The steps shown as waiting that have ended, or wait for another now; victims of a deadlock first."""
        parts = self._parts()
        changed = {
            lane: pending
            for lane, pending in self._pending.items()
            if pending.step.is_over or pending.step.waits_for != pending.waits_for
        }
        acted = {main, *moved, *(lane for lane, pending in changed.items() if pending.step.is_over)}
        echoes = []
        for lane, pending in sorted(changed.items()):
            step = pending.step
            by = None if step.sqlstate in NOT_FREED else self._freed_by(pending.waits_for, main, acted)
            echoes.append((echo_of(parts[lane], step, pending.sent, by), step))
            if step.is_over:
                del self._pending[lane]
            else:
                self._pending[lane] = _Pending(step, step.waits_for, len(step.statements))
        return sorted(echoes, key=lambda echo: echo[1].sqlstate != DEADLOCK)

    def _freed_by(self, waited_for: Sequence[str], main: int | None, acted: set[int | None]) -> int | None:
        """Of those waited for, the one that did something in this row: rather who stepped than who was let go too."""
        lanes = [lane for name in waited_for if (lane := self._lane_of(name)) in acted and lane is not None]
        return main if main in lanes or not lanes else lanes[0]

    def _lane_of(self, name: str) -> int | None:
        return next((part.lane for part in self._parts() if part.name == name), None)

    def _circle_of(self, steps: Sequence[Step]) -> dict[str, str]:
        """Who waited for whom in the deadlock that ended one of ``steps``, by name; empty when none did."""
        for step in steps:
            if step.sqlstate == DEADLOCK:
                edges = circle_in(detail_of(step.error))
                return {self._name_of(waiting): self._name_of(blocker) for waiting, blocker in edges.items()}
        return {}


def _in_order(own_end: Cell | None, echoes: Sequence[tuple[Cell, Step]]) -> list[Cell]:
    """The victim of a deadlock first, then those whom its end let go on."""
    cells = [echo for echo, _ in echoes]
    if own_end is None:
        return cells
    victims = [echo for echo, other in echoes if other.sqlstate == DEADLOCK]
    return [*victims, own_end, *cells[len(victims) :]]
