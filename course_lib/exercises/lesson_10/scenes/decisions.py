"""What was measured of several options, what a product needs, and which options the numbers speak for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from secrets import randbits
from typing import NamedTuple

REACH = 10  # times the rows it was measured with: so far a number says something, as the statement of 10.7 has it
LARGEST = (100_000, 1_000_000)  # rows of the measurements
TEN_TIMES, BEYOND = [REACH * size for size in LARGEST], [int(1.05 * REACH * size) for size in LARGEST]
ROWS = (400_000, 900_000, *TEN_TIMES, *BEYOND, 2_000_000, 4_000_000, 8_000_000, 30_000_000)
ON_A_LIMIT = 0.5  # of the draws
NEAR = 0.04  # of a limit: no number lies so close to it, but for those that meet it exactly
DRAWS = 20_000
GROWS = "GB"

# Per row or for all, in the order of magnitude that the lesson and its bench measured for 1,536 dimensions; each task
# draws its own around them. Index: bytes by page. Disagreeing: after deletes with failures in between.
TYPICAL: dict[str, dict[str, float]] = {
    "pgvector": {"index GB": 8197, "recall": 0.98, "rows of 10": 9.9, "ms": 5.0, "disagreeing rows": 0},
    "pgvector halfvec": {"index GB": 4101, "recall": 0.97, "rows of 10": 9.9, "ms": 4.2, "disagreeing rows": 0},
    "pgvector bit, rescored": {"index GB": 508, "recall": 0.93, "rows of 10": 9.0, "ms": 3.0, "disagreeing rows": 0},
    "dedicated engine": {"index GB": 7600, "recall": 0.98, "rows of 10": 9.9, "ms": 0.9, "disagreeing rows": 11},
    "library in the process": {"index GB": 6400, "recall": 0.97, "rows of 10": 3.0, "ms": 0.4, "disagreeing rows": 60},
}
AT_LEAST = ("recall", "rows of 10")
PRODUCTS = (
    "search over contracts", "a shop's catalogue", "support answers", "chat memory", "code search", "medical notes",
    "a news archive", "a wiki of one team",
)  # fmt: skip


class Measurement(NamedTuple):
    """One row of the table: what ``option`` was on ``axis``, measured with so many ``rows``."""

    row: int
    option: str
    axis: str
    rows: int
    value: float


class Need(NamedTuple):
    """``at`` is ``"at most"`` or ``"at least"``; the limit itself is within."""

    axis: str
    at: str
    limit: float


class Product(NamedTuple):
    """``rows`` it will have, and what it needs."""

    name: str
    rows: int
    needs: tuple[Need, ...]


class Finding(NamedTuple):
    """What the table says of one option and one need: the row that counts and its number at the product's size.

    ``met`` is None where nobody has measured it, or only with too few rows.
    """

    need: Need
    row: Measurement | None
    number: float | None
    met: bool | None


@dataclass(frozen=True)
class Task:
    """A table and a product, and what each option comes to."""

    measured: tuple[Measurement, ...]
    product: Product
    findings: dict[str, tuple[Finding, ...]]

    @classmethod
    def of(cls, measured: list[Measurement], product: Product) -> Task:
        options = dict.fromkeys(row.option for row in measured)
        found = {option: tuple(look_up(measured, option, need, product.rows) for need in product.needs)
                 for option in options}  # fmt: skip
        return cls(tuple(measured), product, found)

    def state(self, option: str) -> str:
        """``meets``, ``fails`` by a number, or is ``open``: nothing speaks against it, and something is missing."""
        met = [finding.met for finding in self.findings[option]]
        return "fails" if False in met else "open" if None in met else "meets"

    def count(self, state: str) -> int:
        return sum(self.state(option) == state for option in self.findings)

    @property
    def clear(self) -> bool:
        """No number is so near to its limit that rounding would decide."""
        numbers = [(f.number, f.need.limit) for findings in self.findings.values() for f in findings]
        return all(n is None or n == limit or abs(n - limit) > NEAR * limit for n, limit in numbers)


def look_up(measured: list[Measurement], option: str, need: Need, rows: int) -> Finding:
    """The row with the most rows counts. GB grow with the rows; all else is known up to ``REACH`` times as many."""
    candidates = [row for row in measured if row.option == option and row.axis == need.axis]
    if not candidates:
        return Finding(need, None, None, None)
    row = max(candidates, key=lambda row: row.rows)
    if need.axis.endswith(GROWS):
        number = row.value * rows / row.rows
    elif rows > REACH * row.rows:
        return Finding(need, row, None, None)
    else:
        number = row.value
    return Finding(need, row, number, number <= need.limit if need.at == "at most" else number >= need.limit)


def tasks() -> list[Task]:
    """One for each way in which the numbers can decide, in an order by chance."""
    random = Random(randbits(64))
    found = [_draw_until(random, wanted) for wanted in WANTED]
    random.shuffle(found)
    return found


def _draw_until(random: Random, wanted: Callable[[Task], bool]) -> Task:
    for _ in range(DRAWS):
        task = _draw(random)
        if task.clear and wanted(task):
            return task
    raise RuntimeError(f"no task in {DRAWS} draws: {wanted.__name__}")


def _draw(random: Random) -> Task:
    options = random.sample(list(TYPICAL), random.choice((3, 4, 5)))
    axes = random.sample(list(TYPICAL["pgvector"]), random.choice((3, 4)))
    drawn: list[Measurement] = []
    for option in options:
        for axis in axes:
            sizes = [size for size in LARGEST if random.random() < 0.7]
            drawn += [Measurement(0, option, axis, size, _value(random, option, axis, size)) for size in sizes]
    random.shuffle(drawn)
    rows = random.choice(ROWS)
    needs = tuple(_need(random, axis, rows) for axis in axes)
    if random.random() < ON_A_LIMIT:
        drawn = _set_on_a_limit(random, drawn, needs)
    numbered = [row._replace(row=number) for number, row in enumerate(drawn, 10 + random.randrange(80))]
    return Task.of(numbered, Product(random.choice(PRODUCTS), rows, needs))


def _set_on_a_limit(random: Random, drawn: list[Measurement], needs: tuple[Need, ...]) -> list[Measurement]:
    """One number that no size changes is just what is needed."""
    need = random.choice(needs)
    fitting = [row for row in drawn if row.axis == need.axis and not need.axis.endswith(GROWS)]
    chosen = random.choice(fitting) if fitting else None
    return [row._replace(value=need.limit) if row is chosen else row for row in drawn]


def _value(random: Random, option: str, axis: str, size: int) -> float:
    typical = TYPICAL[option][axis]
    if axis.endswith(GROWS):
        return round(typical * size * random.uniform(0.97, 1.03) / 1e9, 3)
    if axis == "disagreeing rows":
        return round(typical * random.uniform(0.5, 1.5))
    if axis == "ms":
        return round(typical * random.uniform(0.6, 1.6) * (3 if size == LARGEST[1] else 1), 2)
    lost = (0.02, 0.05) if axis == "recall" else (0.3, 2.0)
    return round(typical - random.uniform(0, lost[size == LARGEST[1]]), 3)


def _need(random: Random, axis: str, rows: int) -> Need:
    if axis.endswith(GROWS):
        return Need(axis, "at most", float(random.choice((1, 2, 4, 8, 16, 24, 48))))
    limits = {"recall": (0.9, 0.93, 0.95), "rows of 10": (8.5, 9.0, 10.0), "ms": (2.0, 6.0, 15.0)}
    limit = float(random.choice(limits[axis])) if axis in limits else random.choice((0.0, 0.0, 20.0))
    return Need(axis, "at least" if axis in AT_LEAST else "at most", limit)


def one_meets(task: Task) -> bool:
    """And it is not the quickest."""
    if task.count("meets") != 1 or task.count("fails") < 2:
        return False
    quick = [row for row in task.measured if row.axis == "ms"]
    return bool(quick) and task.state(min(quick, key=lambda row: row.value).option) == "fails"


def two_meet(task: Task) -> bool:
    return task.count("meets") >= 2 and task.count("fails") >= 1


def one_is_missing(task: Task) -> bool:
    """Nobody has measured it at all."""
    holes = [f for o in task.findings for f in task.findings[o] if task.state(o) == "open" and f.met is None]
    return not task.count("meets") and task.count("fails") >= 1 and any(f.row is None for f in holes)


def one_is_too_small(task: Task) -> bool:
    """It was measured, with too few rows, and would be enough as it stands."""
    if task.count("meets") or not task.count("fails"):
        return False
    for option, findings in task.findings.items():
        holes = [f for f in findings if f.met is None]
        if task.state(option) == "open" and holes and all(f.row is not None and _as_it_stands(f) for f in holes):
            return True
    return False


def all_fail(task: Task) -> bool:
    return task.count("fails") == len(task.findings) and any(
        finding.met is None for findings in task.findings.values() for finding in findings
    )


def size_decides(task: Task) -> bool:
    """Some option fails by its GB alone, and would not if they did not grow with the rows."""
    for findings in task.findings.values():
        failed = [f for f in findings if f.met is False]
        others = [f.met for f in findings if f not in failed]
        if len(failed) == 1 and failed[0].need.axis.endswith(GROWS) and None not in others and _as_it_stands(failed[0]):
            return not task.count("meets")
    return False


def larger_one_decides(task: Task) -> bool:
    """Some option fails at its larger measurement alone, and the smaller one would be enough."""
    for option, findings in task.findings.items():
        failed = [f for f in findings if f.met is False]
        known = not any(f.met is None for f in findings)
        if len(failed) == 1 and known and failed[0].row and not failed[0].need.axis.endswith(GROWS):
            others = [
                row.value for row in task.measured
                if row.option == option and row.axis == failed[0].need.axis and row != failed[0].row
            ]  # fmt: skip
            if any(_within(failed[0].need, value) for value in others):
                return task.count("fails") == len(task.findings)
    return False


def at_most_exactly(task: Task) -> bool:
    return _exactly(task, "at most") and not task.count("open")


def at_least_exactly(task: Task) -> bool:
    return _exactly(task, "at least")


def _exactly(task: Task, at: str) -> bool:
    """The one that meets all needs meets one of them by its very limit."""
    return task.count("meets") == 1 and any(
        finding.number == finding.need.limit and finding.need.at == at
        for option, findings in task.findings.items() if task.state(option) == "meets" for finding in findings
    )  # fmt: skip


def known_to_ten_times(task: Task) -> bool:
    """The one that meets all needs was measured with just a tenth of the rows."""
    good = [findings for option, findings in task.findings.items() if task.state(option) == "meets"]
    return len(good) == 1 and any(times == REACH for times in _times(task, good[0]))


def unknown_just_beyond(task: Task) -> bool:
    """None meets all needs, and one would if ten times were a little more."""
    if task.count("meets"):
        return False
    for option, findings in task.findings.items():
        holes = [f for f in findings if f.met is None]
        if task.state(option) == "open" and all(_as_it_stands(f) for f in holes):
            return all(times < 1.1 * REACH for times in _times(task, holes))
    return False


def _times(task: Task, findings: Sequence[Finding]) -> list[float]:
    """How many times the rows of a measurement the product has, of those that do not grow with them."""
    return [task.product.rows / f.row.rows for f in findings if f.row and not f.need.axis.endswith(GROWS)]


def _as_it_stands(finding: Finding) -> bool:
    return finding.row is not None and _within(finding.need, finding.row.value)


def _within(need: Need, value: float) -> bool:
    return value <= need.limit if need.at == "at most" else value >= need.limit


WANTED: tuple[Callable[[Task], bool], ...] = (
    one_meets, two_meet, one_is_missing, one_is_too_small, all_fail, size_decides, larger_one_decides,
    at_most_exactly, at_least_exactly, known_to_ten_times, unknown_just_beyond,
)  # fmt: skip
