"""``work/``: the learner's own copies of the notebooks, so that ``git pull`` never meets what the learner wrote."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from course_lib.errors import CourseError
from course_lib.files import answering_for, put_aside, write_whole
from course_lib.notebooks.reading import at_work, digest
from course_lib.settings import REPOSITORY, get_settings

SOURCES = {"notebooks": ".", "exercises": "exercises"}
"""Folders of the repository, and where their notebooks lie in ``work/``."""

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
        """Copy what is missing, renew what the learner left as it was. Returns what was written.

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
                if of_original != known:
                    self.kept.append(copy)
                continue
            if not there or of_copy != of_original:
                write_whole(copy, _clean(original))
                written.append(copy)
            if of_original is not None:
                record[self._key(copy)] = of_original
        if record != before:
            self._write_record(record)
        return written

    def reset(self, number: str) -> list[Path]:
        """Replace the copies of one lesson by fresh ones; what was there goes into ``work/backup/``.

        Raises:
            CourseError: no notebook has that number, or the folder cannot be written. Nothing is replaced before it
                has been kept.
        """
        prefix = f"{number.strip().zfill(2)}_" if number.strip().isdigit() else None
        pairs = [(original, copy) for original, copy in self._pairs() if prefix and original.name.startswith(prefix)]
        if not pairs:
            numbers = sorted({original.name[:2] for original, _ in self._pairs()})
            raise CourseError(f"There is no lesson {number[:20]}.", f"Choose one of: {', '.join(numbers)}")
        with answering_for(self.folder, "COURSE_WORK"):
            record = self._record()
            for original, copy in pairs:
                self._replace(original, copy)
                record[self._key(copy)] = str(digest(original))
            self._write_record(record)
        return [copy for _, copy in pairs]

    def _replace(self, original: Path, copy: Path) -> None:
        """The fresh copy is written first, so that a full disk is met while the learner's is still in its place."""
        fresh = copy.with_name(f".{copy.name}.fresh")
        write_whole(fresh, _clean(original))
        try:
            if os.path.lexists(copy) and (digest(copy) is None or digest(copy) != digest(original)):
                self._keep(copy)
            fresh.replace(copy)
        finally:
            fresh.unlink(missing_ok=True)

    def _keep(self, copy: Path) -> None:
        """Move it, whatever it is, into the backup; of a link to a notebook, what it leads to is copied."""
        backup = self.folder / "backup" / f"{copy.stem}.{datetime.now():%Y-%m-%d_%H-%M-%S_%f}.ipynb"
        backup.parent.mkdir(exist_ok=True)
        if copy.is_symlink() and copy.exists():
            shutil.copy2(copy, backup)
        else:
            shutil.move(copy, backup)

    def _pairs(self) -> list[tuple[Path, Path]]:
        return [
            (original, self.folder / place / original.name)
            for source, place in SOURCES.items()
            for original in sorted((self.repository / source).glob("[0-9][0-9]_*.ipynb"))
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


def _clean(original: Path) -> str:
    """The original without outputs, as text, with links that lead where its copy will lie."""
    import nbformat  # brings schemas: most of a second, for those who copy
    from nbstripout import strip_output

    try:
        notebook = nbformat.read(original, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        mend = f"Run: git checkout -- {original.parent.name}/{original.name}"
        raise CourseError(f"The original {original} cannot be read as a notebook.", mend) from error
    for cell in notebook.cells:
        cell.source = at_work(cell.source)
    text: str = nbformat.writes(strip_output(notebook, keep_output=False, keep_count=False, keep_id=True))
    return text + "\n"
