"""What was sent back, to scale: every answer as the table it is, rows downwards and columns across.

Answers of one shape (the loop of an N+1) are joined into one rectangle, cut by thin lines where there is room, so
that area always means values and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from course_lib.errors import CourseError
from course_lib.instruments.pictures import COLOURS, FAINT, INK, PAPER, Picture, card
from course_lib.instruments.query_log.log import QueryLog, named_logs
from course_lib.instruments.query_log.rendering import plural
from course_lib.instruments.query_log.statement import Statement

WIDTH, BODY = 9.0, 3.2  # inches, as are the others
HEADING, BETWEEN, LINE_OF_TEXT = 0.62, 0.07, 0.145
WIDE_TEXT, NARROW_TEXT = 1.65, 1.15  # beside a rectangle
WIDEST_COLUMN, HIGHEST_ROW = 0.12, 0.05
ROOM_FOR_LINES = 0.03  # between two answers that a line tells apart
MOST_LOGS, NARROW_FROM = 5, 4
LABELLED = 4  # answers of one log that are labelled; the others are summed up
TABLES = 7  # that get a colour of their own


@dataclass(frozen=True)
class Answers:
    """Answers of one shape: so many statements, whose columns come from ``tables``, with so many ``rows`` each."""

    tables: tuple[str, ...]
    rows: tuple[int, ...]

    @property
    def values(self) -> int:
        return sum(self.rows) * len(self.tables)

    def label(self, narrow: bool) -> str:
        """The numbers in words; of an answer that joins tables, also how many values each of them gave."""
        times = [f"{len(self.rows):,} answers:"] if len(self.rows) > 1 else []
        rows, columns = plural(sum(self.rows), "row"), f"× {plural(len(self.tables), 'column')}"
        size = [rows, columns] if narrow else [f"{rows} {columns}"]
        shares = [
            f"{sum(self.rows) * count:,} of {table or 'no table'}" for table, count in Counter(self.tables).items()
        ]
        return "\n".join([*times, *size, f"= {plural(self.values, 'value')}", *(shares if len(shares) > 1 else [])])


def result_shapes(logs: Mapping[str, QueryLog]) -> Picture:
    """Each answer a rectangle, its rows high and its columns wide, coloured by the table that a column comes from.

    All rectangles have one scale. A parent that a join repeats for each of its children is seen as area.

    Args:
        logs: name to log, drawn from left to right. What returns no rows is left out.

    Raises:
        CourseError: there is no log or too many, or something else than a log among them.
    """
    named = named_logs(logs, "result_shapes")
    if len(named) > MOST_LOGS:
        raise CourseError(f"result_shapes has room for {MOST_LOGS} logs.", "Draw the others in a second picture.")
    answers = {name: answers_of(log.statements) for name, log in named.items()}
    facts = {name: _facts(named[name], answers[name]) for name in named}
    sheet = _Sheet(list(answers.values()))
    words = "; ".join(f"{name}: {facts[name]}" for name in named)
    picture, axes = card(
        WIDTH, HEADING + sheet.height + 0.25 + 0.25 * bool(sheet.colours), f"What was sent back. {words}"
    )
    for place, name in enumerate(named):
        left = place * WIDTH / len(named)
        axes.text(left, -HEADING, name, size=11, weight="bold", va="top", color=INK)
        under = facts[name].replace(", ", "\n", 1) if sheet.narrow else facts[name]
        axes.text(left, -HEADING + 0.24, under, size=9, va="top", color=INK)
        sheet.draw(axes, left, answers[name])
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(sheet.height + 0.05, -HEADING)
    _draw_legend(picture, sheet.colours)
    return picture


def answers_of(statements: Sequence[Statement]) -> list[Answers]:
    """The answers that came with rows, those of one shape together, in the order of the first of each shape."""
    found: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for statement in statements:
        if statement.tables and statement.rows is not None:
            found.setdefault((statement.shape, statement.tables), []).append(statement.rows)
    return [Answers(tables, tuple(rows)) for (_, tables), rows in found.items()]


def _facts(log: QueryLog, answers: Sequence[Answers]) -> str:
    rows, values = sum(sum(answer.rows) for answer in answers), sum(answer.values for answer in answers)
    return f"{plural(log.count, 'statement')}, {plural(rows, 'row')}, {plural(values, 'value')}"


class _Sheet:
    """What all logs of a picture share: the inches of a column and of a row, the colours, the height they need."""

    def __init__(self, several: Sequence[Sequence[Answers]]) -> None:
        everything = [answer for answers in several for answer in answers]
        self.narrow = len(several) >= NARROW_FROM
        self.colours = _colours(everything)
        zone = WIDTH / len(several) - 0.15 - (NARROW_TEXT if self.narrow else WIDE_TEXT)
        self.column = min(WIDEST_COLUMN, zone / max((len(answer.tables) for answer in everything), default=1))
        self.between = min(BETWEEN, BODY / 2 / max(map(len, several)) if everything else BETWEEN)
        self.row = HIGHEST_ROW
        for answers in several:
            room = BODY - self.between * len(answers)
            self.row = min(self.row, room / max(sum(sum(answer.rows) for answer in answers), 1))
        self.height = max(max(self._end(answers), self._labelled(answers)[1]) for answers in several)

    def _end(self, answers: Sequence[Answers]) -> float:
        return sum(sum(answer.rows) * self.row + self.between for answer in answers)

    def _labelled(self, answers: Sequence[Answers]) -> tuple[list[tuple[str, float]], float]:
        """Each label and its middle: beside that of its rectangle, or as near below as there is room. And the end."""
        labels = [answer.label(self.narrow) for answer in answers[:LABELLED]]
        if rest := answers[LABELLED:]:
            labels.append(f"{len(rest)} more: {plural(sum(answer.values for answer in rest), 'value')}")
        placed, free = [], 0.0
        for number, label in enumerate(labels):
            height = LINE_OF_TEXT * (label.count("\n") + 1)
            top = max(free, self._middle(answers, number) - height / 2)
            placed.append((label, top + height / 2))
            free = top + height + 0.06
        return placed, free

    def _middle(self, answers: Sequence[Answers], number: int) -> float:
        return self._end(answers[:number]) + sum(answers[number].rows) * self.row / 2

    def draw(self, axes: Axes, left: float, answers: Sequence[Answers]) -> None:
        """The answers of one log below each other, and their labels in one column beside them."""
        for number, answer in enumerate(answers):
            self._draw_rectangle(axes, left, self._end(answers[:number]), answer)
        beside = left + self.column * max((len(answer.tables) for answer in answers), default=0) + 0.16
        for number, (label, middle) in enumerate(self._labelled(answers)[0]):
            right = left + self.column * len(answers[number].tables) + 0.03
            axes.text(beside, middle, label, size=8.5, va="center", color=INK, linespacing=1.15)
            if number < LABELLED:
                axes.plot([right, beside - 0.04], [self._middle(answers, number), middle], color=FAINT, lw=0.7)

    def _draw_rectangle(self, axes: Axes, left: float, top: float, answer: Answers) -> None:
        height, at = sum(answer.rows) * self.row, left
        for table, several in groupby(answer.tables):
            count, colour = len(list(several)), self.colours[table]
            # the edge, in points, keeps a rectangle visible that is thinner than a pixel
            axes.add_patch(
                Rectangle((at, top), count * self.column, height, facecolor=colour, edgecolor=colour, lw=0.8)
            )
            for line in range(1, count):
                axes.plot([at + line * self.column] * 2, [top, top + height], color=PAPER, lw=0.35, alpha=0.7)
            at += count * self.column
        if height > ROOM_FOR_LINES * len(answer.rows):
            for rows in accumulate(answer.rows[:-1]):
                axes.plot([left, at], [top + rows * self.row] * 2, color=PAPER, lw=0.5)


def _colours(answers: Sequence[Answers]) -> dict[str, str]:
    """A colour for each of the first tables, in the order they appear; grey for the others and for no table."""
    tables = list(dict.fromkeys(table for answer in answers for table in answer.tables))
    named = dict(zip([table for table in tables if table], COLOURS[:TABLES], strict=False))
    return {table: named.get(table, FAINT) for table in tables}


def _draw_legend(picture: Picture, colours: Mapping[str, str]) -> None:
    handles = [Patch(color=colour, label=table) for table, colour in colours.items() if colour != FAINT]
    others = [table for table, colour in colours.items() if colour == FAINT]
    if others:
        named = "" if others == [""] else "another table, or "
        handles.append(Patch(color=FAINT, label=f"{named}no table: computed, or SQL given as text"))
    if handles:
        legend = picture.legend(
            handles=handles, loc="outside lower left", fontsize=8.5, frameon=False, labelcolor=INK, handlelength=1,
            ncols=min(len(handles), 5), title="columns of", title_fontsize=8.5, alignment="left",
        )  # fmt: skip
        legend.get_title().set_color(INK)
