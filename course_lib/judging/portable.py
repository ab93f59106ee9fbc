"""An answer that another process can be handed: the source of its cell, and what that needs from other cells."""

from __future__ import annotations

import ast
import linecache
import pickle
import sys
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

_DEFINING = (
    ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
)  # fmt: skip


@dataclass
class Portable:
    """How an answer is made anew: in ``made_from``."""

    name: str
    source: str = ""
    """What defines something in the cells that are needed; nothing of them that does something."""
    modules: dict[str, str] = field(default_factory=dict)
    """Names that are modules."""
    members: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Names that are something in a module."""
    values: dict[str, bytes] = field(default_factory=dict)
    """Names of other values, pickled."""


def portable(answer: Any) -> Portable | None:
    """A function or a class that its cell defines, with all that its cell needs; None where that cannot be had."""
    code = _code_of(answer)
    if code is None or (code is answer and code.__closure__):
        return None
    made = Portable(answer.__name__)
    try:
        made.source = _collect(made, answer.__name__, code, set())
    except (SyntaxError, ValueError, LookupError):
        return None
    return made


def made_from(parts: Portable) -> Any:
    """The answer, made of them.

    Raises:
        Exception: whatever the source raises when it is run.
    """
    namespace: dict[str, Any] = {"__name__": "another_process"}
    for name, module in parts.modules.items():
        __import__(module)
        namespace[name] = sys.modules[module]
    for name, (module, member) in parts.members.items():
        __import__(module)
        namespace[name] = vars(sys.modules[module])[member]
    for name, value in parts.values.items():
        namespace[name] = pickle.loads(value)
    exec(compile(parts.source, "<answer>", "exec", dont_inherit=True), namespace)
    return namespace[parts.name]


def _code_of(answer: Any) -> FunctionType | None:
    """A function that knows the answer's cell: itself, or a method of the class."""
    if type(answer) is FunctionType:
        return answer
    own = vars(answer).values() if type(answer) is type else ()
    return next((part for part in own if type(part) is FunctionType and part.__module__ == answer.__module__), None)


def _collect(made: Portable, wanted: str, code: FunctionType, seen: set[str]) -> str:
    """The source of the cell that defines ``wanted``, after that of the cells it needs."""
    file = code.__code__.co_filename
    seen.add(file)
    body, defined = defining_part("".join(linecache.getlines(file)), file)
    if wanted not in defined:
        raise LookupError(wanted)
    before = ""
    for name in sorted(used_names(body) - defined):
        if name in code.__globals__:
            before += add_name(made, name, code.__globals__[name], seen)
    return before + "\n".join(ast.unparse(node) for node in body) + "\n"


def defining_part(text: str, file: str) -> tuple[list[ast.stmt], set[str]]:
    """What in a cell defines something, and the names of that.

    Raises:
        SyntaxError: it is no Python.
    """
    tree: Any = compile(text, file, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    body: list[ast.stmt] = [node for node in tree.body if isinstance(node, _DEFINING) and not _awaits(node)]
    return body, {name for node in body for name in _names_of(node)}


def used_names(body: list[ast.stmt]) -> set[str]:
    """The names that stand in these statements."""
    return {node.id for part in body for node in ast.walk(part) if isinstance(node, ast.Name)}


def _awaits(node: ast.stmt) -> bool:
    """True for what awaits while a cell is run."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return any(isinstance(part, ast.Await) for part in ast.walk(node))


def _names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    return {str(getattr(node, "name", ""))}


def add_name(made: Portable, name: str, value: Any, seen: set[str]) -> str:
    """Note how this name of another cell is had; the source of that cell, where it takes that.

    Raises:
        LookupError: it cannot be had elsewhere.
    """
    if isinstance(value, ModuleType):
        made.modules[name] = value.__name__
        return ""
    home = _home(name, value)
    if home is not None:
        made.members[name] = home
        return ""
    if type(value) is FunctionType:
        return _collect(made, value.__name__, value, seen) if value.__code__.co_filename not in seen else ""
    if isinstance(value, type):  # defined in a cell, where no other process finds it
        raise LookupError(name)
    try:
        made.values[name] = pickle.dumps(value)
    except Exception:  # what it is made of may say anything
        raise LookupError(name) from None
    return ""


def _home(name: str, value: Any) -> tuple[str, str] | None:
    """The module that has this very object, and what it is called there."""
    own = (getattr(value, "__module__", None), getattr(value, "__qualname__", None))
    for module, member in (own, *((known, name) for known in list(sys.modules))):
        if not (isinstance(module, str) and isinstance(member, str)) or module == "__main__":
            continue
        if module in sys.modules and vars(sys.modules[module]).get(member) is value:
            return module, member
    return None
