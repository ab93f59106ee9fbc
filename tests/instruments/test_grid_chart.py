"""A table as tiles: its words say what the picture shows, and which tiles are filled."""

from __future__ import annotations

import pytest

from course_lib.errors import CourseError
from course_lib.instruments import grid

ROWS = {"her own": {"status": 200}, "his": {"status": 403, "lent": 1}}


def test_the_words_are_the_table_with_what_should_not_be_marked() -> None:
    assert str(grid(ROWS, "Asked for", bad={403}, corner="whose")).splitlines() == [
        "Asked for",
        "whose    status  lent",
        "her own  200",
        "his      403 !   1",
    ]


def test_tiles_are_filled_where_something_should_not_be() -> None:
    tiles = grid(ROWS, "Asked for", bad={403}).axes[0].patches
    assert [tile.get_alpha() is None and tile.get_facecolor()[3] == 1 for tile in tiles] == [False, True, False]


def test_a_long_title_and_long_cells_have_room() -> None:
    narrow, wide = grid(ROWS, "Asked"), grid({"a": {"b": "a long sentence"}}, "Asked for a document " * 3)
    assert wide.get_size_inches()[0] > narrow.get_size_inches()[0]


def test_nothing_to_draw_is_an_error() -> None:
    for empty in {}, {"a row": {}}:
        with pytest.raises(CourseError, match="needs rows"):
            grid(empty, "Nothing")
