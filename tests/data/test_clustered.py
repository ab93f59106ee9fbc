"""Clustered vectors: the same every time, in blocks or at once, and with neighbours worth the name."""

from __future__ import annotations

import numpy as np
import pytest

from course_lib.data.clustered import BLOCK, clustered_blocks, clustered_queries, clustered_vectors
from course_lib.models import DIMENSIONS

COUNT = 6_000


def test_vectors_have_length_one_and_are_the_same_every_time() -> None:
    vectors = clustered_vectors(COUNT)
    assert vectors.shape == (COUNT, DIMENSIONS) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors, clustered_vectors(COUNT))
    assert not np.allclose(vectors, clustered_vectors(COUNT, seed=1))


def test_blocks_are_the_same_vectors_and_none_repeats() -> None:
    count = BLOCK + 1_000
    blocks = list(clustered_blocks(count))
    assert [len(block) for block in blocks] == [BLOCK, 1_000]
    vectors = np.concatenate(blocks)
    assert np.array_equal(vectors, clustered_vectors(count))
    assert len(np.unique(vectors, axis=0)) == count


def test_the_first_random_numbers_are_the_ones_they_were() -> None:
    """Stored outputs rest on them. The last bits may differ between processors."""
    assert clustered_vectors(10)[0, :3] == pytest.approx([0.0579675, 0.0595133, 0.0110291], abs=1e-5)


def test_a_querys_neighbours_are_much_nearer_than_the_rest() -> None:
    vectors, queries = clustered_vectors(COUNT), clustered_queries(50, of=COUNT)
    nearness = np.sort(queries @ vectors.T, axis=1)[:, ::-1]
    assert nearness[:, 0].max() < 0.99  # no query is a stored vector
    assert (nearness[:, 9] > 0.4).all()
    assert np.median(nearness) < 0.1


def test_clusters_are_as_many_as_asked_for() -> None:
    vectors = clustered_vectors(2_000, clusters=1)
    assert (vectors @ vectors.mean(axis=0)).min() > 0.25  # all around one centre
    assert np.median(clustered_vectors(2_000, clusters=50) @ vectors.mean(axis=0)) < 0.25


def test_nothing_is_no_vector_at_all() -> None:
    assert clustered_vectors(0).shape == (0, DIMENSIONS)
    assert list(clustered_blocks(0)) == []


@pytest.mark.parametrize(("count", "clusters"), [(-1, None), (10, 0)])
def test_impossible_counts_are_refused(count: int, clusters: int | None) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        clustered_vectors(count, clusters)
