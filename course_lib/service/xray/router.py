"""What the X-ray has seen of the caller's own requests. Anybody else's are not there."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from course_lib.service import problems
from course_lib.service.dependencies import Caller, Running
from course_lib.service.documented import errors
from course_lib.service.problems import Refused
from course_lib.service.xray.plan import plan_of_search
from course_lib.service.xray.record import Record
from course_lib.service.xray.schemas import PlanOut, XRayOut, XRays
from course_lib.service.xray.watching import OWN

router = APIRouter(prefix=OWN, tags=["x-ray"])


def own_requests(request: Request, caller: Caller) -> dict[str, Record]:
    found: dict[str, Record] = request.app.state.xray.of(caller.id)
    return found


def own_request(request_id: str, own: Own) -> Record:
    if (found := own.get(request_id)) is None:
        raise Refused(problems.NOT_FOUND)
    return found


Own = Annotated[dict[str, Record], Depends(own_requests)]
Asked = Annotated[Record, Depends(own_request)]


@router.get("", responses=errors())
async def requests(own: Own) -> XRays:
    """The latest requests of the caller, the last one on top."""
    return XRays(items=[record.summary() for record in reversed(own.values())])


@router.get("/{request_id}", responses=errors(problems.NOT_FOUND))
async def one(record: Asked) -> XRayOut:
    """What happened in one request, as far as it has come."""
    return record.told()


@router.get("/{request_id}/plan", responses=errors(problems.NOT_FOUND))
async def plan(record: Asked, service: Running) -> PlanOut:
    """How PostgreSQL runs the request's search: it is run again, as the same user."""
    text = await plan_of_search(service.sessions, record)
    if text is None:
        raise Refused(problems.NOT_FOUND, "This request has not searched.")
    return PlanOut(text=text)
