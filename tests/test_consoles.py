"""The ``course`` command on consoles, pipes and environments of every kind: a sentence, never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.postgres.places import environment

COURSE = [sys.executable, "-c", "from course_lib.cli import main; main()"]
FULL = Path("/dev/full")
posix = pytest.mark.skipif(os.name == "nt", reason="needs a shell and the signals of POSIX")


def course(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COURSE, *arguments], env=environment(folder / "home", COURSE_WORK=str(folder / "work"), **more),
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
    )  # fmt: skip


def shell(folder: Path, line: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """A line for bash in which ``course`` is our command."""
    quoted = " ".join(f"'{part}'" for part in COURSE)
    return subprocess.run(
        ["bash", "-c", f'course() {{ {quoted} "$@"; }}; {line}'], cwd=folder, check=False, timeout=60,
        env=environment(folder / "home", COURSE_WORK=str(folder / "work"), **more), capture_output=True,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252"])
@pytest.mark.soak(after=1)
def test_every_sign_has_a_look_alike_where_it_is_missing(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "progress.json").write_text('{"passed": ["0.1"]}')
    bar = course(tmp_path, "progress", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert bar.returncode == 0 and bar.stderr == b""
    text = bar.stdout.decode(encoding)
    assert ("█" if encoding == "cp437" else "#######...") in text
    wrong = course(tmp_path, "hint", "9.9", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert wrong.returncode == 1
    assert "  -> Choose" in wrong.stderr.decode(encoding)


@posix
def test_a_stream_that_is_closed_does_no_harm(tmp_path: Path) -> None:
    done = shell(tmp_path, "course progress >&- && course progress <&- && course progress 2>&-")
    assert (done.returncode, done.stderr) == (0, b"")


@posix
def test_a_pipe_that_is_closed_ends_it_quietly(tmp_path: Path) -> None:
    done = shell(tmp_path, "course progress | true; course solution 0.1 | head -1")
    assert done.stderr == b""


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_takes_nothing_more_is_a_sentence(tmp_path: Path, unbuffered: str) -> None:
    done = shell(tmp_path, "course progress > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("The output could not be written: No space left on device.\n  → ")


@posix
def test_a_folder_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    done = shell(tmp_path, "mkdir gone; cd gone; rmdir ../gone; course progress")
    assert done.returncode == 1
    assert done.stderr.decode() == "The folder you are in is no longer there.\n  → Go to another one: cd\n"


ABSURD = ["", "x" * 100_000, "a\nb", "../x", "1.3.4", "٣.٣", "*", "-", "1.", "9" * 50]
EACH = """
import json, sys
from course_lib.cli.entry import run
for command, argument in json.load(sys.stdin):
    sys.argv = ["course", command, "--", argument]
    code = run()
    print(f"\\n<{code}>", file=sys.stderr)
"""


def test_an_absurd_argument_is_a_sentence(tmp_path: Path) -> None:
    asked = [(command, argument) for command in ("check", "hint", "solution", "reset") for argument in ABSURD]
    done = subprocess.run(
        [sys.executable, "-c", EACH], env=environment(tmp_path / "home", COURSE_WORK=str(tmp_path / "work")),
        input=json.dumps(asked), capture_output=True, text=True, encoding="utf-8", check=False, timeout=60,
    )  # fmt: skip
    answers = done.stderr.split("\n<1>\n")
    assert done.returncode == 0 and len(answers) == len(asked) + 1, done.stderr[-1_000:]
    for said, question in zip(answers, asked, strict=False):
        assert "\n  → " in said and len(said) < 2_500 and "Traceback" not in said, (question[0], question[1][:20], said)
    assert done.stdout == "" and not (tmp_path / "work").exists()


def test_a_number_beyond_all_bounds_is_a_sentence(tmp_path: Path) -> None:
    done = course(tmp_path, "hint", "1.3", "99999999999999999999")
    assert done.returncode == 1 and done.stderr.startswith(b"1.3 has 3 hints.")


def test_what_nobody_foresaw_is_two_lines_and_a_file_without_secrets(tmp_path: Path) -> None:
    code = """
import os
import course_lib.exercises
def broken():
    raise RuntimeError("cannot use " + os.environ["DATABASE_URL"])
course_lib.exercises.progress = broken
from course_lib.cli import main
main()
"""
    secret = "postgresql://me:p4ssw0rd@127.0.0.1:1/x"
    done = subprocess.run(
        [sys.executable, "-c", code, "progress"], env=environment(tmp_path / "home", DATABASE_URL=secret),
        capture_output=True, text=True, encoding="utf-8", check=False, timeout=60,
    )  # fmt: skip
    report = tmp_path / "home" / "last-error.txt"
    assert done.returncode == 1
    assert done.stderr.startswith("Something the course did not foresee: RuntimeError: cannot use ")
    assert str(report) in done.stderr and len(done.stderr.splitlines()) == 2
    assert "in broken" in report.read_text()
    assert "p4ssw0rd" not in done.stderr + report.read_text()
    assert os.name == "nt" or report.stat().st_mode & 0o077 == 0


@posix
@pytest.mark.parametrize("seconds", [0.4, 0.9])
def test_an_interrupt_ends_it_without_a_traceback(tmp_path: Path, seconds: float) -> None:
    """Shells say 130 of either way to end."""
    process = subprocess.Popen(
        [*COURSE, "db", "url"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(tmp_path / "home", DATABASE_URL="postgresql://u@192.0.2.1/x"),
    )  # fmt: skip
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    if process.returncode == 1:
        pytest.skip("this network refuses the address at once")
    assert process.returncode in (130, -signal.SIGINT) and b"Traceback" not in said
