"""An exception, and all that it came from, reduced to the learner's own frames for as long as it is being shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import NamedTuple

from course_lib.origin import Origin, origin_of

LONGEST = 8  # frames of one traceback
INTERRUPT = f"{__package__}.interrupt"
INLINED = {"<listcomp>", "<setcomp>", "<dictcomp>"}  # no frames of their own since Python 3.12


@dataclass
class LeftOut:
    """What is not shown: frames of libraries, own calls of a long row, a cause that has frames of libraries only."""

    library: bool = False
    calls: bool = False
    cause: BaseException | None = None


class Links(NamedTuple):
    """What hangs on an exception."""

    traceback: TracebackType | None
    cause: BaseException | None
    context: BaseException | None
    suppress_context: bool

    @classmethod
    def of(cls, error: BaseException) -> Links:
        return cls(error.__traceback__, error.__cause__, error.__context__, error.__suppress_context__)

    def hang_on(self, error: BaseException) -> None:
        """Past a class that forbids it, as frozen dataclasses do; in this order, since to set a cause sets the last."""
        for name, value in self._asdict().items():
            BaseException.__setattr__(error, f"__{name}__", value)


def is_own(frame: FrameType) -> bool:
    """True for code of a cell, or of a file of the learner's."""
    origin, name = origin_of(frame), frame.f_code.co_filename
    return origin is Origin.CELL or (origin is Origin.FILE and Path(name).is_absolute())  # Cython's names are not


@contextmanager
def folded(error: BaseException, traceback: TracebackType | None) -> Iterator[LeftOut]:
    """While the block runs, ``error``, its causes and its members have own frames only; causes without any are gone.

    A traceback without a single own frame stays whole.

    Args:
        error: what is going to be shown.
        traceback: its own.
    """
    left_out = LeftOut()
    before = {id(each): (each, Links.of(each)) for each in _story(error, set())}
    own = {number: _own_part(links.traceback, left_out) for number, (_, links) in before.items()}
    own[id(error)] = _own_part(traceback, left_out) or traceback
    try:
        for number, (each, links) in before.items():
            cause, context = _shown_links(links, own, left_out if each is error else LeftOut())
            Links(own[number], cause, context, context is None).hang_on(each)
        yield left_out
    finally:
        for each, links in before.values():
            links.hang_on(each)


def _story(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """Everything that a traceback of ``error`` tells of, once."""
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        for member in _members(following):
            yield from _story(member, seen)
        following = _came_from(Links.of(following))


def _members(error: BaseException) -> tuple[BaseException, ...]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _came_from(links: Links) -> BaseException | None:
    return links.cause or (None if links.suppress_context else links.context)


def _own_part(traceback: TracebackType | None, left_out: LeftOut) -> TracebackType | None:
    """The own frames, of many the first and the last few; None where there is none."""
    own: list[TracebackType] = []
    while traceback is not None:
        if not is_own(traceback.tb_frame):
            below = traceback.tb_frame.f_globals.get("__name__") != INTERRUPT
            left_out.library |= below and bool(own)  # those above are IPython's
        elif own and traceback.tb_frame.f_code.co_name in INLINED:
            own[-1] = TracebackType(None, own[-1].tb_frame, own[-1].tb_lasti, traceback.tb_lineno)
        elif len(own) > 1 and _line(own[-2]) == _line(own[-1]) == _line(traceback):
            own[-1], left_out.calls = traceback, True
        else:
            own.append(traceback)
        traceback = traceback.tb_next
    if len(own) > LONGEST:
        left_out.calls = True
        own[LONGEST // 2 : -LONGEST // 2] = []
    short: TracebackType | None = None
    for step in reversed(own):
        short = TracebackType(short, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return short


def _line(step: TracebackType) -> tuple[CodeType, int]:
    return step.tb_frame.f_code, step.tb_lineno


def _shown_links(
    links: Links, own: dict[int, TracebackType | None], left_out: LeftOut
) -> tuple[BaseException | None, BaseException | None]:
    """Its cause or its context, without those in between that have nothing to show."""
    following, passed = _came_from(links), set[int]()
    while following is not None and not _has_own(following, own):
        if id(following) in passed:
            return None, None
        passed.add(id(following))
        if links.cause is not None:
            left_out.cause = following
        following = _came_from(Links.of(following))
    return (None, following) if links.cause is None else (following, None)


def _has_own(error: BaseException, own: dict[int, TracebackType | None]) -> bool:
    return own.get(id(error)) is not None or any(_has_own(member, own) for member in _members(error))
