"""What routes ask for: the running service, who asks, and a unit of work that is over before the response goes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from course_lib.repositories.users import hash_key
from course_lib.service import problems
from course_lib.service.keys import Asking, who_asks
from course_lib.service.problems import Refused
from course_lib.service.running import Service
from course_lib.unit_of_work import UnitOfWork

LONGEST_KEY = 200  # characters


def running_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Running = Annotated[Service, Depends(running_service)]
bearer = HTTPBearer(auto_error=False, description="An API key, as it was shown when it was made.")


async def caller(
    request: Request, service: Running, given: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
) -> AsyncIterator[Asking]:
    """Who asks, with so many requests at once, and a minute. No connection is held: it was asked for, and given back.

    At once is counted by key, before the pool is asked; a minute's by user, who is known after it and may have ten
    keys: what is one too many costs a look-up of its key, and no more.
    """
    if given is None or len(given.credentials) > LONGEST_KEY:
        raise Refused(problems.NO_KEY, "Send the header Authorization: Bearer <key>.")
    key_hash = hash_key(given.credentials)
    with service.requests.enter(key_hash):  # before the pool is asked
        found = await who_asks(service.engine, key_hash)
        if found is None:
            raise Refused(problems.NO_KEY, "This key is nobody's, or was revoked.")
        service.rate.take(found.id)
        request.state.caller = found  # for what stands around the app
        yield found


async def unit_of_work(service: Running) -> AsyncIterator[UnitOfWork]:
    """Commit when the route has returned, roll back when it raised.

    With ``scope="function"`` that is before the response: a commit that fails is an error for the client, too. With
    FastAPI's default the client would have its 201 already.
    """
    async with UnitOfWork(service.sessions) as work:
        yield work
        await work.commit()


Caller = Annotated[Asking, Depends(caller)]
Work = Annotated[UnitOfWork, Depends(unit_of_work, scope="function")]


def is_json(request: Request) -> None:
    """For routes with a JSON body: another type is refused before it is looked at."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(problems.WRONG_MEDIA, "Send Content-Type: application/json.")


def is_form(request: Request) -> None:
    """For routes that take a file."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refused(problems.WRONG_MEDIA, "Send the file as multipart/form-data.")


JSON, FORM = Depends(is_json), Depends(is_form)
