"""Mistakes made around statements: one left out, an error swallowed or caught too widely, too few tries, a result."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from tests.mutants.nodes import (
    HARMLESS,
    Changed,
    Parents,
    bracketed,
    code,
    expression,
    function,
    functions_around,
    is_docstring,
    without,
)

PASS = cst.SimpleStatementLine([cst.Pass()])
WIDER = {
    "IntegrityError": ("DBAPIError", "SQLAlchemyError"),
    "DBAPIError": ("SQLAlchemyError",),
    "OperationalError": ("DBAPIError",),
    "ValueError": (),
}
NARROWER = {
    "Exception": ("ValueError", "RuntimeError"),
    "BaseException": ("Exception",),
    "SQLAlchemyError": ("DBAPIError",),
    "DBAPIError": ("IntegrityError", "OperationalError"),
}
LOCK = re.compile(r"advisory|LOCK TABLE|FOR UPDATE")
BOOLEAN = re.compile(r"\bis (not )?None$|rowcount == 1$|^bool\(|^(True|False)$")


def _statements(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if isinstance(node, cst.SimpleStatementLine):
        if is_docstring(node) or isinstance(node.body[0], cst.Pass | cst.Break | cst.Global | cst.Nonlocal):
            return
        if not any(functions_around(parents)):
            return
        text = code(node)
        kind = "drop a statement"
        if ".commit()" in text:
            kind = "drop a commit"
        elif LOCK.search(text) and isinstance(node.body[0], cst.Expr):
            kind = "drop a lock"
        yield kind, node.with_changes(body=[cst.Pass()])
    if isinstance(node, cst.If):
        if node.orelse is not None or not (isinstance(parents[0], cst.If) and parents[0].orelse is node):
            yield "drop a guard", _other_branch(node)
        if not isinstance(node.test, cst.Comparison | cst.UnaryOperation):
            yield "turn a comparison", node.with_changes(test=expression(f"not ({code(node.test)})"))
        yield "drop a guard", node.with_changes(test=cst.Name("True"), orelse=None)
    if isinstance(node, cst.For | cst.While) and not _ends_elsewhere(node.body):
        yield "first only", _with_break(node)
    if isinstance(node, cst.IfExp):
        yield "drop a guard", expression(f"({code(node.body)}\n)")
        yield "drop a guard", expression(f"({code(node.orelse)}\n)")
    if isinstance(node, cst.CompFor) and node.ifs:
        yield "drop a guard", node.with_changes(ifs=node.ifs[:-1])


def _other_branch(node: cst.If) -> cst.CSTNode:
    if isinstance(node.orelse, cst.Else):
        return cst.If(test=cst.Name("True"), body=node.orelse.body)
    return node.orelse or PASS


def _ends_elsewhere(body: cst.BaseSuite) -> bool:
    """Whether nothing comes behind the last statement, so a `break` there would not be reached."""
    last = body.body[-1]
    return isinstance(last, cst.SimpleStatementLine) and isinstance(
        last.body[-1], cst.Break | cst.Continue | cst.Return | cst.Raise
    )


def _with_break(node: cst.For | cst.While) -> cst.CSTNode:
    assert isinstance(node.body, cst.IndentedBlock)
    ending = cst.SimpleStatementLine([cst.Break()])
    return node.with_changes(body=node.body.with_changes(body=[*node.body.body, ending]))


def _swallow(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if isinstance(node, cst.FunctionDef) and isinstance(node.body, cst.IndentedBlock):
        if node.name.value == "__init__":
            return
        docstring = [statement for statement in node.body.body[:1] if is_docstring(statement)]
        rest = node.body.body[len(docstring) :]
        says_bool = any(BOOLEAN.search(text) for text in _returned(node))
        endings = ["pass", "return False"] if says_bool else ["pass"]
        for ending in endings:
            handler = cst.ExceptHandler(
                type=cst.Name("Exception"), body=cst.IndentedBlock([cst.parse_statement(ending)])
            )
            whole = cst.Try(body=cst.IndentedBlock(rest), handlers=[handler])
            yield "swallow", node.with_changes(body=node.body.with_changes(body=[*docstring, whole]))
    if isinstance(node, cst.Raise) and any(isinstance(parent, cst.ExceptHandler) for parent in parents):
        yield "swallow", cst.Return(cst.Name("None"))


def _returned(function_: cst.FunctionDef) -> Iterator[str]:
    waiting: list[cst.CSTNode] = [function_.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, cst.Return) and node.value is not None:
            yield code(node.value)
        if not isinstance(node, cst.FunctionDef | cst.Lambda):
            waiting.extend(node.children)


def _handlers(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if isinstance(node, cst.Try):
        if node.handlers and not node.finalbody and not node.orelse:
            yield "narrow an except", cst.If(test=cst.Name("True"), body=node.body)
        if node.finalbody and not node.handlers:
            after = cst.If(test=cst.Name("True"), body=node.finalbody.body)
            yield "drop finally", cst.If(test=cst.Name("True"), body=_joined(node.body, after))
        if node.orelse:
            yield "drop a statement", node.with_changes(orelse=None)
    caught: cst.BaseExpression | None = None
    if isinstance(node, cst.ExceptHandler):
        caught = node.type
    elif isinstance(node, cst.Call) and function(node) == "suppress" and node.args:
        caught = node.args[0].value
    if caught is None:
        return
    for kind, other in _other_classes(caught):
        yield kind, node.deep_replace(caught, other)


def _joined(body: cst.BaseSuite, after: cst.BaseStatement) -> cst.BaseSuite:
    assert isinstance(body, cst.IndentedBlock)
    return body.with_changes(body=[*body.body, after])


def _other_classes(caught: cst.BaseExpression) -> Iterator[tuple[str, cst.BaseExpression]]:
    name = code(caught)
    if isinstance(caught, cst.Tuple):
        for element in caught.elements:
            if len(caught.elements) == 2:
                yield "narrow an except", element.value
            else:
                kept = [one for one in caught.elements if one is not element]
                yield "narrow an except", caught.with_changes(elements=kept)
    for other in WIDER.get(name, ()):
        yield "widen an except", expression(f"__import__('sqlalchemy').exc.{other}")
    if name not in ("Exception", "BaseException"):
        yield "widen an except", cst.Name("Exception")
    if name != "BaseException":
        yield "widen an except", cst.Name("BaseException")
    for other in NARROWER.get(name, ()):
        built_in = other in ("ValueError", "RuntimeError", "Exception")
        yield "narrow an except", expression(other if built_in else f"__import__('sqlalchemy').exc.{other}")


def _tries(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    """Fewer tries than errors may come."""
    if isinstance(node, cst.For) and function(node.iter) in ("range", "count") and _holds_try(node.body):
        for tries in ("1", "2", "3"):
            yield "retry once", node.with_changes(iter=expression(f"range({tries})"))
    if isinstance(node, cst.While) and _holds_try(node.body):
        for tries in ("1", "2", "3"):
            loop = cst.For(target=cst.Name("_"), iter=expression(f"range({tries})"), body=node.body)
            yield "retry once", loop


def _holds_try(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Try) or any(_holds_try(child) for child in node.children)


def _results(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    """Another type than the one that was asked for."""
    if not isinstance(node, cst.Return) or node.value is None or not _is_of_the_answer(parents):
        return
    value, text = node.value, code(node.value)
    whole = bracketed(value)
    for other in _other_types(value, text, whole):
        yield "relax a type", node.with_changes(value=expression(other))


def _other_types(value: cst.BaseExpression, text: str, whole: str) -> tuple[str, ...]:
    """What a result may be taken for, by the look of its source."""
    if isinstance(value, cst.Tuple):
        return f"list({whole})", f"{whole}[::-1]"
    if isinstance(value, cst.Dict):
        return (f"list({text}.items())",)
    if re.search(r"(\.all\(\)|^\[.*\]|^list\(.*\)|^sorted\(.*\))$", text, re.DOTALL):
        return f"tuple({text})", f"iter({text})", f"{whole}[0]", f"{whole}[:-1]"
    if re.search(r"(\bid|_id)$", text):
        return f"str({text})", f"{whole}.hex", f"{whole}.bytes"
    if text in ("True", "False"):
        return ("1",) if text == "True" else ("0", "None")
    if BOOLEAN.search(text):
        return f"int({text})", f"str({text})", f"({text}) or None"
    if re.search(r"seq|count|used|low|total|number|len\(|sum\(", text):
        return f"float({text})", f"str({text})", f"{whole} + 1"
    return ()


def _is_of_the_answer(parents: Parents) -> bool:
    """Not in a function within a function."""
    return len(list(functions_around(parents))) == 1


def _arguments(node: cst.CSTNode, parents: Parents) -> Iterator[Changed]:
    if isinstance(node, cst.Call):
        for number, argument in enumerate(node.args):
            if argument.keyword is None or argument.keyword.value in HARMLESS:
                continue
            kind = "drop a lock" if "for_update" in code(argument.keyword) else "drop a keyword"
            yield kind, node.with_changes(args=without(node.args, number))
    if isinstance(node, cst.Dict) and len(node.elements) > 1:
        for number in range(len(node.elements)):
            yield "drop a keyword", node.with_changes(elements=without(node.elements, number))


OPERATORS = (_statements, _swallow, _handlers, _tries, _results, _arguments)
