"""Calls, values and outcomes in few words that are the same in every run: no ids, no times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

from course_lib.instruments.rows import Rows

LONGEST_VALUE = 24  # characters of one value
SMALL = 32  # characters of a whole result that is shown instead of counted
CHANGING = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-|0x[0-9a-f]{6,}|\d{2}:\d{2}:\d{2}")  # uuids, addresses, times


def listed(names: Sequence[str]) -> str:
    """``Ada``, ``Ada and Bruno``, ``Ada, Bruno and Chidi``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def steady(value: Any) -> str | None:
    """The value as it is written, None for what differs from run to run or has no short form."""
    if value is None:
        return "NULL"
    if isinstance(value, bool | int | float | Decimal | Enum):
        return str(value)
    if isinstance(value, str) and not CHANGING.search(value):
        return repr(value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…")
    return None


def spoken_value(value: Any) -> str:
    """What a step gave: ``1 row``, ``→ 40``, ``→ a User``."""
    if isinstance(value, Rows):
        return _spoken_rows(value)
    if value is None:
        return "done"
    if (text := steady(value)) is not None:
        return f"→ {text}"
    if isinstance(value, list | tuple | set | frozenset | dict):
        return _spoken_collection(value)
    name = type(value).__name__
    return f"→ {'an' if name[0] in 'AEIO' else 'a'} {name}"


def _spoken_rows(rows: Rows) -> str:
    if not rows.columns:
        return "done" if rows.affected is None else counted(rows.affected, "row")
    cells = [steady(value) for row in rows for value in row]
    known = [cell for cell in cells if cell is not None]
    small = known and len(known) == len(cells) and (len(rows) == 1 or len(rows.columns) == 1)
    text = ", ".join(known)
    return f"→ {text}" if small and len(text) <= SMALL else counted(len(rows), "row")


def _spoken_collection(values: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any] | dict[Any, Any]) -> str:
    known = [steady(value) for value in values] if isinstance(values, list | tuple) else [None]
    text = ", ".join(cell for cell in known if cell is not None)
    if known and None not in known and len(text) <= SMALL:
        return f"→ {text}"
    return f"→ {counted(len(values), 'value')}"


def spoken_values(values: Mapping[str, Any]) -> str:
    """``n = 50, name = 'Hana'``; what differs from run to run is left out."""
    return ", ".join(f"{name} = {text}" for name, value in values.items() if (text := steady(value)) is not None)


def spoken_call(function: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any]) -> str:
    """``add_tokens(…, 10)``: the session is left out, an object is told by its class."""
    parts = [_argument(value) for value in arguments]
    parts += [f"{name}={_argument(value)}" for name, value in named.items()]
    function = getattr(function, "func", function)  # of a partial
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}({', '.join(parts)})"


def _argument(value: Any) -> str:
    text = steady(value)
    if text is not None:
        return "None" if value is None else text
    if isinstance(value, type):
        return value.__name__
    plain = type(value).__module__ in ("builtins", "uuid", "datetime", "asyncpg.pgproto.pgproto")
    return "…" if plain else type(value).__name__
