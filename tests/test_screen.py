"""What a learner reads in a terminal of 80 columns: verdicts that speak of it, code in colours, help that is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from course_lib.exercises.book import solution_source
from course_lib.exercises.manifest import find_exercise
from tests.postgres.places import environment

COURSE = [sys.executable, "-c", "from course_lib.cli import main; main()"]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WRONG = """
from course_lib.cli.screen import show
from course_lib.commands import read_in_a_terminal
from course_lib.exercises.manifest import find_exercise
from course_lib.judging.verdict import Finding, Verdict

read_in_a_terminal()
sentence = "51 statements for 50 conversations; the budget is 2. The repeated one is `SELECT … FROM messages` [sic]."
verdict = Verdict.of(find_exercise("2.3"), Finding("wrong", "many", sentence, "Line 3 of `message_counts`.", "a\\nb"))
show(verdict.headline, verdict.paragraphs)
"""


def settings(folder: Path, **more: str) -> dict[str, str]:
    """Where ``uv run`` stands before each command, so that what is said does not depend on this machine's paths."""
    uv = {"UV_RUN_RECURSION_DEPTH": "1", "COLUMNS": "80", "TERM": "xterm-256color"}
    return environment(folder / "home", COURSE_WORK=str(folder / "work"), **uv, **more)


def on_screen(folder: Path, command: list[str]) -> str:
    """What ``command`` shows on a terminal of 80 columns."""
    pty = pytest.importorskip("pty", reason="terminals of POSIX")
    screen, behind = pty.openpty()
    process = subprocess.Popen(command, env=settings(folder), stdin=behind, stdout=behind, stderr=behind)
    os.close(behind)
    shown = b""
    try:
        while part := os.read(screen, 4096):
            shown += part
    except OSError:  # on Linux, when the other side is closed
        pass
    finally:
        os.close(screen)
        process.wait(60)
    return shown.decode().replace("\r\n", "\n")


def piped(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*COURSE, *arguments], env=settings(folder), capture_output=True, text=True, encoding="utf-8", check=False
    )
    return done.stdout


def widest(shown: str) -> int:
    return max(len(COLOUR.sub("", line).rstrip()) for line in shown.splitlines())


def test_a_verdict_is_wrapped_at_words_and_says_what_is_typed_there(tmp_path: Path) -> None:
    shown = on_screen(tmp_path, [sys.executable, "-c", WRONG])
    assert COLOUR.search(shown) and widest(shown) <= 80
    assert [line.rstrip() for line in COLOUR.sub("", shown).splitlines()] == [
        "2.3 · Counts, not rows",
        "  Not yet. 51 statements for 50 conversations; the budget is 2. The repeated one",
        "  is SELECT … FROM messages [sic].",
        "  look: Line 3 of message_counts.",
        "  next: uv run course hint 2.3 or, asked twice, uv run course solution 2.3",
        "  again: save the notebook first, then uv run course check 2.3",
        "  your code printed: a",
        "  b",
        "",
    ]


def test_what_was_not_attempted_is_written_in_a_cell_of_the_notebook(tmp_path: Path) -> None:
    shown = COLOUR.sub("", on_screen(tmp_path, [*COURSE, "check", "0.1"]))
    assert "  Not attempted yet. Write count_users in its cell of the notebook.\n" in shown
    assert "run that cell" not in shown and "save the notebook first" in shown and widest(shown) <= 80


def test_hints_name_the_commands(tmp_path: Path) -> None:
    assert "(2 more: uv run course hint 1.3)" in piped(tmp_path, "hint", "1.3")
    assert "(the last; then: uv run course solution 1.3)" in piped(tmp_path, "hint", "1.3", "3")
    assert widest(on_screen(tmp_path, [*COURSE, "hint", "1.3"])) <= 80


def test_a_solution_is_code_in_colours_and_elsewhere_the_code_alone(tmp_path: Path) -> None:
    assert "ask again: uv run course solution 1.10" in " ".join(piped(tmp_path, "solution", "1.10").split())
    source = solution_source(find_exercise("1.10"))
    assert piped(tmp_path, "solution", "1.10").startswith(f"{source}\n")
    shown = on_screen(tmp_path, [*COURSE, "solution", "1.10"])
    assert widest(shown) <= 80 and "```" not in shown and "`" not in COLOUR.sub("", shown)
    assert len({colour for colour in COLOUR.findall(shown) if "38;" in colour}) > 3, "keywords, names, texts, comments"


def test_help_is_in_groups_and_nothing_in_it_is_cut_off(tmp_path: Path) -> None:
    text = piped(tmp_path, "--help")
    assert widest(text) <= 80 and not re.search(r"\w(\.\.\.|…)", text)
    titles = re.findall(r"╭─ (.+?) ─", text)
    assert titles == ["Options", "Learning", "For a class", "When something does not work", "For authors"]
    learning = text.partition("Learning")[2].partition("╰")[0]
    assert re.findall(r"│ (\w+) ", learning) == [
        "lab",
        "update",
        "serve",
        "worker",
        "check",
        "hint",
        "solution",
        "progress",
        "drill",
        "interview",
        "reset",
    ]


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    assert piped(tmp_path, "--version") == f"course {version('databases-for-ai-engineers')}\n"


def test_a_mistyped_command_names_the_help_as_it_is_typed(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COURSE, "chekc"], env=settings(tmp_path), capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 2 and "uv run course --help" in done.stderr
