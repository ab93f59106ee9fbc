"""5.7: what the server ends by itself, and for whom."""

from __future__ import annotations

from typing import ClassVar

from course_lib.exercises.lesson_05.scenes.engines import try_out
from course_lib.exercises.lesson_05.scenes.limits import NAMES, Trial
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise

ROLE = """
    SELECT unnest(setconfig) AS setting FROM pg_db_role_setting
    WHERE setdatabase = 0 AND setrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)
"""
ONE_AT_A_TIME = 507  # an advisory lock: an answer may change its role, which another check must not meet


class GuardRails(Exercise):
    """Three limits of the server, on every connection of one engine."""

    id = "5.7"
    title = "Guard rails"
    answer = "guarded_engine"
    minutes = 12
    points = 2
    level = "mid"
    recipe = "migrated"
    seconds = 15.0
    hints: ClassVar = (
        "PostgreSQL has a setting for each of the three. `SELECT name, short_desc FROM pg_settings WHERE name LIKE "
        "'%timeout'` lists them.",
        "A setting holds for a session, so every connection of the pool needs it, from its beginning on.",
        "asyncpg sends settings with the connection's first message: "
        '`connect_args={"server_settings": {name: value}}`. Both are strings, and a bare number is milliseconds.',
    )
    why = (
        "Sent with the first message, the settings are the session's defaults: no rollback takes them away, and "
        "nobody else is bound by them. The server keeps the limits even when the program stalls, which is when they "
        "are needed. What the program sees is a broken connection, so log on the server why it was ended."
    )
    follow_up = (
        "With PgBouncer in transaction mode between you and the server, such a start is refused. Where do the limits "
        "go then?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`guarded_engine` returned None. | Did you forget `return`?",
        "not an engine": "`guarded_engine` returned {kind}, and an AsyncEngine was asked for. "
        "| `create_async_engine(url, …)` makes one.",
        "autocommit": "A row was changed and rolled back, and is changed all the same. "
        "| Limits need no AUTOCOMMIT: transactions work as ever.",
        "statement not stopped": "With statement={limit}, a statement that took {took} ms was let run to its end. "
        "| `SHOW statement_timeout` says {found} there; 0 is no limit, and a bare number is milliseconds.",
        "lock waited for": "With lock={limit}, a statement stood at a locked row, and after {waited} ms {ended}. "
        "| `SHOW lock_timeout` says {found} there. Waiting for a lock has a limit of its own.",
        "lock kept": "With idle={limit}, a transaction did nothing, and still had its row locked after {waited} ms. "
        "| `SHOW idle_in_transaction_session_timeout` says {found} there.",
        "stopped too early": "With statement={limit}, a statement that took {took} ms was stopped. "
        "| `SHOW statement_timeout` says {found} there. Each limit has a setting of its own.",
        "worker ended": "With idle={limit}, a transaction was ended after a statement that took {took} ms: {error}. "
        "| It was at work and not idle. A limit on whole transactions is another one.",
        "whole transactions": "In a transaction of the engine `{name}` is {found}, and without the engine {before}. "
        "| A transaction that is at work is left alone, however long it takes all in all.",
        "not by the server": "A statement that was too slow ended in {error}, which the server never said. "
        "| A limit in the client does nothing for a client that stalls. Set it on the server.",
        "another limit": "With {argument}={limit}, `{name}` is {found} in a transaction. "
        "| Which argument belongs to which setting? All are milliseconds.",
        "first connection only": "`{name}` was {first} on the engine's first connection, and is {now} on another one. "
        "| A pool makes connections as it needs them. Each of them has to begin with the limits.",
        "gone": "`{name}` was {first} in the connection's first transaction, and {later} in a later one. "
        "| A SET in a transaction that is rolled back is undone, and a SET LOCAL holds for one transaction only.",
        "of another call": "With {argument}={limit}, after another engine had been made with {argument}={other}, a "
        "connection of the first one began with {found} in `{name}`. "
        "| The limits are an engine's own: keep them in nothing that all calls share, such as one dict for all.",
        "for everybody": "A connection that is not the engine's finds {now} in `{name}`, where it was {before}. "
        "| Migrations and psql come with the same role to the same database. Bind the engine only.",
        "other engines": "Another engine of this process finds {now} in `{name}`, where it was {before}. "
        "| Listen at `engine.sync_engine`. At a class of SQLAlchemy's it is for every engine, "
        "until the kernel is restarted.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        async with attempt.database.server.connection() as alone:  # the lock goes with its connection
            await alone.execute("SELECT pg_advisory_lock($1)", ONE_AT_A_TIME)
            before = await attempt.sql(ROLE)
            try:
                await try_out(attempt, lambda: Trial(attempt).run())
            finally:
                await _restore_role(attempt, before.column("setting"))


async def _restore_role(attempt: Attempt, before: list[str]) -> None:
    """Settings of a role outlive the attempt's database: put them back."""
    if (await attempt.sql(ROLE)).column("setting") == before:
        return
    kept = dict(setting.split("=", 1) for setting in before)
    for name in NAMES:
        change = f"SET {name} = '{kept[name]}'" if name in kept else f"RESET {name}"
        await attempt.sql(f"ALTER ROLE CURRENT_USER {change}")
