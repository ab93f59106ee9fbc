"""Calls of the learner's code side by side that take turns, so that a race comes out the same way every time.

Before each statement and each COMMIT a call waits for its turn, and one turn is given at a time: the next when every
call has ended, waits for a turn, or stands at a lock. Nothing is left to the speed of a machine.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, event, text

from course_lib.judging.asking import BLOCKED, LONGEST, LONGEST_HOLD, limits_its_waiting
from course_lib.judging.attempt import Attempt
from course_lib.judging.races import sessions_of
from course_lib.judging.trouble import QUERY_CANCELED, sqlstate_of

PATIENCE = 1.2  # seconds without a statement, after which a call is held up by something outside the database
LOOKS = 100  # at the least, so that a machine under load is not mistaken for a call that does not move
T = TypeVar("T")


@dataclass(eq=False)
class Call:
    """One running call of the learner's code."""

    task: asyncio.Task[Any]
    statements: int = 0
    """How many statements and COMMITs it has come to."""
    commits: int = 0
    """How many COMMITs it was let send."""
    at_commit: bool = False
    """Whether it is a COMMIT that it came to last."""
    impatient: bool = False
    """Whether it has set itself a limit for waiting that was not tried yet."""
    turns: list[asyncio.Future[None]] = field(default_factory=list)
    """What it waits for before its next statement or COMMIT; several, if it runs tasks of its own."""

    @property
    def ended(self) -> bool:
        return self.task.done()

    @property
    def waits_for_turn(self) -> bool:
        return any(not turn.done() for turn in self.turns)

    def go_on(self) -> None:
        """Its turn: what it is about to do, it does."""
        self.commits += self.waits_for_turn and self.at_commit
        for turn in self.turns:
            if not turn.done():
                turn.set_result(None)
        self.turns.clear()


class Race:
    """Calls that take turns. Leaving the block lets them all run to their end."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.calls: list[Call] = []
        self.taking_turns = True
        self.held_outside: list[Call] = []
        """Calls that sent nothing in the time that ``settle`` waited for them in vain, those at a lock included."""
        self._judge = attempt.judge_session()
        self._engine = attempt.engine.sync_engine
        self._current: ContextVar[Call | None] = ContextVar("current", default=None)

    async def __aenter__(self) -> Self:
        await self._judge.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        event.listen(self._engine, "before_cursor_execute", self._pause)
        event.listen(self._engine, "commit", self._pause)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.run_freely()
        if error is not None:
            for call in self.calls:
                call.task.cancel()
        try:
            await asyncio.gather(*(call.task for call in self.calls), return_exceptions=True)
        finally:
            event.remove(self._engine, "before_cursor_execute", self._pause)
            event.remove(self._engine, "commit", self._pause)
            await self._judge.close()

    def _pause(self, connection: Connection, *statement: Any) -> None:
        call = self._current.get()
        if call is None:
            return
        call.statements += 1
        call.at_commit = not statement
        call.impatient = call.impatient or (bool(statement) and limits_its_waiting(statement[1]))
        if self.taking_turns:
            turn = asyncio.get_running_loop().create_future()
            call.turns.append(turn)
            connection.connection.dbapi_connection.run_async(lambda _: _wait(turn))  # type: ignore[union-attr]

    def start(self, function: Callable[..., Any], *arguments: Any) -> Call:
        """Call ``function``, which is the learner's, beside the others."""

        async def run() -> Any:
            self._current.set(call)
            answered = function(*arguments)
            return await answered if inspect.isawaitable(answered) else answered

        call = Call(asyncio.ensure_future(run()))
        self.calls.append(call)
        return call

    async def settle(self, sleep: float = inf) -> bool:
        """Wait until every call has ended, waits for its turn or stands at a lock.

        False if that does not come, though somebody is being held: who moves tries again and again, or waits for
        something that the database knows nothing of. While nobody is held, who moves may ``sleep`` so many seconds.
        """
        clock, looks = asyncio.get_running_loop(), 0
        start = clock.time()
        sent = {call: call.statements for call in self.calls}
        self.held_outside = []
        while moving := [call for call in self.calls if not (call.ended or call.waits_for_turn)]:
            held = any(call.waits_for_turn for call in self.calls)
            standing = await self._judge.scalar(text(BLOCKED))
            if standing >= len(moving):
                if not any(call.impatient for call in moving):
                    return True
                await self._try_patience(moving)
            held = held or standing > 0
            passed = clock.time() - start
            if (looks > LOOKS or passed > LONGEST) and passed > (PATIENCE if held else sleep):
                self.held_outside = [call for call in moving if call.statements == sent[call]]
                return False
            looks += 1
            tasks = {call.task for call in moving}
            await asyncio.wait(tasks, timeout=0.002, return_when=asyncio.FIRST_COMPLETED)
        return True

    async def _try_patience(self, standing: Sequence[Call]) -> None:
        """Let them stand at their locks for as long as anybody has to be ready to wait."""
        for call in self.calls:
            call.impatient = False
        tasks = {call.task for call in standing}
        await asyncio.wait(tasks, timeout=LONGEST_HOLD, return_when=asyncio.FIRST_COMPLETED)

    async def take_turns(self) -> bool:
        """One statement or COMMIT each, in the order in which they were started, until all have ended.

        False if a call waits for something that the database knows nothing of, such as a lock of Python; then all of
        them run freely from there on.
        """
        while not all(call.ended for call in self.calls):
            moved = False
            for call in self.calls:
                if not await self.settle():
                    self.run_freely()
                    return False
                if call.waits_for_turn:
                    call.go_on()
                    moved = True
            if not moved:  # all stand at locks of each other: the server ends that within a second
                await asyncio.sleep(0.01)
        return True

    async def run_alone(self, call: Call, turns: int = 20) -> None:
        """Let this one take turns, ``turns`` at the most, until it has ended or stands at a lock."""
        while turns > 0 and await self.settle() and call.waits_for_turn:
            call.go_on()
            turns -= 1
        await self.settle()

    def run_freely(self) -> None:
        """No more turns: everybody goes on at once."""
        self.taking_turns = False
        for call in self.calls:
            call.go_on()

    async def outcomes(self) -> list[Any]:
        """What each call returned or raised, in the order they were started."""
        return await asyncio.gather(*(call.task for call in self.calls), return_exceptions=True)

    async def results(self) -> list[Any]:
        """What the calls returned. Raises the first error among them that says more than that it waited too long."""
        outcomes = await self.outcomes()
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for error in sorted(errors, key=lambda error: sqlstate_of(error) == QUERY_CANCELED):
            raise error
        return outcomes


async def _wait(turn: asyncio.Future[None]) -> None:
    await turn


async def run_race(attempt: Attempt, script: Callable[[Race], Awaitable[T]]) -> T:
    """``script(race)`` within the limits that every call of the learner's code has.

    Raises:
        Wrong: a call raised, as ``attempt.call`` says it.
    """

    async def scene() -> T:
        async with Race(attempt) as race:
            return await script(race)

    scene.__name__ = attempt.exercise.answer  # the name that a message gives
    outcome: T = await attempt.call(function=scene)
    return outcome


async def one_overtaken(attempt: Attempt, turns: int, slow: Sequence[Any], fast: Sequence[Any]) -> list[Any]:
    """What two calls of the answer returned: the first one sends up to ``turns`` statements and no COMMIT, then the
    second one goes on alone until it has ended or stands at a lock, and then both go on.

    Raises:
        Wrong: as ``run_race``.
    """

    async def script(race: Race) -> list[Any]:
        first = race.start(attempt.answer, sessions_of(attempt), *slow)
        await race.settle()
        for _ in range(turns):
            if first.waits_for_turn and not first.at_commit:
                await race.run_alone(first, 1)
        await race.run_alone(race.start(attempt.answer, sessions_of(attempt), *fast))
        race.run_freely()
        return await race.results()

    return await run_race(attempt, script)


async def in_turns(attempt: Attempt, *calls: Sequence[Any]) -> tuple[bool, list[Any]]:
    """A call of the answer for each of these arguments, by turns to their end; what each returned comes second.

    First comes whether all that held them up was the database, see ``Race.take_turns``.

    Raises:
        Wrong: as ``run_race``.
    """

    async def script(race: Race) -> tuple[bool, list[Any]]:
        for arguments in calls:
            race.start(attempt.answer, sessions_of(attempt), *arguments)
        return await race.take_turns(), await race.results()

    return await run_race(attempt, script)
