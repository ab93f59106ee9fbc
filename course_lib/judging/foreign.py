"""What an answer returns is made plain before a judge looks at it: no method that the answer defines compares for it.

To be called where the answer is, inside its clock: what iterates may be endless.
"""

from __future__ import annotations

import datetime
import decimal
import sys
import uuid
from collections import deque, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any

from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import article

MOST = 100_000  # values in all
DEEPEST = 20  # containers inside each other

SCALARS = frozenset(
    {bool, int, float, complex, str, bytes, type(None), uuid.UUID}
    | {datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal}
)
_AS_BASE: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes.__add__(value, b""),
    uuid.UUID: lambda value: uuid.UUID(int=int.__int__(uuid.UUID.__dict__["int"].__get__(value))),
}
_ITERATORS: dict[type, Callable[[Any], Iterator[Any]]] = {
    list: list.__iter__, tuple: tuple.__iter__, set: set.__iter__, frozenset: frozenset.__iter__,
    deque: deque.__iter__,
}  # fmt: skip
_COMPARING = ("__eq__", "__ne__", "__hash__", "__class__", "__getattribute__")
LIBRARIES = sys.stdlib_module_names - {"__main__", "antigravity", "this"} | {
    "asyncpg", "course_lib", "greenlet", "numpy", "pgvector", "psycopg", "pydantic", "pydantic_core", "sqlalchemy",
}  # fmt: skip
_MADE_IN_C = 1 << 9  # of tp_flags: unset for types that no Python code has made
_known: dict[int, type] = {}


class _Foreign(Exception):
    """A value of a class that only the answer knows, which would compare, count or show itself as it likes."""

    def __init__(self, value: Any) -> None:
        self.kind = article(value)


def plain(value: Any, name: str) -> Any:
    """``value`` without classes of the answer's own where a builtin is meant; everything else as it is.

    Args:
        value: what the answer returned.
        name: of the answer, for the sentence.

    Raises:
        Wrong: it cannot be made plain: a class that passes itself off as another, far too many values, too deep.
        Exception: what a method of the answer's own raised when its values were asked for.
    """
    try:
        return _Copy(name).of(value, 0)
    except _Foreign as foreign:
        sentence = f"`{name}` returned {foreign.kind}, a class of its own that passes itself off as something else."
        raise Wrong(
            "foreign value", sentence, "Return plain values: numbers, texts, lists, objects as loaded."
        ) from None


class _Copy:
    def __init__(self, name: str) -> None:
        self._name = name
        self._left = MOST
        self._models: set[int] = set()

    def of(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if type(kind) is type and kind in SCALARS:
            return value
        self._left -= 1
        if self._left < 0:
            raise self._wrong("too much", f"returned more than {MOST:,} values")
        if depth > DEEPEST:
            raise self._wrong("too deep", f"returned containers that are nested more than {DEEPEST} deep")
        base = next((one for one in (*_AS_BASE, *_ITERATORS, dict) if issubclass_of(kind, one)), None)
        if not is_known(kind):
            return self._of_unknown(value, kind, base, depth)
        if base is dict or base in _ITERATORS:
            return self._of_container(value, kind, base, depth)
        if "_sa_instance_state" in getattr(value, "__dict__", ()):
            self._look_into(value)
        return value

    def _of_container(self, value: Any, kind: type, base: type, depth: int) -> Any:
        """A copy; of a library's own container only where something in it is not plain."""
        if base is dict:
            pairs = list(islice(dict.items(value), self._left + 1))
            copies: Any = [(self.of(key, depth + 1), self.of(item, depth + 1)) for key, item in pairs]
            same = all(a is c and b is d for (a, b), (c, d) in zip(pairs, copies, strict=True))
        else:
            items = list(islice(_ITERATORS[base](value), self._left + 1))
            self._left -= len(items) if len(items) > self._left else 0
            copies = [self.of(item, depth + 1) for item in items]
            same = all(a is b for a, b in zip(items, copies, strict=True))
        return value if same and kind is not base and is_known(kind) else base(copies)

    def _of_unknown(self, value: Any, kind: type, base: type | None, depth: int) -> Any:
        if base in _AS_BASE:
            return _AS_BASE[base](value)
        if base is not None:
            copy = self._of_container(value, kind, base, depth)
            return _named(kind, copy) if base is tuple else copy
        posing = any("__class__" in vars_of(one) for one in mro_of(kind) if one is not object)  # as a mock does
        if posing or _compares(kind):
            raise _Foreign(value)
        if issubclass(kind, Mapping):
            keys = list(islice(iter(value), self._left + 1))
            return self.of({self.of(key, depth + 1): value[key] for key in keys}, depth)
        if issubclass(kind, Sequence | Set):
            return self.of(list(islice(iter(value), self._left + 1)), depth)
        if "_sa_instance_state" in getattr(value, "__dict__", ()):
            self._look_into(value)
        return value

    def _look_into(self, model: Any) -> None:
        """What was loaded came from the database; what the answer has set may be anything.

        Raises:
            _Foreign: there is something that would have to be made plain.
        """
        waiting = [model]
        while waiting:
            item = waiting.pop()
            if id(item) in self._models:
                continue
            self._models.add(id(item))
            for value in list(dict.values(object.__getattribute__(item, "__dict__"))):
                kind = type(value)
                if type(kind) is type and kind in SCALARS:
                    continue
                if not is_known(kind) and _compares(kind):
                    raise _Foreign(value)
                related = list.__iter__(value) if issubclass_of(kind, list) else (value,)
                waiting += [one for one in related if "_sa_instance_state" in getattr(one, "__dict__", ())]

    def _wrong(self, mistake: str, what: str) -> Wrong:
        return Wrong(mistake, f"`{self._name}` {what}.")


def _named(kind: type, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A named tuple keeps its names."""
    fields = next((vars_of(one)["_fields"] for one in mro_of(kind) if "_fields" in vars_of(one)), None)
    if type(fields) is tuple and len(fields) == len(values):
        try:
            return namedtuple("Values", fields)(*values)
        except (TypeError, ValueError):
            pass
    return values


def _compares(kind: type) -> bool:
    """True when a class of the answer's own has redefined what it equals or is; what a dataclass makes is honest."""
    return any(
        name in vars_of(one)
        for one in mro_of(kind)
        if not is_known(one) and "__dataclass_fields__" not in vars_of(one)
        for name in _COMPARING
    )


def is_known(kind: type) -> bool:
    """True for a type of Python or of a library: found there under its own name, so that none can borrow one."""
    if _known.get(id(kind)) is kind:
        return True
    if type.__dict__["__flags__"].__get__(kind) & _MADE_IN_C and not _found(kind):
        return False
    _known[id(kind)] = kind
    return True


def _found(kind: type) -> bool:
    module, path = vars_of(kind).get("__module__"), type.__dict__["__qualname__"].__get__(kind)
    if type(module) is not str or type(path) is not str or module.partition(".")[0] not in LIBRARIES:
        return False
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        names = vars(found) if type(found) is type(sys) else vars_of(found) if isinstance(found, type) else {}
        found = names.get(name)
    return found is kind


def mro_of(kind: type) -> tuple[type, ...]:
    mro: tuple[type, ...] = type.__dict__["__mro__"].__get__(kind)
    return mro


def vars_of(kind: type) -> Mapping[str, Any]:
    names: Mapping[str, Any] = type.__dict__["__dict__"].__get__(kind)
    return names


def issubclass_of(kind: type, *bases: type) -> bool:
    """``issubclass`` without asking a metaclass."""
    return any(one is base for one in mro_of(kind) for base in bases)
