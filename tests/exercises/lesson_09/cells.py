"""Answers as cells: what an answer of lesson 09 defines goes into a file of tests, and its neighbours must not."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path


def cell_of(answer: Callable[[], None]) -> str:
    """The body of a function as the source of a cell, without its docstring."""
    source = textwrap.dedent(inspect.getsource(answer))
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef)
    body = definition.body[1:] if ast.get_docstring(definition) else definition.body
    first = min([body[0].lineno, *(part.lineno for part in getattr(body[0], "decorator_list", ()))])
    used = {part.id for node in body for part in ast.walk(node) if isinstance(part, ast.Name)}
    imports = "\n".join(_imports(Path(inspect.getfile(answer)), used))
    return f"{imports}\n" + textwrap.dedent("\n".join(source.splitlines()[first - 1 :]))


def _imports(file: Path, used: set[str]) -> Iterator[str]:
    """Those of the file that a cell uses."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [alias for alias in node.names if (alias.asname or alias.name) in used]
            if node.names:
                yield ast.unparse(node)
