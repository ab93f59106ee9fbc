"""What traffic says in words. Behind each ``≈`` stands what this run measured; the rest is the same in every run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from course_lib.instruments.traffic.lanes import Session
    from course_lib.instruments.traffic.record import Lane, SeenStatement, Span
    from course_lib.instruments.traffic.traffic import Traffic


class Row(NamedTuple):
    """What is said of the workers of one name."""

    who: str
    requests: str
    longest: str
    before: str
    errors: str


HEAD = Row("who", "requests", "longest wait", "before the block", "errors")


def milliseconds(seconds: float) -> str:
    value = 1000 * seconds
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def rows(traffic: Traffic) -> Iterator[Row]:
    stuck = {lane.name for lane in traffic.record.lanes if lane.cut_off}
    for name, count in traffic.requests.items():
        longest = f"≈ {milliseconds(traffic.longest_wait[name])}"
        if name in stuck:
            longest += ", and it still waited when the block had ended"
        yield Row(name, f"≈ {count:,}", longest, f"≈ {milliseconds(traffic.baseline[name])}", errors(traffic, name))


def errors(traffic: Traffic, name: str) -> str:
    """``≈ 41 × NotNullViolation (23502)``, in the order of the codes."""
    counts = sorted(traffic.errors[name].items())
    return ", ".join(f"≈ {count:,} × {spoken_failure(traffic, code)}" for code, count in counts) or "none"


def spoken_failure(traffic: Traffic, code: str) -> str:
    name = traffic.record.failures.get(code, code)
    return name if name == code else f"{name} ({code})"


def headline(traffic: Traffic) -> str:
    return f"traffic on {traffic.table}"


def render_text(traffic: Traffic) -> str:
    """One line each. Not in columns: their width would be that of the numbers."""
    if not traffic.is_over:
        return f"{headline(traffic)}: the block has not ended"
    widest = max(map(len, traffic.requests))
    lines = [headline(traffic)]
    for who, requests, longest, before, failed in rows(traffic):
        facts = [f"requests {requests}", f"{HEAD.longest} {longest}", f"{HEAD.before} {before}", f"errors: {failed}"]
        lines.append(f"{who:<{widest}}  {' · '.join(facts)}")
    return "\n".join(lines)


def render_html(traffic: Traffic) -> str:
    if not traffic.is_over:
        return f"<p>{escape(render_text(traffic))}</p>"
    left = 'style="text-align:left"'
    head = "".join(f"<th {left}>{word}</th>" for word in HEAD)
    body = "".join(f"<tr>{''.join(f'<td {left}>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows(traffic))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<b>{escape(headline(traffic))}</b>{table}"


def lane_names(lanes: Sequence[Lane]) -> list[str]:
    """``reader``, or ``reader 1``, ``reader 2`` where there are several of one name."""
    names = [lane.name for lane in lanes]
    turns = [names[:place].count(name) + 1 for place, name in enumerate(names)]
    return [f"{name} {turn}" if names.count(name) > 1 else name for name, turn in zip(names, turns, strict=True)]


def session_names(sessions: Sequence[Session]) -> list[str]:
    numbers = itertools.count(1)
    return ["autovacuum" if session.is_autovacuum else f"session {next(numbers)}" for session in sessions]


def spoken_statement(repeats: Sequence[SeenStatement], longest: int = 400) -> str:
    """``ALTER TABLE … (14 times, 702 ms, of it 690 ms at locks)``, in at most ``longest`` characters."""
    facts = [f"{len(repeats)} times"] if len(repeats) > 1 else []
    facts.append(milliseconds(sum(one.seconds for one in repeats)))
    if waited := sum(one.waited for one in repeats):
        facts.append(f"of it {milliseconds(waited)} at locks")
    tail = f" ({', '.join(facts)})"
    text, room = repeats[0].text, longest - len(tail)
    return (text if len(text) <= room else text[: room - 1] + "…") + tail


def render_speech(
    traffic: Traffic, title: str, sessions: Sequence[Session], named: Sequence[Sequence[SeenStatement]]
) -> str:
    """The picture for whoever cannot see it, with its numbers."""
    parts = [f"{title}: the block took {milliseconds(traffic.seconds)}"]
    parts += [
        f"{row.who}: longest wait {row.longest[2:]}, before the block {row.before[2:]}, errors: {row.errors}"
        for row in rows(traffic)
    ]
    for name, session in zip(session_names(sessions), sessions, strict=True):
        locks = [spoken_lock(*row) for row in session.rows()]
        parts.append(f"{name}: {'; '.join(locks) or 'no lock on the table'}")
    parts += [f"statement {number}: {spoken_statement(group)}" for number, group in enumerate(named, start=1)]
    return ". ".join(parts)


def spoken_lock(mode: str, held: Sequence[Span], waited: Sequence[Span]) -> str:
    times = [("waited for", waited), ("held", held)]
    facts = [f"{word} {milliseconds(sum(e - b for b, e in spans))}" for word, spans in times if spans]
    return f"{mode} {', '.join(facts)}"
