"""``work/``: the learner's own copies of the notebooks, so that ``git pull`` never meets what the learner wrote."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.files import answering_for, put_aside, write_whole
from course_lib.judging.exercise import DRILL
from course_lib.notebooks.carrying import carry
from course_lib.notebooks.given import as_given, text_of
from course_lib.notebooks.reading import digest, digest_of
from course_lib.settings import REPOSITORY, get_settings

SOURCES = {"notebooks": ".", "exercises": "exercises", "exercises/interview": "exercises/interview"}
"""Folders of the repository, and where their notebooks lie in ``work/``."""
NAMED = re.compile(rf"(\d\d|{DRILL.pattern})_.*\.ipynb", re.ASCII)

TIME = "%Y-%m-%d_%H-%M-%S_%f"
RECORD = ".course.json"
DIGESTS = TypeAdapter(dict[str, str])
NAMED_AT_MOST = 4


class State(StrEnum):
    """How a copy stands to its original, and what ``prepare`` does about it."""

    MISSING = "is not there: it is copied"
    LEFT = "is older, and you left it as it was: it is renewed"
    ANSWERED = "is older: your answers are put into the newer one, and yours is kept"
    CHANGED = "is older, and you changed it; the newer one is put beside it once"
    YOURS = "was changed by you, and there is none that is newer"
    CURRENT = "is the newest"

    @property
    def is_older(self) -> bool:
        return self not in (State.YOURS, State.CURRENT)


@dataclass
class Workspace:
    """The learner's folder. Lessons are copied without outputs, so that a prediction comes before its answer."""

    folder: Path = field(default_factory=lambda: get_settings().work)
    repository: Path = REPOSITORY
    kept: list[Path] = field(default_factory=list)
    """Copies that differ from a newer original because the learner changed them; filled by ``prepare``."""
    renewed: list[Path] = field(default_factory=list)
    """Copies that are newer now, as the learner had left them as they were; filled by ``prepare``."""
    remarks: list[str] = field(default_factory=list)
    """What else is to be said."""

    def states(self) -> list[tuple[Path, State]]:
        """Every copy and how it stands. Nothing is written."""
        record = self._read_record() or {}
        return [(copy, self._state(original, copy, record)) for original, copy in self._pairs()]

    def prepare(self) -> list[Path]:
        """Copy what is missing, renew what the learner left as it was, and exercises with the answers in them.

        What else the learner changed stays, and its newer edition is put beside it, once: it may be deleted.

        Returns what was written.

        Raises:
            CourseError: the folder cannot be written. What is in it is as it was, or whole and new.
        """
        with answering_for(self.folder, "COURSE_WORK"):
            record, written = self._record(), list[Path]()
            self.kept, self.renewed = [], []
            for original, copy in self._pairs():
                before = dict(record)
                written += self._follow(original, copy, record)
                if record != before:  # each time: who is killed after it is not told that they changed this one
                    self._write_record(record)
        if self.renewed:
            self.remarks.append(f"Newer now, as you had left them as they were: {self._listed(self.renewed)}")
        return written

    def _state(self, original: Path, copy: Path, record: dict[str, str]) -> State:
        of_original, of_copy, known = digest(original), digest(copy), record.get(self._key(copy))
        if not os.path.lexists(copy):
            return State.MISSING
        if of_copy is not None and of_copy in (known, of_original):
            return State.CURRENT if of_copy == of_original else State.LEFT
        if of_original == known:
            return State.YOURS
        return State.ANSWERED if of_copy and known and self._with_answers(original, copy) else State.CHANGED

    def _follow(self, original: Path, copy: Path, record: dict[str, str]) -> list[Path]:
        """Do for one copy what its state asks for, and note it. Returns what was written."""
        state = self._state(original, copy, record)
        if state is State.YOURS:
            return []
        if state is State.CHANGED:
            self.kept.append(copy)
            return self._put_beside(original, copy, record)
        if state is State.ANSWERED:
            self._carry(original, copy)
        elif state is not State.CURRENT:
            write_whole(copy, text_of(as_given(original)))
            self.renewed += [copy] if state is State.LEFT else []
        record[self._key(copy)] = str(digest(original))
        self._take_from_beside(copy, record)
        return [] if state is State.CURRENT else [copy]

    def _put_beside(self, original: Path, copy: Path, record: dict[str, str]) -> list[Path]:
        """Put an edition beside a copy once. What the learner wrote into a former one there is kept first."""
        beside, written = _beside(copy), list[Path]()
        of_original, known = digest(original), record.get(self._key(beside))
        if of_original is not None and of_original != known:
            if os.path.lexists(beside) and digest(beside) not in (known, of_original):
                self._keep(beside)
            write_whole(beside, text_of(as_given(original)))
            record[self._key(beside)] = of_original
            written.append(beside)
        if beside.is_file():
            self.remarks.append(self._told(copy, beside))
        return written

    def _told(self, copy: Path, beside: Path) -> str:
        number = _number(copy)
        option = " --exercises" if number.isdigit() and copy.parent != self.folder else ""
        reset = command(f"reset {number}{option}")
        return (
            f"You changed {self.spoken(copy)}; there is a newer original. It lies beside yours as {beside.name}. "
            f"To go on with it alone, and yours in the backup: {reset}"
        )

    def _take_from_beside(self, copy: Path, record: dict[str, str]) -> None:
        """The copy is the newest itself; what lies beside it goes, unless the learner wrote in it."""
        beside = _beside(copy)
        known = record.pop(self._key(beside), None)
        if known is not None and digest(beside) == known:
            beside.unlink()

    def _with_answers(self, original: Path, copy: Path) -> tuple[str, list[str], list[str]] | None:
        """A newer edition of a book of exercises with the answers in a copy, those that were carried, and those without
        a place; None for a lesson, and where there is no answer: what was written there instead has no place to go to.
        """
        if copy.parent == self.folder:
            return None
        book = as_given(original)
        try:
            carried, homeless = carry(book, copy)
        except (ValueError, AttributeError, KeyError, TypeError):  # a notebook that is none, in its marks for one
            return None
        return (text_of(book), carried, homeless) if carried + homeless else None

    def _carry(self, original: Path, copy: Path) -> None:
        """Replace a copy by the newer edition with its answers, once it is kept.

        Whoever is killed in between finds the one or the other, and the next time does the rest.
        """
        answered = self._with_answers(original, copy)
        if answered is None or digest_of(answered[0]) == digest(copy):
            return
        text, carried, homeless = answered
        backup = self._keep(copy)
        write_whole(copy, text)
        answers = f"your answers to {', '.join(carried)} are in it" if carried else "none of your answers fits it"
        gone = f" {', '.join(homeless)} is in it no more." if carried and homeless else ""
        former = f"The former is kept as {self.spoken(backup)}."
        self.remarks.append(f"{self.spoken(copy)} is a newer edition; {answers}.{gone} {former}")

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
            record[self._key(copy)] = str(digest(original))
            self._take_from_beside(copy, record)
            self._write_record(record)
        return copy, backup

    def _replace(self, original: Path, copy: Path) -> Path | None:
        """The fresh copy is written first, so that a full disk is met while the learner's is still in its place."""
        fresh = copy.with_name(f".{copy.name}.fresh")
        write_whole(fresh, text_of(as_given(original)))
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

    def _listed(self, copies: list[Path]) -> str:
        more = f" and {len(copies) - NAMED_AT_MOST} more" if len(copies) > NAMED_AT_MOST else ""
        return ", ".join(self.spoken(copy) for copy in copies[:NAMED_AT_MOST]) + more

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
        if (record := self._read_record()) is not None:
            return record
        place = self.folder / RECORD
        aside = put_aside(place)
        self.remarks.append(f"{place} could not be understood. It is kept as {aside.name}, and a fresh one begun.")
        return {}

    def _read_record(self) -> dict[str, str] | None:
        """None where it cannot be understood."""
        place = self.folder / RECORD
        if not os.path.lexists(place):
            return {}
        if place.is_file():  # reading from a pipe would wait for ever
            with contextlib.suppress(ValueError):
                return DIGESTS.validate_json(place.read_bytes(), strict=True)
        return None

    def _write_record(self, record: dict[str, str]) -> None:
        write_whole(self.folder / RECORD, json.dumps(record, indent=1, sort_keys=True))


def _number(notebook: Path) -> str:
    """``"02"`` of a lesson or its exercises, ``"M4"`` of a drill."""
    return notebook.name.partition("_")[0]


def _beside(copy: Path) -> Path:
    return copy.with_name(f"{copy.stem}.newer.ipynb")
