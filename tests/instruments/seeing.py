"""What eyes make of colours and of pictures, computed: contrast, a dark page, deuteranopia, where letters stand."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from matplotlib.typing import ColorType
from numpy.typing import NDArray

from course_lib.instruments.pictures import NIGHT, PAPER, Picture

Colour = NDArray[np.float64]  # red, green and blue from 0 to 1

# G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency", IEEE TVCG 15 (2009), table 1: deuteranomaly of severity 1.0, on linear red, green and blue
DEUTERANOPIA = np.array([
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
])  # fmt: skip
# linear sRGB to CIE XYZ under D65 (IEC 61966-2-1); the middle row is WCAG's relative luminance
XYZ = np.array([
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip
WHITE = np.array([0.95047, 1.0, 1.08883])
LEAST_SHARE = 0.1  # of what lies behind a text, to count as its ground


def colour(name: ColorType) -> Colour:
    return np.array(to_rgb(name))


def linear(seen: Colour) -> Colour:
    return np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4)


def contrast(one: Colour, other: Colour) -> float:
    """From 1 to 21, as WCAG 2.2 defines it; 4.5 is what it asks of letters."""
    darker, lighter = sorted(float(XYZ[1] @ linear(seen)) for seen in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def at_night(seen: Colour) -> Colour:
    """What the filter of a dark page makes of a colour (W3C Filter Effects, ``invert`` and ``hue-rotate``)."""
    amount, degrees = NIGHT
    seen = np.clip(seen * (1 - 2 * amount) + amount, 0, 1)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    grey = np.array([0.213, 0.715, 0.072])
    turn = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    return np.clip((np.tile(grey, (3, 1)) + cosine * (np.eye(3) - grey) + sine * turn) @ seen, 0, 1)


def lab(light: Colour) -> Colour:
    """CIE L*a*b* of linear red, green and blue."""
    t = XYZ @ light / WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(one: Colour, other: Colour, *, deuteranope: bool) -> float:
    """CIE76: about 2 can just be seen between neighbours."""
    eye = DEUTERANOPIA if deuteranope else np.eye(3)
    first, second = (lab(np.clip(eye @ linear(seen), 0, 1)) for seen in (one, other))
    return float(np.linalg.norm(first - second))


class Seen:
    """A picture as it is drawn: where each text stands, and what lies behind it."""

    def __init__(self, picture: Picture) -> None:
        renderer = FigureCanvasAgg(picture).get_renderer()
        drawn: list[Text | None] = []
        renderer.draw_text = lambda *given, mtext=None, **_: drawn.append(mtext)  # type: ignore[method-assign]
        picture.draw(renderer)
        every = [text for text in picture.findobj(Text) if isinstance(text, Text)]
        self.haloed = {text for text in every if text.get_path_effects()}
        # matplotlib draws these as paths, or tells the renderer their lines only
        others = [text for text in every if text in self.haloed or "\n" in text.get_text()]
        self.ground = np.asarray(renderer.buffer_rgba())[..., :3] / 255
        self.width, self.height = renderer.width, renderer.height
        self.texts: dict[Text, Bbox] = {
            text: text.get_window_extent(renderer)
            for text in filter(None, [*drawn, *others])
            if text.get_text().strip()
        }

    def grounds(self, text: Text) -> list[Colour]:
        """The colours that take up a share of the place where a text stands."""
        if text in self.haloed:
            return [colour(PAPER)]
        box = self.texts[text]
        rows = slice(max(0, int(self.height - box.y1)), int(self.height - box.y0) + 1)
        place = self.ground[rows, max(0, int(box.x0)) : int(box.x1) + 1].reshape(-1, 3)
        colours, counts = np.unique(place.round(2), axis=0, return_counts=True)
        return list(colours[counts >= LEAST_SHARE * len(place)])

    def least_contrast(self, text: Text) -> float:
        """Of its letters with anything behind them, on a light page or on a dark one."""
        ink = colour(text.get_color())
        return min(
            contrast(page(ink), page(ground)) for ground in self.grounds(text) for page in (lambda seen: seen, at_night)
        )
