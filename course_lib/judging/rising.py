"""Tables that are not there: an error that no task speaks of, and that its caller has to learn of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from course_lib.judging.asking import ask
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import quoted

HIDE = "ALTER SCHEMA public RENAME TO away"  # waits for nobody: whoever reads or writes rows does not lock their schema
SHOW = "ALTER SCHEMA away RENAME TO public"


async def expect_errors_to_rise(
    attempt: Attempt, *arguments: Any, call: Callable[[], Awaitable[Any]] | None = None, name: str = ""
) -> None:
    """Call the answer with these arguments, or ``call``, while no table can be found.

    Args:
        name: of the method that ``call`` calls.

    Raises:
        Wrong: "swallowed", it came back as if all were well.
    """
    await attempt.sql(HIDE)
    try:
        said = await (call() if call else ask(attempt, *arguments))
    except Wrong as wrong:
        if wrong.mistake != "raised":
            raise
    else:
        sentence = f"When no table could be found, `{name or attempt.exercise.answer}` raised nothing: it returned "
        look = "Catch only what you have an answer for, and let everything else rise to the caller."
        raise Wrong("swallowed", f"{sentence}{quoted(said)}.", look)
    finally:
        await attempt.sql(SHOW)


async def expect_methods_to_raise(attempt: Attempt, thing: Any, **arguments: tuple[Any, ...]) -> None:
    """``expect_errors_to_rise`` for these methods of what the answer made, each with its arguments."""
    for name, values in arguments.items():
        call = partial(attempt.call, *values, function=getattr(thing, name))
        await expect_errors_to_rise(attempt, call=call, name=name)
