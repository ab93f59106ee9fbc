"""What has been solved is never lost: written whole, merged, put aside when it cannot be understood, and said so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from course_lib.exercises import hint, progress, solution
from course_lib.judging.record import Record, take_remarks
from course_lib.settings import get_settings
from tests.postgres.places import environment


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A learner's folder in which nothing is yet."""
    folder = tmp_path / "work"
    monkeypatch.setenv("COURSE_WORK", str(folder))
    get_settings.cache_clear()
    take_remarks()
    yield folder
    take_remarks()
    get_settings.cache_clear()


BAD = {
    "empty": b"",
    "binary": b"\0\xff\xfe",
    "half": b'{"passed": ["0.1"',
    "a list": b"[]",
    "passed is a string": b'{"passed": "0.1"}',
    "hints is a list": b'{"passed": [], "hints": [], "asked": {}}',
    "numbers as strings": b'{"hints": {"0.1": "2"}}',
    "a negative number": b'{"hints": {"0.1": -5}}',
    "not a number": b'{"hints": {"0.1": NaN}}',
    "a number of 6,000 digits": b'{"hints": {"0.1": ' + b"9" * 6_000 + b"}}",
    "deep": b'{"passed": ' + b"[" * 100_000,
    "10 MB": b'{"passed": ["' + b"x" * 10_000_000 + b'"]}',
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_bad_record_is_put_aside_and_said_once(work: Path, content: bytes) -> None:
    work.mkdir()
    (work / "progress.json").write_bytes(content)
    assert "could not be understood. It is kept as progress.json.unreadable" in str(progress())
    assert "understood" not in str(progress())
    assert (work / "progress.json.unreadable").read_bytes() == content
    hint("0.1")
    assert Record.load().hints == {"0.1": 1}
    (work / "progress.json").write_bytes(b"bad again")
    assert "It is kept as progress.json.unreadable-2" in solution("0.1")
    assert take_remarks() == []
    assert (work / "progress.json.unreadable").read_bytes() == content
    assert (work / "progress.json.unreadable-2").read_bytes() == b"bad again"


def test_a_folder_in_the_place_of_the_record_is_put_aside(work: Path) -> None:
    (work / "progress.json").mkdir(parents=True)
    (work / "progress.json" / "mine").write_text("kept")
    hint("0.1")
    assert Record.load().hints == {"0.1": 1}
    assert (work / "progress.json.unreadable" / "mine").read_text() == "kept"


def test_a_byte_order_mark_does_no_harm(work: Path) -> None:
    work.mkdir()
    (work / "progress.json").write_bytes(b'\xef\xbb\xbf{"passed": ["0.1"]}')
    assert Record.load().passed == ["0.1"] and take_remarks() == []


def test_what_a_later_version_wrote_is_kept(work: Path) -> None:
    work.mkdir()
    (work / "progress.json").write_text('{"passed": ["0.1"], "hints": {}, "asked": {}, "seen": {"drill": [1.5]}}')
    hint("0.2")
    content = json.loads((work / "progress.json").read_text())
    assert content == {"passed": ["0.1"], "hints": {"0.2": 1}, "asked": {}, "seen": {"drill": [1.5]}}


def test_a_record_that_somebody_saved_meanwhile_is_added_to(work: Path) -> None:
    mine, theirs = Record.load(), Record.load()
    theirs.passed.append("0.1")
    theirs.save()
    mine.passed.append("0.2")
    mine.hints["0.1"] = 2
    mine.save()
    assert set(Record.load().passed) == {"0.1", "0.2"} and Record.load().hints == {"0.1": 2}


def test_checks_in_several_processes_lose_nothing(work: Path) -> None:
    code = """
import sys
from course_lib.judging.record import Record
for number in range(10):
    record = Record.load()
    record.passed.append(f"{sys.argv[1]}.{number}")
    record.save()
"""
    started = [
        subprocess.Popen([sys.executable, "-c", code, name], env=environment(None, COURSE_WORK=str(work)))
        for name in "ab"
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    assert len(set(Record.load().passed)) == 20
    assert sorted(path.name for path in work.iterdir() if path.name != ".progress.lock") == ["progress.json"]


def test_where_nothing_can_be_written_nothing_fails_and_it_is_said(work: Path) -> None:
    work.write_text("a file in its place")
    said = hint("0.1")
    assert "not remembered" in said or "nothing is remembered" in said
    assert work.read_text() == "a file in its place"


def test_a_grader_leaves_the_record_alone(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work.mkdir()
    (work / "progress.json").write_text("bad")
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    hint("0.1")
    assert [path.name for path in work.iterdir()] == ["progress.json"]
    assert (work / "progress.json").read_text() == "bad"


def test_a_link_to_the_record_stays_a_link(work: Path, tmp_path: Path) -> None:
    work.mkdir()
    (tmp_path / "synchronised.json").write_text('{"passed": ["0.1"]}')
    (work / "progress.json").symlink_to(tmp_path / "synchronised.json")
    hint("0.1")
    assert json.loads((tmp_path / "synchronised.json").read_text())["hints"] == {"0.1": 1}
    assert (work / "progress.json").is_symlink()
