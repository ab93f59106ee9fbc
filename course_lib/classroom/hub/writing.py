"""Writes the folder of a hub: its configuration, who may come in, and what the teacher does with it, step by step."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from course_lib.classroom.credentials import FILE, class_folder, read_credentials
from course_lib.classroom.naming import check_slug
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.postgres.files import write_file

FIRST_LESSON = "00_start_here.ipynb"
MEMORY = "1G"  # a server and a kernel take a quarter of it; a check's processes and a second kernel fit
PROCESSES = 200  # threads count, and numeric libraries start one for each core
IDLE_SECONDS = 3600  # a server tells the hub every five minutes that it is used
LEARNERS = "learners.csv"
ONE_MACHINE = {"jupyterhub_config.py": "jupyterhub_config.py.jinja", "README.md": "README.md.jinja"}
CLUSTER = {"values.yaml": "values.yaml.jinja", "Dockerfile": "Dockerfile.jinja", "README.md": "CLUSTER.md.jinja"}


@dataclass(frozen=True)
class Hub:
    """A class's hub.

    Attributes:
        slug: the class.
        port: where it listens on loopback; the two after it are the hub's own.
        trial: without systemd and without limits, for a look at it.
        kubernetes: values for Zero to JupyterHub instead.
    """

    slug: str
    port: int = 8000
    trial: bool = False
    kubernetes: bool = False

    def write(self, folder: Path) -> int:
        """Write the files into ``folder``, which only its owner can enter. Returns the number of learners.

        Raises:
            CourseError: there is no such class, a package is missing, or the folder is somebody's.
        """
        learners = read_credentials(check_slug(self.slug))
        if not learners:
            raise CourseError(
                f"There are no credentials of a class {self.slug}.",
                f"Make it: {command('classroom create')} ROSTER.csv --name {self.slug}",
            )
        if not self.kubernetes and find_spec("jupyterhub") is None:
            raise CourseError("JupyterHub is not installed.", "In the folder of the course, run: make hub")
        _make_private(folder)
        for name, text in self._contents().items():
            write_file(folder / name, text)
        return len(learners)

    def _contents(self) -> dict[str, str]:
        """Texts of the files by name."""
        credentials = (class_folder(self.slug) / FILE).read_text(encoding="utf-8")
        templates = CLUSTER if self.kubernetes else ONE_MACHINE
        contents = {LEARNERS: credentials} | {name: self._filled_in(template) for name, template in templates.items()}
        if self.kubernetes:
            contents["course_learners.py"] = Path(__file__).with_name("learners.py").read_text(encoding="utf-8")
        return contents

    def _filled_in(self, template: str) -> str:
        return _environment().get_template(template).render(
            slug=self.slug, port=self.port, trial=self.trial, memory=MEMORY, processes=PROCESSES,
            idle_seconds=IDLE_SECONDS, first=FIRST_LESSON,
        )  # fmt: skip


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("course_lib.classroom.hub"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip


def _make_private(folder: Path) -> None:
    """Raises CourseError unless it is ours alone, and new, empty or written by an earlier ``course classroom hub``."""
    mend = "Name a new folder: --to FOLDER"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        inside = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise CourseError(f"{folder} cannot be used: {error.strerror}.", mend) from None
    if not stat.S_ISDIR(status.st_mode) or (os.name != "nt" and status.st_uid != os.geteuid()):
        raise CourseError(f"{folder} is not yours.", mend)
    if os.name != "nt" and stat.S_IMODE(status.st_mode) & 0o077:
        raise CourseError(f"Others can enter {folder}, and passwords would lie in it.", f"Run: chmod 700 {folder}")
    if inside and LEARNERS not in inside:
        raise CourseError(f"There is something else in {folder}.", mend)
