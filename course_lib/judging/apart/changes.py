"""Whether the judge is still what it was: its functions, classes and constants, before an answer came and after."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import _lru_cache_wrapper
from types import CodeType, FunctionType, ModuleType
from typing import Any

ROOMS = {"data", "db", "exercises", "instruments", "judging", "postgres"}  # nobody's answer changes these
CONSTANTS = (str, bytes, int, float, bool, tuple, frozenset, type(None))
WRITTEN = (FunctionType, staticmethod, classmethod, property, _lru_cache_wrapper)

Place = tuple[str, ...]
Picture = dict[Place, tuple[Any, ...]]


def picture() -> Picture:
    """Everything that the judge consists of, by where it stands."""
    found: Picture = {}
    for name, module in list(sys.modules.items()):
        if _is_judges(name) and type(module) is ModuleType:
            found[(name,)] = (module,)
            found.update(_of_module(name, module))
    return found


def changed(before: Picture) -> str:
    """The name of something that is no longer what it was, such as ``course_lib.judging.judge.judge_answer``; or none.

    What was imported since is not looked at.
    """
    now = picture()
    for place, seen in before.items():
        if not _same(seen, now.get(place, ())):
            return ".".join(place)
    known = {place[:2] for place in before}
    for place in now.keys() - before.keys():
        if len(place) == 3 and place[:2] in known and isinstance(now[place][0], WRITTEN):
            return ".".join(place)  # a method that hides an inherited one
    return ""


def _is_judges(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "course_lib" and len(parts) > 1 and parts[1] in ROOMS


def _of_module(name: str, module: ModuleType) -> Iterator[tuple[Place, tuple[Any, ...]]]:
    for attribute, value in list(vars(module).items()):
        if attribute.startswith("__") or isinstance(value, ModuleType):
            continue
        if (seen := _seen(value, attribute.isupper())) is not None:
            yield (name, attribute), seen
        if isinstance(value, type) and _home(value) == name:
            for inner, part in list(vars(value).items()):
                if not inner.startswith("__pydantic") and (seen := _seen(part, True)) is not None:
                    yield (name, attribute, inner), seen


def _home(kind: type) -> Any:
    return type.__getattribute__(kind, "__dict__").get("__module__")


def _seen(value: Any, constant: bool) -> tuple[Any, ...] | None:
    """Objects to be found again, each the same; None for what changes of itself."""
    kind = type(value)
    if kind in WRITTEN:
        return (value, *_codes(value))
    if issubclass(kind, type):
        return (value,)
    if kind in CONSTANTS:
        return (value,) if constant else None
    if kind is dict and constant:
        return (value, *value.keys(), *value.values())
    return None


def _codes(value: Any) -> Iterator[Any]:
    if type(value) is property:
        for function in (value.fget, value.fset, value.fdel):
            yield from _codes(function)
    elif type(value) in (staticmethod, classmethod, _lru_cache_wrapper):
        yield from _codes(value.__wrapped__)
    elif type(value) is FunctionType:
        yield value.__code__
        yield value.__defaults__
        yield from (value.__kwdefaults__ or {}).values()
        for cell in value.__closure__ or ():
            try:
                inner = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            if type(inner) is FunctionType and inner is not value:
                code: CodeType = inner.__code__
                yield code


def _same(seen: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(seen) == len(now) and all(a is b for a, b in zip(seen, now, strict=True))
