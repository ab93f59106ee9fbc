"""Errors as the client sees them: problem documents (RFC 9457), of which each kind has a name, a status and a title."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong. ``type`` is for programs, ``title`` and ``detail`` are for people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its name in ``type``, its status, and a title that is the same every time."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        return f"urn:problem:{self.name}"


MALFORMED = Kind("malformed", 400, "The body cannot be read")
NO_KEY = Kind("no-valid-key", 401, "No valid API key")
NOT_FOUND = Kind("not-found", 404, "There is no such thing")
EMAIL_TAKEN = Kind("email-taken", 409, "This address already has an account")
IN_PROGRESS = Kind("in-progress", 409, "The same request is being worked on")
AS_MANY_AS_MAY_BE = Kind("as-many-as-may-be", 409, "The account has as many of these as it may have")
SHOWN_ONCE = Kind("shown-once", 409, "The secret was in the first response, and is kept nowhere")
TOO_SLOW = Kind("too-slow", 408, "The body did not come in time")
TOO_LARGE = Kind("too-large", 413, "The body is too large")
WRONG_MEDIA = Kind("wrong-media-type", 415, "The body is of another media type")
INVALID = Kind("invalid", 422, "The request does not say what is needed")
KEY_REUSED = Kind("idempotency-key-reused", 422, "The idempotency key belongs to another request")
BAD_CURSOR = Kind("bad-cursor", 422, "The cursor is none of this list")
TOO_MANY_AT_ONCE = Kind("too-many-at-once", 429, "Too many requests at once")
QUOTA = Kind("quota-used-up", 429, "The tokens of this account are used up")
TOO_MUCH_WAITS = Kind("too-much-waits", 429, "As much of this account waits as may wait")
TOO_MANY_A_MINUTE = Kind("too-many-a-minute", 429, "Too many requests in a minute")
CLIENT_GONE = Kind("client-gone", 499, "The client left before there was an answer")
INTERNAL = Kind("internal", 500, "Something went wrong here")
MODEL_FAILED = Kind("model-failed", 502, "The language model did not answer")
MODEL_SILENT = Kind("model-silent", 504, "The language model did not answer in time")
MODEL_BUSY = Kind("model-busy", 503, "The language model refuses for now")
NO_CONNECTION = Kind("no-connection-free", 503, "No connection to the database was free in time")
DATABASE_AWAY = Kind("database-away", 503, "The database does not answer")
STOPPING = Kind("stopping", 503, "This process is stopping")
TRY_AGAIN = Kind("try-again", 503, "The database was asked for too much at once")

KINDS = {kind.name: kind for kind in vars().values() if isinstance(kind, Kind)}


class Refused(Exception):
    """The request ends here, with a problem document.

    Args:
        detail: what is particular to this request; never what another user has.
        retry_after: seconds, for the header Retry-After.
        more: members of the problem document beyond those of RFC 9457.
    """

    def __init__(self, kind: Kind, detail: str | None = None, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(kind.name, detail)
        self.kind = kind
        self.detail = detail
        self.headers: dict[str, str] = {}
        self.more = more
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        if kind is NO_KEY:
            self.headers["WWW-Authenticate"] = "Bearer"

    def document(self) -> dict[str, Any]:
        """The problem as a response's body, or as the data of an event in a stream."""
        kind = self.kind
        document = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": self.detail}
        return {name: value for name, value in (document | self.more).items() if value is not None}

    def response(self) -> Response:
        return problem_response(self.document(), self.headers)


def plain_problem(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """For what the framework itself refuses, such as an unknown route: the status says it all."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return problem_response(document, headers)


def problem_response(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """In ASCII, because a detail may name what the client sent, and half a surrogate pair has no bytes in UTF-8."""
    content = json.dumps(document, ensure_ascii=True)
    return Response(content, document["status"], headers, media_type=MEDIA_TYPE)
