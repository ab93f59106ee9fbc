"""Answers as cells: what an answer of lesson 09 defines goes into a file of tests, and its neighbours must not."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable


def cell_of(answer: Callable[[], None]) -> str:
    """The body of a function as the source of a cell, without its docstring."""
    source = textwrap.dedent(inspect.getsource(answer))
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef)
    body = definition.body[1:] if ast.get_docstring(definition) else definition.body
    first = min([body[0].lineno, *(part.lineno for part in getattr(body[0], "decorator_list", ()))])
    return textwrap.dedent("\n".join(source.splitlines()[first - 1 :]))
