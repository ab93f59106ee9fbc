"""From the syntax tree of a Python file to chunks of its functions: signatures and bodies, without the docstrings."""

from __future__ import annotations

import ast
import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from tokenize import detect_encoding

MIN_CHARS = 100
"""A shorter function does nothing that could be found by its meaning."""

LONGEST = 800  # of a chunk, before a rest that is too short for itself joins it

Function = ast.FunctionDef | ast.AsyncFunctionDef


def function_chunks(tree: ast.Module, source: bytes) -> Iterator[tuple[str, str]]:
    """Qualified name and content of every chunk, ``MIN_CHARS`` to ``LONGEST + MIN_CHARS`` characters, in order.

    A function inside another is a part of the other's text.
    """
    lines = _lines(source)
    for qualname, function in _functions(tree.body, ""):
        for content in _pack(textwrap.dedent("\n".join(_code(function, lines))).strip().split("\n")):
            yield qualname, content


def _lines(source: bytes) -> list[str]:
    """Lines as the parser counts them. A byte that the declared encoding does not know was refused by the parser."""
    encoding, _ = detect_encoding(io.BytesIO(source).readline)
    return io.TextIOWrapper(io.BytesIO(source), encoding).read().split("\n")  # universal newlines


def _functions(body: Iterable[ast.AST], scope: str) -> Iterator[tuple[str, Function]]:
    """Functions and methods, also those defined under ``if`` and ``try``."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | Function):
            qualname = f"{scope}.{statement.name}" if scope else statement.name
            if isinstance(statement, ast.ClassDef):
                yield from _functions(statement.body, qualname)
            else:
                yield qualname, statement
        else:
            for branch in ("body", "handlers", "orelse", "finalbody"):
                yield from _functions(getattr(statement, branch, ()), scope)


def _code(function: Function, lines: Sequence[str]) -> list[str]:
    """The function's lines from ``def`` on, without those of its docstring."""
    first = function.lineno - 1
    code = lines[first : function.end_lineno]
    docstring = function.body[0]
    if ast.get_docstring(function, clean=False) is None or docstring.lineno == function.lineno:
        return list(code)
    return [*code[: docstring.lineno - 1 - first], *code[(docstring.end_lineno or docstring.lineno) - first :]]


def _pack(lines: Iterable[str]) -> list[str]:
    """Lines joined up to the greatest length; a longer line is cut."""
    packed = [""]
    for line in lines:
        for start in range(0, max(len(line), 1), LONGEST):
            part = line[start : start + LONGEST].rstrip()
            if len(packed[-1]) + len("\n") + len(part) > LONGEST:
                packed.append("")
            packed[-1] += ("\n" if packed[-1] else "") + part
    if len(packed) > 1 and len(packed[-1]) < MIN_CHARS:
        rest = packed.pop()
        packed[-1] += "\n" + rest
    return [chunk.strip("\n") for chunk in packed if len(chunk.strip()) >= MIN_CHARS]
