"""The X-ray as it goes out. Times are milliseconds since the request came; None is not yet, or never."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import PlainSerializer

from course_lib.service.schemas import Out

Moment = Annotated[float, PlainSerializer(lambda milliseconds: round(milliseconds, 2), return_type=float)]


class Summary(Out):
    """A request in the list of its user's."""

    id: str
    method: str
    route: str
    status: int | None
    came: datetime
    took: Moment | None


class StatementOut(Out):
    """A statement in one line, with placeholders: what they stood for is not kept."""

    sql: str
    issued_by: str | None
    began: Moment
    took: Moment | None
    rows: int | None
    connection: int
    error: str | None
    is_control: bool


class HoldOut(Out):
    """A time in which the request had a connection of the pool."""

    taken: Moment
    given_back: Moment | None


class WaitOut(Out):
    """A time in which it stood in the pool's queue."""

    began: Moment
    ended: Moment | None
    outcome: str


class CallOut(Out):
    """A call to the language model. ``first_byte`` is that of the answer's body."""

    what: str
    status: int | None
    asked: Moment
    first_byte: Moment | None
    ended: Moment | None


class LockOut(Out):
    """Between these moments it was seen waiting for a lock; who is asked is the server, a few times a second."""

    began: Moment
    seen: Moment


class XRayOut(Summary):
    first_byte: Moment | None
    statements: list[StatementOut]
    holds: list[HoldOut]
    waits: list[WaitOut]
    calls: list[CallOut]
    locks: list[LockOut]
    has_search: bool


class XRays(Out):
    items: list[Summary]


class PlanOut(Out):
    """The search, planned and run again: constants and counts of rows are left out."""

    text: str
