"""The ``course`` command: what each prints and how it ends, in the good case and in the bad."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

import course_lib.notebooks
from course_lib.cli import doctor
from course_lib.cli.app import app
from course_lib.lesson import open_lesson
from course_lib.notebooks import Workspace
from course_lib.postgres.watchdog import is_used
from course_lib.settings import REPOSITORY
from tests.postgres import conftest
from tests.postgres.places import cluster_in, environment, run_course, wait_until
from tests.test_workspace import edit, sources, write

folder, home = conftest.folder, conftest.home
shared_folder, shared_home = conftest.shared_folder, conftest.shared_home
your_server, point_at = conftest.your_server, conftest.point_at
ordinary_user = conftest.ordinary_user


def said(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    """Standard output, of a command that ended with ``code`` and without a traceback."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_up_list_and_down(folder: Path) -> None:
    home = folder / "home"
    assert said(run_course(home, "db", "down")) == "It was not running.\n"
    assert said(run_course(home, "db", "up")).startswith("PostgreSQL 18")
    assert cluster_in(home).process() is not None, "it runs on when the command has ended"
    assert said(run_course(home, "db", "list")) == "The course has made no database on this server yet.\n"
    assert said(run_course(home, "db", "down")) == "Stopped.\n"
    assert cluster_in(home).process() is None


async def test_list_says_what_each_database_is_and_whose(shared_home: Path) -> None:
    lesson = await open_lesson("02", "migrated")
    lines = said(run_course(shared_home, "db", "list", COLUMNS="200")).splitlines()
    assert lines[0].split() == ["database", "what", "owner", "connections"]
    (mine,) = [line for line in lines if line.startswith(lesson.database)]
    assert "lesson 02" in mine and f"process {os.getpid()} on" in mine and mine.split()[-2:] == ["running", "0"]
    assert any(line.startswith("course_template_migrated") and "template migrated" in line for line in lines)
    await lesson.close()


async def test_url_is_an_address_that_psql_takes(folder: Path) -> None:
    """With a space in the path, which must not become a plus sign."""
    import psycopg

    with conftest.course_home(folder / "with a space") as home:
        lesson = await open_lesson("02", "migrated")
        url = said(run_course(home, "db", "url", "2")).strip()
        with psycopg.connect(url) as connection:
            assert connection.info.dbname == lesson.database
        with psycopg.connect(said(run_course(home, "db", "url")).strip()) as connection:
            assert connection.info.dbname == "postgres"
        await lesson.close()


def test_url_of_your_server_has_no_password(your_server: conftest.YourServer, folder: Path) -> None:
    url = said(run_course(folder, "db", "url", DATABASE_URL=your_server.url(database="shop"))).strip()
    assert url == f"postgresql://admin@127.0.0.1:{your_server.port}/shop"


async def test_psql_opens_on_the_newest_or_on_the_lesson_asked_for(shared_home: Path) -> None:
    older, newer = await open_lesson("02", "migrated"), await open_lesson("03", "migrated")
    ask = "SELECT 'in ' || current_database();\n"
    assert f"in {newer.database}" in said(run_course(shared_home, "db", "psql", text=ask))
    assert f"in {older.database}" in said(run_course(shared_home, "db", "psql", "2", text=ask))
    await older.close()
    await newer.close()


def test_psql_on_your_server_has_the_password_in_no_command_line(
    your_server: conftest.YourServer, folder: Path
) -> None:
    ask = "\\! tr '\\0' ' ' < /proc/$PPID/cmdline\nSELECT 'as ' || current_user;\n"
    done = run_course(folder, "db", "psql", text=ask, DATABASE_URL=your_server.url())
    assert "as admin" in said(done)
    assert your_server.password not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["url", "psql"])
@pytest.mark.soak(after=1)
def test_a_lesson_that_is_not_open_is_a_sentence(shared_home: Path, command: str) -> None:
    done = run_course(shared_home, "db", command, "7")
    assert said(done, 1) == "No notebook has lesson 7 open.\n  → Run its first cell, then try again.\n"


@pytest.mark.parametrize("arguments", [("db", "up"), ("db", "list"), ("db", "url"), ("db", "psql")], ids=" ".join)
@pytest.mark.soak(after=1)
def test_a_server_that_cannot_be_reached_is_two_lines(folder: Path, arguments: tuple[str, ...]) -> None:
    done = run_course(folder, *arguments, DATABASE_URL="postgresql://u:p4ssw0rd@127.0.0.1:1/x")
    assert said(done, 1) == (
        "No PostgreSQL answers at 127.0.0.1:1.\n  → Check DATABASE_URL, or unset it to use the embedded server.\n"
    )
    assert done.stdout == ""


def test_a_folder_that_cannot_be_used_is_two_lines(folder: Path) -> None:
    (folder / "home").write_text("mine")
    assert "a file is in its place" in said(run_course(folder / "home", "db", "up"), 1)
    assert said(run_course(folder / "home", "db", "down")) == "It was not running.\n"


def test_doctor_finds_all_well_and_leaves_the_server_as_it_was(folder: Path) -> None:
    home = folder / "home"
    text = said(run_course(home, "doctor"))
    assert text.rstrip().endswith("All is well.")
    assert "[FAIL]" not in text and "it starts (and was stopped again)" in text
    assert cluster_in(home).process() is None
    said(run_course(home, "db", "up"))
    assert "stopped again" not in said(run_course(home, "doctor"))
    assert cluster_in(home).process() is not None


def test_doctor_leaves_a_server_running_that_somebody_found_meanwhile(folder: Path) -> None:
    with conftest.course_home(folder / "home"):
        cluster = cluster_in(folder / "home")
        cluster.ensure_running()
        with psycopg.connect(cluster.address().dsn):
            assert not doctor._stop_unless_used()
        assert cluster.process() is not None
        wait_until(lambda: not is_used(cluster))  # the server's process outlives its connection by a moment
        assert doctor._stop_unless_used()
        assert cluster.process() is None


@pytest.mark.parametrize("work", ["read-only", "a file"])
@pytest.mark.soak(after=1)
def test_doctor_says_that_copies_cannot_be_made(folder: Path, work: str, ordinary_user: list[str]) -> None:
    place = folder / "place"
    place.mkdir() if work == "read-only" else place.touch()
    code = "from course_lib.cli import main; main()"
    command = [*ordinary_user, sys.executable, "-c", code, "doctor"]
    more = environment(folder / "home", COURSE_WORK=str(place / "work"), DATABASE_URL="postgresql://u@127.0.0.1:1/x")
    done = subprocess.run(command, cwd=REPOSITORY, env=more, capture_output=True, text=True, check=False)
    assert "[FAIL] your copies:" in done.stdout and "COURSE_WORK" in done.stdout


def test_no_failure_inside_doctor_sends_one_to_doctor(folder: Path) -> None:
    """A circle."""
    home = folder / "home"
    said(run_course(home, "db", "up"))
    cluster = cluster_in(home)
    cluster.stop()
    (cluster.folder / "lock").unlink(missing_ok=True)
    (cluster.folder / "lock").mkdir()
    done = run_course(home, "doctor")
    assert done.returncode == 1 and "[FAIL] server" in done.stdout and "course doctor" not in done.stdout


def test_doctor_names_what_is_missing_and_ends_with_1(folder: Path) -> None:
    done = run_course(folder, "doctor", DATABASE_URL="postgresql://u:p4ssw0rd@127.0.0.1:1/x")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "[FAIL] server: No PostgreSQL answers at 127.0.0.1:1.\n       → Check DATABASE_URL" in done.stdout
    assert re.search(r"\n1 to mend", done.stdout)
    assert "p4ssw0rd" not in done.stdout + done.stderr


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A repository of one lesson, in place of this one: the learner's own ``work/`` is not for tests."""
    write(tmp_path / "notebooks" / "00_start.ipynb", "1 + 1")
    workspace = Workspace(tmp_path / "work", tmp_path)
    workspace.prepare()
    monkeypatch.setattr(course_lib.notebooks, "Workspace", lambda: workspace)
    return workspace


def test_reset_gives_a_lesson_back_and_says_so(workspace: Workspace) -> None:
    edit(workspace.folder / "00_start.ipynb", "mine")
    done = CliRunner().invoke(app, ["reset", "0"])
    (kept,) = (workspace.folder / "backup").iterdir()
    said = f"{Path('work/00_start.ipynb')} is as it was.\nYours is kept as {kept.relative_to(workspace.repository)}.\n"
    assert (done.exit_code, done.output) == (0, said)
    assert sources(workspace.folder / "00_start.ipynb") == ["1 + 1"]


def test_reset_of_an_unknown_lesson_is_a_sentence(folder: Path) -> None:
    text = said(run_course(folder, "reset", "98"), 1)
    assert text.startswith("There is no lesson 98.\n  → Choose one of: 00")


def test_help_starts_nothing(folder: Path) -> None:
    assert "doctor" in said(run_course(folder / "home", "--help"))
    assert not (folder / "home").exists()
