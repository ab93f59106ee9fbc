"""A call whose ``await`` was forgotten is answered by a sentence, whoever's function it calls."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import sys
import warnings
from collections.abc import Callable
from types import CoroutineType
from typing import Any

LONGEST = 60  # characters of code in a sentence
NEVER = re.compile(r"coroutine '(?:.*\.)?(\w+)' was never awaited")


def say_so(shell: Any) -> Callable[[], None]:
    """Let IPython's shell say so, of a cell's last line and of those before. Returns what ends that."""
    formatter, show = shell.display_formatter.ipython_display_formatter, warnings.showwarning

    def display(coroutine: CoroutineType[Any, Any, Any]) -> None:
        call = _last_call(shell)
        if call is None or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
            raise NotImplementedError  # IPython then shows it in its own way
        coroutine.close()  # else the warning would come as well, some time
        _say(f"`{call}`")

    def warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        never = NEVER.match(str(message))
        if never and shell.compile.format_code_name(filename):
            _say(_dropped(never[1], linecache.getline(filename, lineno).strip()))
        else:
            show(message, category, filename, lineno, *rest)

    def forget() -> None:
        formatter.pop(CoroutineType, None)
        warnings.showwarning = show

    formatter.for_type(CoroutineType, display)
    warnings.showwarning = warn  # type: ignore[assignment]
    warnings.filterwarnings("always", NEVER.pattern, RuntimeWarning)  # the same line of two cells is two mistakes
    return forget


def _say(what: str) -> None:
    print(f"{what} was not awaited, so it has not run: write `await` in front of it.", file=sys.stderr)


def _last_call(shell: Any) -> str | None:
    """The call that is a cell's last line. A coroutine that a variable holds may still be awaited."""
    result = shell.displayhook.exec_result
    source = result.info.raw_cell if result is not None else ""
    try:
        last = ast.parse(source).body[-1]
    except (SyntaxError, IndexError):  # magics
        return None
    if not (isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)):
        return None
    called, code = ast.unparse(last.value.func), ast.get_source_segment(source, last.value) or ""
    if called == "display":
        return None
    return code if len(code) <= LONGEST and "\n" not in code else f"{called}(…)"


def _dropped(function: str, code: str) -> str:
    """The call, if ``code`` is that. A coroutine in a variable is dropped later, by the line that ends its life."""
    name = function.removeprefix("_")
    return f"`{code}`" if f"{name}(" in code and "await" not in code else f"A call of `{name}` in `{code}`"
