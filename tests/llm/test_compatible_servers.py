"""Servers that are compatible but for this and that: a way round where it is safe, and a sentence where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import select

from course_lib import open_lesson
from course_lib.cli import doctor
from course_lib.data.harvest import harvest_embedded
from course_lib.errors import CourseError
from course_lib.llm import embed_texts, openai_client
from course_lib.llm.names import embedding_space
from course_lib.models import DocumentChunk
from course_lib.settings import get_settings

from .conftest import Answer, CompatibleServer

SECRET = "this-must-not-be-seen"
Configure = Callable[..., None]

TOO_MANY = {
    "Text Embeddings Inference": Answer(
        422, {"error": "batch size 512 > maximum allowed batch size 32", "error_type": "Validation"}
    ),
    "SiliconFlow": Answer(413, {"code": 20042, "message": "input batch size 512 > maximum allowed batch size 32"}),
    "DashScope": Answer(400, {"error": {"message": "batch size is invalid, it should not be larger than 32."}}),
    "a validating proxy": Answer(
        422, {"detail": [{"loc": ["body", "input"], "msg": "List should have at most 32 items", "input": ["a", "b"]}]}
    ),
    "nginx": Answer(413, "<html>413 Request Entity Too Large</html>"),
}
NO_DIMENSIONS = {
    "vLLM, a plain model": Answer(
        400, {"error": {"message": 'Model "m" does not support matryoshka representation, changing output dimensions'}}
    ),
    "vLLM of old": Answer(400, {"object": "error", "message": "dimensions is currently not supported", "code": 400}),
    "a validating proxy": Answer(
        422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "dimensions"], "msg": "Extra inputs"}]}
    ),
}
ELSEWHERE = {
    "Ollama": Answer(404, "404 page not found"),
    "FastAPI": Answer(404, {"detail": "Not Found"}),
    "LM Studio": Answer(200, {"error": "Unexpected endpoint or method. (POST /embeddings). Returning 200 anyway"}),
    "Open WebUI": Answer(200, "<!doctype html><title>Open WebUI, for every model</title>"),
    "a web server": Answer(405, "<html>405 Not Allowed</html>"),
}
NO_MODEL = Answer(404, {"error": {"message": 'model "m" not found, try pulling it first', "type": "api_error"}})


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Point the settings at a server, with secrets in every place."""

    def set_up(server: CompatibleServer, path: str = "/v1", model: str = "m", secret: str = SECRET) -> None:
        address = f"http://{secret}:{secret}@127.0.0.1:{server.server_port}{path}?key={secret}"
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        monkeypatch.setenv("OPENAI_API_KEY", secret)
        monkeypatch.setenv("COURSE_EMBEDDING_MODEL", model)
        get_settings.cache_clear()

    return set_up


async def embedded(count: int) -> list[float]:
    """The first number of each text's vector, which is its place in its request."""
    async with openai_client() as client:
        return [float(row[0]) for row in await embed_texts([f"text {n}" for n in range(count)], client=client)]


@pytest.mark.parametrize("said", TOO_MANY)
async def test_a_server_that_takes_few_texts_at_once_gets_few(
    said: str, server: CompatibleServer, configure: Configure
) -> None:
    configure(server)
    server.most, server.too_many = 32, TOO_MANY[said]
    assert await embedded(100) == [*range(25)] * 4
    assert [len(body["input"]) for body in server.asked] == [100, 50, 25, 25, 25, 25]
    assert [text for body in server.asked[2:] for text in body["input"]] == [f"text {n}" for n in range(100)]


@pytest.mark.parametrize("said", NO_DIMENSIONS)
async def test_a_server_that_refuses_dimensions_is_asked_without_them(
    said: str, server: CompatibleServer, configure: Configure
) -> None:
    configure(server)
    server.dimensions = NO_DIMENSIONS[said]
    server.most, server.too_many = 32, TOO_MANY["SiliconFlow"]
    assert await embedded(50) == [*range(25)] * 2
    assert [("dimensions" in body, len(body["input"])) for body in server.asked] == [
        (True, 50), (False, 50), (False, 25), (False, 25)
    ]  # fmt: skip
    server.vector_length = 768
    with pytest.raises(CourseError, match="returned vectors that are not 256 long but 768") as caught:
        await embedded(1)
    assert "COURSE_EMBEDDING_MODEL" in caught.value.mend


async def test_a_text_that_is_refused_is_not_asked_for_again_in_pieces(
    server: CompatibleServer, configure: Configure
) -> None:
    configure(server)
    server.always = Answer(400, {"error": {"message": "input[3] is an empty text"}})
    with pytest.raises(openai.BadRequestError, match="empty text"):
        await embedded(64)
    assert len(server.asked) == 1
    server.always = TOO_MANY["nginx"]  # one text, and still too large: the server's own word
    with pytest.raises(openai.APIStatusError, match="413"):
        await embedded(8)
    assert [len(body["input"]) for body in server.asked[1:]] == [8, 4, 2, 1]


@pytest.mark.parametrize("path", ["", "/"])
@pytest.mark.parametrize("said", ELSEWHERE)
async def test_an_address_without_v1_is_a_sentence_with_the_right_one(
    said: str, path: str, server: CompatibleServer, configure: Configure
) -> None:
    configure(server, path)
    server.elsewhere = ELSEWHERE[said]
    with pytest.raises(CourseError, match="under /v1, which is missing") as caught:
        await embedded(1)
    assert caught.value.mend.endswith(f" http://127.0.0.1:{server.server_port}/v1")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("path", ["/v1", "/api/v3"])
async def test_an_address_with_a_version_and_nothing_there_is_another_sentence(
    path: str, server: CompatibleServer, configure: Configure
) -> None:
    configure(server, path)
    server.home = "/v2"
    with pytest.raises(CourseError, match=f"{path} answers, and has no embeddings"):
        await embedded(1)
    server.home, server.always = path, NO_MODEL
    with pytest.raises(openai.NotFoundError, match="try pulling"):
        await embedded(1)


def test_what_is_kept_is_kept_for_a_model_and_a_server(server: CompatibleServer, configure: Configure) -> None:
    offline = embedding_space()

    def space(address: str, **settings: Any) -> str:
        configure(server, **settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_BASE_URL", address)
            get_settings.cache_clear()
            found = embedding_space()
        assert SECRET not in found and "h.example" not in found
        return found

    one = space("http://h.example/v1")
    for spelled in ("http://H.example:80/v1/", f"http://{SECRET}:{SECRET}@h.example/v1?key={SECRET}"):
        assert space(spelled) == one
    others = [space(f"{address}/v1") for address in ("https://h.example", "http://h.example:81", "http://h.example/x")]
    assert len({offline, one, *others, space("http://h.example/v1", model="n")}) == 6


def test_openai_is_one_server_named_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    get_settings.cache_clear()
    by_key = embedding_space()
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1/")
    get_settings.cache_clear()
    assert embedding_space() == by_key


async def test_two_servers_under_one_models_name_have_a_lesson_each(
    server: CompatibleServer, another: CompatibleServer, configure: Configure
) -> None:
    server.first, another.first = 1.0, 2.0
    another.most, another.too_many = 32, TOO_MANY["SiliconFlow"]
    another.dimensions = NO_DIMENSIONS["vLLM of old"]
    for one in (server, another, server):
        configure(one)
        lesson = await open_lesson("99")
        async with lesson.session() as session:
            first = await session.scalar(select(DocumentChunk.embedding).order_by(DocumentChunk.id).limit(1))
        assert first is not None and first[0] == one.first
        await lesson.close()
        await openai_client().close()
    assert len(server.asked) == 1, "the second time there was a template"


@pytest.mark.parametrize(
    ("answer", "path", "says"),
    [
        (None, "", "under /v1, which is missing"),
        (NO_MODEL, "/v1", "has no model m"),
        (Answer(401, {"error": {"message": f"Incorrect API key: sk-{SECRET}"}}), "/v1", "refuses the key"),
        (Answer(400, {"error": {"message": f"api_key={SECRET} is no good"}}), "/v1", "did not embed .* 400 - api_key="),
        ("nobody", "/v1", "Nothing answers at http://127.0.0.1"),
        (768, "/v1", "not 256 long but 768"),
    ],
)
@pytest.mark.soak(after=2)
async def test_a_lesson_and_the_doctor_say_what_is_wrong_with_a_server(
    answer: Any, path: str, says: str, server: CompatibleServer, configure: Configure,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    configure(server, path)
    if isinstance(answer, int):
        server.vector_length = answer
    elif answer == "nobody":
        server.shutdown()
        server.server_close()
    else:
        server.always = answer
    with pytest.raises(CourseError, match=says) as caught:
        await open_lesson("99")
    await openai_client().close()
    assert caught.value.mend and SECRET not in str(caught.value)
    monkeypatch.setattr(doctor, "CHECKS", [("language model", doctor._language_model)])
    assert await asyncio.to_thread(doctor.run_doctor) == 1
    said = capsys.readouterr().out
    assert f"[FAIL] language model: {caught.value.sentence}\n       → {caught.value.mend}\n" in said


async def test_the_doctor_asks_for_one_vector(
    server: CompatibleServer, configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(server)
    monkeypatch.setattr(doctor, "CHECKS", [("language model", doctor._language_model)])
    assert await asyncio.to_thread(doctor.run_doctor) == 0
    said = capsys.readouterr().out
    assert f"[OK]   language model: http://127.0.0.1:{server.server_port}/v1, where m gave a vector of 256" in said
    assert SECRET not in said and [len(body["input"]) for body in server.asked] == [1]


async def test_a_harvest_is_embedded_once_by_each_server(
    server: CompatibleServer, another: CompatibleServer, configure: Configure,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    server.first, another.first = 1.0, 2.0
    for one in (server, another, server):
        configure(one)
        _, vectors = await harvest_embedded(3, ["packaging"])
        assert vectors[0][0] == one.first
        await openai_client().close()
    assert len(server.asked) == len(another.asked) == 1
