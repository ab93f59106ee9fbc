"""A class on one machine, by the commands that a teacher types, on the embedded server."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.postgres.conftest import temporary_folder
from tests.postgres.places import has_ended, run_course, run_python, wait_until

CREATED = """\
The class has 2 learners.
  2 made, 0 were there
  server: 127.0.0.1:PORT
  passwords: WORK/classroom/class/credentials.csv, which only you can read
  sheets: WORK/classroom/class/sheets.html, to print; one file each in the folder beside it
  The sheets name this machine, so they are good here only.
  next: uv run course classroom check

"""
CHECKED = """\
[OK]   passwords: 2 of 2 learners log in
[OK]   rights: no roles, no files and no programs of the server, no settings
[OK]   pgvector: in the databases of all
[OK]   database course_class_class: all enter it, and nobody reads or writes its tables
[OK]   limits: 20 connections each
[OK]   databases of others: nobody enters a neighbour's, nor any other learner's
[OK]   databases of the server: nobody enters them
[OK]   connections: 40 for the class, 13 in reserve; the server allows 2000

All is well.
"""
Course = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with temporary_folder() as folder:
        (folder / "roster.csv").write_text("name;login\nAda Lovelace;ada\nBruno;\n", encoding="utf-8")
        yield folder


@pytest.fixture(scope="module")
def course(place: Path) -> Course:
    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        surroundings = {"COURSE_WORK": str(place / "work"), "UV_RUN_RECURSION_DEPTH": "1", "COLUMNS": "80"}
        return run_course(place / "home", "classroom", *words, **surroundings, **more)

    return run


@pytest.fixture(scope="module")
def created(course: Course, place: Path) -> subprocess.CompletedProcess[str]:
    return course("create", str(place / "roster.csv"))


def lines(place: Path) -> dict[str, dict[str, str]]:
    with (place / "work/classroom/class/credentials.csv").open(encoding="utf-8", newline="") as file:
        return {row["login"]: row for row in csv.DictReader(file)}


def test_create_says_where_everything_is_and_no_password(
    created: subprocess.CompletedProcess[str], place: Path
) -> None:
    assert created.stderr == ""
    assert re.sub(r"(127\.0\.0\.1:)\d+", r"\1PORT", created.stdout).replace(str(place / "work"), "WORK") == CREATED


@pytest.mark.usefixtures("created")
def test_check_and_sizes(course: Course) -> None:
    assert course("check").stdout.partition("\n")[2] == CHECKED
    shown = course("sizes").stdout
    assert [line.split()[:2] for line in shown.splitlines()[:4]] == [
        ["learner", "databases"], ["ada", "1"], ["bruno", "1"], ["together", "2"],
    ]  # fmt: skip
    assert "MB are free on the server's disk." in shown


@pytest.mark.usefixtures("created")
def test_a_lesson_of_a_learner(place: Path) -> None:
    """With nothing of the teacher's but the sheet: another home, and the address."""
    code = """
import asyncio
from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import solution_answer
from course_lib.lesson import open_lesson
async def whole():
    lesson = await open_lesson("02")
    exercise = find_exercise("6.6")
    print(lesson.url.username, (await judge_answer(exercise, solution_answer(exercise))).passed)
    await lesson.close()
asyncio.run(whole())
"""
    out = run_python(place / "ada", code, DATABASE_URL=lines(place)["ada"]["url"])
    assert out.splitlines()[-1] == "class_ada True"


@pytest.mark.usefixtures("created")
def test_what_would_end_is_said_and_needs_a_yes(course: Course) -> None:
    for words, sentence in {
        ("remove", "bruno"): "This would end bruno of the class: 1 database (8 MB).",
        ("archive",): "2 learners of the class would be disconnected, and could not log in any more",
        ("destroy",): "This would end the class with 2 learners:",
    }.items():
        done = course(*words)
        assert done.returncode == 1 and done.stderr.startswith(sentence), done.stderr
        assert done.stderr.endswith(f"→ To do it: uv run course classroom {' '.join(words)} --yes\n")
    assert course("check").returncode == 0


@pytest.mark.usefixtures("created")
def test_the_server_comes_back_where_it_was(course: Course, place: Path) -> None:
    """Stopped by the teacher, and killed: at the address that is on the sheets, with all that was in it."""
    url = lines(place)["ada"]["url"]
    with psycopg.connect(url) as ada:
        ada.execute("CREATE TABLE notes ()")
    assert course("down").stdout == "Stopped.\n" and course("down").stdout == "It was not running.\n"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    assert course("up").stdout.startswith("PostgreSQL 18")
    pid = int((place / "home/class-18/data/postmaster.pid").read_text().split()[0])
    psutil.Process(pid).kill()
    wait_until(lambda: not psutil.pid_exists(pid) or has_ended(psutil.Process(pid)))
    assert course("check").returncode == 0
    with psycopg.connect(url) as ada:
        ada.execute("SELECT FROM notes")


@pytest.mark.usefixtures("created")
def test_it_is_not_the_server_of_the_teachers_lessons(course: Course, place: Path) -> None:
    assert run_course(place / "home", "db", "up").returncode == 0
    assert run_course(place / "home", "db", "list").stdout.startswith("The course has made no database")
    assert run_course(place / "home", "db", "down").stdout == "Stopped.\n"
    psycopg.connect(lines(place)["ada"]["url"]).close()
    done = course("down", DATABASE_URL=lines(place)["ada"]["url"])
    assert done.returncode == 1 and "a server that the course did not start" in done.stderr


@pytest.mark.usefixtures("created")
def test_a_learner_cannot_end_the_class(course: Course, place: Path) -> None:
    """With the teacher's commands and the address of their sheet."""
    url = lines(place)["ada"]["url"]
    for words in (["destroy", "--yes"], ["archive", "--yes"], ["remove", "bruno", "--yes"]):
        done = course(*words, DATABASE_URL=url)
        assert done.returncode == 1 and "was made by another role" in done.stderr, done.stderr
    done = course("create", str(place / "roster.csv"), DATABASE_URL=url)
    assert "may not create roles" in done.stderr
    assert course("check").returncode == 0


@pytest.mark.usefixtures("created")
def test_destroyed_at_last(course: Course, place: Path) -> None:
    url = lines(place)["ada"]["url"]
    assert course("remove", "bruno", "--yes").stdout.startswith("Ended: bruno of the class, 1 database")
    assert course("destroy", "--yes").stdout.startswith("Ended: the class with 1 learner,")
    assert not (place / "work/classroom/class").exists()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)
    assert "There is no class called class" in course("check").stderr
