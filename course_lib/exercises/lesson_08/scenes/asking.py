"""Who asks, in the apps of this lesson's judges: a header says it, as if it had been checked already."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, FastAPI, Header

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import article


async def caller(x_user: Annotated[UUID, Header()]) -> UUID:
    """The dependency that answers are given."""
    return x_user


def asked_by(user: UUID) -> dict[str, str]:
    """Headers of a request that ``caller`` knows."""
    return {"X-User": str(user)}


def including(attempt: Attempt, router: Any) -> FastAPI:
    """An app with the router that an answer returned, and nothing else.

    Raises:
        Wrong: "no router", it returned something else.
    """
    if not isinstance(router, APIRouter):
        sentence = f"`{attempt.exercise.answer}` returned {article(router)}, and not an APIRouter."
        raise Wrong("no router", sentence, "Make `router = APIRouter()`, put the routes on it, and return it.")
    app = FastAPI()
    app.include_router(router)
    return app
