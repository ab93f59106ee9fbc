"""``work/``: the learner's own copies of the notebooks, so that ``git pull`` never meets what the learner wrote."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.files import answering_for, put_aside, write_whole
from course_lib.judging.exercise import DRILL
from course_lib.notebooks.carrying import carry
from course_lib.notebooks.reading import at_work, digest, digest_of
from course_lib.settings import REPOSITORY, get_settings

if TYPE_CHECKING:
    import nbformat

SOURCES = {"notebooks": ".", "exercises": "exercises", "exercises/interview": "exercises/interview"}
"""Folders of the repository, and where their notebooks lie in ``work/``."""
NAMED = re.compile(rf"(\d\d|{DRILL.pattern})_.*\.ipynb", re.ASCII)

TIME = "%Y-%m-%d_%H-%M-%S_%f"
RECORD = TypeAdapter(dict[str, str])


@dataclass
class Workspace:
    """The learner's folder. Lessons are copied without outputs, so that a prediction comes before its answer."""

    folder: Path = field(default_factory=lambda: get_settings().work)
    repository: Path = REPOSITORY
    kept: list[Path] = field(default_factory=list)
    """Copies that differ from a newer original because the learner changed them; filled by ``prepare``."""
    remarks: list[str] = field(default_factory=list)
    """What else is to be said."""

    def prepare(self) -> list[Path]:
        """Copy what is missing, renew what the learner left as it was, and exercises with the answers in them.

        Returns what was written.

        Raises:
            CourseError: the folder cannot be written. What is in it is as it was, or whole and new.
        """
        with answering_for(self.folder, "COURSE_WORK"):
            return self._prepare()

    def _prepare(self) -> list[Path]:
        written = []
        record = self._record()
        before = dict(record)
        self.kept = []
        for original, copy in self._pairs():
            of_original, of_copy, known = digest(original), digest(copy), record.get(self._key(copy))
            there = os.path.lexists(copy)
            if there and (of_copy is None or of_copy not in (known, of_original)):
                if of_original == known:
                    continue
                if not (of_copy and known and self._carry(original, copy)):
                    self._keep_as_it_is(copy)
                    continue
                written.append(copy)
            elif not there or of_copy != of_original:
                write_whole(copy, _text(_clean(original)))
                written.append(copy)
            if of_original is not None:
                record[self._key(copy)] = of_original
        if record != before:
            self._write_record(record)
        return written

    def _keep_as_it_is(self, copy: Path) -> None:
        self.kept.append(copy)
        number = _number(copy)
        option = " --exercises" if number.isdigit() and copy.parent != self.folder else ""
        reset = command(f"reset {number}{option}")
        self.remarks.append(f"You changed {self.spoken(copy)}; there is a newer original. To take it: {reset}")

    def _carry(self, original: Path, copy: Path) -> bool:
        """Replace a book of exercises by its newer edition with the learner's answers, once the former is kept.

        False for a lesson, and where there is no answer: what was written there instead has no place to go to.
        Whoever is killed in between finds the one or the other, and the next time does the rest.
        """
        if copy.parent == self.folder:
            return False
        book = _clean(original)
        try:
            carried, homeless = carry(book, copy)
        except ValueError:
            return False
        if not carried + homeless:
            return False
        text = _text(book)
        if digest_of(text) != digest(copy):
            backup = self._keep(copy)
            write_whole(copy, text)
            self.remarks.append(self._carried(copy, backup, carried, homeless))
        return True

    def _carried(self, copy: Path, backup: Path, carried: list[str], homeless: list[str]) -> str:
        answers = f"your answers to {', '.join(carried)} are in it" if carried else "none of your answers fits it"
        gone = f" {', '.join(homeless)} is in it no more." if carried and homeless else ""
        return f"{self.spoken(copy)} is a newer edition; {answers}.{gone} The former is kept as {self.spoken(backup)}."

    def reset(self, number: str, exercises: bool = False) -> tuple[Path, Path | None]:
        """Replace the copy of a lesson, of its exercises, or of a drill (``"M4"``) by a fresh one.

        Returns:
            The copy, and where in ``work/backup/`` that is now which was there; None where it was as given.

        Raises:
            CourseError: no notebook has that number, or the folder cannot be written. Nothing is replaced before it
                has been kept.
        """
        wanted = number.strip().upper()
        exercises = exercises or DRILL.fullmatch(wanted) is not None
        pairs = [(original, copy) for original, copy in self._pairs() if (copy.parent != self.folder) == exercises]
        chosen = next((pair for pair in pairs if wanted and _number(pair[0]) == wanted.zfill(2)), None)
        if chosen is None:
            numbers = ", ".join(sorted({_number(original) for original, _ in pairs}))
            what = "There are no exercises of a lesson" if exercises else "There is no lesson"
            raise CourseError(f"{what} {number[:20]}.", f"Choose one of: {numbers}")
        original, copy = chosen
        with answering_for(self.folder, "COURSE_WORK"):
            record = self._record()
            backup = self._replace(original, copy)
            self._write_record(record | {self._key(copy): str(digest(original))})
        return copy, backup

    def _replace(self, original: Path, copy: Path) -> Path | None:
        """The fresh copy is written first, so that a full disk is met while the learner's is still in its place."""
        fresh = copy.with_name(f".{copy.name}.fresh")
        write_whole(fresh, _text(_clean(original)))
        try:
            changed = os.path.lexists(copy) and (digest(copy) is None or digest(copy) != digest(original))
            backup = self._keep(copy) if changed else None
            fresh.replace(copy)
            return backup
        finally:
            fresh.unlink(missing_ok=True)

    def _keep(self, copy: Path) -> Path:
        """Put a copy of it into the backup, by its place in ``work/`` and the time; what is no file is moved there."""
        backup = (self.folder / "backup" / self._key(copy)).with_name(f"{copy.stem}.{datetime.now():{TIME}}.ipynb")
        backup.parent.mkdir(parents=True, exist_ok=True)
        if not copy.is_file():
            shutil.move(copy, backup)
            return backup
        half = backup.with_name(f".{backup.name}")
        try:
            shutil.copy2(copy, half)
            half.replace(backup)
        finally:
            half.unlink(missing_ok=True)
        return backup

    def spoken(self, path: Path) -> str:
        """As a person finds it: from the repository on, if it lies there."""
        return str(path.relative_to(self.repository) if path.is_relative_to(self.repository) else path)

    def _pairs(self) -> list[tuple[Path, Path]]:
        return [
            (original, self.folder / place / original.name)
            for source, place in SOURCES.items()
            for original in sorted((self.repository / source).glob("*.ipynb"))
            if NAMED.fullmatch(original.name)
        ]

    def _key(self, copy: Path) -> str:
        return copy.relative_to(self.folder).as_posix()

    def _record(self) -> dict[str, str]:
        """What each copy was made from, by its place in ``work/``: a digest of the original's cells."""
        place = self.folder / ".course.json"
        if not os.path.lexists(place):
            return {}
        if place.is_file():  # reading from a pipe would wait for ever
            with contextlib.suppress(ValueError):
                return RECORD.validate_json(place.read_bytes(), strict=True)
        aside = put_aside(place)
        self.remarks.append(f"{place} could not be understood. It is kept as {aside.name}, and a fresh one begun.")
        return {}

    def _write_record(self, record: dict[str, str]) -> None:
        write_whole(self.folder / ".course.json", json.dumps(record, indent=1, sort_keys=True))


def _number(notebook: Path) -> str:
    """``"02"`` of a lesson or its exercises, ``"M4"`` of a drill."""
    return notebook.name.partition("_")[0]


def _clean(original: Path) -> nbformat.NotebookNode:
    """The original without outputs, with links that lead where its copy will lie."""
    from course_lib.notebook_format import nbformat  # brings schemas, for those who copy

    try:
        notebook = nbformat.read(original, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        mend = f"Run: git checkout -- {original.parent.name}/{original.name}"
        raise CourseError(f"The original {original} cannot be read as a notebook.", mend) from error
    for cell in notebook.cells:
        cell.source = at_work(cell.source)
    from nbstripout import strip_output  # imports nbformat too, and would do it slowly

    stripped: nbformat.NotebookNode = strip_output(notebook, keep_output=False, keep_count=False, keep_id=True)
    return stripped


def _text(notebook: nbformat.NotebookNode) -> str:
    from course_lib.notebook_format import nbformat

    return f"{nbformat.writes(notebook)}\n"
