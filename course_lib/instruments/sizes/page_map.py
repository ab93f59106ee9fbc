"""What lies on a page of an HNSW index, to scale."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from course_lib.instruments.pictures import COLOURS, INK, LINE, PAPER, SOFT, Picture, card
from course_lib.instruments.sizes.calculated import VALUES, Kind, index_size
from course_lib.instruments.sizes.pages import ITEM, PAGE
from course_lib.instruments.sizes.vector_indexes import ROOM, element_size, neighbours_size

WIDTH, ROW = 8.6, 0.46  # inches
LEFT = 0.2  # of the page's width, for the names
NARROW = 700  # bytes, in which no word fits

Piece = tuple[str, int]  # what it is, and its bytes


def index_pages(
    dimensions: Sequence[int], title: str = "A page of an HNSW index", *, kind: Kind = "vector", m: int = 16
) -> Picture:
    """A page for each number of dimensions: elements, their neighbours, and what stays free; to scale.

    It is drawn for elements of level 0, as fifteen of sixteen are with ``m`` 16.

    Args:
        kind: ``vector``, ``halfvec`` or ``bit``.

    Raises:
        CourseError: pgvector makes no such index.
    """
    lines: list[tuple[str, list[Piece]]] = []
    for each in dimensions:
        index_size(1, each, kind, m=m)  # or refuses
        pages = pages_of(VALUES[kind](each), m)
        lines += [(f"{each:,} dimensions" if at == 0 else "…and a second", page) for at, page in enumerate(pages)]
    words = "; ".join(f"{name}: {_in_words(page)}" for name, page in lines)
    picture, axes = card(WIDTH, ROW * len(lines) + 0.95, f"{title}: {words}")
    for row, (name, page) in enumerate(lines):
        axes.text(-0.015 * PAGE, row, name, ha="right", va="center", size=10, color=INK)
        _draw_page(axes, row, page)
    axes.text(0, len(lines) - 0.35, f"{PAGE:,} bytes", ha="left", va="top", size=9, color=SOFT)
    axes.set_xlim(-LEFT * PAGE, 1.02 * PAGE)
    axes.set_ylim(len(lines) - 0.1, -0.6)
    axes.set_title(title, loc="left", color=INK, size=12, pad=10)
    return picture


def pages_of(value: int, m: int) -> list[list[Piece]]:
    """The pieces of one page, header first; of two where an element and its neighbours do not fit one."""
    element, neighbours = element_size(value) + ITEM, neighbours_size(0, m) + ITEM
    header = ("header", PAGE - ROOM)
    if element + neighbours > ROOM:
        first, second = ("element", element), ("neighbours", neighbours)
        return [[header, first, ("free", ROOM - element)], [header, second, ("free", ROOM - neighbours)]]
    count = ROOM // (element + neighbours)
    pairs = [("element", element), ("neighbours", neighbours)] * count
    return [[header, *pairs, ("free", ROOM - count * (element + neighbours))]]


def _in_words(page: Sequence[Piece]) -> str:
    elements = sum(name == "element" for name, _ in page)
    rows = "neighbours alone" if not elements else f"{elements} row" + ("" if elements == 1 else "s")
    return f"{rows}, {dict(page)['free']:,} bytes free"


def _draw_page(axes: Axes, row: int, page: Sequence[Piece]) -> None:
    fills = {"header": SOFT, "element": COLOURS[0], "neighbours": COLOURS[1], "free": PAPER}
    left = 0
    for name, size in page:
        axes.barh(row, size, left=left, height=0.66, color=fills[name], edgecolor=PAPER if name != "free" else LINE)
        if size >= NARROW and name != "header":
            ink = INK if name == "free" else "white"
            words = f"{size:,} free" if name == "free" else f"vector, {size:,}"
            axes.text(left + size / 2, row, words, ha="center", va="center", size=9, color=ink)
        left += size
