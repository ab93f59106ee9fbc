"""One look for all pictures: a calm light card, sharp on any screen, dark where JupyterLab is, and told in words."""

from __future__ import annotations

import io
from base64 import b64encode
from functools import lru_cache
from html import escape
from typing import Any, Self

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from PIL import Image

from course_lib.errors import CourseError

# For areas and dots: told apart by deuteranopes, too, on a light page and on a dark one, the first six best of all
COLOURS = ["#0072B2", "#E69F00", "#5BA37D", "#7A1F5C", "#62BCEC", "#A83A00", "#2B2F77", "#6B6B6B"]
# The same hues for letters and thin lines: a contrast of 4.5 or more, on a tint of themselves, too
INKS = ["#005F96", "#7D5600", "#1F6B47", "#7A1F5C", "#1B6585", "#A83A00", "#2B2F77", "#565656"]
INK = "#22303C"
SOFT = "#52606D"  # quieter than ink, and still read at eight points
FAINT = "#7D8A96"  # for lines, never for letters
LINE = "#D3D7DB"
PAPER = "#F1F3F5"
MARGIN = 0.1  # inches
DOTS_PER_INCH = 110  # as displayed
SHARPNESS = 2  # dots drawn for each one displayed, for screens that have them
SANS = "DejaVu Sans"
SHADES = 128  # colours kept in a file: letters stay smooth, and it takes a quarter of the space

NIGHT = (0.92, 180)  # how far a dark page inverts a picture, and how far it then turns the hues back, in degrees
STYLE = (
    '<style>[data-jp-theme-light="false"] .course-picture'
    f"{{filter:invert({NIGHT[0]}) hue-rotate({NIGHT[1]}deg)}}</style>"
)


class Picture(Figure):
    """A figure that a notebook shows as an image and a terminal as ``description``, which says the same in words.

    Attributes:
        description: what a terminal shows, and a notebook compares: the same in every run.
        spoken: what a screen reader says in place of the picture, numbers included; else ``description``.
    """

    description = "a picture"
    spoken = ""

    @classmethod
    def sized(cls, width: float, height: float, description: str) -> Self:
        """An empty one of ``width`` x ``height`` inches. Unknown to pyplot, so nothing shows it twice."""
        picture = cls(figsize=(width, height), facecolor=PAPER)
        picture.set_layout_engine("constrained", w_pad=MARGIN, h_pad=MARGIN)
        picture.description = description
        return picture

    @property
    def alt(self) -> str:
        return self.spoken or "; ".join(self.description.splitlines())

    def png(self) -> bytes:
        """The picture with ``SHARPNESS`` times ``DOTS_PER_INCH`` dots to the inch."""
        drawn, stored = io.BytesIO(), io.BytesIO()
        dots = SHARPNESS * DOTS_PER_INCH
        self.savefig(drawn, format="rgba", dpi=dots, facecolor=PAPER)
        width, height = (int(inches * dots) for inches in self.get_size_inches())
        image = Image.frombytes("RGBA", (width, height), drawn.getvalue()).convert("RGB")
        image.quantize(SHADES, dither=Image.Dither.NONE).save(stored, format="png", optimize=True)
        return stored.getvalue()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """PNG, and HTML around it, since JupyterLab and its exports take alternative text from HTML alone."""
        png = self.png()
        width, height = (round(inches * DOTS_PER_INCH) for inches in self.get_size_inches())
        bundle: dict[str, Any] = {"image/png": png}
        if _html_is_wanted():
            source = f"data:image/png;base64,{b64encode(png).decode('ascii')}"
            image = f'<img class="course-picture" alt="{escape(self.alt)}" width="{width}" src="{source}">'
            bundle["text/html"] = STYLE + image
        return bundle, {"image/png": {"width": width, "height": height, "alt": self.alt}}

    def __repr__(self) -> str:
        return self.description

    __str__ = __repr__


def _html_is_wanted() -> bool:
    try:
        from course_lib.settings import get_settings

        return get_settings().html_pictures
    except (ImportError, CourseError):  # in a project that has not its libraries, or other uses for its variables
        return True


def card(width: float, height: float, description: str) -> tuple[Picture, Axes]:
    """A picture of ``width`` x ``height`` inches with one bare axis."""
    picture = Picture.sized(width, height, description)
    axes = picture.add_subplot()
    axes.set_facecolor(PAPER)
    axes.set_axis_off()
    return picture, axes


@lru_cache(4096)
def written(text: str, size: float, weight: str = "normal") -> float:
    """Inches of a text in the sans-serif letters, ``size`` in points."""
    if not text.strip():
        return 0.0
    shape = TextPath((0, 0), text.replace("$", r"\$"), size=size, prop=FontProperties(family=SANS, weight=weight))
    return float(shape.vertices[:, 0].max()) / 72  # the curves of letters reach no further than what bends them


def fitted(text: str, size: float, inches: float, weight: str = "normal") -> str:
    """The text, or as much of it as ``inches`` have room for, and an ellipsis."""
    if written(text, size, weight) <= inches:
        return text
    kept = text
    while kept and written(f"{kept}…", size, weight) > inches:
        kept = kept[:-1]
    return f"{kept}…"
