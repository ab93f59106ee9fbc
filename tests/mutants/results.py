"""What became of all mutants: kept in a file while a run goes on, and counted by exercise."""

from __future__ import annotations

import json
import random
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from course_lib.exercises.manifest import find_exercise
from course_lib.settings import REPOSITORY
from tests.mutants.judge import Outcome
from tests.mutants.mutate import Mutant, find_mutant

FOLDER = REPOSITORY / "bench-results" / "mutants"
EQUAL = Path(__file__).with_name("equal.toml")
SAMPLE = Path(__file__).with_name("sample.txt")
SOON = 1.0  # seconds
BY_CHANCE = ("no verdict", "never ended", "ended the process", "endless", "does not load", "raised")


@dataclass(frozen=True)
class Result:
    """One mutant and what became of it."""

    key: str
    exercise: str
    line: int
    source: str
    """A digest of the mutant's source: another one is another mutant."""
    seconds: float
    outcome: Outcome

    @property
    def answer(self) -> str:
        """The name of the right answer it was made from."""
        return self.key.split(" · ")[1]

    @property
    def operator(self) -> str:
        """The kind of mistake."""
        return self.key.split(" · ")[2]

    @property
    def state(self) -> str:
        """``killed``, ``equal`` or ``gap``."""
        return "killed" if self.outcome.killed else "equal" if why_equal(self.key) else "gap"


def in_order(exercise: str) -> tuple[int, ...]:
    """What to sort exercises by: 1.10 comes behind 1.9."""
    return tuple(map(int, exercise.split(".")))


def digest(mutant: Mutant) -> str:
    """A digest of the mutant's source."""
    return sha256(mutant.source.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Equal:
    """A reason why certain mutants of some exercises behave as the right answer does."""

    exercises: tuple[str, ...]
    operator: str
    changes: tuple[str, ...]
    """Each the whole change, ``old → new``, or a part of it that means no other."""
    reason: str
    answers: tuple[str, ...] = ()
    """Only in these right answers; in all, where none is named."""
    but: tuple[str, ...] = ()
    """Exercises for which it does not hold, where ``exercises`` is all of them."""

    def means(self, key: str) -> bool:
        """Whether the mutant called ``key`` is one of them."""
        exercise, answer, operator, change = key.split(" · ", 3)
        return (
            (exercise in self.exercises or (self.exercises == ("all",) and exercise not in self.but))
            and operator == self.operator
            and (not self.answers or answer in self.answers)
            and any(part == change if " → " in part else part in change for part in self.changes)
        )


@cache
def equal_ones() -> tuple[Equal, ...]:
    """All reasons that are listed."""
    listed = tomllib.loads(EQUAL.read_text(encoding="utf-8"))["equal"]
    return tuple(
        Equal(**{name: value if isinstance(value, str) else tuple(value) for name, value in one.items()})
        for one in listed
    )


@cache
def why_equal(key: str) -> str:
    """Why the mutant called ``key`` behaves as the right answer does; empty where it is not listed."""
    return next((one.reason for one in equal_ones() if one.means(key)), "")


class Record:
    """The results of one lesson, one in a line, in a file that a stopped run can be taken up from."""

    def __init__(self, lesson: str, folder: Path = FOLDER) -> None:
        self.path = folder / f"lesson_{lesson}.jsonl"

    def read(self) -> dict[str, Result]:
        """What is known by now, by key; the last word on each."""
        if not self.path.exists():
            return {}
        lines = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return {line["key"]: Result(**{**line, "outcome": Outcome(**line["outcome"])}) for line in lines}

    def add(self, result: Result) -> None:
        """Keep one result."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")

    def forget(self, which: Callable[[Result], bool]) -> None:
        """Begin anew with those that ``which`` is true of."""
        kept = [result for result in self.read().values() if not which(result)]
        self.path.unlink(missing_ok=True)
        for result in kept:
            self.add(result)


def table(results: Iterable[Result]) -> Iterator[str]:
    """Lines of a table: for each exercise its mutants, what became of them, and the score."""
    rows: dict[str, dict[str, int]] = {}
    for result in results:
        row = rows.setdefault(result.exercise, {"killed": 0, "equal": 0, "gap": 0})
        row[result.state] += 1
    yield f"{'exercise':<40} {'mutants':>8} {'killed':>7} {'equal':>6} {'gaps':>5} {'score':>7}"
    total = {"killed": 0, "equal": 0, "gap": 0}
    for exercise in sorted(rows, key=in_order):
        yield _row(f"{exercise} {find_exercise(exercise).title}", rows[exercise])
        total = {name: total[name] + number for name, number in rows[exercise].items()}
    yield _row("all", total)


def _row(title: str, counts: dict[str, int]) -> str:
    every = sum(counts.values())
    score = counts["killed"] / max(every - counts["equal"], 1)
    numbers = f"{every:>8} {counts['killed']:>7} {counts['equal']:>6} {counts['gap']:>5}"
    return f"{title[:40]:<40} {numbers} {score:>7.1%}"


def gaps(results: Iterable[Result]) -> Iterator[str]:
    """A line for each mutant that passed and is not known to be equal."""
    for result in sorted(results, key=lambda result: (in_order(result.exercise), result.key)):
        if result.state == "gap":
            yield f"{result.key}   [line {result.line}]"


def choose_sample(results: list[Result], number: int, seed: int) -> list[str]:
    """Keys of mutants that are killed for a reason of their own, soon if possible, of all exercises and kinds."""
    fit = [one for one in results if one.outcome.killed and one.outcome.mistake not in BY_CHANCE]
    random.Random(seed).shuffle(fit)
    taken: list[Result] = []
    used: Counter[str] = Counter()
    while fit and len(taken) < number:
        best = min(fit, key=lambda one: (used[one.exercise], one.seconds > SOON, used[one.operator]))
        fit.remove(best)
        if find_mutant(best.key) is not None:  # the answer may have been changed since
            taken.append(best)
            used.update((best.exercise, best.operator))
    return [one.key for one in sorted(taken, key=lambda one: (in_order(one.exercise), one.key))]
