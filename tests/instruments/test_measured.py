"""A measured number is shown with the bound it keeps, and a bound that does not hold is an error."""

from __future__ import annotations

import pytest

from course_lib import CourseError
from course_lib.instruments import measured


def test_the_number_is_shown_with_its_bound() -> None:
    assert str(measured(12.43, "times as fast", at_least=3)) == "≈ 12 times as fast (at least 3: yes)"
    assert repr(measured(0.131, "s", at_least=0.1, at_most=2)) == "≈ 0.13 s (at least 0.1: yes, at most 2: yes)"


def test_a_number_without_bounds_is_shown_alone() -> None:
    assert str(measured(14_873.2, "rows")) == "≈ 14,873 rows"
    assert str(measured(2.55, "MB")) == "≈ 2.5 MB"
    assert str(measured(8, "served")) == "≈ 8 served"


@pytest.mark.parametrize("bound", [{"at_least": 3}, {"at_most": 2}])
def test_outside_of_its_bound_it_is_an_error_that_says_both(bound: dict[str, float]) -> None:
    with pytest.raises(
        CourseError, match=r"Measured: 2\.5 times as fast, where the lesson expects at (least 3|most 2)"
    ):
        measured(2.5, "times as fast", **bound)
