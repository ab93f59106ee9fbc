"""Pages of pgvector's indexes.

Sources: pgvector 0.8, ``hnsw.h`` (element and neighbour tuples, levels), ``hnswbuild.c`` (an element and its
neighbours lie on one page where a page can hold both), ``ivfflat.h`` and ``ivfbuild.c`` (a chain of pages for each
list), ``vector.h``, ``halfvec.h``, ``bitvec.c`` (the values); PostgreSQL's documentation, "Database Page Layout".
"""

from __future__ import annotations

from math import log
from random import Random

from course_lib.instruments.sizes.pages import ITEM, LAID_OUT, PAGE, PAGE_HEADER, aligned, stored

SPECIAL = 8  # at the end of a page: which one is next
ROOM = PAGE - PAGE_HEADER - SPECIAL
ELEMENT, NEIGHBOURS, TUPLE_ID = 72, 4, 6  # ten places of rows and that of the neighbours; a header; a place
LIST, INDEX_TUPLE = 8, 8  # first page and page to insert into; a row's place and a length
SEED = 10


def element_size(value: int) -> int:
    """Bytes of an element of an HNSW graph: where its rows are, where its neighbours are, and the value."""
    return aligned(ELEMENT + value)


def neighbours_size(level: int, m: int) -> int:
    """Bytes of its neighbours: 2 × m on level 0 and m on each above, room for all of them from the start."""
    return aligned(NEIGHBOURS + (level + 2) * m * TUPLE_ID)


def hnsw_pages(rows: int, value: int, m: int) -> int:
    """Pages of an HNSW index over ``rows`` different values: an element, then its neighbours, on the page that is open.

    One element in m has a level above 0, one in m² above 1. The levels of the first elements are drawn, always the
    same ones; more elements go on at the rate of these.
    """
    laid_out = min(rows, LAID_OUT)
    draw, element, pages, free = Random(SEED), element_size(value), 1, ROOM
    for _ in range(laid_out):
        level = int(-log(1 - draw.random()) / log(m))
        neighbours = neighbours_size(min(level, highest_level(m)), m)
        both = element + ITEM + neighbours + ITEM
        if free < (both if both <= ROOM else element + ITEM):
            pages, free = pages + 1, ROOM
        free -= element + ITEM
        if free < neighbours + ITEM:
            pages, free = pages + 1, ROOM
        free -= neighbours + ITEM
    return 1 + (round(pages * rows / laid_out) if rows else 1)


def highest_level(m: int) -> int:
    """The level above which the neighbours would not fit a page."""
    return min((ROOM - NEIGHBOURS - ITEM) // TUPLE_ID // m - 2, 255)


def ivfflat_pages(rows: int, value: int, lists: int) -> int:
    """Pages of an IVFFlat index: the centres, and for each list pages of its own, the last of them half full.

    How many rows a list has depends on the data; that lists end anywhere on a page is what is assumed.
    """
    centre = aligned(LIST + value) + ITEM
    entry = aligned(stored(value, INDEX_TUPLE)) + ITEM
    of_centres, of_entries = ROOM // centre, ROOM // entry
    ends = lists * (1 - 1 / of_entries) / 2
    return 1 + -(-lists // of_centres) + max(lists, round(rows / of_entries + ends))
