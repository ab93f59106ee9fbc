"""Design questions: their facts stand beside them wherever they are asked, and an answer has paragraphs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from course_lib import drill
from course_lib.interview.lookup import bank
from course_lib.interview.memory import Memory
from course_lib.interview.mock import Interview, Part, unfinished
from course_lib.interview.report import write_report
from course_lib.interview.schema import Design
from course_lib.interview.tasks import find_task, title_of
from course_lib.settings import get_settings
from tests.interview.terminal import Terminal, course

DESIGNS = [question for question in bank() if isinstance(question, Design)]
ID = "design-token-limits"
NOW = datetime(2026, 12, 7, 19, tzinfo=UTC)
needs_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "work"))
    get_settings.cache_clear()
    return tmp_path / "work"


def question() -> Design:
    found = find_task(ID)
    assert isinstance(found, Design)
    return found


def folded(text: str) -> str:
    return " ".join(text.split())


def write_two_paragraphs(terminal: Terminal) -> str:
    """Answer with an empty line in it; what stood there before."""
    before = terminal.wait_for("> ")
    for line in ("Reserve first.", "", "Settle later.", "", ""):
        terminal.type(f"{line}\n")
    return folded(before)


def test_there_are_ten_and_most_are_for_seniors() -> None:
    assert len(DESIGNS) >= 10
    assert 2 <= sum(design.level == "mid" for design in DESIGNS) <= 3
    assert not [design.id for design in DESIGNS if design.level == "junior"]


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.id)
def test_each_is_written_as_the_course_writes(design: Design) -> None:
    for fact in design.given:
        assert "!" not in fact
        assert fact.endswith(".")
    assert not design.title.endswith(".")
    assert len(title_of(design)) < 60
    levels = [one.level for one in DESIGNS]
    assert levels == sorted(levels)


@needs_a_terminal
def test_its_facts_are_shown_and_its_answer_has_paragraphs() -> None:
    with course("drill", ID) as terminal:
        before = write_two_paragraphs(terminal)
        assert question().title in before
        assert all(folded(fact) in before for fact in question().given)
        for _ in question().points:
            terminal.wait_for("y or n: ")
            terminal.type("y\n")
        terminal.wait_for("press Enter. ")
        terminal.interrupt()
        end = terminal.rest()
    assert f"{len(question().points)} of {len(question().points)} points. Kept as easy." in folded(end)
    assert "Left." in end
    assert max(map(len, terminal.shown.splitlines())) <= 80
    assert [review.id for review in Memory.load().reviews] == [ID], "rated, though its follow-ups were left"


@needs_a_terminal
def test_the_facts_stand_in_the_editor_and_headings_are_kept(tmp_path: Path) -> None:
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import sys\nfile = sys.argv[1]\ntext = open(file).read()\nopen('seen', 'w').write(text)\n"
        "open(file, 'w').write(text + '# Tables\\n\\nOne row for each call.\\n')\n".replace(
            "'seen'", repr(str(tmp_path / "seen"))
        )
    )
    part = Part(kind="design", id=ID, minutes=12)
    Interview(started=NOW, level="mid", minutes=45, parts=(part,)).kept()
    with course("interview", "--resume", "--editor", EDITOR=f"{sys.executable} {editor}") as terminal:
        terminal.wait_for("y or n: ")
    left = unfinished()
    assert left is not None
    assert left.parts[0].answer == "# Tables\n\nOne row for each call."
    assert all(fact in (tmp_path / "seen").read_text() for fact in question().given)


@needs_a_terminal
@pytest.mark.parametrize(
    ("editor", "says"),
    [
        ("pass", "Nothing was written"),
        ("open(file, 'wb').write(b'<!-- \\xff')", "is not UTF-8"),
        ("exit(1)", "did not start"),
    ],
)
def test_an_editor_that_gives_nothing_back_loses_no_question(tmp_path: Path, editor: str, says: str) -> None:
    file = tmp_path / "editor.py"
    file.write_text(f"import sys\nfile = sys.argv[1]\n{editor}\n")
    with course("drill", ID, "--editor", EDITOR=f"{sys.executable} {file}") as terminal:
        assert says in folded(write_two_paragraphs(terminal))
        terminal.wait_for("y or n: ")


async def test_its_facts_stand_in_a_notebook() -> None:
    page = await drill(ID)
    assert all(f"- {fact}" in page for fact in question().given)
    assert question().points[0].say not in page


def test_its_facts_and_answer_stand_in_the_report() -> None:
    part = Part(kind="design", id=ID, minutes=12, answer="Reserve first.\n\nSettle later.", ticked=(1, 2))
    for file in write_report(Interview(started=NOW, level="mid", minutes=45, parts=(part,))):
        report = file.read_text(encoding="utf-8")
        assert f"1. {question().title}" in report
        for text in (question().ask, *question().given):
            assert text in report
        assert "opinion of" not in report
