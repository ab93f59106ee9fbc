"""What a shell does differently while the course is used, and how that is taken back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from course_lib.kernel.folding import folded, is_own
from course_lib.kernel.interrupt import arm, interrupted
from course_lib.kernel.tracebacks import ShortTracebacks
from course_lib.kernel.unawaited import say_so
from course_lib.kernel.undefined import not_run_yet


def adopt(shell: Any) -> Callable[[], None]:
    """Change IPython's shell. Returns what changes it back."""
    earlier = shell.InteractiveTB
    shell.InteractiveTB = ShortTracebacks.in_place_of(earlier)
    shell.showtraceback = _showing(shell, shell.showtraceback)
    forget = say_so(shell)

    def before_a_cell(*_: object) -> None:
        arm()

    shell.events.register("pre_run_cell", before_a_cell)
    before_a_cell()  # the running one, which imports the course

    def take_back() -> None:
        shell.events.unregister("pre_run_cell", before_a_cell)
        forget()
        del shell.showtraceback  # the class has its own
        earlier.set_mode(shell.InteractiveTB.mode)
        shell.InteractiveTB = earlier

    return take_back


def _showing(shell: Any, show: Callable[..., None]) -> Callable[..., None]:
    """What takes the place of the shell's ``showtraceback``, and leaves most to it."""

    def showtraceback(exc_tuple: Any = None, *arguments: Any, **options: Any) -> None:
        again = exc_tuple is None and sys.exc_info()[0] is None  # nothing is being handled: this is %tb
        try:
            _, error, traceback = shell._get_exc_info(exc_tuple)  # which %tb and %debug remember
        except ValueError:
            show(exc_tuple, *arguments, **options)  # says that there is none
            return
        with shell.InteractiveTB.showing(whole=again):
            special = None if options.get("exception_only") else _special(shell, error, again)
            if special is not None:
                shown, lines = special
                shell._showtraceback(type(shown), shown, lines)
            elif isinstance(error, SyntaxError) and not again:
                with folded(error, traceback):
                    show(exc_tuple, *arguments, **options)
            else:
                show(exc_tuple, *arguments, **options)

    return showtraceback


def _special(shell: Any, error: BaseException, again: bool) -> tuple[BaseException, list[str]] | None:
    """What IPython would show in another way; None for all else."""
    if isinstance(error, asyncio.CancelledError) and interrupted() and not again:
        pressed = KeyboardInterrupt(f"You interrupted this cell while it waited{_where(error.__traceback__)}.")
        return pressed, [f"KeyboardInterrupt: {pressed}"]
    if isinstance(error, NameError) and not again and (sentence := not_run_yet(shell, error)):
        return error, str(sentence).splitlines()
    if _tells_of_a_group(error) or (again and hasattr(error, "_render_traceback_")):
        return error, shell.InteractiveTB.story(error)
    return None


def _where(traceback: TracebackType | None) -> str:
    while traceback is not None and not is_own(traceback.tb_frame):
        traceback = traceback.tb_next
    return f" at line {traceback.tb_lineno}" if traceback is not None else ""


def _tells_of_a_group(error: BaseException | None) -> bool:
    """True for what IPython 9.18 leaves to ``traceback.print_exc``, on stderr."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            return True
        error = error.__context__
    return False
