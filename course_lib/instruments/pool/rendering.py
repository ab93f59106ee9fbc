"""What a gauge says in words: counts only, so that the same code says the same in every run."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from course_lib.instruments.pool.gauge import PoolGauge


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def headline(gauge: PoolGauge) -> str:
    """``20 requests on a pool of 4``."""
    return f"{counted(gauge.requests, 'request')} on {gauge.pool}"


def lines(gauge: PoolGauge) -> list[str]:
    at_once = [f"{gauge.most_out:,} out"]
    if gauge.has_limit:
        at_once += [f"{gauge.most_overflow:,} of them overflow"] * bool(gauge.most_overflow)
        at_once += [f"{gauge.most_waiting:,} waiting"]
    work = [counted(gauge.checkouts, "checkout"), counted(gauge.statements, "statement")]
    work.append(counted(gauge.timeouts, "timeout"))
    return [headline(gauge), ", ".join(work), "at most at once: " + ", ".join(at_once), *leaks(gauge)]


def leaks(gauge: PoolGauge) -> list[str]:
    """A sentence for each kind of connection that did not come back by itself."""
    said = []
    if gauge.still_out:
        were = "was" if gauge.still_out == 1 else "were"
        when = "is out now" if gauge.is_open else f"{were} still out at the end"
        said.append(f"{counted(gauge.still_out, 'connection')} {when}")
    if gauge.lost:
        were = "was" if gauge.lost == 1 else "were"
        said.append(f"{counted(gauge.lost, 'connection')} {were} lost: garbage collected, never given back")
    return said


def render_text(gauge: PoolGauge) -> str:
    return "\n".join(lines(gauge))


def render_html(gauge: PoolGauge) -> str:
    first, *others = (escape(line) for line in lines(gauge))
    return f"<div><b>{first}</b>" + "".join(f"<br>{line}" for line in others) + "</div>"
