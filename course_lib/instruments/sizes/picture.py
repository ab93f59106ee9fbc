"""Two pictures of bytes: how they rise with dimensions, in steps, and how much recall they buy."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter

from course_lib.errors import CourseError
from course_lib.instruments.pictures import COLOURS, FAINT, INK, INKS, LINE, PAPER, Picture, written
from course_lib.instruments.sizes.calculated import INDEXED, VALUES, Kind, index_size
from course_lib.instruments.sizes.found import size_text

WIDTH, HEIGHT, AXES_WIDTH = 8.6, 3.9, 7.8  # inches
LINE_OF_TEXT = 0.06  # of the height
ROWS, STEP = 2_000, 8  # that a point of the line is calculated for; dimensions from one point to the next
MOST = 3_200
MB = 2**20
KINDS: tuple[Kind, ...] = ("vector", "halfvec", "bit")
HALO = [withStroke(linewidth=3, foreground=PAPER)]


def size_steps(
    measured: Mapping[str, Mapping[int, float]] | None = None,
    title: str = "An HNSW index, bytes for each row",
    *,
    m: int = 16,
) -> Picture:
    """Calculated bytes a row of an HNSW index by dimensions, a line for each type, as far as pgvector indexes it.

    The dotted line is the payload of ``vector``: four bytes for each dimension.

    Args:
        measured: type to dots, each dimensions to bytes a row.
        m: of the index.
    """
    words = f"{title}: calculated for {', '.join(KINDS)} with m = {m}, up to {MOST:,} dimensions"
    picture, axes = _sheet(title, words + ("; measured: " + ", ".join(measured) if measured else ""))
    for kind, colour, ink in zip(KINDS, COLOURS, INKS, strict=False):
        places = range(STEP, min(MOST, INDEXED[kind]) + 1, STEP)
        heights = [index_size(ROWS, place, kind, m=m).per_row for place in places]
        axes.plot(places, heights, color=colour, linewidth=2, zorder=3)
        _name(axes, (places[-1], heights[-1]), kind, ink)
        dots = (measured or {}).get(kind, {})
        axes.scatter(list(dots), list(dots.values()), s=46, color=PAPER, edgecolor=ink, linewidth=2, zorder=4)
    payload = [VALUES["vector"](place) - VALUES["vector"](0) for place in (0, MOST)]
    axes.plot((0, MOST), payload, color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), zorder=2)
    _name(axes, (MOST, payload[1]), "4 × dimensions", INK)
    axes.set_xlim(0, MOST)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("dimensions", color=INK, size=9)
    axes.set_ylabel("bytes a row", color=INK, size=9)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.set_yticks(range(0, 16_385, 4_096))
    return picture


def bytes_and_recall(
    ways: Mapping[str, tuple[int, float]], title: str = "Recall, and the bytes it takes", *, target: float = 0.95
) -> Picture:
    """A dot for each way to keep the same vectors: bytes to the right, recall upwards. Its text holds no number.

    Args:
        ways: name to (bytes, recall).
        target: is drawn as a line.

    Raises:
        CourseError: there is nothing to draw.
    """
    if not ways:
        raise CourseError("There is no way to draw.", 'Try: bytes_and_recall({"vector": (2_000_000, 0.99)})')
    picture, axes = _sheet(title, f"{title}: {', '.join(ways)}")
    picture.spoken = f"{title}. " + ". ".join(
        f"{name}: {size_text(size)}, recall {recall:.3f}" for name, (size, recall) in ways.items()
    )
    axes.axhline(target, color=INKS[5], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for size, recall in ways.values():
        kept = recall >= target
        colour = COLOURS[0] if kept else COLOURS[5]
        axes.scatter(
            [size / MB], [recall], s=70, color=colour if kept else PAPER, edgecolor=colour, linewidth=2, zorder=3
        )
    axes.set_xlim(0, 1.28 * max(size for size, _ in ways.values()) / MB)
    low = min(target, *(recall for _, recall in ways.values()))
    axes.set_ylim(low - 0.1 * (1.02 - low), 1 + 0.12 * (1.02 - low))
    _name_dots(axes, ways, target)
    axes.set_xlabel("MB of table and index", color=INK, size=9)
    axes.set_ylabel("recall of the ten nearest", color=INK, size=9)
    return picture


def _sheet(title: str, description: str) -> tuple[Picture, Axes]:
    picture = Picture.sized(WIDTH, HEIGHT, description)
    axes = picture.add_subplot()
    axes.set_facecolor(PAPER)
    axes.tick_params(which="both", colors=FAINT, labelcolor=INK, labelsize=9, length=0)
    axes.grid(color=LINE, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, loc="left", color=INK, size=12, pad=10)
    return picture, axes


def _name_dots(axes: Axes, ways: Mapping[str, tuple[int, float]], target: float) -> None:
    """Each name beside its dot, or as many lines below as it takes to stand on nothing else."""
    (_, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    inch, line = right / AXES_WIDTH, LINE_OF_TEXT * (high - low)
    # of dots and names: left, right and middle
    taken = [(size / MB - 0.1 * inch, size / MB + 0.1 * inch, recall) for size, recall in ways.values()]
    for name, (size, recall) in sorted(ways.items(), key=lambda way: (-way[1][1], -way[1][0])):
        left = size / MB + 0.13 * inch
        wide, height = written(name, 9.5) * inch, recall
        while any(left < end and start < left + wide and abs(height - other) < line for start, end, other in taken):
            height -= line / 2
        taken.append((left, left + wide, height))
        ink = INKS[0] if recall >= target else INKS[5]
        if height < recall:
            axes.plot([size / MB, left], [recall, height], color=ink, linewidth=0.8, zorder=2)
        _name(axes, (left, height), name, ink, 0)


def _name(axes: Axes, at: tuple[float, float], words: str, ink: str, points: int = 8) -> None:
    axes.annotate(
        words, at, xytext=(points, 0), textcoords="offset points", color=ink, size=9.5, va="center", path_effects=HALO,
        annotation_clip=False, zorder=5,
    )  # fmt: skip
