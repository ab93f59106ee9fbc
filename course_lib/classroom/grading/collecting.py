"""What ``nbgrader zip_collect`` makes of a folder of downloads: one learner's mistake keeps nobody else's work out."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from nbgrader.plugins import ExtractorPlugin, FileNameCollectorPlugin


class OneByOne(ExtractorPlugin):  # type: ignore[misc]
    """Each download on its own, so that an archive that cannot be opened is named, and the others are taken."""

    def extract(self, archive_path: str, extracted_path: str) -> None:
        for download in sorted(Path(archive_path).iterdir()):
            if download.is_symlink():
                self.log.warning("%s is a link and is left out.", download.name)
                continue
            with tempfile.TemporaryDirectory() as alone:
                try:
                    if download.is_dir():
                        shutil.copytree(download, Path(alone) / download.name, ignore=_links)
                    else:
                        shutil.copy(download, alone)
                    super().extract(alone, extracted_path)
                except Exception as error:  # of zipfile, tarfile, setuptools and the disk
                    self.log.warning("%s cannot be unpacked and is left out: %s", download.name, error)


def _links(folder: str, names: list[str]) -> list[str]:
    """A link leads to somebody else's work, or to the teacher's files."""
    return [name for name in names if Path(folder, name).is_symlink()]


class FirstOfEach(FileNameCollectorPlugin):  # type: ignore[misc]
    """Of two notebooks of the same name from one learner, the first in order of path; the other is named."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)
        self._seen: dict[tuple[str, str], str] = {}

    def collect(self, submitted_file: str) -> dict[str, str] | None:
        found: dict[str, str] | None = super().collect(submitted_file)
        if found is None:
            return None
        first = self._seen.setdefault((found["student_id"], found["file_id"]), submitted_file)
        if first == submitted_file:
            return found
        self.log.warning("%s is left out: %s has the same notebook of %s.", submitted_file, first, found["student_id"])
        return None
