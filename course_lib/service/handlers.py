"""Exceptions on their way to the client. One place, so that routes and repositories need not think of HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
import openai
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from course_lib.postgres.losing import server_went_away
from course_lib.repositories import EmailTaken, NotFound
from course_lib.repositories.limits import LimitReached
from course_lib.service import problems
from course_lib.service.constraints import BY_NAME, refusal
from course_lib.service.idempotency import Replay
from course_lib.service.problems import Refused, plain_problem, problem_response

QUOTA_PAUSE = 60  # seconds in which answers under way may give tokens back
MODEL_PAUSE = 5  # seconds until a model that was too busy, or too slow, is asked again

OF_FRAMEWORK = {kind.status: kind for kind in (problems.MALFORMED, problems.TOO_SLOW, problems.TOO_LARGE)}


def add_handlers(app: FastAPI) -> None:
    """Every error of ``app`` becomes a problem document."""
    handlers: dict[type[Exception], Callable[[Request, Any], Any]] = {
        Refused: _refused,
        Replay: _replay,
        HTTPException: _http,
        RequestValidationError: _invalid,
        Exception: _unexpected,
        **dict.fromkeys([NotFound, EmailTaken, LimitReached, openai.OpenAIError, PoolTimeout, DBAPIError], _known),
        # before there is a connection, the driver's errors are not SQLAlchemy's
        **dict.fromkeys([asyncpg.PostgresError, asyncpg.InterfaceError, OSError], _known),
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def as_refused(error: BaseException) -> Refused | None:
    """The problem that an exception is for a client; None for what nobody thought of."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, NotFound):
        return Refused(problems.NOT_FOUND)
    if isinstance(error, EmailTaken):
        return Refused(*BY_NAME["uq_users_email"])
    if isinstance(error, LimitReached):
        return Refused(problems.QUOTA, f"{error.left} tokens are left, and {error.wanted} may be needed.", QUOTA_PAUSE)
    if isinstance(error, openai.OpenAIError):  # before the database: what it came from may be a TimeoutError, too
        return _of_model(error)
    if isinstance(error, PoolTimeout):
        return Refused(problems.NO_CONNECTION, retry_after=1)
    if isinstance(error, DBAPIError) and (refused := refusal(error)):
        return refused
    if server_went_away(error):
        return Refused(problems.DATABASE_AWAY, retry_after=2)
    return None


def _of_model(error: openai.OpenAIError) -> Refused:
    """Without the server's words, which may quote a prompt, an address or a key."""
    if isinstance(error, openai.APITimeoutError):
        return Refused(problems.MODEL_SILENT, retry_after=MODEL_PAUSE)
    if isinstance(error, openai.RateLimitError | openai.InternalServerError):
        said = error.response.headers.get("retry-after", "")
        return Refused(problems.MODEL_BUSY, retry_after=min(int(said), 120) if said.isdigit() else MODEL_PAUSE)
    return Refused(problems.MODEL_FAILED)


async def _refused(_: Request, refused: Refused) -> Response:
    return refused.response()


async def _replay(_: Request, replay: Replay) -> Response:
    return replay.response()


async def _known(_: Request, error: Exception) -> Response:
    refused = as_refused(error)
    if refused is None:
        raise error
    return refused.response()


async def _http(_: Request, error: HTTPException) -> Response:
    kind = OF_FRAMEWORK.get(error.status_code)
    if kind is None:
        return plain_problem(error.status_code, error.headers)
    return problem_response(Refused(kind).document(), error.headers)


async def _invalid(_: Request, error: RequestValidationError) -> Response:
    """What is wrong and where; not the input, which the client has, and which may be a secret or no text at all."""
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return Refused(problems.MALFORMED, "This is no JSON.").response()
    errors = [
        {"where": [str(step) for step in fault["loc"]], "what": fault["msg"].removeprefix("Value error, ")}
        for fault in faults
    ]
    return Refused(problems.INVALID, errors=errors[:20]).response()


async def _unexpected(_: Request, error: Exception) -> Response:
    """The server's log has the traceback; the client gets a status."""
    return Refused(problems.INTERNAL).response()
