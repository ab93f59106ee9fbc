"""How judges ask: a session for every call, several calls at once, another session in between."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import text

from course_lib.db import make_engine
from course_lib.instruments.network import WireLog
from course_lib.judging.attempt import POOL, Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import article, kind_of, message_of
from course_lib.judging.trouble import sqlstate_of

CARDINALITY, NOT_NULL, UNIQUE, CHECK = "21000", "23502", "23505", "23514"  # SQLSTATEs of what the server refuses

DEADLOCK, SERIALIZATION, NOT_AVAILABLE = "40P01", "40001", "55P03"  # and of what it gives up because of others

PATIENCE = 0.8  # seconds for the learner's sessions to reach a lock
LONGEST = 2.0  # seconds: a statement that stands at a lock for three is cancelled
LONGEST_HOLD = 1.0  # seconds for who limits its waiting: who is ready to wait for longer is ready to wait
LIMIT = re.compile(r"\b(set_config|(lock|statement|transaction)_timeout)\b", re.IGNORECASE)
LOOKS = 100  # and at least so often do we look: on a busy machine both sides are slow alike
BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
"""
LONGEST_STATEMENT = 160  # characters of a statement in a sentence


async def ask(attempt: Attempt, *arguments: Any) -> Any:
    """Call the answer in a session of its own. The session is closed after it: what was not committed is gone.

    Raises:
        Wrong: as ``attempt.call``, once tasks that the answer left have come to their end; or "still at work".
    """
    try:
        async with attempt.session() as session:
            said = await attempt.call(session, *arguments)
            attempt.look_for_tasks()
            return said
    except Wrong:
        await attempt.tasks_over()
        raise


async def ask_at_once(attempt: Attempt, times: int, *arguments: Any) -> list[Any]:
    """The same call from as many sessions at once; raises what the first of them raised."""

    async def one() -> Any:
        async with attempt.session() as session:
            answered = attempt.answer(session, *arguments)
            return await answered if inspect.isawaitable(answered) else answered

    return await together(attempt, [one] * times)


async def together(attempt: Attempt, calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Calls of the answer side by side, within the limits of a single one; what each returned.

    Raises:
        Wrong: as ``attempt.call`` says it, for the first of them that raised.
    """

    async def at_once() -> list[Any]:
        answers = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    at_once.__name__ = attempt.exercise.answer  # the name that a message gives
    answers: list[Any] = await attempt.call(function=at_once)
    return answers


async def while_another_writes(
    attempt: Attempt, statement: str, values: dict[str, Any], call: Callable[[], Awaitable[Any]], waiting: int = 1
) -> Any:
    """``call()`` while another session has run ``statement`` and not committed it yet.

    The other session commits as soon as ``waiting`` of the learner's sessions stand at the lock it holds, or the call
    is over. So a value that was read too early is always an old one, however fast or slow the machine.
    """
    async with attempt.judge_session() as other:
        await other.execute(text(statement), values)
        running = asyncio.ensure_future(call())
        await until_blocked(attempt, running, waiting)
        await other.commit()
        return await running


@asynccontextmanager
async def small_pool(attempt: Attempt, size: int, patience: float = POOL["pool_timeout"]) -> AsyncIterator[None]:
    """Until the block ends, the learner's engine has so many connections and no more.

    Args:
        patience: seconds to wait for one; more than usual where right answers queue up for them.
    """
    usual, attempt.engine = (
        attempt.engine,
        make_engine(attempt.url, pool_size=size, max_overflow=0, pool_timeout=patience),
    )
    try:
        yield
        attempt.look_for_held_connections()
    finally:
        await attempt.engine.dispose()
        attempt.engine = usual


async def until_blocked(attempt: Attempt, running: asyncio.Future[Any], count: int, hold: float = LONGEST_HOLD) -> bool:
    """Wait until ``count`` sessions stand at locks; False if that does not come.

    It does not when ``running`` is over, when a session would rather fail than wait (NOWAIT, lock_timeout), or when
    patience is at its end. The lock table itself is asked: a session that was let go is no longer in it, even if its
    process has not run since. Who has set itself a limit for waiting is let stand there for ``hold`` seconds.
    """
    clock = asyncio.get_running_loop().time
    start, looks = clock(), 0
    async with attempt.judge_session() as eyes:
        await eyes.connection(execution_options={"isolation_level": "AUTOCOMMIT"})  # a transaction would see one moment
        while not running.done() and clock() - start < (PATIENCE if looks >= LOOKS else LONGEST):
            if await eyes.scalar(text(BLOCKED)) >= count:
                if any(limits_its_waiting(statement.sql) for statement in attempt.log.statements):
                    await asyncio.wait({running}, timeout=hold)
                return True
            if any(statement.sqlstate == NOT_AVAILABLE for statement in attempt.log.statements):
                return False
            looks += 1
            await asyncio.wait({running}, timeout=0.005)
    return False


def limits_its_waiting(sql: str) -> bool:
    """True for what sets ``lock_timeout`` and the like, or may do so."""
    return LIMIT.search(sql) is not None


@contextmanager
def calling_it(
    attempt: Attempt, mistake: str, *causes: type[BaseException], saying: str = "", **numbers: object
) -> Iterator[None]:
    """An error of one of these classes (of any, if none is given) in the learner's code is this named mistake.

    With ``saying``, only if that is its SQLSTATE or a part of its text. The mistake may name ``error``, its class, and
    what was ``said``.
    """
    try:
        yield
    except Wrong as wrong:
        error = wrong.__cause__
        if wrong.mistake == "raised" and isinstance(error, causes or Exception):
            code = sqlstate_of(error)
            if not saying or saying == code or saying in str(error):
                told = {"error": kind_of(error), "said": message_of(error).rstrip("."), **numbers}
                raise attempt.wrong(mistake, **told) from error
        raise


def expect_news(attempt: Attempt, before: object, after: object) -> None:
    """``after`` is what an answer says of rows that have changed since it said ``before``.

    Raises:
        Wrong: "remembered", it says the same.
    """
    if after == before:
        sentence = f"`{attempt.exercise.answer}` returned the same as before, although the rows had changed meanwhile."
        raise Wrong("remembered", sentence, "Ask the database at every call: what is kept from the last one is old.")


def fetched(log: WireLog) -> int:
    """How many rows came to the client, whatever brought them: a SELECT, RETURNING, COPY, an engine of its own.

    Rows changed on the server are not among them.
    """
    return log.received


def sent_most(log: WireLog) -> str:
    """The statement that was sent most often, in one line: where a reader looks for a loop."""
    most = log.repeated[0].shape if log.repeated else max((s.line for s in log.statements), key=len, default="")
    return most if len(most) <= LONGEST_STATEMENT else f"{most[: LONGEST_STATEMENT - 1]}…"


def is_list(value: Any) -> bool:
    """True for a list and what can be used like one."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def expect_list(attempt: Attempt, found: Any) -> Sequence[Any]:
    """``found``, if the answer returned a list.

    Raises:
        Wrong: "nothing returned" or "not a list", which the exercise has to name.
    """
    attempt.expect(found is not None, "nothing returned")
    attempt.expect(is_list(found), "not a list", kind=article(found))
    items: Sequence[Any] = found
    return items


def readable(value: Any, *names: str) -> bool:
    """True when these attributes can be read although the session is closed.

    Raises:
        Wrong: they were expired, or not loaded.
    """
    try:
        for name in names:
            getattr(value, name)
    except Exception as error:
        raise Wrong(
            "unreadable", f"`.{name}` of the {kind_of(value)} that came back cannot be read any more.",
            "An object expires with a rollback, and loads nothing once its session is closed.",
        ) from error  # fmt: skip
    return True
