"""Synthetic vectors that lie in clusters, as embeddings of texts do: in any number, and the same in every run.

Vectors drawn evenly from the sphere would be no stand-in for embeddings: in 256 dimensions they are all about equally
far from each other, and "the nearest ten" would mean nothing. These lie around centres. The centres share a few
topics, so that clusters have neighbours, and some of them have many more vectors than others.

The numbers are drawn by PCG64, the same everywhere; the last bits of the vectors may differ between processors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from course_lib.models import DIMENSIONS

Vectors = NDArray[np.float32]

SEED = 2026
MEMBERS = 1000  # vectors in a cluster, unless the number of clusters is given
TOPICS = 16  # dimensions that the centres lie in: unrelated ones would leave an HNSW graph without bridges
NOISE = 1.0  # length of what is added to a centre of length 1, so a vector's cosine to its centre is about 0.7
BLOCK = 20_000  # vectors, 20 MB

_CENTRES, _MEMBERS, _QUERIES = range(3)  # streams of random numbers, each independent of the others


@dataclass(frozen=True)
class _Clusters:
    centres: Vectors  # (clusters, 256), of length 1
    bounds: NDArray[np.float64]  # the share of all vectors that lie in this cluster or one before it


def clustered_vectors(count: int, clusters: int | None = None, seed: int = SEED) -> Vectors:
    """Unit vectors, shape (count, 256), float32, in no order.

    Args:
        clusters: how many there are; one for every 1,000 vectors if it is not given, and at least 8.

    Raises:
        ValueError: ``count`` is negative, or there are to be no clusters.
    """
    vectors = np.empty((max(count, 0), DIMENSIONS), dtype=np.float32)
    start = 0
    for block in clustered_blocks(count, clusters, seed):
        vectors[start : start + len(block)] = block
        start += len(block)
    return vectors


def clustered_blocks(count: int, clusters: int | None = None, seed: int = SEED) -> Iterator[Vectors]:
    """The rows of ``clustered_vectors`` in blocks of 20,000: a million of them take 1 GB, and need not be held.

    Raises:
        ValueError: as ``clustered_vectors``, and at once.
    """
    made = _make_clusters(_number_of_clusters(count, clusters), seed)
    starts = range(0, count, BLOCK)
    return (
        _draw(made, min(BLOCK, count - start), _generator(seed, _MEMBERS, number))
        for number, start in enumerate(starts)
    )


def clustered_queries(count: int, of: int, clusters: int | None = None, seed: int = SEED) -> Vectors:
    """Unit vectors to search with, shape (count, 256), float32: from the same clusters, but none is a stored one.

    Args:
        of: how many vectors were made, which with ``clusters`` and ``seed`` says where the clusters lie.
    """
    made = _make_clusters(_number_of_clusters(of, clusters), seed)
    return _draw(made, count, _generator(seed, _QUERIES, 0))


def _number_of_clusters(count: int, clusters: int | None) -> int:
    if count < 0 or (clusters is not None and clusters < 1):
        raise ValueError(f"There cannot be {count} vectors in {clusters} clusters.")
    return max(8, count // MEMBERS) if clusters is None else clusters


def _generator(*stream: int) -> np.random.Generator:
    # PCG64 by its name: numpy may one day give another generator by default.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(stream)))


def _make_clusters(clusters: int, seed: int) -> _Clusters:
    generator = _generator(seed, _CENTRES)
    topics = generator.standard_normal((TOPICS, DIMENSIONS), dtype=np.float32)
    centres = generator.standard_normal((clusters, TOPICS), dtype=np.float32) @ topics
    sizes = generator.gamma(2.0, size=clusters)
    return _Clusters(_normalized(centres), np.cumsum(sizes / sizes.sum()))


def _draw(made: _Clusters, count: int, generator: np.random.Generator) -> Vectors:
    """Vectors of clusters that are drawn by their shares."""
    places = np.searchsorted(made.bounds[:-1], generator.random(count), side="right")
    vectors = generator.standard_normal((count, DIMENSIONS), dtype=np.float32)
    vectors *= np.float32(NOISE / DIMENSIONS**0.5)
    vectors += made.centres[places]
    return _normalized(vectors)


def _normalized(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, np.newaxis]
    vectors /= lengths
    return vectors
