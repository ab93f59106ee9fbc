"""Is the process alive, and should it be sent requests? Two questions: a dead database is no reason to restart it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from sqlalchemy import text

from course_lib.service import problems
from course_lib.service.dependencies import Running
from course_lib.service.documented import errors
from course_lib.service.problems import Refused

router = APIRouter(tags=["health"])
READY_SECONDS = 3


@router.get("/livez", responses=errors(public=True))
async def alive() -> dict[str, str]:
    """The process answers. Asks nobody else."""
    return {"status": "alive"}


@router.get("/readyz", responses=errors(problems.STOPPING, public=True))
async def ready(service: Running) -> dict[str, str]:
    """Requests can be sent: the database answers, and nobody has told the process to stop."""
    if service.stopping.is_set():
        raise Refused(problems.STOPPING)
    async with asyncio.timeout(READY_SECONDS), service.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    return {"status": "ready"}
