"""Cells that ask the course something, and are nothing that an answer is made of."""

from __future__ import annotations

import ast

ASIDES = {"check", "hint", "progress", "solution"}


def is_aside(source: str) -> bool:
    """True for a cell that only checks, asks for a hint or a solution, or for what has been solved."""
    try:
        body = ast.parse(source.strip()).body  # awaits at the top level are a matter of compiling
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return bool(body) and all(_asks(node) for node in body)


def _asks(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    call = call.value if isinstance(call, ast.Await) else call
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ASIDES
