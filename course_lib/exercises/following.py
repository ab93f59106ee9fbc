"""A whole notebook judged in processes of its own: what became of each of its cells, and what its checks found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from course_lib.judging.apart.asides import is_aside
from course_lib.judging.apart.process import CELL_SECONDS, Child, Outcome
from course_lib.judging.apart.verdicts import home_of, silence_of
from course_lib.judging.exercise import Exercise

LONGEST = 300  # characters of what a cell raised


def follow(
    cells: Sequence[str], wanted: Mapping[int, Exercise], folder: Path, *,
    child: Child | None = None, seconds: float = CELL_SECONDS, past_the_end: bool = False,
) -> Iterator[Outcome]:  # fmt: skip
    """Run the cells down to the last check and judge; each outcome is told once.

    Where an answer ends the process or spoils it, the checks behind it have another one.

    Args:
        cells: their sources; what only asks the course something is not run, and neither is an empty one.
        wanted: the exercises to be judged, by the number of the cell that checks each.
        folder: where the cells work.
        child: the process to begin with, where one was started already.
        seconds: for each cell.
        past_the_end: go on behind a cell that ended the process, too; it is left out from then on, and so is one that
            took too long. Otherwise the checks behind it are not judged.

    Raises:
        CourseError: no process began.
    """
    sources = ["" if is_aside(source) else source for source in cells]
    done: set[int] = set()
    while wanted.keys() - done:
        spoilt = None
        with nullcontext(child) if child is not None else Child() as running:
            left = {number: exercise for number, exercise in wanted.items() if number not in done}
            for outcome in _followed(running, sources[: max(left) + 1], left, folder, seconds):
                if past_the_end and outcome.number not in wanted and (outcome.ended or outcome.late):
                    sources[outcome.number] = ""
                if outcome.number not in done:
                    done.add(outcome.number)
                    yield outcome
                if outcome.ended or "changed" in (outcome.found or {}):
                    spoilt = outcome.number
                    break
        child = None
        if spoilt is None or (spoilt not in wanted and not past_the_end):
            return


def _followed(
    child: Child, sources: Sequence[str], left: Mapping[int, Exercise], folder: Path, seconds: float
) -> Iterator[Outcome]:
    return child.follow(
        sources, {number: home_of(exercise) for number, exercise in left.items()},
        silence=max(map(silence_of, left.values())), seconds=seconds, folder=folder,
    )  # fmt: skip


def trouble(outcome: Outcome) -> str:
    """Why a cell did not run to its end, as the rest of a sentence; empty where it did."""
    if outcome.ended and outcome.late:
        return (
            f"it had not ended after {outcome.seconds:.0f} seconds and heeded no interrupt, so its process was ended."
        )
    if outcome.closed:
        return "it closed files that are not its own, so its process was ended."
    if outcome.ended:
        return f"it ended its process ({outcome.ended})."
    if outcome.late:
        return f"it had not ended after {outcome.seconds:.0f} seconds and was interrupted."
    if outcome.error:
        first = (outcome.error.strip().splitlines() or [""])[0]
        return f"it raised {first[:LONGEST]}"
    return ""
