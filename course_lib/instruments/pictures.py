"""One look for all pictures: a light card that reads the same on a dark and on a light page."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any colour vision can tell apart (jfly.uni-koeln.de/color)
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A5BA6", "#6B6B6B"]
INK = "#22303C"
FAINT = "#8A97A3"
LINE = "#D9D6CE"
PAPER = "#FBFAF7"
DOTS_PER_INCH = 110


class Picture(Figure):
    """A figure that a notebook shows as PNG and a terminal as ``description``, which says the same in words."""

    description = "a picture"

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor=PAPER)
        return buffer.getvalue()

    def __repr__(self) -> str:
        return self.description

    __str__ = __repr__


def card(width: float, height: float, description: str) -> tuple[Picture, Axes]:
    """A picture of ``width`` x ``height`` inches with one bare axis. Unknown to pyplot, so nothing shows it twice."""
    picture = Picture(figsize=(width, height), facecolor=PAPER, layout="constrained")
    picture.description = description
    axes = picture.add_subplot()
    axes.set_facecolor(PAPER)
    axes.set_axis_off()
    return picture, axes
