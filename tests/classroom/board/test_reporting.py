"""A learner's side: verdicts get to the board in the background, late if need be, and nothing else gets there."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from course_lib.exercises import check
from course_lib.exercises.check import take_note
from course_lib.exercises.manifest import find_exercise
from course_lib.judging.board import seat, wait_for_sending
from course_lib.judging.board.seat import Kept
from course_lib.judging.verdict import Finding, State, Verdict
from course_lib.settings import REPOSITORY, get_settings
from tests.classroom.board.classes import WORD, Class, SitDown
from tests.postgres.places import start_python

SECRET = "m4rk3d"


def judged(id: str = "1.3", state: State = "wrong", mistake: str = "raised") -> Verdict:
    """A verdict, with the learner's own words wherever there is room for them."""
    finding = Finding(state, "" if state == "right" else mistake, f"It said {SECRET}.", f"line {SECRET}", SECRET)
    return Verdict.of(find_exercise(id), finding)


def note(*verdicts: Verdict) -> None:
    """As a check does, and wait until all is sent that can be."""
    for verdict in verdicts:
        take_note(verdict)
    wait_for_sending(10)


def kept_file() -> Path:
    return get_settings().work / "class.json"


@pytest.fixture
def away(friday: Class, sit_down: SitDown) -> Iterator[None]:
    """The class's server, while nobody can reach it; it comes back at the end."""
    sit_down("ada")
    friday.server.cluster.stop()
    try:
        yield
    finally:
        friday.server.cluster._start_server()


# -- what is told ------------------------------------------------------------------------------------------


async def one_too_few(session: object) -> int:
    return -1


async def test_a_check_is_told_to_the_board(friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch) -> None:
    sit_down("ada")
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "count_users", one_too_few)
        assert (await check("0.1")).mistake == "remembered"
    await asyncio.to_thread(wait_for_sending, 10)
    assert friday.standings() == {("ada", "0.1"): ("wrong", "remembered", 1)}
    assert (await check("0.1")).state == "not attempted"
    await asyncio.to_thread(wait_for_sending, 10)
    assert friday.standings() == {("ada", "0.1"): ("not attempted", "not attempted", 1)}


def test_nothing_that_a_learner_wrote_or_printed_is_told(friday: Class, sit_down: SitDown) -> None:
    sit_down("ada")
    note(judged(), judged("1.4", "right"))
    assert friday.standings() == {("ada", "1.3"): ("wrong", "raised", 1), ("ada", "1.4"): ("right", "", 1)}
    for table in ("learners", "standings", "received"):
        assert SECRET not in str(friday.look(f"SELECT one::text FROM board.{table} AS one"))
    for file in get_settings().work.iterdir():
        assert SECRET not in file.read_text(encoding="utf-8")
        assert WORD not in json.loads(file.read_text(encoding="utf-8") or "{}").get("waiting", [])


@pytest.mark.parametrize(("name", "value"), [("COURSE_CLASS", ""), ("NBGRADER_EXECUTION", "validate")])
def test_nothing_is_told_or_kept_outside_a_class_and_while_a_grader_runs(
    name: str, value: str, friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_down("ada")
    monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    note(judged())
    assert friday.standings() == {} and not kept_file().exists()


def test_many_at_once_are_all_told(friday: Class, sit_down: SitDown) -> None:
    sit_down("ada")
    note(*(judged() for _ in range(30)))
    assert friday.standings() == {("ada", "1.3"): ("wrong", "raised", 30)}
    assert Kept.load().waiting == []


def test_two_notebooks_at_once_lose_nothing(friday: Class, sit_down: SitDown) -> None:
    sit_down("ada")
    code = """
from course_lib.judging.board import wait_for_sending
from tests.classroom.board.test_reporting import judged, take_note
for _ in range(20):
    take_note(judged())
wait_for_sending(20)
"""
    programs = [start_python(None, code, PYTHONPATH=str(REPOSITORY), **seat_of_this_process()) for _ in range(2)]
    for program in programs:
        out, err = program.communicate(timeout=60)
        assert program.returncode == 0, out + err
    note(judged("1.4", "right"))
    assert friday.standings()["ada", "1.3"] == ("wrong", "raised", 40)


# -- no network --------------------------------------------------------------------------------------------


def test_what_could_not_be_sent_is_sent_with_the_next_check(away: None, friday: Class) -> None:
    """With the time at which it was."""
    began = time.monotonic()
    take_note(judged())
    take_note(judged("1.4", "right"))
    assert time.monotonic() - began < 1
    wait_for_sending(20)
    assert [one.exercise for one in Kept.load().waiting] == ["1.3", "1.4"]
    time.sleep(1.2)
    friday.server.cluster._start_server()
    note(judged("1.5"))
    assert {id: row[2] for (_, id), row in friday.standings().items()} == {"1.3": 1, "1.4": 1, "1.5": 1}
    assert Kept.load().waiting == []
    ((apart,),) = friday.look("SELECT extract(epoch FROM max(seen_at) - min(seen_at)) FROM board.standings")
    assert 1.2 <= apart < 60


def test_so_many_wait_at_most_and_the_latest_are_kept(
    away: None, friday: Class, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "MOST", 5)
    for number in range(1, 9):
        take_note(judged(f"1.{number}"))
    wait_for_sending(20)
    assert [one.exercise for one in Kept.load().waiting] == [f"1.{number}" for number in range(4, 9)]


def test_a_check_is_not_held_up_by_a_server_that_says_nothing(
    friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the end of the program, for longer than a moment."""
    sit_down("ada")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("DATABASE_URL", f"postgresql://friday_ada:x@127.0.0.1:{silent.getsockname()[1]}/x")
        get_settings.cache_clear()
        began = time.monotonic()
        for _ in range(5):
            take_note(judged())
        assert time.monotonic() - began < 1
        assert sum(thread.name == "course-board" for thread in threading.enumerate()) <= 2
        began = time.monotonic()
        wait_for_sending()
        assert time.monotonic() - began < 2
    wait_for_sending(20)
    assert len(Kept.load().waiting) == 5


def test_who_works_on_the_embedded_server_meanwhile_catches_up(
    friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_down("ada")
    note(judged())
    monkeypatch.delenv("DATABASE_URL")
    get_settings.cache_clear()
    note(judged(), judged("1.4", "right"))
    assert len(Kept.load().waiting) == 2
    sit_down("ada")
    note(judged("1.5"))
    assert friday.standings()["ada", "1.3"][2] == 2 and ("ada", "1.4") in friday.standings()


def test_a_verdict_is_told_under_the_name_it_was_made_under(
    friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where two share a computer, one after the other."""
    sit_down("ada")
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "shared"))
    monkeypatch.setenv("DATABASE_URL", friday.url("ada").replace(str(friday.server.port), "1"))
    get_settings.cache_clear()
    note(judged())
    sit_down("bruno")
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "shared"))
    get_settings.cache_clear()
    note(judged("1.4"))
    assert set(friday.standings()) == {("bruno", "1.4")}
    sit_down("ada")
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "shared"))
    get_settings.cache_clear()
    note(judged("1.5"))
    assert set(friday.standings()) == {("bruno", "1.4"), ("ada", "1.3"), ("ada", "1.5")}


# -- where it cannot be told -------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"waiting": [{"id": 7}]}', b"x" * 2**19])
def test_a_file_that_cannot_be_understood_is_put_aside(content: bytes, friday: Class, sit_down: SitDown) -> None:
    sit_down("ada")
    kept_file().parent.mkdir(parents=True)
    kept_file().write_bytes(content)
    note(judged())
    assert set(friday.standings()) == {("ada", "1.3")}
    assert kept_file().with_name("class.json.unreadable").read_bytes() == content


def test_a_folder_that_cannot_be_written_costs_no_verdict(friday: Class, sit_down: SitDown, tmp_path: Path) -> None:
    sit_down("ada")
    (tmp_path / "ada").write_text("a file in the place of the folder")
    note(judged())
    assert friday.standings() == {}


def test_a_server_without_that_class_is_left_alone(
    friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_down("ada")
    monkeypatch.setenv("COURSE_CLASS", "tuesday")
    get_settings.cache_clear()
    before = friday.server.contents()
    note(judged())
    assert friday.server.contents() == before and friday.standings() == {}


@pytest.mark.parametrize("forged", ["their functions", "their search path"])
def test_a_neighbours_database_of_the_classs_name_gets_nothing_to_run(
    forged: str, friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that runs as its caller would run as the learner who tells it a verdict."""
    server = friday.server
    with psycopg.connect(friday.url("mallory"), autocommit=True) as mallory:
        mallory.execute("CREATE DATABASE course_class_sunday")
        mallory.execute("GRANT CONNECT ON DATABASE course_class_sunday TO PUBLIC")
        if forged == "their search path":
            mallory.execute("ALTER DATABASE course_class_sunday SET search_path = evil, pg_catalog")
    take_over = "EXECUTE $x$ALTER ROLE CURRENT_USER PASSWORD 'taken'$x$"
    with psycopg.connect(server.url("friday_mallory", WORD, "course_class_sunday"), autocommit=True) as inside:
        inside.execute("CREATE SCHEMA board")
        inside.execute("CREATE SCHEMA evil")
        inside.execute("GRANT USAGE ON SCHEMA board, evil TO PUBLIC")
        evil = f"LANGUAGE plpgsql AS $$ BEGIN {take_over}; RETURN NULL; END $$"
        for name, answer in {
            "board.report(jsonb)": "uuid[]", "board.show_me(boolean)": "boolean", "board.mine()": "boolean",
            "board.am_i_shown()": "boolean", "evil.set_config(text, text, boolean)": "text",
            "evil.current_database()": "name", "evil.pg_has_role(oid, oid, text)": "boolean",
            "evil.count(int)": "bigint",
        }.items():  # fmt: skip
            inside.execute(f"CREATE FUNCTION {name} RETURNS {answer} {evil}".encode())
    server.execute("CREATE ROLE course_class_sunday", "GRANT course_class_sunday TO friday_ada")
    before = passwords(friday)
    sit_down("ada")
    monkeypatch.setenv("COURSE_CLASS", "sunday")
    get_settings.cache_clear()
    note(judged())
    assert passwords(friday) == before
    assert len(Kept.load().waiting) == 1
    server.execute("DROP DATABASE course_class_sunday WITH (FORCE)", "DROP ROLE course_class_sunday")


def passwords(friday: Class) -> list[tuple[object, ...]]:
    return friday.look("SELECT rolname::text, rolpassword FROM pg_authid ORDER BY 1")


def test_a_program_that_ends_after_its_check_has_told_it(friday: Class, sit_down: SitDown) -> None:
    """As ``course check 1.3`` does."""
    sit_down("ada")
    check_and_end()
    assert set(friday.standings()) == {("ada", "1.3")}


def test_a_program_ends_without_a_word_though_nobody_answers(
    friday: Class, sit_down: SitDown, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_down("ada")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("DATABASE_URL", f"postgresql://friday_ada:x@127.0.0.1:{silent.getsockname()[1]}/x")
        check_and_end()
    assert [one.exercise for one in Kept.load().waiting] == ["1.3"]


def check_and_end() -> None:
    code = "from tests.classroom.board.test_reporting import judged, take_note; take_note(judged())"
    program = start_python(None, code, PYTHONPATH=str(REPOSITORY), **seat_of_this_process())
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out, err) == (0, "", "")


def seat_of_this_process() -> dict[str, str]:
    return {name: os.environ[name] for name in ("DATABASE_URL", "COURSE_WORK", "COURSE_CLASS")}
