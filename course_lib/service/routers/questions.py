"""Questions, answered from the caller's documents: at once, or token by token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from course_lib.service import problems
from course_lib.service.answering import Answering
from course_lib.service.dependencies import JSON, Caller, Running
from course_lib.service.documented import OF_MODEL, ONCE, errors
from course_lib.service.handlers import as_refused
from course_lib.service.idempotency import OnceOnly
from course_lib.service.problems import Refused
from course_lib.service.schemas import Answered, NewQuestion

router = APIRouter(prefix="/questions", tags=["questions"])
T = TypeVar("T")
LOOK_EVERY = 0.25  # seconds


async def answering(
    new: NewQuestion, caller: Caller, service: Running, once: OnceOnly, request: Request
) -> AsyncIterator[Answering]:
    """The question, as far as its first token; afterwards, whatever happened, what was said is stored.

    An ordinary dependency, since an exception in a route that yields events comes too late to be a status code. Its
    end comes after the response, in the request's own task, which a client that leaves does not cancel.
    """
    with service.questions.enter(caller.id):
        async with Answering(service, caller.id, new, once) as begun:
            await while_there(request, begun.begin())
            yield begun


Begun = Annotated[Answering, Depends(answering)]
RESPONSES = errors(*ONCE, *OF_MODEL, problems.NOT_FOUND, body=True)


@router.post("", status_code=201, dependencies=[JSON], responses=RESPONSES)
async def ask(begun: Begun) -> Answered:
    """Ask, and get the whole answer with its sources. It is in the conversation before it is in the response."""
    async for _ in begun.rest():
        pass
    return await begun.end()


@router.post(
    "/stream", dependencies=[JSON], response_class=EventSourceResponse, responses=RESPONSES
)  # fmt: skip
async def stream(begun: Begun, service: Running) -> AsyncIterator[ServerSentEvent]:
    """Ask, and get the answer as server-sent events.

    ``token`` with ``text``, again and again; then ``done`` with what the other route returns, once it is stored. Or
    ``error`` with a problem document: what was said until then is stored as aborted. With the Idempotency-Key of an
    answered question the response is that answer, as JSON.
    """
    try:
        async for piece in begun.rest():
            yield ServerSentEvent(event="token", data={"text": piece})
            if service.out_of_time():
                raise Refused(problems.STOPPING)
        yield ServerSentEvent(event="done", data=await begun.end())
    except Exception as error:  # the status has gone out with the first token
        refused = as_refused(error) or Refused(problems.INTERNAL)
        await begun.leave()
        yield ServerSentEvent(event="error", data=refused.document())


async def while_there(request: Request, work: Awaitable[T]) -> T:
    """Wait for ``work``, but stop it when the client leaves: until there is a response, nobody else would notice."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=LOOK_EVERY))[0]:
            if await request.is_disconnected():
                raise Refused(problems.CLIENT_GONE)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
