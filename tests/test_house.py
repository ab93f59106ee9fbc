"""The house keeps its order: what may import what, how long a module may be, what must not be committed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from course_lib.settings import REPOSITORY

FLOORS = [
    {"commands", "errors", "files", "lazy", "masking", "notebook_format", "origin", "settings", "texts"},
    {"postgres", "llm"},
    {"models", "db"},
    {"repositories", "unit_of_work", "data"},
    {"instruments", "kernel"},
    {"judging", "service"},
    {"exercises", "lesson", "notebooks"},
    {"classroom", "interview"},
    {"bench", "site"},
    {"cli"},
]
MODULES = sorted((REPOSITORY / "course_lib").rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(REPOSITORY / "course_lib").parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if name in rooms)


def imported_rooms(path: Path) -> set[str]:
    """Rooms of course_lib named in import statements, those inside functions too, except for typing only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("course_lib."):
            found.add((node.module or "").split(".")[1])
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("course_lib.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY / "course_lib")))
def test_a_room_imports_only_from_below(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    for other in imported_rooms(path) - {here}:
        lower = floor(other) < floor(here)
        beside = {here, other} in (
            {"errors", "settings"}, {"errors", "files"}, {"errors", "texts"}, {"models", "db"},
            {"repositories", "unit_of_work"}, {"bench", "cli"},
        )  # fmt: skip
        assert lower or beside, f"{here} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY / "course_lib")))
def test_modules_stay_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 320
    assert ast.get_docstring(ast.parse(text)), "a module has a docstring"
    assert path.stem not in {"utils", "helpers", "common", "misc"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, course_lib; print([m for m in ('sqlalchemy', 'openai', 'numpy', 'asyncpg') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_names_for_notebooks_all_exist() -> None:
    import course_lib
    import course_lib.instruments

    for package in (course_lib, course_lib.instruments):
        for name in package.__all__:
            assert getattr(package, name) is not None


def test_docker_compose_follows_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, "docker-compose.yml"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_machine_and_no_secret_is_committed() -> None:
    files = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.split()
    if not files:
        pytest.skip("not a git checkout")
    for name in files:
        content = (REPOSITORY / name).read_bytes()
        assert str(REPOSITORY).encode() + b"/" not in content, name
        assert not re.search(rb"sk-(proj-)?[A-Za-z0-9_-]{20,}", content), name


def test_what_is_new_begins_with_this_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    editions = re.findall(r"^## (.+)$", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert editions[0] == project["version"]
    numbers = [tuple(map(int, edition.split("."))) for edition in editions]
    assert numbers == sorted(set(numbers), reverse=True), "each once, the newest first"
