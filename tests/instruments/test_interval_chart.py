"""An interval is drawn from its low to its high end, and grey where it says nothing about the mark."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from course_lib import CourseError
from course_lib.instruments import intervals
from course_lib.instruments.pictures import SOFT


@dataclass
class Estimate:
    value: float
    low: float
    high: float


GAINS = {"words": Estimate(0.1, 0.04, 0.15), "ranks": Estimate(0.01, -0.05, 0.07), "edge": Estimate(0.1, 0.0, 0.2)}


def test_each_estimate_has_a_line_and_a_dot_in_its_row() -> None:
    (axes,) = intervals(GAINS, "Gains").axes
    lines, dots = axes.lines[:-1:2], axes.lines[1::2]
    assert [(*line.get_xdata(), line.get_ydata()[0]) for line in lines] == [
        (0.04, 0.15, 0), (-0.05, 0.07, 1), (0.0, 0.2, 2),
    ]  # fmt: skip
    assert [dot.get_xdata()[0] for dot in dots] == [0.1, 0.01, 0.1]


def test_what_touches_the_mark_is_grey() -> None:
    (axes,) = intervals(GAINS, "Gains", mark=("no difference", 0)).axes
    assert [line.get_color() == SOFT for line in axes.lines[:-1:2]] == [False, True, True]
    assert set(axes.lines[-1].get_xdata()) == {0}


def test_the_words_hold_no_number_and_the_spoken_ones_do() -> None:
    picture = intervals(GAINS, "Gains", note="120 questions")
    assert str(picture) == "Gains: words, ranks, edge"
    assert "words: 0.10, from 0.04 to 0.15" in picture.spoken
    assert picture.png().startswith(b"\x89PNG")


def test_everything_written_lies_within_the_picture() -> None:
    picture = intervals({"a rather long name of a way": Estimate(0.5, 0.5, 0.5), **GAINS}, "Gains", mark=("none", 0))
    picture.canvas.draw()
    (axes,) = picture.axes
    boxes = [note.get_window_extent() for note in axes.texts]
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= picture.bbox.width


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(CourseError, match="no estimates"):
        intervals({}, "Gains")
