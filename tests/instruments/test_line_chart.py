"""A line chart shows what was measured, and says in words only what was chosen: its text is the same in every run."""

from __future__ import annotations

from itertools import pairwise

import pytest

from course_lib.instruments import curves
from course_lib.instruments.pictures import COLOURS, INKS

WAITS = {1: 812.5, 4: 3.25, 2: 40.0}


def test_every_measurement_is_a_point_of_its_line_from_left_to_right() -> None:
    (axes,) = curves({"longest": WAITS, "mean": {1: 9.0}}, "Waits", x="pool_size", y="ms").axes
    points = [list(zip(*line.get_data(), strict=True)) for line in axes.lines]
    assert points == [[(1, 812.5), (2, 40.0), (4, 3.25)], [(1, 9.0)]]
    assert axes.get_ylim()[0] == 0
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4"]


def test_each_line_bears_its_name_in_the_ink_of_its_colour() -> None:
    (axes,) = curves({"longest": WAITS, "mean": {1: 9.0}}, "Waits", x="pool_size", y="ms").axes
    named = {note.get_text(): note.get_color() for note in axes.texts}
    assert [named["longest"], named["mean"]] == [INKS[COLOURS.index(str(line.get_color()))] for line in axes.lines]
    assert len(set(named.values())) == 2


def test_names_of_lines_that_end_together_stand_above_one_another() -> None:
    picture = curves(
        {"even": {1: 20, 8: 0.1}, "uneven": {1: 90, 8: 0.4}, "third": {1: 4, 8: 0}}, "Waits", x="n", y="ms"
    )
    picture.canvas.draw()
    (axes,) = picture.axes
    boxes = sorted((note.get_window_extent() for note in axes.texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_a_point_at_zero_leaves_the_number_below_it_to_be_read() -> None:
    picture = curves({"even": {2: 30, 3: 0, 8: 0}}, "Waits", x="n", y="ms")
    picture.canvas.draw()
    (axes,) = picture.axes
    point = axes.lines[0].get_markersize() * picture.dpi / 72  # half of it below the axis, and as much room again
    below = axes.transData.transform((3, 0))[1] - point
    assert all(label.get_window_extent().y1 < below for label in axes.get_xticklabels())


def test_the_words_do_not_depend_on_what_was_measured() -> None:
    picture = curves({"longest": WAITS}, "Waits", x="pool_size", y="ms", mark=("enough", 2.625))
    assert str(picture) == "Waits: ms, longest, for pool_size = 1, 2, 4"
    assert picture.png().startswith(b"\x89PNG")


@pytest.mark.parametrize("place", [0.5, 2.625])
def test_a_mark_stands_at_its_place(place: float) -> None:
    (axes,) = curves({"longest": WAITS}, "Waits", x="pool_size", y="ms", mark=("enough", place)).axes
    assert "enough" in [note.get_text() for note in axes.texts]
    assert set(axes.lines[-1].get_xdata()) == {place}
