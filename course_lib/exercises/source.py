"""What can be told from the source of the learner's code: whether it is still the stub, and which line failed."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Iterator
from types import TracebackType
from typing import Any


def is_stub(answer: Any) -> bool:
    """True for ``...``, and for a function or class whose body does nothing but say that it is not written yet."""
    if answer is ... or answer is NotImplemented:
        return True
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(answer)))
    except (OSError, TypeError, SyntaxError):
        return False
    definition = tree.body[0] if tree.body else None
    if isinstance(definition, ast.ClassDef):
        methods = [node for node in definition.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        return bool(methods) and all(_does_nothing(method) for method in methods)
    return isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef) and _does_nothing(definition)


def _does_nothing(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(_is_filler(node) for node in function.body)


def _is_filler(node: ast.stmt) -> bool:
    if isinstance(node, ast.Pass):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring, or ...
    return isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(node)


def failing_line(error: BaseException, answer: Any) -> str:
    """The learner's own line that ``error`` came through last, for example ``Line 3 of your cell: …``."""
    home = _file_of(answer)
    lines = [(number, linecache.getline(file, number).strip()) for file, number in _frames(error) if file == home]
    if not lines:
        return ""
    number, source = lines[-1]
    return f"Line {number} of your cell: `{source}`" if source else f"Line {number} of your cell."


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    step: TracebackType | None = error.__traceback__
    while step is not None:
        yield step.tb_frame.f_code.co_filename, step.tb_lineno
        step = step.tb_next


def _file_of(answer: Any) -> str | None:
    if isinstance(answer, type):  # inspect finds no file of a class in a notebook, but of its methods
        answer = next((method for method in vars(answer).values() if inspect.isfunction(method)), answer)
    try:
        return inspect.getsourcefile(answer) or inspect.getfile(answer)
    except (OSError, TypeError):
        return None
