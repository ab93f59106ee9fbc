"""table_size() and index_size() say to the page what PostgreSQL and pgvector take."""

from __future__ import annotations

import pytest

from course_lib.bench.sizes import LIMIT, compare_indexes, compare_table, tables
from course_lib.errors import CourseError
from course_lib.instruments import (
    Sizes,
    bytes_and_recall,
    index_pages,
    index_size,
    size_steps,
    sizes_on_disk,
    table_size,
)
from course_lib.instruments.sizes.calculated import Kind
from course_lib.instruments.sizes.found import size_text
from course_lib.instruments.sizes.page_map import pages_of
from course_lib.instruments.sizes.pages import PAGE, Heap, chunks

MILLION, GB = 1_000_000, 2**30


@pytest.mark.parametrize(
    ("dimensions", "kind", "a_row"),
    [
        (768, "vector", PAGE / 2),
        (1024, "vector", PAGE),
        (1536, "vector", PAGE),
        (2000, "vector", 2 * PAGE),
        (1536, "halfvec", PAGE / 2),
        (3072, "halfvec", PAGE),
    ],
)
def test_an_hnsw_index_takes_whole_elements_of_a_page(dimensions: int, kind: Kind, a_row: float) -> None:
    assert index_size(MILLION, dimensions, kind).per_row == pytest.approx(a_row, rel=0.001)


def test_a_million_rows_of_1536_dimensions_are_fifteen_gigabytes_and_not_six() -> None:
    both = table_size(MILLION, 1536) + index_size(MILLION, 1536)
    assert 15 * GB < both.total < 15.6 * GB
    assert both.index == pytest.approx(7.63 * GB, rel=0.001)


def test_links_fill_what_the_page_has_left() -> None:
    assert index_size(MILLION, 1536, m=32).total == index_size(MILLION, 1536, m=8).total
    assert index_size(MILLION, 256, m=32).total > index_size(MILLION, 256).total


def test_chunks_are_those_of_toast() -> None:
    assert [size - 36 for size in chunks(8 + 4 * 1536)] == [1996, 1996, 1996, 160]
    assert [size - 36 for size in chunks(4 + 2 * 1996)] == [1996, 1996]


def test_a_page_that_was_left_is_filled_later() -> None:
    heap = Heap()
    for size in (5000, 5000, 3000, 3000):
        heap.put(size)
    assert heap.pages == 2


@pytest.mark.parametrize("dimensions", [64, 768, 2000])
async def test_what_is_calculated_is_what_the_server_has(dimensions: int) -> None:
    rows, found, refused = 2_000 if dimensions == 64 else 600, [], list[str]()
    async with tables(rows, dimensions) as (engine, connection):
        for kind in ("vector", "halfvec", "bit"):
            found += await compare_table(engine, connection, rows, dimensions, kind)
            found += await compare_indexes(connection, rows, dimensions, kind, [16], refused)
    tables_parts = [one for one in found if not one.part.startswith(("hnsw", "ivfflat"))]
    assert all(abs(one.calculated - one.measured) <= PAGE for one in tables_parts), tables_parts
    assert [one for one in found if abs(one.difference) > LIMIT and one.measured > 32 * PAGE] == []
    assert not refused


async def test_both_refuse_too_many_dimensions() -> None:
    refused: list[str] = []
    async with tables(10, 2001) as (engine, connection):
        await compare_table(engine, connection, 10, 2001, "vector")
        assert await compare_indexes(connection, 10, 2001, "vector", [16], refused) == []
        await compare_table(engine, connection, 10, 2001, "halfvec")
        assert len(await compare_indexes(connection, 10, 2001, "halfvec", [16], refused)) == 2
    assert len(refused) == 2


async def test_sizes_on_disk_name_the_parts() -> None:
    async with tables(300, 768) as (engine, connection):
        await connection.execute("CREATE INDEX ON source USING hnsw (embedding vector_l2_ops)")
        await connection.execute("CREATE INDEX ON source (id)")
        found = await sizes_on_disk(engine, "public.source")
        assert found.rows == 300
        assert list(found.parts) == ["table", "TOAST", "TOAST's index", "source_embedding_idx"]
        assert found.index == found.parts["source_embedding_idx"] > 0
        with pytest.raises(CourseError, match="no table 'nothing'"):
            await sizes_on_disk(engine, "nothing")
        with pytest.raises(CourseError, match="no table 'source_embedding_idx'"):
            await sizes_on_disk(engine, "source_embedding_idx")


def test_sizes_are_a_table_in_words_and_in_html() -> None:
    sizes = Sizes(1000, {"table": 57 * 1024, "TOAST": 0}) + Sizes(1000, {"index": 8192 * 1000})
    assert str(sizes).splitlines() == [
        "part      size     bytes a row",
        "────────  ───────  ───────────",
        "table     57.0 KB           58",
        "index     7.8 MB          8192",
        "together  7.9 MB          8250",
    ]
    assert "8250" in sizes._repr_html_() and "TOAST" not in sizes._repr_html_()
    assert "together" not in str(Sizes(1, {"index": 8192}))
    with pytest.raises(ValueError, match="no sum"):
        Sizes(1, {}) + Sizes(2, {})


def test_bytes_are_written_as_pg_size_pretty_does() -> None:
    assert [size_text(size) for size in (0, 8192, 130 * 2**20, 1.5 * GB)] == ["0 bytes", "8.0 KB", "130 MB", "1.5 GB"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: index_size(10, 3072), "An HNSW index of vector takes 2,000 dimensions at most"),
        (lambda: index_size(10, 3072, method="ivfflat"), "halfvec up to 4,000"),
        (lambda: index_size(10, 65_000, "bit"), "none takes so many"),
        (lambda: table_size(10, 17_000), "A column of vector takes 16,000 dimensions at most"),
        (lambda: table_size(10, 768, other=3000), "go to TOAST too"),
        (lambda: table_size(10, 8, "int8"), "'int8' is no type"),
        (lambda: table_size(-1, 8), "There cannot be -1 rows"),
        (lambda: index_size(10, 8, method="btree"), "no index 'btree'"),
        (lambda: index_size(10, 8, m=1), "an m from 2 to 100"),
        (lambda: index_size(10, 8, lists=40_000), "lists = 40000"),
        (lambda: bytes_and_recall({}), "no way to draw"),
    ],
)
def test_what_cannot_be_is_said(call: object, sentence: str) -> None:
    with pytest.raises(CourseError, match=sentence):
        call()  # type: ignore[operator]


def test_the_steps_are_drawn_as_far_as_pgvector_indexes() -> None:
    picture = size_steps({"vector": {1536: 8197}})
    assert str(picture).startswith("An HNSW index, bytes for each row: calculated for vector, halfvec, bit with m = 16")
    assert "measured: vector" in str(picture)
    assert picture.png().startswith(b"\x89PNG")


def test_the_picture_of_recall_holds_no_number_in_its_text() -> None:
    picture = bytes_and_recall({"vector": (2_000_000, 0.991), "bit": (900_000, 0.62)})
    assert str(picture) == "Recall, and the bytes it takes: vector, bit"
    assert "recall 0.620" in picture.spoken
    assert picture.png().startswith(b"\x89PNG")


def test_a_page_is_drawn_with_all_its_bytes() -> None:
    for dimensions in (64, 768, 1024, 2000):
        for page in pages_of(8 + 4 * dimensions, 16):
            assert sum(size for _, size in page) == PAGE
    words = str(index_pages([768, 1024, 2000]))
    assert "768 dimensions: 2 rows" in words and "1,024 dimensions: 1 row," in words
    assert "…and a second: neighbours alone" in words
    with pytest.raises(CourseError, match="2,000 dimensions at most"):
        index_pages([3072])
