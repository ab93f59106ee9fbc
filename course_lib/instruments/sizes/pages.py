"""Pages of a table: how many rows fit, when a value leaves the row, and what its chunks and their index take.

Sources: PostgreSQL's documentation, "Database Page Layout" (page header 24 bytes, item pointer 4, tuple header 23),
"TOAST" (four chunks a page, hence 1,996 bytes; a pointer of 18) and "Physical Storage: Free Space Map"; its headers
``bufpage.h``, ``heaptoast.h`` and ``varatt.h``.
"""

from __future__ import annotations

from heapq import heappop, heappush

PAGE = 8192
PAGE_HEADER, ITEM, TUPLE_HEADER = 24, 4, 24  # the tuple's 23 are rounded up to where its columns may begin
ROW_LIMIT = 2032  # of a row with its header; what is longer gives values to TOAST until it is not
CHUNK, CHUNK_HEADER, POINTER = 1996, 12, 18  # a chunk has its value's id, its number and a length beside it
LENGTH, SHORT_LENGTH, SHORT = 4, 1, 127  # what says how long a value is; up to 127 bytes in all the short one does
BTREE_SPECIAL, BTREE_FILL, BTREE_TUPLE = 16, 0.9, 16  # a header of 8, and a key of 8
LAID_OUT = 4_000  # rows, one by one; all others go on at their rate


def aligned(size: int, to: int = 8) -> int:
    """``size`` rounded up to where a tuple, or a column of type ``i`` with ``to=4``, may begin."""
    return -(-size // to) * to


def stored(value: int, begins: int) -> int:
    """Where a value of ``value`` bytes with its length of four ends in a row, if the column before ends at ``begins``.

    A short one has a length of one byte, and no alignment.
    """
    short = value - LENGTH + SHORT_LENGTH
    return begins + short if short <= SHORT else aligned(begins, 4) + value


class Heap:
    """Pages of a table as inserting fills them: the last page, else one that is known to have room, else a new one."""

    def __init__(self) -> None:
        self.pages = 0
        self._free = 0
        self._known: list[int] = []  # of pages that were left: minus their free bytes, most of them first

    def put(self, size: int) -> None:
        """A tuple of ``size`` bytes, at most what a page holds."""
        needed = aligned(size) + ITEM
        if needed > self._free:
            if self._free:
                heappush(self._known, -self._free)
            if self._known and -self._known[0] >= needed:
                self._free = -heappop(self._known)
            else:
                self.pages += 1
                self._free = PAGE - PAGE_HEADER
        self._free -= needed


def table_pages(rows: int, row: int) -> int:
    """Pages of ``rows`` rows that take ``row`` bytes each, header included."""
    return -(-rows // ((PAGE - PAGE_HEADER) // (aligned(row) + ITEM)))


def chunks(value: int) -> list[int]:
    """Sizes of the tuples in which TOAST keeps a value of ``value`` bytes; its length of four is not kept."""
    whole, rest = divmod(value - LENGTH, CHUNK)
    return [TUPLE_HEADER + CHUNK_HEADER + size for size in [CHUNK] * whole + [rest] * (rest > 0)]


def toast_pages(rows: int, value: int) -> int:
    """Pages of TOAST for a value of ``value`` bytes in each of ``rows`` rows.

    The chunks of the first rows are laid out one by one; more rows go on as the second half of these did.
    """
    heap, tuples, half = Heap(), chunks(value), 0
    for row in range(min(rows, LAID_OUT)):
        if row == LAID_OUT // 2:
            half = heap.pages
        for size in tuples:
            heap.put(size)
    more = max(0, rows - LAID_OUT)
    return heap.pages + round(more * (heap.pages - half) / (LAID_OUT // 2))


def btree_pages(entries: int) -> int:
    """Pages of a B-tree over rising keys of eight bytes: leaves 90% full, the levels above, and the first page."""
    each = int(BTREE_FILL * (PAGE - PAGE_HEADER - BTREE_SPECIAL)) // (BTREE_TUPLE + ITEM)
    pages, level = 1, entries
    while level:
        level = -(-level // each)
        pages += level
        if level == 1:
            break
    return pages
