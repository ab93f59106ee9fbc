"""The OpenAPI document says every error: which kinds of problem a route can answer with, each with its example."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from course_lib.service import problems
from course_lib.service.problems import MEDIA_TYPE, Kind, Problem, Refused

ANYWHERE = (problems.INTERNAL, problems.NO_CONNECTION, problems.DATABASE_AWAY, problems.TRY_AGAIN, problems.INVALID)
SIGNED_IN = (problems.NO_KEY, problems.TOO_MANY_AT_ONCE, problems.TOO_MANY_A_MINUTE)
WITH_BODY = (problems.MALFORMED, problems.TOO_SLOW, problems.TOO_LARGE, problems.WRONG_MEDIA)
ONCE = (problems.IN_PROGRESS, problems.KEY_REUSED)
OF_MODEL = (
    problems.MODEL_FAILED, problems.MODEL_SILENT, problems.MODEL_BUSY, problems.QUOTA, problems.STOPPING,
)  # fmt: skip

Responses = dict[int | str, dict[str, Any]]


def errors(*kinds: Kind, body: bool = False, public: bool = False) -> Responses:
    """For ``responses=`` of a route: its own kinds, and those that any route has.

    Args:
        body: it takes one.
        public: it needs no API key.
    """
    told = [*kinds, *ANYWHERE, *(() if public else SIGNED_IN), *(WITH_BODY if body else ())]
    found: Responses = {}
    for status in sorted({kind.status for kind in told}):
        same = [kind for kind in told if kind.status == status]
        examples = {kind.name: {"summary": kind.title, "value": Refused(kind).document()} for kind in same}
        found[status] = _response(" · ".join(dict.fromkeys(kind.title for kind in same)), examples)
    return found


def _response(description: str, examples: dict[str, Any]) -> dict[str, Any]:
    media = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
    return {"description": description, "content": {MEDIA_TYPE: media}}


def document_errors(app: FastAPI) -> None:
    """Put the schema of problems into the OpenAPI document, which is made when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            made["components"]["schemas"]["Problem"] = Problem.model_json_schema()
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it
