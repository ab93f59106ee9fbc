"""How values and errors of somebody else's code are put into a sentence: short, on one line, and without running it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

LONGEST = 160  # characters of a value in a sentence
DIGITS = 60
NAME = 60
_ESCAPES = re.compile(r"\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)")
_NAME = type.__dict__["__name__"]  # as type itself reads it, whatever a metaclass says


def one_line(text: str, longest: int = LONGEST) -> str:
    """``text`` cut, without line ends, colours, and other signs that cannot be printed."""
    start = _ESCAPES.sub("", str.__getitem__(text, slice(4 * longest)))
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in start).split())
    return line if len(line) <= longest and len(text) <= 4 * longest else f"{line[: longest - 1]}…"


def kind_of(value: Any) -> str:
    """The name of its type."""
    return one_line(str.__str__(_NAME.__get__(type(value))), NAME).replace("`", "'") or "nameless"


def article(value: Any) -> str:
    """``a Row``, ``an int``, ``None``."""
    if value is None:
        return "None"
    kind = kind_of(value)
    return f"an {kind}" if kind[0] in "aeiouAEIO" else f"a {kind}"


def article_of_pair(value: Any) -> str:
    """``a pair of a str and a list with an int in it``; what is no pair, as ``article`` says it."""
    if not (isinstance(value, Sequence) and len(value) == 2) or isinstance(value, str | bytes):
        return article(value)
    first, second = value
    inside = article(second)
    if isinstance(second, list) and second:
        inside = f"a list with {article(next((i for i in second if not isinstance(i, str)), second[0]))} in it"
    return f"a pair of {article(first)} and {inside}"


def quoted(value: Any) -> str:
    """Its repr, as far as that is short and comes without an error."""
    if type(value) is int and value.bit_length() > 3.4 * DIGITS:
        return f"a number of about {int(value.bit_length() * 0.30103) + 1:,} digits"
    if type(value) in (str, bytes):
        value = value[: 2 * LONGEST]
    try:
        return one_line(repr(value))
    except Exception:  # an int inside that is too long to be shown, a repr of the learner's own
        return f"{article(value)} that cannot be shown"


class Shown:
    """A value as a message may format it: ``{said}``, ``{said!r}``, ``{count:,}``."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return quoted(self._value)

    def __str__(self) -> str:
        value = self._value
        return one_line(value, 2 * LONGEST) if type(value) is str else quoted(value)

    def __format__(self, spec: str) -> str:
        value = self._value
        if spec and not (type(value) is int and value.bit_length() > 3.4 * DIGITS):
            with contextlib.suppress(Exception):
                return one_line(format(value, spec), 2 * LONGEST)
        return str(self)


def message_of(error: BaseException) -> str:
    """What the server or Python says of an error, on one line and without the driver's class."""
    try:
        said = str(getattr(error, "orig", None) or error).lstrip()
    except Exception:
        return ""
    lines = one_line(said.partition("\n")[0], 200)
    return lines.rpartition(": ")[2] if lines.startswith("<class") else lines


def sentence_of(error: BaseException) -> str:
    """``ValueError: no such thing``; of a group, the first error that is in it."""
    kind, inside = kind_of(error), error
    while isinstance(inside, BaseExceptionGroup):
        inside = BaseExceptionGroup.exceptions.__get__(inside)[0]
    if inside is not error:
        kind = f"{kind} with {article(inside)} in it"
    message = message_of(inside)
    return f"{kind}: {message}" if message else kind
