"""What was asked stays known: with two terminals, after a crash, beside what somebody else has written there."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from course_lib.errors import CourseError
from course_lib.interview.memory import Memory, Review, folder, remember, set_date
from course_lib.settings import get_settings

AT = datetime(2026, 12, 7, 19, tzinfo=UTC)
WRITER = """
from datetime import datetime, timedelta, UTC
from course_lib.interview.memory import Review, remember
import sys
for number in range(30):
    remember(Review(id=f"{sys.argv[1]}-{number}", at=datetime(2026, 12, 7, tzinfo=UTC), grade="good", seconds=1))
    print(number, flush=True)
"""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "work"))
    get_settings.cache_clear()
    return tmp_path / "work"


def review(id: str) -> Review:
    return Review(id=id, at=AT, grade="hard", seconds=12.5, points=3)


def test_nothing_is_remembered_before_the_first_review(work: Path) -> None:
    assert Memory.load() == Memory()
    assert not work.exists()


def test_reviews_and_the_date_stay() -> None:
    assert remember(review("a")) == set_date(date(2026, 12, 14)) == remember(review("b"), review("c")) == ""
    assert Memory.load() == Memory(until=date(2026, 12, 14), reviews=(review("a"), review("b"), review("c")))
    set_date(None)
    assert Memory.load().until is None


def test_two_terminals_lose_nothing() -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name], stdout=subprocess.DEVNULL) for name in ("one", "other")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len({found.id for found in Memory.load().reviews}) == 60


def test_a_crash_leaves_what_was_written_whole() -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, "one"], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(5)]
        writer.kill()
    assert len(Memory.load().reviews) >= len(said)
    remember(review("after"))
    assert Memory.load().reviews[-1].id == "after"


def test_what_a_later_version_wrote_besides_is_kept() -> None:
    remember(review("a"))
    file = folder() / "memory.json"
    content = json.loads(file.read_text())
    content["later"] = content["reviews"][0]["later"] = {"x": [1]}
    file.write_text(json.dumps(content))
    remember(review("b"))
    after = json.loads(file.read_text())
    assert after["later"] == after["reviews"][0]["later"] == {"x": [1]}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"reviews": [{"id": 1}]}', '{"until": "soon"}', "\x00"])
def test_what_cannot_be_understood_is_put_aside(text: str) -> None:
    folder().mkdir(parents=True)
    (folder() / "memory.json").write_text(text)
    assert Memory.load() == Memory()
    remark = remember(review("a"))
    assert "kept as memory.json.unreadable" in remark
    assert (folder() / "memory.json.unreadable").read_text() == text
    assert Memory.load().reviews == (review("a"),)


def test_a_folder_that_cannot_be_written_is_a_sentence(work: Path) -> None:
    work.write_text("a file")
    with pytest.raises(CourseError, match="is in the place of the folder"):
        remember(review("a"))
