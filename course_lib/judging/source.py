"""What can be told from the source of the learner's code: whether it is still the stub, and which line failed."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from abc import ABCMeta
from collections.abc import Iterator
from types import FunctionType, MethodType, TracebackType
from typing import Any

from course_lib.judging.foreign import LIBRARIES
from course_lib.judging.quoting import one_line


def _is_written(answer: Any) -> bool:
    """True for a function, method or class. To look at an object of another type may run code of its own."""
    return any(type(answer) is kind for kind in (FunctionType, MethodType, type, ABCMeta))


def is_stub(answer: Any) -> bool:
    """True for ``...``, and for a function or class whose body does nothing but say that it is not written yet."""
    if answer is ... or answer is NotImplemented:
        return True
    if not _is_written(answer):
        return False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(answer)))
    except Exception:  # no file, no syntax, or what it says of itself is wrong
        return False
    definition = tree.body[0] if tree.body else None
    if isinstance(definition, ast.ClassDef):
        methods = [node for node in definition.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        return bool(methods) and all(_does_nothing(method) for method in methods)
    return isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef) and _does_nothing(definition)


def is_unwritten(source: str) -> bool:
    """True for an answer cell that holds no more than a stub, of whichever edition: no line of it is the learner's.

    A comment is theirs, and so is whatever does not parse.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    functions = [node for node in ast.walk(tree) if isinstance(node, definitions[:2]) and node.name != "__init__"]
    return (
        "#" not in source
        and all(isinstance(node, definitions) for node in tree.body)
        and all(_does_nothing(function) for function in functions)
    )


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
    return f"Line {number} of your cell: `{one_line(source)}`" if source else f"Line {number} of your cell."


def foreign_frame(error: BaseException) -> str:
    """The line of code that is neither the course's nor a library's, and that ``error`` came through last; or none."""
    step, line = error.__traceback__, ""
    while step is not None:
        module = step.tb_frame.f_globals.get("__name__")
        if type(module) is not str or module.partition(".")[0] not in LIBRARIES:
            file, number = step.tb_frame.f_code.co_filename, step.tb_lineno
            line = f"Line {number} of your cell: `{one_line(linecache.getline(file, number).strip())}`"
        step = step.tb_next
    return line


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    step: TracebackType | None = error.__traceback__
    while step is not None:
        yield step.tb_frame.f_code.co_filename, step.tb_lineno
        step = step.tb_next


def _file_of(answer: Any) -> str | None:
    if not _is_written(answer):
        return None
    if isinstance(answer, type):  # inspect finds no file of a class in a notebook, but of its methods
        answer = next((method for method in vars(answer).values() if inspect.isfunction(method)), answer)
    try:
        return inspect.getsourcefile(answer) or inspect.getfile(answer)
    except (OSError, TypeError):
        return None
