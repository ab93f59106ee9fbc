"""From the text of a Python file to chunks of its documentation. Nothing is imported or executed."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator

from course_lib.data.functions import function_chunks

MIN_CHARS = 200
"""A shorter text says too little to be found by its meaning; whole docstrings below it are left out."""

MAX_CHARS = 1200
"""About 300 tokens. Most chunks end before 800, so that no short rest has to be thrown away."""

# A short chunk takes in whatever follows it, and then a short rest may still have to join it: two margins.
_TARGET_CHARS = MAX_CHARS - 2 * (MIN_CHARS + len("\n\n"))

# Four files in ten hold no docstring worth a chunk, and a look at the quotes is far cheaper than parsing them.
_MAY_HOLD_DOCSTRING = re.compile(
    rb"""^[ \t]*[rRuU]?(?:"{3}(?:(?!"{3}).){%d}|'{3}(?:(?!'{3}).){%d})""" % (MIN_CHARS, MIN_CHARS), re.M | re.S
)
# PostgreSQL refuses NUL in text, UTF-8 refuses lone surrogates; the others only disturb the reader's terminal.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_DOCTEST = re.compile(r"^ *>>>.*?(?:\n\n|\Z)", re.M | re.S)
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

_Documentable = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def source_chunks(source: bytes, code: bool = False) -> Iterator[tuple[str, str]]:
    """Qualified name and content of every chunk in a file's docstrings, in the file's order.

    With ``code``, those of its functions follow. The module's own docstring has the empty name. A file that this
    Python cannot parse has no chunks.
    """
    if not code and not _MAY_HOLD_DOCSTRING.search(source):
        return
    try:
        tree = ast.parse(source)
        documented = [("", _docstring(tree)), *_definitions(tree.body, "")]
        functions = list(function_chunks(tree, source)) if code else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Newer syntax, an unknown encoding, NUL bytes, or nesting deeper than the parser follows.
        return
    for qualname, docstring in documented:
        for content in split_docstring(docstring):
            yield qualname, content
    for qualname, text in functions:
        yield qualname, _CONTROL.sub("", text)


def split_docstring(docstring: str) -> list[str]:
    """Chunks of ``MIN_CHARS`` to ``MAX_CHARS`` characters, cut between paragraphs where they allow it.

    Chunks that are nearly all doctest are left out: they resemble each other whatever they are about.
    """
    if len(docstring) < MIN_CHARS:
        return []
    pieces = [piece for paragraph in _paragraphs(docstring) for piece in _fitting(paragraph)]
    return [chunk for chunk in _pack(pieces) if MIN_CHARS <= len(chunk) <= MAX_CHARS and _is_prose(chunk)]


def _definitions(body: Iterable[ast.AST], scope: str) -> Iterator[tuple[str, str]]:
    """Classes, methods and functions, also those defined under ``if`` and ``try``; functions' insides are private."""
    for statement in body:
        if isinstance(statement, _DEFINITIONS):
            qualname = f"{scope}.{statement.name}" if scope else statement.name
            yield qualname, _docstring(statement)
            if isinstance(statement, ast.ClassDef):
                yield from _definitions(statement.body, qualname)
        else:
            for branch in ("body", "handlers", "orelse", "finalbody"):
                yield from _definitions(getattr(statement, branch, ()), scope)


def _docstring(node: _Documentable) -> str:
    return ast.get_docstring(node, clean=False) or ""


def _paragraphs(docstring: str) -> Iterable[str]:
    text = _CONTROL.sub("", docstring.replace("\xa0", " "))
    lines = [line.rstrip() for line in inspect.cleandoc(text).split("\n")]
    return filter(None, re.split(r"\n{2,}", "\n".join(lines).strip("\n")))


def _fitting(paragraph: str) -> list[str]:
    """The paragraph, or its lines where it is too long, or their parts; each led by the line breaks before it."""
    if len(paragraph) <= _TARGET_CHARS:
        return ["\n\n" + paragraph]
    lines: list[str] = []
    for line in paragraph.split("\n"):
        lines += [line] if len(line) <= _TARGET_CHARS else textwrap.wrap(line, _TARGET_CHARS)
    return ["\n\n" + lines[0], *("\n" + line for line in lines[1:])]


def _pack(pieces: Iterable[str]) -> list[str]:
    """Join neighbours up to the target length; what is shorter than the minimum joins whatever stands beside it."""
    packed: list[str] = []
    for piece in pieces:
        if packed and (_is_short(packed[-1]) or len(packed[-1]) + len(piece) <= _TARGET_CHARS):
            packed[-1] += piece
        else:
            packed.append(piece)
    if len(packed) > 1 and _is_short(packed[-1]):
        rest = packed.pop()
        packed[-1] += rest
    return [chunk.strip() for chunk in packed]


def _is_short(chunk: str) -> bool:
    return len(chunk.strip()) < MIN_CHARS


def _is_prose(chunk: str) -> bool:
    """False for examples, tables and diagrams: two thirds are doctest, or half of the visible signs no letters."""
    prose = _DOCTEST.sub("", chunk)
    visible = "".join(prose.split())
    return len(prose) * 3 >= len(chunk) and sum(map(str.isalpha, visible)) * 2 >= len(visible)
