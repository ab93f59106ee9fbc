"""A command is printed as it is typed where it is read: in a shell, in JupyterLab's terminal, in a notebook."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from course_lib.cli.app import app
from course_lib.settings import REPOSITORY
from tests.postgres import conftest
from tests.postgres.places import environment

folder = conftest.folder
SAY = "from course_lib.commands import command; print(command('db renew'), end='')"

posix = pytest.mark.skipif(os.name == "nt", reason="shells and paths of POSIX")


def say(code: str = SAY, python: Path | None = None, cwd: Path | None = None, **more: str) -> str:
    """What ``code`` prints in a process with another environment."""
    kept = {name: value for name, value in environment(None).items() if name not in ("UV_RUN_RECURSION_DEPTH",)}
    done = subprocess.run(
        [python or sys.executable, "-c", code], cwd=cwd, env={**kept, "PYTHONPATH": str(REPOSITORY), **more},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with an environment below it, as ``make`` leaves it, and a space in its name."""
    clone = tmp_path / "my clone"
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").symlink_to(sys.executable)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", clone / ".venv")
    script = clone / ".venv" / "bin" / "course"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    (clone / ".venv" / "lib").symlink_to(Path(sys.prefix) / "lib")
    return clone


@posix
def test_in_a_shell_that_does_not_know_it_the_path_to_it_stands_before_it(clone: Path) -> None:
    python = clone / ".venv" / "bin" / "python"
    assert say(python=python, cwd=clone, PATH=os.defpath) == ".venv/bin/course db renew"
    elsewhere = say(python=python, cwd=REPOSITORY, PATH=os.defpath)
    assert shlex.split(elsewhere) == [str(clone / ".venv" / "bin" / "course"), "db", "renew"]


@posix
def test_where_the_path_leads_to_it_its_name_is_enough(clone: Path) -> None:
    python = clone / ".venv" / "bin" / "python"
    assert say(python=python, cwd=clone, PATH=f"{python.parent}:{os.defpath}") == "course db renew"


@posix
def test_the_course_of_another_clone_is_not_meant(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "course").write_text("#!/bin/sh\n")
    (tmp_path / "course").chmod(0o755)
    python = clone / ".venv" / "bin" / "python"
    assert say(python=python, cwd=clone, PATH=f"{tmp_path}:{os.defpath}") == ".venv/bin/course db renew"


def test_under_uv_run_that_stands_before_it() -> None:
    assert say(UV_RUN_RECURSION_DEPTH="1") == "uv run course db renew"


@posix
def test_without_the_script_python_finds_it(clone: Path) -> None:
    (clone / ".venv" / "bin" / "course").unlink()
    python = clone / ".venv" / "bin" / "python"
    said = say(python=python, cwd=clone, PATH=os.defpath)
    assert shlex.split(said) == [str(python), "-m", "course_lib.cli", "db", "renew"]


def test_in_a_notebook_an_exclamation_mark_stands_before_it_and_hints_are_called(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a real kernel, and in a command that a kernel runs, which asks nothing there."""
    monkeypatch.setenv("COURSE_HOME", str(folder / "home"))
    from course_lib.notebooks import execute

    sources = [
        "from course_lib.commands import call, command\nprint(command('doctor'), call('hint', '1.3', 2))",
        "import subprocess, sys\ncode = 'from course_lib.cli import main; main()'\n"
        "done = subprocess.run([sys.executable, '-c', code, 'hint', '1.3', '9'], capture_output=True, text=True)\n"
        "print(done.stderr)",
        "!{sys.executable} -c 'from course_lib.cli import main; main()' db renew",
    ]
    path = tmp_path / "00_said.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), path)
    execute(path)
    cells = nbformat.read(path, as_version=4).cells
    kernel, ran, asked = ["".join(output.text for output in cell.outputs) for cell in cells]
    assert re.fullmatch(r'!.*\bcourse(_lib\.cli)? doctor hint\("1\.3", 2\)\n', kernel)
    assert re.search(r"→ Run: !.* db renew --yes", asked)
    assert ran == '1.3 has 3 hints.\n  → Try: hint("1.3", 1)\n\n'


def test_in_a_terminal_hints_are_commands() -> None:
    code = """
from course_lib.commands import call, read_in_a_terminal
read_in_a_terminal()
print(call("hint", "1.3", 2), end="")
"""
    assert say(code, UV_RUN_RECURSION_DEPTH="1") == "uv run course hint 1.3 2"


def literals(path: Path) -> list[str]:
    """The texts in a module, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if hasattr(node, "body") and isinstance(node.body, list)]
    said = {id(part.value) for node in nodes for part in node.body if isinstance(part, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
    ]


def test_no_text_in_the_package_says_a_command_by_itself() -> None:
    """But those that say how it is typed with uv."""
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    by_itself = re.compile(rf"(?<!uv run )(?<!--extra authors )\bcourse ({'|'.join([*names, 'db', 'classroom'])})\b")
    modules = sorted((REPOSITORY / "course_lib").rglob("*.py"))
    found = [(path.name, text) for path in modules for text in literals(path) if by_itself.search(text)]
    assert found == [("large_server.py", "Another `course bench` measures vectors now.")], "a name, not to be typed"
