"""The scene as a table for a terminal: a column per actor, a line or a few per step."""

from __future__ import annotations

from collections.abc import Sequence

from course_lib.instruments.stage.cells import Band, Row
from course_lib.instruments.stage.layout import Line, Sheet, lay_out

WIDTH = 100  # characters, at least for up to four actors
NARROWEST = 20
BANDS: dict[Band, str] = {"": " ", "open": "│", "waiting": "░", "failed": "╳"}
MEANINGS: dict[Band, str] = {
    "open": "transaction open", "waiting": "waits for a lock", "failed": "failed, the server has undone it",
}  # fmt: skip


def render_text(titles: Sequence[tuple[str, str]], rows: Sequence[Row]) -> str:
    """The scene of the actors ``titles`` (name, isolation level), the same in every run."""
    if not titles:
        return "an empty stage"
    room = max(NARROWEST, (WIDTH - 4) // len(titles) - 3)
    sheet = lay_out(rows, len(titles), room)
    names = [" · ".join(filter(None, title)) for title in titles]
    widths = [
        max([len(name), *(len(line.text) for line in sheet.lines if line.lane == lane)])
        for lane, name in enumerate(names)
    ]
    head = "   ".join(f"  {name:<{width}}" for name, width in zip(names, widths, strict=True))
    body = [_row(sheet, at, widths) for at in range(sheet.height)]
    seen = {band for bands in sheet.bands for band in bands}
    legend = "   ".join(f"{BANDS[band]} {words}" for band, words in MEANINGS.items() if band in seen)
    return "\n".join(line.rstrip() for line in ["     " + head, *body, *([f"     {legend}"] if legend else [])])


def render_speech(titles: Sequence[tuple[str, str]], rows: Sequence[Row]) -> str:
    """The scene for who listens, a sentence for each thing that happens: ``2 Bruno: goes on; → 40.``"""
    names = [f"{name} ({level})" if level else name for name, level in titles]
    happened = [
        f"{row.label} {names[cell.lane]}: {'; '.join(filter(None, (cell.head, *cell.details, cell.outcome)))}."
        for row in rows
        for cell in row.cells
    ]
    return " ".join([f"{' and '.join(names) or 'Nobody'}, step by step.", *happened])


def _row(sheet: Sheet, at: int, widths: Sequence[int]) -> str:
    texts = {line.lane: line for line in sheet.lines if line.at == at}
    lanes = [f"{_band(sheet, lane, at)} {_text(texts.get(lane)):<{width}}" for lane, width in enumerate(widths)]
    return f"{sheet.labels.get(at, ''):>3}  " + "   ".join(lanes)


def _band(sheet: Sheet, lane: int, at: int) -> str:
    band = sheet.bands[lane][at]
    return "└" if band == "open" and at in sheet.ends[lane] else BANDS[band]


def _text(line: Line | None) -> str:
    return line.text if line is not None else ""
