"""From a right answer to its mutants: each with one mistake in it, no two the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache

import libcst as cst

from course_lib.exercises.manifest import find_exercise
from tests.mutants import flow, literals, queries, values
from tests.mutants.answers import RightAnswer, defined_names, definition, right_answers
from tests.mutants.nodes import Changed, Parents, is_docstring

OPERATORS = (*queries.OPERATORS, *values.OPERATORS, *flow.OPERATORS, *literals.OPERATORS)
SKIPPED = (cst.Decorator, cst.Annotation, cst.Import, cst.ImportFrom)
MADE_UP = re.compile(r"__import__\(['\"](\w+)['\"]\)\.")
LENGTH = 240


@dataclass(frozen=True)
class Mutant:
    """A right answer with one mistake: the whole source, and what tells it from others in a list."""

    answer: RightAnswer
    operator: str
    line: int
    change: str
    """``old line → new line``; with ``#2`` behind it where the same was done to an earlier line."""
    parts: tuple[str, str, str]
    """The source before the changed definition, the definition, and the source behind it."""

    @property
    def source(self) -> str:
        """The whole of it, to be loaded in the answer's place."""
        return "".join(self.parts)

    @property
    def key(self) -> str:
        """What this mutant is called in lists; it stays the same as long as the line does."""
        return f"{self.answer.title} · {self.operator} · {self.change}"


def mutants_of(answer: RightAnswer, only: str = "") -> list[Mutant]:
    """All mutants of an answer, or those of the kinds that ``is_among`` takes."""
    module = cst.parse_module(answer.source)
    seen: set[str] = set()
    found: list[Mutant] = []
    counts: dict[str, int] = {}
    paths = answer.own or tuple((name,) for name in _all_names(module))
    for path in dict.fromkeys(paths):
        for mutant in _of_definition(answer, module, path, only):
            if mutant.parts[1] in seen or not _compiles(mutant.parts[1]):
                continue
            seen.add(mutant.parts[1])
            number = counts[mutant.key] = counts.get(mutant.key, 0) + 1
            change = mutant.change if number == 1 else f"{mutant.change} #{number}"
            found.append(replace(mutant, change=change))
    return found


def is_among(operator: str, only: str) -> bool:
    """Whether a kind of mistake contains ``only``, or one of its parts between commas; all do where it is empty."""
    return any(part.strip() in operator for part in only.split(","))


def find_mutant(key: str) -> Mutant | None:
    """The mutant of that key; none where its answer has been changed since."""
    exercise, name, operator, _ = key.split(" · ", 3)
    answer = _answers(exercise).get(name)
    return next((one for one in mutants_of(answer, operator) if one.key == key), None) if answer else None


@cache
def _answers(exercise: str) -> dict[str, RightAnswer]:
    return {answer.name: answer for answer in right_answers(find_exercise(exercise))}


def _all_names(module: cst.Module) -> Iterator[str]:
    for statement in module.body:
        yield from sorted(defined_names(statement))


def _of_definition(answer: RightAnswer, module: cst.Module, path: tuple[str, ...], only: str) -> Iterator[Mutant]:
    """The mutants of one definition. Only its top statement is written out again for each."""
    top, inner = definition(module, path[:1]), definition(module, path)
    if top is None or inner is None:
        return
    place = module.body.index(top)  # type: ignore[arg-type]
    before = module.with_changes(body=module.body[:place], footer=()).code if place else _header(module)
    after = module.with_changes(header=(), body=module.body[place + 1 :]).code
    old = module.code_for_node(top)
    for node, parents in _walk(inner, () if top is inner else (top,)):
        for operator in OPERATORS:
            for kind, other in _safely(operator, node, parents):
                new = _written(module, top, node, other) if is_among(kind, only) else None
                if new is not None and new != old:
                    line, change = _difference(old, new)
                    yield Mutant(answer, kind, before.count("\n") + line, change, (before, new, after))


def _header(module: cst.Module) -> str:
    return module.with_changes(body=(), footer=()).code


def _safely(operator: object, node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    """What an operator makes; what is no Python any more is no mutant."""
    made = operator(node, parents)  # type: ignore[operator]
    while True:
        try:
            yield next(made)
        except StopIteration:
            return
        except (cst.ParserSyntaxError, cst.CSTValidationError):
            return


def _walk(node: cst.CSTNode, parents: Parents) -> Iterator[tuple[cst.CSTNode, Parents]]:
    """Every node but decorators, annotations, imports and docstrings, with what it stands in, innermost first."""
    if isinstance(node, SKIPPED) or is_docstring(node):
        return
    yield node, parents
    for child in node.children:
        yield from _walk(child, (node, *parents))


def _written(module: cst.Module, top: cst.CSTNode, node: cst.CSTNode, other: cst.CSTNode) -> str | None:
    """The definition with ``other`` in the place of ``node``, which keeps its brackets."""
    brackets = getattr(node, "lpar", ())
    if brackets and hasattr(other, "lpar") and not other.lpar:
        other = other.with_changes(lpar=node.lpar, rpar=node.rpar)  # type: ignore[attr-defined]
    if hasattr(node, "leading_lines") and hasattr(other, "leading_lines"):
        other = other.with_changes(leading_lines=node.leading_lines)
    try:
        return str(module.code_for_node(top.deep_replace(node, other)))  # type: ignore[arg-type]
    except (cst.CSTValidationError, AttributeError, TypeError):
        return None


def _compiles(source: str) -> bool:
    try:
        ast.parse(source)
        compile(source, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def _difference(old: str, new: str) -> tuple[int, str]:
    """(first changed line, ``old → new``) without comments, on one line."""
    before, after = ([line.strip() for line in text.splitlines()] for text in (old, new))
    steps = [step for step in SequenceMatcher(None, before, after, autojunk=False).get_opcodes() if step[0] != "equal"]
    gone = [line for _, start, end, _, _ in steps for line in before[start:end]]
    come = [line for _, _, _, start, end in steps for line in after[start:end]]
    first = steps[0][1] + 1 if steps else 1
    if steps and not gone:  # lines were put in: behind this one
        gone = before[steps[0][1] - 1 : steps[0][1]]
        come = [*gone, *come]
    return first, f"{_one_line(gone)} → {_one_line(come)}"


def _one_line(lines: list[str]) -> str:
    bare = [re.sub(r"\s+#(?=\s).*$", "", line).strip() for line in lines]
    text = MADE_UP.sub("", " ⏎ ".join(line for line in bare if line))
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 40]} … {text[-37:]}"
