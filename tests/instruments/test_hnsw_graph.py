"""A small HNSW graph keeps the rules of those who devised it, finds what is near, and tells its way in words."""

from __future__ import annotations

import re

import numpy as np
import pytest

from course_lib.errors import CourseError
from course_lib.instruments import hnsw_graph
from course_lib.instruments.pictures import INKS
from course_lib.instruments.vectors.hnsw.graph import HnswGraph
from course_lib.instruments.vectors.hnsw.picture import draw

RANDOM = np.random.default_rng(4)
VECTORS = RANDOM.normal(size=(60, 16))
QUESTIONS = RANDOM.normal(size=(30, 16))


def nearest(vector: np.ndarray, k: int) -> list[int]:
    cosine = VECTORS @ vector / np.linalg.norm(VECTORS, axis=1)
    return np.argsort(-cosine)[:k].tolist()


@pytest.fixture
def graph() -> HnswGraph:
    return hnsw_graph(VECTORS, m=3)


def test_each_layer_holds_some_of_the_points_below_and_the_lowest_all(graph: HnswGraph) -> None:
    assert sorted(graph.layers[0]) == list(range(60))
    assert len(graph.layers) > 2
    for below, above in zip(graph.layers, graph.layers[1:], strict=False):
        assert set(above) < set(below)
    assert graph.entry in graph.layers[-1]


def test_a_point_has_no_more_links_than_m_and_twice_as_many_in_the_lowest_layer(graph: HnswGraph) -> None:
    for number, layer in enumerate(graph.layers):
        for point, links in layer.items():
            assert len(links) <= (6 if number == 0 else 3)
            assert point not in links
            assert len(set(links)) == len(links)
            assert set(links) <= set(layer)


def test_links_lead_into_different_directions() -> None:
    """Four at one place and one elsewhere: the newcomer between them links to one of the four, and to the other."""
    here = [[1.0, 0.01 * number] for number in range(4)]
    graph = hnsw_graph([*here, [-1.0, 1.0], [0.5, 1.0]], m=2, seed=4)
    assert len(graph.layers[0][5]) == 2
    assert 4 in graph.layers[0][5]


def test_a_walk_that_keeps_every_candidate_finds_all_and_a_narrow_one_misses_some(graph: HnswGraph) -> None:
    def recall(ef_search: int) -> float:
        found = [graph.search(question, k=3, ef_search=ef_search).found for question in QUESTIONS]
        right = [set(ids) & set(nearest(asked, 3)) for ids, asked in zip(found, QUESTIONS, strict=True)]
        return sum(map(len, right)) / (3 * len(QUESTIONS))

    assert recall(60) == 1.0
    assert recall(3) < recall(20) <= 1.0


def test_a_search_compares_fewer_points_than_there_are_and_goes_down_layer_by_layer(graph: HnswGraph) -> None:
    search = graph.search(QUESTIONS[0], k=2, ef_search=4)
    assert [walk.layer for walk in search.walks] == list(reversed(range(len(graph.layers))))
    assert search.walks[0].entry == graph.entry
    assert search.compared < 60
    for above, below in zip(search.walks, search.walks[1:], strict=False):
        assert below.entry == above.found[0]
        assert len(above.found) == 1
    for walk in search.walks:
        assert walk.path[-1] == walk.found[0]
        for one, other in zip(walk.path, walk.path[1:], strict=False):
            assert other in graph.layers[walk.layer][one]


def test_the_same_seed_builds_the_same_graph_and_another_one_another() -> None:
    same = [hnsw_graph(VECTORS, seed=seed).layers for seed in (3, 3, 4)]
    assert same[0] == same[1] != same[2]


def test_words_tell_the_layers_the_way_and_what_it_cost() -> None:
    groups = {"Bruno": VECTORS[:8], "Hana": VECTORS[8:16]}
    search = hnsw_graph(groups, m=2).search(VECTORS[3], k=2, ef_search=16)
    first, *way, found, compared = str(search).splitlines()
    assert re.fullmatch(r"16 points in \d layers, from the top [\d, ]+16; up to 2 links each, 4 in the lowest", first)
    assert [line.partition(":")[0] for line in way] == [f"layer {n}" for n in reversed(range(len(way)))]
    assert re.fullmatch(r"found Bruno 3, (Bruno|Hana) \d: 2 of the 2 nearest", found)
    assert compared == f"compared with {search.compared} of 16 points"
    assert str(hnsw_graph(groups, m=2)) == first


def test_the_picture_has_a_plane_for_each_layer_a_dot_for_each_point_and_the_way(graph: HnswGraph) -> None:
    search = graph.search(QUESTIONS[0], k=2)
    (axes,) = draw(graph, search).axes
    assert len(axes.patches) == len(graph.layers)
    rings = [dots for dots in axes.collections if not len(dots.get_facecolor())]
    dots = [dots for dots in axes.collections if len(dots.get_facecolor())]
    assert sum(len(group.get_offsets()) for group in dots) == sum(map(len, graph.layers))
    assert len(rings) == len(search.found)
    arrows = [note for note in axes.texts if getattr(note, "arrow_patch", None) is not None]
    steps = sum(len(walk.path) - 1 for walk in search.walks) + len(search.walks) - 1
    assert len(arrows) == steps
    stars = [line for line in axes.lines if line.get_marker() == "*" and line.get_color() == INKS[5]]
    assert len(stars) == len(graph.layers)
    for shown in (graph, search):
        assert shown._repr_mimebundle_()[0]["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("vectors", "options", "sentence"),
    [
        ([], {}, "these are 0"),
        (np.ones((500, 3)), {}, "these are 500"),
        ({"a": [[1.0, 2.0]], "b": [[1.0]]}, {}, "of one length"),
        (VECTORS, {"m": 1}, "m is 2 or more"),
        (VECTORS, {"m": 8, "ef_construction": 4}, "not below m"),
    ],
)
def test_what_cannot_be_drawn_is_refused(vectors: object, options: dict[str, int], sentence: str) -> None:
    with pytest.raises(CourseError, match=sentence) as caught:
        hnsw_graph(vectors, **options)  # type: ignore[arg-type]
    assert caught.value.mend


def test_a_question_that_does_not_fit_is_refused(graph: HnswGraph) -> None:
    with pytest.raises(CourseError, match="of 16 dimensions"):
        graph.search([1.0, 2.0])
    with pytest.raises(CourseError, match="cannot find 5"):
        graph.search(QUESTIONS[0], k=5, ef_search=4)


def test_one_vector_and_equal_ones_are_a_graph_too() -> None:
    assert hnsw_graph([1.0, 2.0, 3.0]).search([1.0, 0.0, 0.0]).found == [0]
    equal = hnsw_graph(np.ones((12, 3)), m=2)
    assert len(equal.search([1.0, 0.0, 0.0], k=3).found) == 3
    assert draw(equal).png().startswith(b"\x89PNG")
