"""``course lab``: its terminals know the command, and a second one on the same folder says where the first is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from websocket import create_connection

from course_lib.cli.present import _leading_to
from course_lib.cli.running_lab import NOTE, RunningLab, noted, terminal_shell, with_course_on_path
from tests.postgres import conftest
from tests.postgres.places import run_course, start_python
from tests.postgres.test_no_open_door import LAB, address_of

shared_folder = conftest.shared_folder
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and shells of POSIX")


@pytest.fixture(scope="module")
def lab(shared_folder: Path) -> Iterator[tuple[Path, str, str]]:
    """A JupyterLab on a folder of its own, started where no path leads to the command: folder, address, token."""
    work = shared_folder / "work"
    process = start_python(shared_folder / "home", LAB, COURSE_WORK=str(work), PATH=os.defpath, SHELL="/bin/sh")
    try:
        yield shared_folder, *address_of(process)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert not (work / NOTE).exists(), "and the note is taken away"


def typed(where: str, token: str, line: str, until: str) -> str:
    """What a terminal of JupyterLab shows after ``line``, until ``until`` is among it."""
    request = urllib.request.Request(f"{where}/api/terminals", b"{}", {"Authorization": f"token {token}"})
    name = json.load(urllib.request.urlopen(request, timeout=60))["name"]
    terminal = create_connection(
        f"{where.replace('http', 'ws')}/terminals/websocket/{name}?token={token}", timeout=30, origin=where
    )
    shown, deadline = "", time.monotonic() + 30
    terminal.send(json.dumps(["stdin", f"{line}\r"]))
    while until not in shown:
        assert time.monotonic() < deadline, shown
        kind, *content = json.loads(terminal.recv())
        shown += content[0] if kind == "stdout" else ""
    terminal.close()
    return shown


@pytest.mark.skipif(not (Path(sys.executable).parent / "course").exists(), reason="the package is not installed")
def test_a_terminal_of_jupyterlab_knows_the_command(lab: tuple[Path, str, str]) -> None:
    _, where, token = lab
    shown = typed(where, token, "course hint 1.3 9; echo ready-$((1 + 1))", "ready-2")
    assert "  → Try: course hint 1.3 1" in shown.splitlines()


def test_a_second_one_says_where_the_first_is_and_ends(lab: tuple[Path, str, str]) -> None:
    folder, where, token = lab
    done = run_course(folder / "home", "lab", "--no-browser", COURSE_WORK=str(folder / "work"))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{where}/lab/tree/00_start_here.ipynb?token={token}\n" in done.stdout
    assert str(folder / "work") in done.stdout and done.stdout.count("\n") == 2
    note = (folder / "work" / NOTE).read_text()
    assert token not in note, "which others may read"
    assert f"kill {json.loads(note)['pid']}" in done.stdout


def test_a_lesson_is_presented_in_the_one_that_runs(lab: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, where, token = lab
    done = run_course(folder / "home", "present", "3", "--no-browser", COURSE_WORK=str(folder / "work"))
    assert f"{where}/doc/tree/03_transactions.ipynb?token={token}\n" in done.stdout
    page = urllib.request.urlopen(f"{where}/doc/tree/03_transactions.ipynb?token={token}", timeout=60).read()
    assert b"retroMode" in page or b"JupyterLab" in page
    for arguments, said in ((["77"], "There is no lesson 77"), (["**"], "is no lesson's"), (["3"], "does not run")):
        elsewhere = str(tmp_path) if said == "does not run" else str(folder / "work")
        (tmp_path / "03_transactions.ipynb").touch()
        refused = run_course(folder / "home", "present", *arguments, COURSE_WORK=elsewhere)
        assert refused.returncode == 1 and said in refused.stderr and "Traceback" not in refused.stderr


def test_a_browser_is_started_with_no_token_in_its_address(tmp_path: Path) -> None:
    page = _leading_to('http://localhost:8888/doc/tree/a"b?token=secret', tmp_path)
    assert "secret" not in page.as_uri() and 'a&quot;b?token=secret">' in page.read_text()


def test_who_cannot_read_the_address_is_told_where_it_stands(lab: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, _, token = lab
    note = json.loads((folder / "work" / NOTE).read_text())
    (tmp_path / NOTE).write_text(json.dumps(note | {"runtime": str(tmp_path / "not mine")}))
    done = run_course(folder / "home", "lab", COURSE_WORK=str(tmp_path))
    assert done.returncode == 0 and "in the terminal where it was started" in done.stdout and token not in done.stdout


def test_one_that_does_not_take_connections_yet_does_not_listen(tmp_path: Path) -> None:
    with noted(tmp_path, os.getpid(), tmp_path) as lab, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        told = {"port": taken.getsockname()[1], "token": "t", "base_url": "/"}
        (tmp_path / f"jpserver-{os.getpid()}.json").write_text(json.dumps(told))
        assert lab.address("x") and not lab.listens()
        taken.listen()
        assert lab.listens()


def test_one_that_was_killed_is_not_running(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with noted(tmp_path, process.pid, tmp_path) as lab:
        assert RunningLab.on(tmp_path) == lab and lab.address("lab") is None
        note = (tmp_path / NOTE).read_text()
    assert RunningLab.on(tmp_path) is None
    (tmp_path / NOTE).write_text(note)
    process.kill()
    process.wait()
    assert RunningLab.on(tmp_path) is None
    given_again = lab.model_copy(update={"pid": os.getpid(), "since": psutil.Process().create_time() - 3600})
    (tmp_path / NOTE).write_text(given_again.model_dump_json())
    assert RunningLab.on(tmp_path) is None, "its number is another process's now"


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"pid": -1, "since": 0, "runtime": "x"}'])
def test_a_note_that_says_nothing_is_none(tmp_path: Path, note: str) -> None:
    (tmp_path / NOTE).write_text(note)
    assert RunningLab.on(tmp_path) is None


def test_the_folder_of_the_command_comes_first_on_the_path_and_uv_is_forgotten() -> None:
    found = with_course_on_path({"PATH": "/usr/bin", "UV_RUN_RECURSION_DEPTH": "1", "HOME": "/h"})
    assert found == {"PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin", "HOME": "/h"}
    assert with_course_on_path({})["PATH"] == str(Path(sys.executable).parent)


def test_a_terminals_shell_is_ones_own_and_no_login_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/opt/my shells/fish")
    assert terminal_shell() == ["--ServerApp.terminado_settings=shell_command='/opt/my shells/fish'"]
