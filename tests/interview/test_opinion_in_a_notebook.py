"""A model's opinion in a notebook: offered after the ticking where a model answers, in the words of the terminal."""

from __future__ import annotations

import pytest

from course_lib import drill
from course_lib.errors import CourseError
from course_lib.interview import notebook
from course_lib.interview.memory import Memory
from course_lib.settings import get_settings
from tests.interview.test_opinion import ANSWER, ID, SECRET, question, server, work
from tests.llm.conftest import Answer, CompatibleServer

__all__ = ["server", "work"]


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    for kept in (notebook._began, notebook._answered, notebook._ticked):
        kept.clear()


@pytest.fixture
def model(server: CompatibleServer, monkeypatch: pytest.MonkeyPatch) -> CompatibleServer:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("COURSE_CHAT_MODEL", "m")
    get_settings.cache_clear()
    return server


async def test_it_is_offered_after_the_ticking_and_is_not_the_grade(model: CompatibleServer) -> None:
    assert "can mark" not in await drill(ID, ANSWER)
    page = await drill(ID, said=[])
    assert "Kept as again" in page
    assert f'm can mark the points as well. `await drill("{ID}", opinion=True)` asks it.' in page
    assert "Your answer is sent to it. It grades nothing." in page
    assert model.asked == []
    page = await drill(ID, opinion=True)
    assert page.startswith("**The opinion of m. What counts is what you ticked.**")
    assert "2. yes: “reserve an upper bound first, and settle it”" in page
    assert "nobody is lost" not in page
    assert all(f"\n{number}. " in page for number in range(1, len(question().points) + 1))
    assert ANSWER in model.asked[0]["messages"][-1]["content"]
    assert [(review.grade, review.points) for review in Memory.load().reviews] == [("again", 0)]


async def test_it_is_asked_only_for_an_answer_whose_points_were_ticked(model: CompatibleServer) -> None:
    await drill(ID, ANSWER)
    with pytest.raises(CourseError, match="not kept yet"):
        await drill(ID, opinion=True)
    with pytest.raises(CourseError, match="design question only"):
        await drill("n-plus-one", opinion=True)
    await drill("n-plus-one", "It asks once for each row.")
    assert "can mark" not in await drill("n-plus-one", said=[])
    assert model.asked == []


async def test_a_model_that_fails_is_a_sentence(model: CompatibleServer) -> None:
    model.always = Answer(401, {"error": {"message": f"Incorrect API key: {SECRET}"}})
    await drill(ID, ANSWER)
    await drill(ID, said=[2])
    page = await drill(ID, opinion=True)
    assert page.startswith("No opinion: http") and page.endswith("refuses the key.")
    assert SECRET not in page


@pytest.mark.parametrize("environment", [{}, {"OPENAI_API_KEY": SECRET, "COURSE_OFFLINE": "1"}])
async def test_offline_nothing_is_offered(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    await drill(ID, ANSWER)
    assert "mark the points" not in await drill(ID, said=[])
    with pytest.raises(CourseError, match="no real model"):
        await drill(ID, opinion=True)
