"""Vectors in a plane: two dimensions true to scale, more of them as a projection that keeps groups apart."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes

from course_lib import CourseError
from course_lib.instruments import vector_plane


def points(axes: Axes) -> list[np.ndarray]:
    return [np.asarray(dots.get_offsets()) for dots in axes.collections]


def test_two_dimensions_are_arrows_from_the_origin_at_their_own_coordinates() -> None:
    (axes,) = vector_plane({"short": [1, 2], "long": [9, 3]}, [2, 1]).axes
    tips = {note.get_text(): tuple(note.xy) for note in axes.texts if note.get_text()}
    assert tips == {"short": (1, 2), "long": (9, 3), "the question": (2, 1)}
    assert axes.get_aspect() == 1.0


def test_more_dimensions_are_shown_where_groups_differ_most() -> None:
    random = np.random.default_rng(4)
    near, far = random.normal(0, 0.1, (20, 50)), random.normal(0, 0.1, (20, 50))
    far[:, 7] += 5
    (axes,) = vector_plane({"near": near, "far": far}).axes
    first, second = points(axes)
    assert np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) > 4.5


def test_the_asker_is_projected_with_the_others_and_lines_lead_to_its_nearest() -> None:
    vectors = np.random.default_rng(4).normal(size=(10, 8))
    (axes,) = vector_plane({"all": vectors}, vectors[3], nearest=[("all", 3), ("all", 5)]).axes
    (dots,) = points(axes)
    star = next(line for line in axes.lines if line.get_marker() == "*")
    assert np.allclose([star.get_xdata()[0], star.get_ydata()[0]], dots[3])
    ends = [np.column_stack(line.get_data())[-1] for line in axes.lines if line.get_marker() != "*"]
    assert np.allclose(ends, dots[[3, 5]])


def test_the_words_count_vectors_and_groups() -> None:
    picture = vector_plane({"a": np.eye(3), "b": np.eye(3)[:2]}, [1, 0, 0], title="Passages")
    assert str(picture) == "Passages: 5 vectors in 2 groups, and a question"
    assert picture.png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("groups", "asker"), [({"a": [1, 2, 3]}, [1, 2]), ({"a": [1, 2], "b": [1, 2, 3]}, None), ({}, None)]
)
def test_vectors_of_different_lengths_are_refused(groups: dict[str, list[float]], asker: list[float] | None) -> None:
    with pytest.raises(CourseError, match="no plane in common"):
        vector_plane(groups, asker)
