"""Sizes from the layout alone: nothing is created, nobody is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from course_lib.errors import CourseError
from course_lib.instruments.sizes.found import INDEX, TABLE, TOAST, TOAST_INDEX, Sizes
from course_lib.instruments.sizes.pages import (
    PAGE,
    POINTER,
    ROW_LIMIT,
    TUPLE_HEADER,
    btree_pages,
    chunks,
    stored,
    table_pages,
    toast_pages,
)
from course_lib.instruments.sizes.vector_indexes import hnsw_pages, ivfflat_pages

Kind = Literal["vector", "halfvec", "bit"]
Method = Literal["hnsw", "ivfflat"]

VALUES: dict[str, Callable[[int], int]] = {
    "vector": lambda dimensions: 8 + 4 * dimensions,
    "halfvec": lambda dimensions: 8 + 2 * dimensions,
    "bit": lambda dimensions: 8 + -(-dimensions // 8),
}
"""Bytes of a value with its header, by type."""
LONGEST = {"vector": 16_000, "halfvec": 16_000, "bit": 83_886_080}
INDEXED = {"vector": 2_000, "halfvec": 4_000, "bit": 64_000}
"""Dimensions that a column may have, and that an index takes, HNSW and IVFFlat alike (pgvector's README)."""
METHODS = {"hnsw": "HNSW", "ivfflat": "IVFFlat"}
LEAST_M, MOST_M, MOST_LISTS = 2, 100, 32_768
EIGHT = 8  # bytes of a bigint


def table_size(rows: int, dimensions: int, kind: Kind = "vector", *, other: int = EIGHT) -> Sizes:
    """Bytes of a table of ``rows`` rows with one column of vectors, freshly loaded: rows, TOAST and TOAST's index.

    On top of it come dead rows, other indexes, the maps of free space and visibility, which ``pg_table_size`` counts
    (32 KB and a little), and up to 64 empty pages that COPY and CREATE TABLE AS leave at the end, for more to come.

    Args:
        kind: ``vector``, ``halfvec`` or ``bit``.
        other: bytes of the columns before the vector, none of them NULL; 8 is a bigint, 16 a uuid.

    Raises:
        CourseError: no such column can be, or the other columns are so long that they would go to TOAST themselves.
    """
    value = _value(rows, dimensions, kind, LONGEST, "A column")
    inside = stored(value, TUPLE_HEADER + other)
    if inside <= ROW_LIMIT:
        empty = 0 if kind == "bit" else PAGE  # a column that can never be long has no TOAST
        return Sizes(rows, {TABLE: PAGE * table_pages(rows, inside), TOAST: 0, TOAST_INDEX: empty})
    if other >= value or TUPLE_HEADER + other + POINTER > ROW_LIMIT:
        raise CourseError(
            f"With {other:,} bytes in other columns, these go to TOAST too, compressed, and no layout knows how far.",
            "Load a few thousand real rows and look: sizes_on_disk(engine, table)",
        )
    table = table_pages(rows, TUPLE_HEADER + other + POINTER)
    toast, index = toast_pages(rows, value), btree_pages(rows * len(chunks(value)))
    return Sizes(rows, {TABLE: PAGE * table, TOAST: PAGE * toast, TOAST_INDEX: PAGE * index})


def index_size(
    rows: int, dimensions: int, kind: Kind = "vector", method: Method = "hnsw", *, m: int = 16, lists: int = 100
) -> Sizes:
    """Bytes of an index over ``rows`` different vectors; none was deleted or updated since.

    Whether HNSW is built in memory, by several workers, or grows by inserts, makes no difference to its size.
    An index over an expression is that of the expression's type: ``binary_quantize(embedding)::bit(1536)`` of ``bit``.
    ``ef_construction`` makes it slower to build, and no larger. Equal vectors may share an element of an HNSW
    graph, up to ten of them; NULLs, and zero vectors by cosine, are not in an index.

    Args:
        m: of HNSW. ``lists``: of IVFFlat.

    Raises:
        CourseError: pgvector makes no such index.
    """
    if method not in METHODS:
        raise CourseError(f"pgvector has no index {method!r}.", f"Choose of: {', '.join(METHODS)}")
    value = _value(rows, dimensions, kind, INDEXED, f"An {METHODS[method]} index")
    if not LEAST_M <= m <= MOST_M or not 1 <= lists <= MOST_LISTS:
        raise CourseError(
            f"HNSW takes an m from {LEAST_M} to {MOST_M}, IVFFlat from 1 to {MOST_LISTS:,} lists;"
            f" here are m = {m} and lists = {lists}.",
            "Leave them out for pgvector's defaults, 16 and 100.",
        )
    pages = hnsw_pages(rows, value, m) if method == "hnsw" else ivfflat_pages(rows, value, lists)
    return Sizes(rows, {INDEX: PAGE * pages})


def _value(rows: int, dimensions: int, kind: str, longest: dict[str, int], who: str) -> int:
    """Bytes of one value."""
    if kind not in VALUES:
        raise CourseError(f"{kind!r} is no type that is calculated here.", f"Choose of: {', '.join(VALUES)}")
    if rows < 0 or dimensions < 1:
        raise CourseError(f"There cannot be {rows} rows of {dimensions} dimensions.", "Count both from 1.")
    if dimensions > longest[kind]:
        others = [f"{name} up to {most:,}" for name, most in longest.items() if dimensions <= most]
        raise CourseError(
            f"{who} of {kind} takes {longest[kind]:,} dimensions at most, and these are {dimensions:,}.",
            f"Take fewer dimensions, or another type: {', '.join(others) or 'none takes so many'}.",
        )
    return VALUES[kind](dimensions)
