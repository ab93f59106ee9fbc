"""A model's opinion: offered where one answers, believed as far as it quotes the answer, and never the grade."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from course_lib.errors import CourseError
from course_lib.interview.lookup import find_question
from course_lib.interview.memory import Memory, folder
from course_lib.interview.mock import Interview, Part
from course_lib.interview.opinion import Mark, ask_opinion, literally, model_answers
from course_lib.interview.schema import Design
from course_lib.llm import openai_client_sync
from course_lib.settings import Settings, get_settings
from tests.interview.terminal import Terminal, course
from tests.llm.conftest import Answer, CompatibleServer, running

ID = "design-token-limits"
ANSWER = "I reserve an upper bound first,\nand settle it after the call. A CHECK stands behind."
MARKS = [
    {"point": 1, "made": False},
    {"point": 2, "made": True, "quotation": "reserve an upper bound first, and settle it"},
    {"point": 3, "made": True, "quotation": "the server adds and nobody is lost"},
    {"point": 4, "made": True, "quotation": "A CHECK stands behind."},
]
SECRET = "this-must-not-be-seen"
needs_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "COURSE_CHAT_MODEL", "COURSE_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "work"))
    get_settings.cache_clear()
    yield tmp_path / "work"
    get_settings.cache_clear()


@pytest.fixture
def server() -> Iterator[CompatibleServer]:
    with running() as server:
        server.says = json.dumps(MARKS)
        yield server


def question() -> Design:
    found = find_question(ID)
    assert isinstance(found, Design)
    return found


def marks(said: Any) -> list[tuple[int, bool, str]]:
    """What is left of what a model says, which answers through the SDK."""
    text = said if isinstance(said, str) else json.dumps(said)
    opinion = ask_opinion(question(), ANSWER, openai_client_sync(say=text))
    return [(mark.point, mark.made, mark.quotation) for mark in opinion.marks]


def test_a_yes_rests_on_words_that_the_learner_wrote() -> None:
    assert marks(MARKS) == [
        (1, False, ""),
        (2, True, "reserve an upper bound first, and settle it"),
        (4, True, "A CHECK stands behind."),
    ]


@pytest.mark.parametrize(
    "said",
    [
        f"```json\n{json.dumps(MARKS)}\n```",
        f"Here are my marks:\n{json.dumps(MARKS, indent=1)}\nI hope this helps.",
        [
            *MARKS,
            {"point": 2, "made": False},
            {"point": 99, "made": True, "quotation": "I"},
            {"point": 0, "made": False},
        ],
        [one | {"reason": "because"} for one in reversed(MARKS)],
    ],
)
def test_what_stands_around_the_marks_changes_nothing(said: Any) -> None:
    assert [point for point, _, _ in marks(said)] == [1, 2, 4]


@pytest.mark.parametrize("said", ["", "I cannot do that.", "[", "[1, 2]", "{}", '[{"point": 1}]', "[" * 5000])
def test_an_answer_without_marks_is_a_sentence(said: str) -> None:
    with pytest.raises(CourseError, match="its answer holds no marks"):
        marks(said)


@pytest.mark.parametrize(
    ("quotation", "found"),
    [
        ("settle it  after\nthe call.", "settle it after the call."),
        ("first, and", "first, and"),
        ("CHECK", "CHECK"),
        ("check", ""),
        ("serve an upper", ""),
        ("settle", "settle"),
        ("settl", ""),
        ("settle it before the call", ""),
        (".", ""),
        ("   ", ""),
        ("", ""),
    ],
)
def test_words_are_there_literally_or_not(quotation: str, found: str) -> None:
    assert literally(quotation, ANSWER) == found


def test_each_point_has_its_words_in_the_end() -> None:
    opinion = ask_opinion(question(), ANSWER, openai_client_sync(say=json.dumps(MARKS)))
    assert opinion.in_words(1) == "no"
    assert opinion.in_words(2) == "yes: “reserve an upper bound first, and settle it”"
    assert opinion.in_words(3) == opinion.in_words(9)
    assert opinion.in_words(3).startswith("no mark")
    assert opinion.of(4) == Mark(point=4, made=True, quotation="A CHECK stands behind.")


def test_a_real_model_is_one_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(**environment: str) -> bool:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            get_settings.cache_clear()
            return model_answers()

    assert not answers()
    assert answers(OPENAI_API_KEY=SECRET)
    assert answers(OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert not answers(OPENAI_API_KEY=SECRET, COURSE_OFFLINE="1")
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("answer", "path", "says"),
    [
        (Answer(401, {"error": {"message": f"Incorrect API key: {SECRET}"}}), "/v1", "refuses the key."),
        (Answer(404, {"error": {"message": 'model "m" not found'}}), "/v1", "has no model gpt-5-mini."),
        (Answer(404, "404 page not found"), "", "answers, and not as OpenAI's API does."),
        (Answer(200, "<!doctype html><title>Open WebUI</title>"), "", "answers, and not as OpenAI's API does."),
        (Answer(200, {"choices": []}), "/v1", "answers, and not as OpenAI's API does."),
        (Answer(400, {"error": {"message": f"api_key={SECRET} is no good"}}), "/v1", "did not answer what it was sent"),
        (Answer(503, {"error": {"message": "overloaded"}}), "/v1", "did not answer what it was sent"),
        ("nobody", "/v1", "Nothing answers at http://127.0.0.1"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    answer: Any, path: str, says: str, server: CompatibleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = 9 if answer == "nobody" else server.server_port
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}{path}")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    get_settings.cache_clear()
    server.always = None if answer == "nobody" else answer
    with pytest.raises(CourseError) as caught:
        ask_opinion(question(), ANSWER)
    assert says in caught.value.sentence
    assert "\n" not in caught.value.sentence
    assert SECRET not in str(caught.value)


def test_one_request_with_the_points_and_the_answer(server: CompatibleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("COURSE_CHAT_MODEL", "m")
    get_settings.cache_clear()
    assert ask_opinion(question(), ANSWER).model == "m"
    (asked,) = server.asked
    assert asked["model"] == "m"
    text = asked["messages"][-1]["content"]
    assert ANSWER in text
    assert all(f"{number}. {point.say}" in text for number, point in enumerate(question().points, 1))
    assert all(fact in text for fact in question().given)


def up_to_the_offer(terminal: Terminal) -> None:
    """Answer the design question, and tick none of its points."""
    terminal.wait_for("> ")
    terminal.type(f"{ANSWER}\n\n\n")
    for _ in question().points:
        terminal.wait_for("y or n: ")
        terminal.type("n\n")


def to_the_end(terminal: Terminal) -> str:
    for _ in question().follow_ups:
        terminal.wait_for("press Enter. ")
        terminal.type("\n")
    return terminal.rest()


@needs_a_terminal
def test_it_is_offered_after_the_ticking_and_is_not_the_grade(server: CompatibleServer) -> None:
    with course("drill", ID, OPENAI_BASE_URL=server.url, COURSE_CHAT_MODEL="m") as terminal:
        up_to_the_offer(terminal)
        assert "m can mark the points as well." in terminal.wait_for("Ask it? y or n: ")
        assert not server.asked
        terminal.type("y\n")
        shown = " ".join(terminal.wait_for("Often said").split())
        assert "The opinion of m. What counts is what you ticked. 1: no 2: yes: “reserve an upper" in shown
        assert "3: no mark" in shown
        assert "0 of 10 points. Kept as again." in " ".join(to_the_end(terminal).split())
    assert "nobody is lost" not in terminal.shown
    assert max(map(len, terminal.shown.splitlines())) <= 80
    assert len(server.asked) == 1
    assert [(review.grade, review.points) for review in Memory.load().reviews] == [("again", 0)]


@needs_a_terminal
@pytest.mark.parametrize("typed", ["n", ""])
def test_who_does_not_want_it_sends_nothing(typed: str, server: CompatibleServer) -> None:
    with course("drill", ID, OPENAI_BASE_URL=server.url) as terminal:
        up_to_the_offer(terminal)
        terminal.wait_for("Ask it? y or n: ")
        terminal.type(f"{typed}\n")
        assert "Kept as again." in to_the_end(terminal)
    assert server.asked == []


@needs_a_terminal
@pytest.mark.parametrize("environment", [{}, {"OPENAI_API_KEY": SECRET, "COURSE_OFFLINE": "1"}])
def test_offline_nothing_is_offered(environment: dict[str, str]) -> None:
    with course("drill", ID, **environment) as terminal:
        up_to_the_offer(terminal)
        assert "Kept as again." in to_the_end(terminal)
    assert "Ask it?" not in terminal.shown


@needs_a_terminal
def test_a_spoken_question_is_not_offered_it(server: CompatibleServer) -> None:
    with course("drill", "n-plus-one", OPENAI_BASE_URL=server.url) as terminal:
        terminal.wait_for("> ")
        terminal.type("It asks once for each row.\n\n")
        for _ in find_question("n-plus-one").points:
            terminal.wait_for("y or n: ")
            terminal.type("y\n")
        terminal.wait_for("press Enter. ")
    assert "Ask it?" not in terminal.shown


@needs_a_terminal
def test_a_model_that_fails_or_hangs_does_not_end_the_evening(server: CompatibleServer) -> None:
    server.always = Answer(401, {"error": {"message": "no"}})
    with course("drill", ID, OPENAI_BASE_URL=server.url) as terminal:
        up_to_the_offer(terminal)
        terminal.wait_for("Ask it? y or n: ")
        terminal.type("y\n")
        assert "No opinion: http" in terminal.wait_for("refuses the key.")
        assert "Kept as again." in to_the_end(terminal)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with course("drill", ID, OPENAI_BASE_URL=address) as terminal:
            up_to_the_offer(terminal)
            terminal.wait_for("Ask it? y or n: ")
            terminal.type("y\n")
            terminal.wait_for("Ctrl-C stops waiting.")
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(100)
                terminal.interrupt()
                terminal.wait_for("it was not waited for.")
                assert "Kept as again." in to_the_end(terminal)


@needs_a_terminal
def test_an_interview_keeps_it_and_its_report_tells_it_apart(server: CompatibleServer) -> None:
    part = Part(kind="design", id=ID, minutes=12)
    interview = Interview(started=datetime(2026, 12, 7, 19, tzinfo=UTC), level="mid", minutes=45, parts=(part,)).kept()
    with course("interview", "--resume", OPENAI_BASE_URL=server.url, COURSE_CHAT_MODEL="m") as terminal:
        up_to_the_offer(terminal)
        terminal.wait_for("Ask it? y or n: ")
        (kept,) = Interview.model_validate_json(interview.file.read_bytes()).parts
        assert kept.ticked == (), "what was ticked is on disk before the model is asked"
        terminal.type("y\n")
        terminal.rest()
    (kept,) = Interview.model_validate_json(interview.file.read_bytes()).parts
    assert kept.opinion is not None
    assert [mark.point for mark in kept.opinion.marks] == [1, 2, 4]
    for ending in (".md", ".html"):
        report = interview.file.with_suffix(ending).read_text(encoding="utf-8")
        assert "The opinion of m, which counts for nothing" in report
        assert "yes: “A CHECK stands behind.”" in report
        assert "0 of 10 points" in report
    assert [review.grade for review in Memory.load().reviews] == ["again"]
    assert folder().is_dir()
