"""Every right answer of every exercise, as source that can be changed and loaded again."""

from __future__ import annotations

import json
import linecache
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import libcst as cst

from course_lib.exercises.book import SOLUTIONS, solution_source
from course_lib.exercises.manifest import find_exercise, manifest
from course_lib.judging.exercise import Exercise
from course_lib.settings import REPOSITORY
from tests.mutants.nodes import method

SOLUTION = "solution"


@dataclass(frozen=True)
class RightAnswer:
    """One right answer: the source it stands in, and which definitions of that source are its own.

    ``before`` runs first and is never changed; ``place`` finds the answer in what the source defines.
    """

    exercise: str
    name: str
    source: str
    before: str = ""
    place: tuple[str | int, ...] = ()
    own: tuple[tuple[str, ...], ...] = field(default=())
    """Paths of names to the definitions that may be changed; all, where there are none."""

    @property
    def title(self) -> str:
        return f"{self.exercise} · {self.name}"

    def load(self, source: str) -> Any:
        """The answer as ``source`` has it, which is this answer's own or a changed one."""
        module = ModuleType("mutant")
        sys.modules["mutant"] = module  # where classes look for their module
        file = f"mutant_{self.exercise.replace('.', '_')}.py"
        exec(self.before, vars(module))
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
        found: Any = module
        for step in self.place:
            if isinstance(step, int):
                found = found[step]
            else:
                found = vars(found)[step] if isinstance(found, type) else getattr(found, step)
        return found


def right_answers(exercise: Exercise) -> Iterator[RightAnswer]:
    """The committed solution, then the right answers that tests have written down."""
    setup = _cell(exercise.lesson, "setup")
    yield RightAnswer(exercise.id, SOLUTION, solution_source(exercise) + "\n", setup, (exercise.answer,))
    yield from (_warm_ups if exercise.lesson == "00" else _written)(exercise)


def all_right_answers(exercises: list[str] | None = None) -> Iterator[RightAnswer]:
    """Those of the exercises with these ids, or of all."""
    for exercise in [find_exercise(id) for id in exercises] if exercises else manifest():
        yield from right_answers(exercise)


@cache
def _cell(lesson: str, id: str) -> str:
    notebook = json.loads(next(SOLUTIONS.glob(f"{lesson}_*.ipynb")).read_text(encoding="utf-8"))
    return next("".join(cell["source"]) for cell in notebook["cells"] if cell["id"] == id)


def _written(exercise: Exercise) -> Iterator[RightAnswer]:
    number, _, place = exercise.id.partition(".")
    module = import_module(f"tests.exercises.lesson_{exercise.lesson}.answers_{number}_{place:0>2}")
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    names = [_name(answer, index) for index, answer in enumerate(module.ANSWERS.right_ones)]
    belongings = _Belongings(source, {(name,) for name in names})
    for index, name in enumerate(names):
        own = belongings.of((name,))
        if own:
            yield RightAnswer(exercise.id, name, source, "", ("ANSWERS", "right_ones", index), own)


def _warm_ups(exercise: Exercise) -> Iterator[RightAnswer]:
    module = import_module("tests.exercises.test_lesson_00")
    source = (REPOSITORY / "tests" / "exercises" / "test_lesson_00.py").read_text(encoding="utf-8")
    group = module.ANSWERS[exercise.id]
    paths = [(group.__name__, "Right", name) for name in vars(group.Right) if not name.startswith("__")]
    belongings = _Belongings(source, set(paths))
    for path in paths:
        yield RightAnswer(exercise.id, path[-1], source, "", path, belongings.of(path))


def _name(answer: Callable[..., Any], index: int) -> str:
    """The name of the definition behind ``answer``; for a lambda, which has none, its place."""
    if isinstance(answer, partial):
        answer = answer.func
    name = str(getattr(answer, "__name__", type(answer).__name__))
    return name if name.isidentifier() else f"number_{index}"


class _Belongings:
    """Which definitions of a module belong to which right answer: its own, and helpers nobody before it had."""

    def __init__(self, source: str, answers: set[tuple[str, ...]]) -> None:
        self.module = cst.parse_module(source)
        self.top = {name: statement for statement in self.module.body for name in defined_names(statement)}
        wrong = {name for name, statement in self.top.items() if _is_wrong(statement)}
        self.taken = {path[0] for path in answers} | wrong | {"ANSWERS"}
        self.given: set[tuple[str, ...]] = set()

    def of(self, path: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Paths of what may be changed in this answer; none where another answer had it all."""
        found = definition(self.module, path)
        if found is None:
            return ()
        own = [] if path in self.given else [path]
        self.given.add(path)
        waiting: list[cst.CSTNode] = [found]
        while waiting:
            node = waiting.pop()
            for name in sorted(_names_in(node) - _bound_in(node)):
                if name in self.top and name not in self.taken:
                    self.taken.add(name)
                    own.append((name,))
                    waiting.append(self.top[name])
        return tuple(own)


def definition(module: cst.Module, path: tuple[str, ...]) -> cst.CSTNode | None:
    """The statement that defines ``path``, through classes."""
    body: Any = module.body
    found = None
    for name in path:
        found = next((statement for statement in body if name in defined_names(statement)), None)
        body = found.body.body if isinstance(found, cst.ClassDef) else []
    return found


def defined_names(statement: cst.CSTNode) -> set[str]:
    """The names that a statement defines: a function, a class, or plain assignments."""
    if isinstance(statement, cst.FunctionDef | cst.ClassDef):
        return {statement.name.value}
    if not isinstance(statement, cst.SimpleStatementLine):
        return set()
    targets = [target.target for part in statement.body if isinstance(part, cst.Assign) for target in part.targets]
    return {target.value for target in targets if isinstance(target, cst.Name)}


def _bound_in(node: cst.CSTNode) -> set[str]:
    """The names that a definition binds itself: parameters, and what it assigns, loops over, or calls something."""
    targets: list[cst.CSTNode] = []
    if isinstance(node, cst.Param | cst.AsName):
        targets = [node.name]
    elif isinstance(node, cst.AssignTarget | cst.For | cst.CompFor):
        targets = [node.target]
    found = set().union(*(_names_in(target) for target in targets))
    return found.union(*(_bound_in(child) for child in node.children))


def _is_wrong(statement: cst.CSTNode) -> bool:
    """Whether a definition is marked as a wrong answer."""
    if not isinstance(statement, cst.FunctionDef | cst.ClassDef):
        return False
    decorators = (decorator.decorator for decorator in statement.decorators)
    return any(method(decorator) == "wrong" for decorator in decorators)


def _names_in(node: cst.CSTNode) -> set[str]:
    """The names that a definition uses: not those of attributes and of arguments."""
    if isinstance(node, cst.Name):
        return {node.value}
    if isinstance(node, cst.Attribute):
        return _names_in(node.value)
    if isinstance(node, cst.Arg):
        return _names_in(node.value)
    return set().union(*(_names_in(child) for child in node.children))
