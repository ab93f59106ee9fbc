"""A clock that stands still for one function, so that what is made out of the time comes out the same."""

from __future__ import annotations

import datetime as datetimes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

MOMENT = 1_700_000_000
READERS = ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic_ns")  # the event loop lives by monotonic


class _Still(datetimes.datetime):
    @classmethod
    def now(cls, tz: datetimes.tzinfo | None = None) -> Any:
        return datetimes.datetime.fromtimestamp(MOMENT, tz)

    @classmethod
    def utcnow(cls) -> Any:
        return datetimes.datetime.fromtimestamp(MOMENT, datetimes.UTC).replace(tzinfo=None)


def _standing() -> dict[int, Any]:
    """What stands in for a clock, by the id of what it stands in for."""
    readers = {name: partial(int, MOMENT * (10**9 if name.endswith("_ns") else 1)) for name in READERS}
    functions = {id(getattr(time, name)): reader for name, reader in readers.items()}
    modules = {
        id(time): SimpleNamespace(**{**vars(time), **readers}),
        id(datetimes): SimpleNamespace(**{**vars(datetimes), "datetime": _Still}),
    }
    return functions | modules | {id(datetimes.datetime): _Still}


@contextmanager
def standing_clock(function: Callable[..., Any]) -> Iterator[None]:
    """Until the block ends, the clocks that the names of ``function``'s module stand for stand still.

    Only that module's names are changed, and given back: whoever else reads a clock reads the time.
    """
    written = function.__func__ if type(function) is MethodType else function
    names = written.__globals__ if type(written) is FunctionType else {}
    stand_ins = _standing()
    changed = {name: value for name, value in names.items() if id(value) in stand_ins}
    names.update({name: stand_ins[id(value)] for name, value in changed.items()})
    try:
        yield
    finally:
        names.update(changed)
