"""``make`` sets everything up: what learners get and what authors, in which words, and what it says when it cannot."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course_lib.cli import checks
from course_lib.data.harvest import PACKAGES
from course_lib.errors import CourseError
from course_lib.settings import REPOSITORY

LEARNERS, AUTHORS, SETUP = "requirements.lock", "requirements-dev.lock", "requirements-setup.lock"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOOLS = {"ruff", "mypy", "nbgrader", "hatchling", "libcst", "check-jsonschema", "schemathesis", "playwright", "uv"}
LESSONS_TEST = {"pytest", "nbval", "pytest-asyncio", "pytest-xdist"}


def packages(lock: str) -> list[str]:
    """The entries of a list, each with its hashes."""
    return re.split(r"\n(?=\w)", (REPOSITORY / lock).read_text(encoding="utf-8").strip())


def pinned(lock: str) -> dict[str, set[str]]:
    """Versions by name: some differ by the version of Python."""
    found: dict[str, set[str]] = {}
    for package in packages(lock):
        name, version = re.match(r"([\w.\-]+)(?:\[[^\]]*\])?==([^\s;]+)", package).groups()  # type: ignore[union-attr]
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize("lock", [LEARNERS, AUTHORS, SETUP])
def test_a_list_has_names_versions_and_hashes_and_names_no_address_and_no_machine(lock: str) -> None:
    for package in packages(lock):
        assert re.fullmatch(r"[\w.\-\[\]]+==\S+( ; [^\\]+)? \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+", package), (
            package
        )
    text = (REPOSITORY / lock).read_text(encoding="utf-8")
    assert "://" not in text and "index-url" not in text and "find-links" not in text and str(Path.home()) not in text


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        (LEARNERS, PROJECT["dependencies"]),
        (AUTHORS, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["authors"]]),
        (AUTHORS, PROJECT["optional-dependencies"]["grading"]),
    ],
    ids=["learners", "authors", "grading"],
)
def test_a_list_covers_what_is_asked_for(lock: str, asked: list[str]) -> None:
    versions = pinned(lock)
    for line in asked:
        requirement = Requirement(line)
        assert all(requirement.specifier.contains(version) for version in versions[requirement.name]), line


def test_learners_get_what_lessons_need_in_the_versions_that_are_tested() -> None:
    learners, authors = pinned(LEARNERS), pinned(AUTHORS)
    assert learners.keys() >= LESSONS_TEST and not learners.keys() & TOOLS
    assert learners.items() <= authors.items()
    assert {canonicalize_name(name) for name in PACKAGES} <= learners.keys(), "and all that is harvested by default"


posix = pytest.mark.skipif(os.name == "nt" or shutil.which("make") is None, reason="needs make and a shell")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a fresh clone has that a set-up reads."""
    for name in ("Makefile", "pyproject.toml", LEARNERS, AUTHORS, SETUP, "course_lib/cli/installing.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


def offline(clone: Path, uv: str | None = None) -> dict[str, str]:
    """An environment in which nothing can be fetched, with a ``uv`` on the path or without."""
    programs = clone / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    if uv is not None:
        (programs / "uv").write_text(uv)
        (programs / "uv").chmod(0o755)
    nothing = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(clone / "nowhere"), "PIP_CONFIG_FILE": os.devnull}
    return {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(clone), **nothing}


@posix
@pytest.mark.parametrize(("goal", "both"), [("lab", False), ("doctor", False), ("test", True), ("lint", True)])
def test_authors_tools_come_with_the_targets_that_need_them(clone: Path, goal: str, both: bool) -> None:
    said = subprocess.run(["make", "-n", goal], cwd=clone, capture_output=True, text=True, check=True).stdout
    assert f"installing.py .venv learners {goal}" in said
    assert (f"installing.py .venv authors {goal}" in said) == both


@posix
def test_without_a_network_it_says_so_and_how_to_go_on(clone: Path) -> None:
    done = subprocess.run(
        ["make", "lab"], cwd=clone, env=offline(clone), capture_output=True, text=True, check=False, timeout=120
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [line[:5] for line in lines[1:3]] == ["[1/4]", "[2/4]"], "each stage has a line"
    assert re.match(r"Setting up \.venv, once\. It fetches .* and takes .* of disk\.", lines[0])
    assert lines[-3:] == [
        "uv cannot be had, so pip goes on, which takes some minutes.",
        "Not everything could be installed; the lines above say why.",
        "  → Is there a network, and room? Then go on with: make lab",
    ]
    assert not (clone / ".venv" / ".ready").exists()


@posix
def test_where_uv_fails_pip_goes_on(clone: Path) -> None:
    env = offline(clone, uv="#!/bin/sh\nexit 1\n")
    done = subprocess.run(
        ["make", "setup"], cwd=clone, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert "uv could not do that, so pip goes on" in done.stdout and "make setup" in done.stdout.splitlines()[-1]
    assert done.stdout.count("uv could not") == 1, "it is not asked again"


@posix
def test_an_interrupt_is_a_sentence(clone: Path) -> None:
    env = offline(clone, uv="#!/bin/sh\necho here\nexec sleep 60\n")
    process = subprocess.Popen(
        ["make", "setup"], cwd=clone, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line == "here\n":
            break
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert said.endswith("Interrupted. What has arrived is kept; to go on: make setup\n") and "Traceback" not in errors


@pytest.mark.parametrize("run", [checks.run_lint, lambda: checks.run_checks([])], ids=["lint", "test"])
def test_where_authors_tools_are_missing_a_sentence_says_how_to_get_them(
    run: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LINTERS", ("no_such_linter",))
    with pytest.raises(CourseError, match="no-such-linter is not installed") as caught:
        run()  # type: ignore[operator]
    assert re.match(r"Run: make (lint|test)   \(or: uv run --extra authors course \1\)", caught.value.mend)
