"""``course bundle``: the wheels of the lock files in one folder, for rooms whose network does not carry a class.

pip does the fetching, by the hashes of the lists. It reads a list's conditions (`sys_platform == "win32"`) for the
system that it runs on, and not for the one that it fetches for, so here they are read before.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import typer
from packaging.requirements import Requirement

from course_lib.cli.installing import BASE, BUNDLE, SCRIPTS, SUFFIX, runs
from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.files import refusal
from course_lib.masking import short
from course_lib.settings import REPOSITORY

LOCKS = ("requirements.lock", "requirements-setup.lock")
PYTHON = re.compile(r"3\.1[1-9]", re.ASCII)
LATEST = 99  # no Python has had so many patch releases
MARK = "README.txt"
FIRST_LINE = "Packages of the course Databases for AI Engineers, for installing them without a network."
GLIBC = (17, 24, 26, 27, 28, 31, 34, 35)
"""Minor versions of glibc 2 that wheels are built for, up to the one of Ubuntu 22.04; the oldest suits most systems."""


@dataclass(frozen=True)
class Platform:
    """A kind of computer: what wheels call it, and what the conditions of a list say of it."""

    tags: tuple[str, ...]
    sys_platform: str
    platform_system: str
    platform_machine: str

    def environments(self, python: str) -> list[dict[str, str]]:
        """What conditions are read by: for the first and the last patch release of a Python."""
        return [
            {
                "sys_platform": self.sys_platform, "platform_system": self.platform_system,
                "platform_machine": self.platform_machine, "os_name": "nt" if self.sys_platform == "win32" else "posix",
                "implementation_name": "cpython", "platform_python_implementation": "CPython",
                "python_version": python, "python_full_version": f"{python}.{patch}", "extra": "",
            }
            for patch in (0, LATEST)
        ]  # fmt: skip


def _linux(machine: str) -> Platform:
    tags = (f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in GLIBC))
    return Platform(tags, "linux", "Linux", machine)


def _macos(machine: str, *versions: str) -> Platform:
    return Platform(tuple(f"macosx_{version}_{machine}" for version in versions), "darwin", "Darwin", machine)


PLATFORMS = {
    "linux": _linux("x86_64"),
    "linux-arm": _linux("aarch64"),
    "macos": _macos("arm64", "11_0", "12_0", "13_0", "14_0"),
    "macos-intel": _macos("x86_64", "10_13", "11_0", "12_0", "13_0", "14_0"),
    "windows": Platform(("win_amd64",), "win32", "Windows", "AMD64"),
}
USUAL = ("linux", "macos", "windows")


def run_bundle(folder: Path, platforms: Sequence[str], pythons: Sequence[str]) -> int:
    """Fetch all that ``make lab`` installs, and name what some platform has no wheel of.

    Returns:
        0 when all is there, else 1.

    Raises:
        CourseError: an unknown platform or Python, a folder with other things in it, or no pip.
    """
    platforms = list(dict.fromkeys(platforms)) or list(USUAL)
    pythons = list(dict.fromkeys(pythons)) or [f"3.{sys.version_info.minor}"]
    _require_known(platforms, pythons)
    _begin(folder)
    missing = []
    with tempfile.TemporaryDirectory() as alone:
        pip = _pip(Path(alone))
        for platform in platforms:
            for python in pythons:
                typer.echo(f"{platform}, Python {python}")
                lacking = _fetch(pip, PLATFORMS[platform], python, folder)
                missing += [f"{name}, for {platform} with Python {python}" for name in lacking]
    return _told(folder, platforms, pythons, missing)


def wanted_packages(lock: str, environment: dict[str, str]) -> list[str]:
    """The entries of a list that hold there, each with its hashes and without its condition."""
    found = []
    for entry in re.split(r"\n(?=\w)", (REPOSITORY / lock).read_text(encoding="utf-8").strip()):
        head, _, hashes = entry.partition(" \\\n")
        requirement = Requirement(head)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            found.append(f"{requirement} \\\n{hashes}")
    return found


def _require_known(platforms: Sequence[str], pythons: Sequence[str]) -> None:
    for name in platforms:
        if name not in PLATFORMS:
            raise CourseError(f"There is no platform {short(repr(name))}.", f"Choose of: {', '.join(PLATFORMS)}")
    for version in pythons:
        if not PYTHON.fullmatch(version):
            raise CourseError(f"{short(repr(version))} is no Python that the course runs on.", "Name one like 3.12.")


def _begin(folder: Path) -> None:
    """Make the folder; one that is there must be empty, or a bundle that is gone on with."""
    mark = folder / MARK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(path.name for path in folder.iterdir())
        if there and not (mark.is_file() and mark.read_text(encoding="utf-8", errors="replace").startswith(FIRST_LINE)):
            raise CourseError(
                f"{folder} is not empty, and no bundle: {short(', '.join(there))}",
                "Name a folder that does not exist yet; what is there stays as it is.",
            )
        mark.write_text(
            f"{FIRST_LINE}\n\nPut this folder into a clone of the course, as {BUNDLE}, and run: make lab\n"
            "Or leave it where it is and name it: make lab COURSE_BUNDLE=/media/stick/bundle\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise refusal(error, folder, "--to") from error


def _pip(alone: Path) -> list[str]:
    """A pip to fetch with: this environment's, or one of its own."""
    own = [sys.executable, "-m", "pip"]
    if runs(*own, "--version"):
        return own
    made = [str(alone / "pip" / SCRIPTS / f"python{SUFFIX}"), "-m", "pip"]
    if runs(BASE, "-m", "venv", alone / "pip") and runs(*made, "--version"):
        return made
    raise CourseError("There is no pip to fetch with.", "On Debian and Ubuntu first: apt install python3-venv")


def _fetch(pip: list[str], platform: Platform, python: str, folder: Path) -> list[str]:
    """What is not to be had: looked for one by one where not all came at once."""
    lacking: list[str] = []
    seen: set[str] = set()
    for lock, environment in product(LOCKS, platform.environments(python)):  # pip takes one version of each at a time
        wanted = [entry for entry in wanted_packages(lock, environment) if entry not in seen]
        seen.update(wanted)
        version = environment["python_full_version"]
        if wanted and not _download(pip, wanted, platform, version, folder):
            typer.echo("Not all came at once, so they are fetched one by one, which takes some minutes.")
            lacking += [_name(one) for one in wanted if not _download(pip, [one], platform, version, folder)]
    return lacking


def _name(entry: str) -> str:
    """``numpy 2.4.1``"""
    return " ".join(entry.partition(" ")[0].split("=="))


def _download(pip: list[str], wanted: Sequence[str], platform: Platform, version: str, folder: Path) -> bool:
    with tempfile.TemporaryDirectory() as alone:
        listed = Path(alone) / "wanted.txt"
        listed.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        how = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--implementation=cp"]
        tags = [f"--platform={tag}" for tag in platform.tags]
        return runs(
            *pip, "--disable-pip-version-check", "download", "--quiet", *how, *tags,
            f"--python-version={version}", "--dest", folder, "-r", listed,
        )  # fmt: skip


def _told(folder: Path, platforms: Sequence[str], pythons: Sequence[str], missing: Sequence[str]) -> int:
    wheels = list(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e9
    typer.echo(f"{len(wheels)} wheels, {size:.2f} GB, for {', '.join(platforms)} with Python {', '.join(pythons)}.")
    for line in _missing_lines(missing):
        typer.echo(line)
    typer.echo(f"In a fresh clone of the course: make lab COURSE_BUNDLE={folder.absolute()}")
    return 1 if missing else 0


def _missing_lines(missing: Sequence[str]) -> Iterator[str]:
    if missing:
        yield "No wheel could be had of these, so there the installation needs a network:"
        yield from (f"  {line}" for line in missing)
        again = command("bundle --to …")
        yield f"  → Is there a network, and room on the disk? Then again, and what has come is kept: {again}"
