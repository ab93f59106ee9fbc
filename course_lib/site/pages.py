"""Which pages the site has, in order, and from which files of the repository each is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from course_lib.exercises.book import SOLUTIONS, sheet_name
from course_lib.exercises.manifest import drills, find_exercise
from course_lib.judging.exercise import Drill
from course_lib.settings import REPOSITORY

LEVELS = {"junior": "Repair drills: junior", "mid": "Repair drills: mid", "senior": "Repair drills: senior"}
BESIDE = {"notebooks/TEACHING.md": "Teaching", "CONTRIBUTING.md": "Contributing", "CHANGELOG.md": "Changes"}
"""Pages that stand where the repository has the file."""
QUESTIONS = "questions.md"


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        name: its path on the site, with the ending of its source; that of the file in the repository it stands for.
        source: the file that it is made from.
        prefix: what begins the labels of its anchors, which are one name space over all pages. Digits, since docutils
            leaves these out of the anchor itself.
    """

    name: str
    source: Path
    prefix: str

    @property
    def document(self) -> str:
        """Its name in Sphinx."""
        return self.name.rpartition(".")[0]

    def label(self, cell: str) -> str:
        """What Sphinx calls the place of a cell."""
        return f"{self.prefix}-{cell}".lower()


@cache
def lessons() -> tuple[Page, ...]:
    """Lessons in order."""
    return tuple(Page(f"notebooks/{path.name}", path, f"1-{path.name[:2]}") for path in _notebooks("notebooks"))


@cache
def exercises() -> tuple[Page, ...]:
    """Exercises in order, made from their solutions."""
    return tuple(Page(f"exercises/{path.name}", path, f"2-{path.name[:2]}") for path in _notebooks("solutions"))


@cache
def drill_books() -> tuple[Page, ...]:
    """Drills by level."""
    folder = SOLUTIONS / "interview"
    return tuple(
        Page(f"exercises/interview/{level}.ipynb", folder / f"{level}.ipynb", f"3-{number}")
        for number, level in enumerate(LEVELS)
    )


@cache
def beside() -> tuple[Page, ...]:
    """What else of the repository is worth reading, where it is there."""
    found = [name for name in BESIDE if (REPOSITORY / name).exists()]
    return tuple(Page(name, REPOSITORY / name, f"4-{number}") for number, name in enumerate(found))


def front() -> Page:
    """The README."""
    return Page("index.md", REPOSITORY / "README.md", "0-0")


def pages() -> Iterator[Page]:
    """All that have a file of the repository behind them."""
    yield front()
    yield from (*lessons(), *exercises(), *drill_books(), *beside())


@cache
def places() -> dict[str, str]:
    """Where a file of the repository is read on the site: a page's name, or ``#`` and a label."""
    found = {page.name: page.name for page in pages()} | {"README.md": "index.md"}
    return found | {f"exercises/interview/{sheet_name(drill)}": f"#{exercise_label(drill.id)}" for drill in drills()}


def exercise_label(id: str) -> str:
    """The place of exercise ``"2.3"``, or of drill ``"M4"``."""
    exercise = find_exercise(id)
    books = drill_books() if isinstance(exercise, Drill) else exercises()
    book = next(page for page in books if page.source.match(exercise.book))
    return book.label(f"statement-{exercise.place}")


def _notebooks(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).glob("*.ipynb"))
