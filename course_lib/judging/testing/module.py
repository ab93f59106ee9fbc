"""The file of tests that pytest is given: the learner's cell, after what it needs from other cells."""

from __future__ import annotations

import ast
import inspect
import linecache
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from _pytest.fixtures import FixtureFunctionDefinition

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import NotAttempted, Wrong
from course_lib.judging.portable import Portable, add_name, defining_part, used_names
from course_lib.judging.quoting import article
from course_lib.judging.source import is_stub


@dataclass(frozen=True)
class TestModule:
    """Its text; the learner's cell begins after ``before`` lines."""

    __test__ = False

    name: str
    text: str
    before: int

    def line(self, number: int) -> str:
        """``Line 3 of your cell: …`` for a line of the file; empty for one before the cell."""
        lines = self.text.splitlines()
        if not self.before < number <= len(lines):
            return ""
        return f"Line {number - self.before} of your cell: `{lines[number - 1].strip()}`"


def answered(attempt: Attempt) -> TestModule:
    """The attempt's answer as a file of tests.

    Raises:
        NotAttempted: it is still the stub.
        Wrong: it is nothing that pytest collects, or its source cannot be had.
    """
    name, answer = attempt.exercise.answer, attempt.answer
    written = _written(answer)
    tests = (
        [value for name, value in vars(answer).items() if name.startswith("test")] if isinstance(answer, type) else []
    )
    if is_stub(answer) or is_stub(written) or (tests and all(is_stub(test) for test in tests)):
        raise NotAttempted
    if written is None:
        raise Wrong(
            "not a test", f"`{name}` is {article(answer)}, which pytest does not collect.",
            "A function, a class of functions or a fixture, written in the cell.",
        )  # fmt: skip
    try:
        return _module(name, written)
    except (SyntaxError, ValueError, LookupError) as error:
        raise Wrong(
            "no source", f"`{name}` cannot be put into a file of its own: {error}.",
            "Everything that it uses is defined in its cell, or imported in the first one.",
        ) from error  # fmt: skip


def _written(answer: Any) -> FunctionType | None:
    """A function of the answer's, which knows its file and its names."""
    if isinstance(answer, type):
        members = (inspect.unwrap(_unfixed(value)) for value in vars(answer).values() if callable(value))
        return next((value for value in members if type(value) is FunctionType), None)
    function = _unfixed(answer)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)  # inside of @given
    while type(function) is FunctionType and hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function if type(function) is FunctionType else None


def _unfixed(value: Any) -> Any:
    return value._get_wrapped_function() if isinstance(value, FixtureFunctionDefinition) else value


def _module(name: str, function: FunctionType) -> TestModule:
    file = function.__code__.co_filename
    text = "".join(linecache.getlines(file))
    kept, defined = defining_part(text, file)
    if name not in defined:
        raise LookupError("its cell does not define it")
    made = Portable(name)
    others = ""
    for used in sorted(used_names(kept) - defined):
        if used in function.__globals__:
            others += add_name(made, used, function.__globals__[used], {file})
    future = [node for node in kept if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    first = [ast.unparse(node) for node in future]  # nothing may stand before them
    before = "\n".join([*first, *_imports(made)]) + f"\n{others}\n"
    return TestModule(name, before + _only(text, [node for node in kept if node not in future]), before.count("\n"))


def _imports(made: Portable) -> list[str]:
    """Statements by which the names of other cells are had."""
    lines = [f"import {module} as {name}" for name, module in made.modules.items()]
    lines += [f"from {module} import {member} as {name}" for name, (module, member) in made.members.items()]
    return lines + [f"{name} = __import__('pickle').loads({value!r})" for name, value in made.values.items()]


def _only(text: str, kept: list[ast.stmt]) -> str:
    """The lines of these statements, each where it stood."""
    lines = text.splitlines()
    wanted: set[int] = set()
    for node in kept:
        first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", ()))])
        wanted |= set(range(first, (node.end_lineno or first) + 1))
    return "\n".join(line if number in wanted else "" for number, line in enumerate(lines, 1)) + "\n"
