"""Panels show one thing each, to a scale of its own; their text is the same whatever was measured."""

from __future__ import annotations

import pytest

from course_lib import CourseError
from course_lib.instruments import panels

WAYS = {"index": {"rows": 0.5, "milliseconds": 1.25}, "exact": {"rows": 10.0, "milliseconds": 1234.5}}


def test_every_measure_has_a_panel_and_every_way_a_bar_in_it() -> None:
    rows, milliseconds = panels(WAYS, "A search").axes
    assert [bar.get_width() for bar in rows.patches] == [0.5, 10]
    assert [bar.get_width() for bar in milliseconds.patches] == [1.25, 1234.5]


def test_panels_start_at_zero_and_hold_their_longest_bar() -> None:
    for axes in panels(WAYS, "A search").axes:
        assert min(bar.get_x() for bar in axes.patches) == 0
        assert axes.get_xlim()[1] > max(bar.get_width() for bar in axes.patches)


def test_numbers_have_no_more_digits_than_they_need() -> None:
    shown = [note.get_text() for axes in panels(WAYS, "A search").axes for note in axes.texts]
    assert {"0.5", "10", "1.25", "1,234"} <= set(shown)


def test_the_names_stand_once_beside_the_first_panel() -> None:
    shown = [note.get_text() for axes in panels(WAYS, "A search").axes for note in axes.texts]
    assert shown.count("index") == shown.count("exact") == 1


def test_the_words_do_not_depend_on_what_was_measured() -> None:
    others = {way: dict.fromkeys(found, 7.0) for way, found in WAYS.items()}
    assert str(panels(WAYS, "A search")) == str(panels(others, "A search"))
    assert str(panels(WAYS, "A search")) == "A search: rows, milliseconds of index, exact"
    assert panels(WAYS, "A search", note="warm").png().startswith(b"\x89PNG")


def test_nothing_but_zeros_can_be_drawn() -> None:
    assert panels({"index": {"rows": 0}}, "A search").png().startswith(b"\x89PNG")


@pytest.mark.parametrize("ways", [{}, {"index": {}}, {"index": {"rows": 1}, "exact": {"recall": 1}}])
def test_ways_that_were_measured_differently_are_refused(ways: dict[str, dict[str, float]]) -> None:
    with pytest.raises(CourseError, match="same measures"):
        panels(ways, "A search")
