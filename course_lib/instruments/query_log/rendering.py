"""The log as text and as HTML. Both are made of the same lines, so they say the same thing.

Nothing here changes from run to run: no times, no ids.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from course_lib.instruments.query_log.fold import is_bulk
from course_lib.instruments.query_log.statement import Repeat, Statement, repeats_of
from course_lib.texts import LITERAL

LONGEST_CYCLE = 8  # statements that a loop may issue in turn and still be shown as one
SHOWN = 20  # lines; of longer logs the middle is left out
WIDTH = 92  # characters of SQL in one line of text
LONGEST = 3 * WIDTH

TABLE = "border-collapse:collapse;margin:.4em 0;font-family:var(--jp-code-font-family,monospace);font-size:.93em"
CELL = "text-align:left;vertical-align:top;padding:0 1em 0 .4em"
COUNT = "text-align:left;vertical-align:top;padding:0 .5em;white-space:nowrap"


@dataclass(frozen=True)
class Line:
    """One line of the log: ``times`` is the count of the group it begins, ``mark`` how it hangs in the group."""

    sql: str
    facts: str
    where: str
    times: int = 1
    mark: str = ""
    size: int = 1
    control: bool = False
    failed: bool = False
    repeated: bool = False


def plural(number: int, singular: str) -> str:
    return f"{number:,} {singular}" + ("" if number == 1 else "s")


def headline(entries: Sequence[Statement], transactions: int) -> str:
    """``51 statements, 1 transaction, 150 rows``."""
    statements = [entry for entry in entries if not entry.is_control]
    facts = [plural(len(statements), "statement"), plural(transactions, "transaction")]
    facts.append(plural(sum(statement.rows or 0 for statement in statements), "row"))
    failed = sum(entry.error is not None for entry in entries)
    return ", ".join(facts) + (f", {failed} failed" if failed else "")


def conclusion(repeats: Sequence[Repeat]) -> str:
    """The sentence that names an N+1, or nothing."""
    loops = [repeat for repeat in repeats if repeat.n_plus_one]
    if not loops:
        return ""
    most = max(loop.count for loop in loops)
    if len(loops) == 1:
        same = "line" if loops[0].where else "place"
        return f"One statement was issued {most} times from the same {same}: that is an N+1."
    return f"{len(loops)} statements were issued again and again, up to {most} times from one line: that is an N+1."


def lines_of(entries: Sequence[Statement]) -> Iterator[list[Line]]:
    """The lines, in groups that repeat as a whole."""
    loops = {(repeat.shape, repeat.where) for repeat in _repeats(entries) if repeat.n_plus_one}
    keys = [(entry.shape, is_bulk(entry.sql), entry.where, entry.error) for entry in entries]
    at = 0
    while at < len(entries):
        size, times = longest_cycle(keys, at)
        end = at + size * times
        group = [_line(entries[at + turn : end : size]) for turn in range(size)]
        yield [
            replace(
                line,
                times=times if turn == 0 else 0,
                mark=_mark(turn, size),
                size=size,
                repeated=(entries[at + turn].shape, entries[at + turn].where) in loops,
            )
            for turn, line in enumerate(group)
        ]
        at = end


def longest_cycle(keys: Sequence[object], at: int) -> tuple[int, int]:
    """Size and repetitions of the cycle that covers most from ``at`` on: ABABAB is 2 and 3, ABC is 1 and 1."""
    best = (1, 1)
    for size in range(1, LONGEST_CYCLE + 1):
        cycle, end = keys[at : at + size], at + size
        while len(cycle) == size and keys[end : end + size] == cycle:
            end += size
        times = (end - at) // size
        if times > 1 and size * times > best[0] * best[1]:
            best = (size, times)
    return best


def _repeats(entries: Sequence[Statement]) -> list[Repeat]:
    return repeats_of([entry for entry in entries if not entry.is_control])


def _mark(turn: int, size: int) -> str:
    if size == 1:
        return ""
    return "┌" if turn == 0 else "└" if turn == size - 1 else "│"


def _line(repeats: Sequence[Statement]) -> Line:
    first = repeats[0]
    alike = all(statement.line == first.line for statement in repeats)
    sql = first.line if alike else first.shape
    if len(sql) > LONGEST:
        sql = f"{sql[: LONGEST - 80]} … {sql[-77:]}"
    facts = []
    if any(statement.parameter_sets is not None for statement in repeats):
        facts.append("executemany of " + plural(sum(s.parameter_sets or 0 for s in repeats), "row"))
    elif any(statement.rows is not None for statement in repeats):
        facts.append(plural(sum(statement.rows or 0 for statement in repeats), "row"))
    if first.error:
        facts.append("✗ " + " ".join(filter(None, (first.error, first.sqlstate))))
    return Line(sql, ", ".join(facts), first.where or "", control=first.is_control, failed=first.error is not None)


def _shown(entries: Sequence[Statement]) -> tuple[list[list[Line]], int, list[list[Line]]]:
    """The groups before the cut, how many lines are cut, the groups after it."""
    groups = list(lines_of(entries))
    total = sum(map(len, groups))
    if total <= SHOWN:
        return groups, 0, []
    before, after = _first(groups, SHOWN * 2 // 3), _first(groups[::-1], SHOWN // 3)[::-1]
    return before, total - sum(map(len, before)) - sum(map(len, after)), after


def _first(groups: list[list[Line]], limit: int) -> list[list[Line]]:
    taken: list[list[Line]] = []
    for group in groups:
        if taken and sum(map(len, taken)) + len(group) > limit:
            break
        taken.append(group)
    return taken


def render_text(entries: Sequence[Statement], transactions: int) -> str:
    """The log for a terminal."""
    before, cut, after = _shown(entries)
    shown = [line for group in [*before, *after] for line in group]
    counts = max((len(f"{line.times:,}") + 3 for line in shown if line.times > 1), default=0)
    marks = 2 if any(line.mark for line in shown) else 0
    width = min(WIDTH, max((len(line.sql) for line in shown), default=0))
    facts = max((len(line.facts) for line in shown), default=0)
    layout = (counts, marks, width, facts)
    text = [headline(entries, transactions)]
    text += [part for group in before for line in group for part in _text_lines(line, *layout)]
    if cut:
        text.append(f"{'':{counts + marks}}  ⋮  {plural(cut, 'more line')}")
    text += [part for group in after for line in group for part in _text_lines(line, *layout)]
    text += [sentence] if (sentence := conclusion(_repeats(entries))) else []
    return "\n".join(text)


def _text_lines(line: Line, counts: int, marks: int, width: int, facts: int) -> Iterator[str]:
    times = f"{line.times:,} × " if line.times > 1 else ""
    first, *more = textwrap.wrap(line.sql, width, break_long_words=False, break_on_hyphens=False) or [""]
    yield f"  {times:>{counts}}{line.mark:<{marks}}{first:<{width}}   {line.facts:>{facts}}   {line.where}".rstrip()
    mark = "│" if line.mark in ("┌", "│") else ""
    for part in more:
        yield f"  {'':{counts}}{mark:<{marks}}  {part}"


def render_html(entries: Sequence[Statement], transactions: int) -> str:
    """The log for a notebook, in colours of the page it stands on. Styles are few: every output stores them."""
    before, cut, after = _shown(entries)
    body = [_html_row(line) for group in before for line in group]
    if cut:
        body.append(f'<tr style="background:none"><td></td><td style="{CELL}">⋮ {plural(cut, "more line")}</td></tr>')
    body += [_html_row(line) for group in after for line in group]
    sentence = conclusion(_repeats(entries))
    return (
        f"<b>{headline(entries, transactions)}</b>"
        + (f'<table {LITERAL} style="{TABLE}">{"".join(body)}</table>' if body else "")
        + (f"<b>{sentence}</b>" if sentence else "")
    )


def _html_row(line: Line) -> str:
    background = "rgba(230,159,0,.18)" if line.repeated else "rgba(213,94,0,.14)" if line.failed else "none"
    dim = ";opacity:.75" if line.control and not line.failed else ""
    styles = (CELL + dim, f"{CELL};white-space:nowrap{dim}", f"{CELL};white-space:nowrap{dim}")
    sql, facts, where = (escape(text, quote=False) for text in (line.sql, line.facts, line.where))
    texts = (sql, facts.replace(", ✗", ",<br>✗"), where)  # the error below, so that the statement has the width
    cells = [f'<td style="{style}">{text}</td>' for style, text in zip(styles, texts, strict=True)]
    if line.times:
        group = f' rowspan="{line.size}"' if line.size > 1 else ""
        border = ";border-right:2px solid rgba(127,127,127,.5)" if line.size > 1 else ""
        times = f"{line.times:,} ×" if line.times > 1 else ""
        cells.insert(0, f'<td{group} style="{COUNT}{border}">{times}</td>')
    return f'<tr style="background:{background}">{"".join(cells)}</tr>'
