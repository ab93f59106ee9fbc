"""``course classroom board`` in a terminal: the grid, who is stuck, and what to say, kept up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from course_lib.classroom.board.choosing import chosen_lessons
from course_lib.classroom.board.standing import Board, Learner, Mistake
from course_lib.classroom.board.watching import EVERY, Sight, watch
from course_lib.judging.exercise import Exercise

NAME = 16  # columns
NARROW, WIDE = 2, 3  # columns of an exercise; lessons stand one apart
LINES_OF_GRID = 6  # title, heads, sums and blank lines
MISTAKES, LINES_OF_MISTAKES = 4, 9  # of a terminal's lines so many are kept for them
STUCK = 5  # who are named below the grid where lines are few
FEWEST = 5  # learners in the grid, on however small a terminal
STYLES = {"right": "green", "tried": "yellow", "stuck": "bold reverse", "seen": "dim"}
LEGEND = "✓ right   3 tries so far   4! stuck   · looked at"


def run_board(class_name: str, lessons: str | None) -> None:
    """Show the board until Ctrl-C; where the output is no terminal, once.

    Raises:
        CourseError: there is no such class, or its board is not for this role.
    """
    chosen = chosen_lessons(lessons) if lessons else None
    console = Console(highlight=False)
    with suppress(KeyboardInterrupt):
        asyncio.run(_live(console, class_name, chosen) if console.is_terminal else _once(console, class_name, chosen))


async def _once(console: Console, class_name: str, lessons: Sequence[str] | None) -> None:
    async with aclosing(watch(class_name, lessons)) as sights:
        console.print(Group(*rows((await anext(sights)).board, console.width)))


async def _live(console: Console, class_name: str, lessons: Sequence[str] | None) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        async with aclosing(watch(class_name, lessons)) as sights:
            async for sight in sights:
                live.update(screen(sight, console.width, console.height), refresh=True)
                await asyncio.sleep(EVERY)


def screen(sight: Sight, width: int, height: int) -> RenderableType:
    """What stands on a terminal of that size: what is to be done, and as much of the grid as there is room for."""
    board, trouble = sight.board, [Text(sight.trouble, "bold")] if sight.trouble else []
    stuck, mistakes = len(board.stuck()), len(board.mistakes())
    below = (min(stuck, STUCK) + 3 if stuck else 0) + (LINES_OF_MISTAKES if mistakes else 0)
    people = _most_needed(board, max(FEWEST, height - LINES_OF_GRID - len(trouble) - below))
    return Group(*trouble, *rows(board, width, people, STUCK))


def rows(
    board: Board, width: int, people: Sequence[Learner] | None = None, most_stuck: int | None = None
) -> list[RenderableType]:
    """The whole board from top to bottom; of those who are stuck the first ``most_stuck``."""
    people = board.learners if people is None else people
    solved = sum(board.solved(learner) for learner in board.learners)
    head = f"{board.class_name} · {len(board.learners)} learners · {solved} right · {board.at.astimezone():%H:%M:%S}"
    shown, cell = _columns(board, width)
    missing = {
        "learners": len(board.learners) - len(people),
        "exercises": len(board.exercises) - len(shown),
    }
    hidden = [f"not shown: {what} {number}" for what, number in missing.items() if number]
    return [
        Text(head, "bold"), grid(board, people, shown, cell), Text("   ".join([LEGEND, *hidden]), "dim"),
        *_stuck(board, most_stuck), *_mistakes(board.mistakes()[:MISTAKES]),
    ]  # fmt: skip


def _columns(board: Board, width: int) -> tuple[list[Exercise], int]:
    """The exercises that have room, and how wide each is: wide, if all have room then."""
    room = width - NAME - 1
    for cell in (WIDE, NARROW):
        shown: list[Exercise] = []
        for exercise in board.exercises:
            if _wide([*shown, exercise], cell) > room:
                break
            shown.append(exercise)
        if len(shown) == len(board.exercises):
            break
    return shown, cell


def _wide(exercises: Sequence[Exercise], cell: int) -> int:
    return len(exercises) * cell + len({_group(exercise) for exercise in exercises}) - 1


def _most_needed(board: Board, most: int) -> list[Learner]:
    """Who is stuck goes first where not all have room; then as they stand in the roster."""
    if len(board.learners) <= most:
        return [*board.learners]
    stuck = [one.learner for one in board.stuck()]
    kept = {learner.role for learner in [*stuck, *(one for one in board.learners if one not in stuck)][:most]}
    return [learner for learner in board.learners if learner.role in kept]


def grid(board: Board, people: Sequence[Learner], shown: Sequence[Exercise], cell: int) -> Text:
    """A line for each learner, ``cell`` columns for each exercise."""
    text = Text(no_wrap=True)
    for line in _heads(shown, cell):
        text.append(f"{' ' * NAME} {line}\n", "bold")
    for learner in people:
        text.append(_cut(learner.name) + " ")
        if not learner.shown:
            text.append("not on the board, as they wish", "dim")
        for gap, exercise in _with_gaps(shown) if learner.shown else []:
            look = board.look(learner, exercise)
            text.append(gap)
            text.append(f"{_sign(board, learner, exercise):<{cell}}", STYLES[look] if look else "")
        text.append("\n")
    if cell == WIDE:
        sums = "".join(f"{gap}{board.right(exercise) or '':<{cell}}" for gap, exercise in _with_gaps(shown))
        text.append(f"{'right':<{NAME}} {sums}", "bold")
    else:
        text.right_crop(1)
    return text


def _with_gaps(exercises: Sequence[Exercise]) -> list[tuple[str, Exercise]]:
    """Each with what stands before it: a gap before the first of another lesson."""
    before = [None, *exercises]
    return [
        (" " if last and _group(last) != _group(exercise) else "", exercise)
        for last, exercise in zip(before, exercises, strict=False)
    ]


def _group(exercise: Exercise) -> str:
    """A lesson, or the drills of a level."""
    return exercise.lesson if exercise.lesson.isdigit() else exercise.level


def _cut(name: str) -> str:
    """A name as wide as its column; some letters are two columns wide."""
    return set_cell_size(name if cell_len(name) <= NAME else set_cell_size(name, NAME - 1).rstrip() + "…", NAME)


def _heads(exercises: Sequence[Exercise], cell: int) -> list[str]:
    """The lesson above its first exercise, and below it the numbers; of drills only their names."""
    above = below = before = ""
    for gap, exercise in _with_gaps(exercises):
        lesson, _, number = exercise.id.rpartition(".")
        above += f"{gap}{lesson if lesson != before else '':<{cell}}"
        below += f"{gap}{number:<{cell}}"
        before = lesson
    return [line for line in (above, below) if line.strip()]


def _sign(board: Board, learner: Learner, exercise: Exercise) -> str:
    tries = board.tries(learner, exercise)
    number = str(tries) if tries < 10 else "+"
    return {"right": "✓", "tried": number, "stuck": f"{number}!", "seen": "·", None: ""}[board.look(learner, exercise)]


def _stuck(board: Board, most: int | None) -> list[RenderableType]:
    found = board.stuck()
    if not found:
        return []
    table = Table.grid(padding=(0, 2))
    for one in found[:most]:
        since = f"{one.tries} {'try' if one.tries == 1 else 'tries'} in {one.minutes} min"
        table.add_row(*map(Text, (_cut(one.learner.name), one.exercise.id, since, one.mistake)))
    title = "Stuck" if most is None or len(found) <= most else f"Stuck, the first {most} of {len(found)}"
    return [Text(f"\n{title}", "bold"), Padding(table, (0, 0, 0, 2), expand=False)]


def _mistakes(found: Sequence[Mistake]) -> list[RenderableType]:
    shown: list[RenderableType] = [Text("\nMistakes now", "bold")] if found else []
    for one in found:
        many = f"{one.learners} learner{'' if one.learners == 1 else 's'}"
        shown.append(Text(f"  {one.exercise.id} · {one.said.name} · {many}"))
        for label, said in (("seen", one.said.seen), ("say", one.said.ask)):
            if said:
                shown.append(Padding(Text(f"{label}: {said.replace('`', '')}"), (0, 0, 0, 4), expand=False))
    return shown
