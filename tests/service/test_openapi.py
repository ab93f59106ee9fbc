"""The OpenAPI document: it is valid enough to be read, says every error, and its examples run."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from course_lib.service.problems import KINDS, MEDIA_TYPE
from tests.service.running import Serving

UNDOCUMENTED = {"client-gone"}  # nobody is there to read it


@pytest.fixture(scope="module")
def document(running: Serving) -> dict[str, Any]:
    return running.documented.document


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, op) for path, methods in document["paths"].items() for method, op in methods.items()]


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


async def test_every_operation_says_what_it_does_and_which_errors_it_has(document: dict[str, Any]) -> None:
    kinds = set()
    for method, path, operation in operations(document):
        assert operation["description"], (method, path)
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                examples = response["content"][MEDIA_TYPE]["examples"]
                assert all(example["value"]["status"] == int(status) for example in examples.values())
                kinds |= set(examples)
        assert {"500", "503"} <= set(operation["responses"])
        assert ("401" in operation["responses"]) == bool(operation.get("security")), (method, path)
        if "requestBody" in operation:
            assert {"400", "413", "415", "422"} <= set(operation["responses"])
    assert kinds == set(KINDS) - UNDOCUMENTED


async def test_the_examples_of_bodies_run(document: dict[str, Any], stranger: httpx2.AsyncClient) -> None:
    ran = 0
    for method, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        schema = resolved(content["schema"], document)
        fields = schema["properties"].items()
        example = {name: field["examples"][0] for name, field in fields if "examples" in field}
        assert set(schema["required"]) <= set(example), path
        answer = await stranger.request(method, path, json=example)
        success = next(status for status in operation["responses"] if status.startswith("2"))
        assert answer.status_code == int(success), (path, answer.text)
        ran += 1
    assert ran >= 6


async def test_a_file_runs_too(stranger: httpx2.AsyncClient) -> None:
    answer = await stranger.post("/documents/files", files={"file": ("notes.md", b"# Notes\n\nSomething.")})
    assert answer.status_code == 202, answer.text
    job = await stranger.get(str(answer.request.url.join(answer.headers["location"])))
    assert job.json()["id"] == answer.json()["job"]["id"]
    text = await stranger.post("/documents", json={"title": "T", "text": "x"})
    assert (await stranger.get(str(text.request.url.join(text.headers["location"])))).status_code == 200
