"""Every response of every test is one that the OpenAPI document announces."""

from __future__ import annotations

import re
from typing import Any

import httpx2

METHODS = {"get", "post", "put", "patch", "delete"}


class Documented:
    """Finds the operation of a response, and compares: the status, the media type, and the kind of problem."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.routes = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operations)
            for path, operations in sorted(document["paths"].items(), key=lambda item: "{" in item[0])
        ]

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        for pattern, operations in self.routes:
            if pattern.fullmatch(path):
                found: dict[str, Any] | None = operations.get(method.lower())
                return found
        return None

    async def check(self, response: httpx2.Response) -> None:
        operation = self.operation(response.request.method, response.request.url.path)
        kind = response.headers.get("content-type", "").partition(";")[0]
        if response.status_code >= 400:
            assert kind == "application/problem+json", (response.status_code, kind)
        if operation is None:
            assert response.status_code in (404, 405), response
            return
        announced = operation["responses"].get(str(response.status_code))
        replayed = "idempotency-replayed" in response.headers
        assert announced or replayed, f"{response.request.url.path} says nothing of {response.status_code}"
        if response.status_code >= 400:
            await response.aread()
            examples = announced["content"][kind].get("examples", {})
            name = response.json()["type"].removeprefix("urn:problem:")
            assert name in examples or name == "about:blank", f"{name} is not among {list(examples)}"
