"""``work/``: the learner's own copies of the notebooks, so that ``git pull`` never meets what the learner wrote."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import nbformat
from nbstripout import strip_output

from course_lib.errors import CourseError
from course_lib.settings import REPOSITORY, get_settings

SOURCES = {"notebooks": ".", "exercises": "exercises"}
"""Folders of the repository, and where their notebooks lie in ``work/``."""


@dataclass
class Workspace:
    """The learner's folder. Lessons are copied without outputs, so that a prediction comes before its answer."""

    folder: Path = field(default_factory=lambda: get_settings().work)
    repository: Path = REPOSITORY
    kept: list[Path] = field(default_factory=list)
    """Copies that differ from a newer original because the learner changed them; filled by ``prepare``."""

    def prepare(self) -> list[Path]:
        """Copy what is missing, renew what the learner left as it was. Returns what was written."""
        written = []
        record = self._record()
        self.kept = []
        for original, copy in self._pairs():
            digest = _digest(original)
            known = record.get(self._key(copy))
            if copy.exists() and _digest(copy) != known:
                if digest != known:
                    self.kept.append(copy)
                continue
            if not copy.exists() or digest != known:
                _copy_clean(original, copy)
                written.append(copy)
            record[self._key(copy)] = digest
        self._write_record(record)
        return written

    def reset(self, number: str) -> list[Path]:
        """Replace the copies of one lesson by fresh ones; what was there goes into ``work/backup/``.

        Raises:
            CourseError: no notebook has that number.
        """
        prefix = f"{number.strip().zfill(2)}_" if number.strip().isdigit() else None
        pairs = [(original, copy) for original, copy in self._pairs() if prefix and original.name.startswith(prefix)]
        if not pairs:
            numbers = sorted({original.name[:2] for original, _ in self._pairs()})
            raise CourseError(f"There is no lesson {number}.", f"Choose one of: {', '.join(numbers)}")
        record = self._record()
        for original, copy in pairs:
            if copy.exists() and _digest(copy) != _digest(original):
                backup = self.folder / "backup" / f"{copy.stem}.{datetime.now():%Y-%m-%d_%H-%M-%S_%f}.ipynb"
                backup.parent.mkdir(exist_ok=True)
                shutil.copy2(copy, backup)
            _copy_clean(original, copy)
            record[self._key(copy)] = _digest(original)
        self._write_record(record)
        return [copy for _, copy in pairs]

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
        try:
            record: dict[str, str] = json.loads((self.folder / ".course.json").read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _write_record(self, record: dict[str, str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".course.json").write_text(json.dumps(record, indent=1, sort_keys=True))


def _digest(path: Path) -> str:
    """A hash of what a person can write in a notebook: its cells' sources. Running cells does not change it."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    except (ValueError, KeyError, TypeError):
        return "unreadable"
    return sha256(json.dumps(sources).encode()).hexdigest()


def _copy_clean(original: Path, copy: Path) -> None:
    notebook = nbformat.read(original, as_version=4)
    copy.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(strip_output(notebook, keep_output=False, keep_count=False, keep_id=True), copy)
