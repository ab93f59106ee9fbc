"""The stage steps sessions by name: it knows who waits for whom, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from uuid import uuid4

import pytest
from sqlalchemy import URL, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from course_lib.db import make_engine
from course_lib.errors import CourseError
from course_lib.instruments import QueryLog, Rows, Stage
from course_lib.models import User
from course_lib.repositories import UserRepository
from course_lib.repositories.users import EmailTaken

READ = "SELECT tokens_used FROM users WHERE email = :email"
WRITE = "UPDATE users SET tokens_used = :tokens WHERE email = :email"
ADD = "UPDATE users SET tokens_used = tokens_used + 10 WHERE email = :email"
LOCK = "SELECT name FROM users WHERE email = :email FOR UPDATE"
ADA, BRUNO, CHIDI = "ada@example.org", "bruno@example.org", "chidi@example.org"


@pytest.fixture
async def stage(engine: AsyncEngine) -> AsyncIterator[Stage]:
    async with Stage(engine) as stage:
        yield stage


async def ask(engine: AsyncEngine, sql: str) -> object:
    """What a session off stage sees."""
    async with engine.connect() as connection:
        return await connection.scalar(text(sql))


async def tokens_of(engine: AsyncEngine, email: str) -> object:
    return await ask(engine, f"SELECT tokens_used FROM users WHERE email = '{email}'")


async def other_sessions(url: URL) -> int:
    """How many sessions the database has besides the one that asks, once those that are ending have ended."""
    engine = make_engine(url)
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    for _ in range(100):
        if (found := await ask(engine, count)) == 0:
            break
        await asyncio.sleep(0.05)
    await engine.dispose()
    return int(str(found))


# stepping


async def test_sql_gives_rows_and_a_function_gives_what_it_returns(stage: Stage) -> None:
    async def add(session: AsyncSession, email: str, tokens: int, *, twice: bool = False) -> int:
        user = (await session.scalars(select(User).where(User.email == email))).one()
        user.tokens_used += tokens * (1 + twice)
        await session.flush()
        return user.tokens_used

    ada = stage.actor("Ada")
    before = await ada(READ, email=ADA)
    after = await ada(add, ADA, 10, twice=True)
    assert isinstance(before.value, Rows)
    assert after.value == before.value[0][0] + 20
    assert (after.state, after.error, after.sqlstate, after.waits_for) == ("done", None, None, ())
    assert [statement.line.split()[0] for statement in after.statements] == ["SELECT", "UPDATE"]
    assert [statement.line.split()[0] for statement in before.statements] == ["BEGIN", "SELECT"]


async def test_a_transaction_begins_with_the_first_step_and_ends_when_told(stage: Stage, engine: AsyncEngine) -> None:
    ada, before = stage.actor("Ada"), await tokens_of(engine, ADA)
    await ada(WRITE, tokens=7, email=ADA)
    assert await tokens_of(engine, ADA) == before
    await ada.rollback()
    assert (await ada(READ, email=ADA)).value[0] == (before,)
    await ada(WRITE, tokens=7, email=ADA)
    await ada.commit()
    assert await tokens_of(engine, ADA) == 7


async def test_a_step_that_waits_is_brought_up_to_date_when_it_ends(stage: Stage, engine: AsyncEngine) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    await ada(WRITE, tokens=1, email=ADA)
    waiting = await bruno(WRITE, tokens=2, email=ADA)
    assert (waiting.state, waiting.waits_for, waiting.error) == ("waiting", ("Ada",), None)
    with pytest.raises(CourseError, match="has no value yet: it waits for Ada"):
        _ = waiting.value
    assert await tokens_of(engine, ADA) not in (1, 2)
    await ada.commit()
    assert (waiting.state, waiting.waits_for, waiting.value.affected) == ("done", (), 1)
    await bruno.commit()
    assert await tokens_of(engine, ADA) == 2


async def test_who_waits_cannot_take_another_step(stage: Stage) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    await ada(LOCK, email=ADA)
    await bruno(LOCK, email=ADA)
    for another in (bruno("SELECT 1"), bruno.commit(), bruno.rollback()):
        with pytest.raises(CourseError) as refused:
            await another
        assert str(refused.value) == "Bruno still waits for Ada; let Ada commit or roll back first."
    await ada.rollback()
    assert (await bruno("SELECT 1")).state == "done"


async def test_a_slow_step_is_no_waiting_step(stage: Stage) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    await ada(LOCK, email=ADA)
    slow = await bruno("SELECT pg_sleep(0.4), 5 AS five")
    assert (slow.state, slow.value.column("five")) == ("done", [5])


async def test_a_function_that_pauses_and_then_meets_a_lock_is_seen_at_the_lock(stage: Stage) -> None:
    async def late(session: AsyncSession) -> str:
        await session.execute(text("SELECT 1"))
        await asyncio.sleep(0.2)
        await session.execute(text(ADD), {"email": ADA})
        await asyncio.sleep(0.2)
        await session.commit()
        return "committed"

    ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
    await ada(LOCK, email=ADA)
    first = await bruno(late)
    second = await chidi(late)
    assert (first.waits_for, second.waits_for) == (("Ada",), ("Bruno",))
    await ada.commit()
    assert (first.value, second.value) == ("committed", "committed")


async def test_steps_given_at_once_are_taken_one_after_another(stage: Stage) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    first, second = await asyncio.gather(ada(LOCK, email=ADA), bruno(LOCK, email=ADA))
    assert (first.state, second.state, second.waits_for) == ("done", "waiting", ("Ada",))


async def test_errors_of_the_database_stay_in_the_step(stage: Stage) -> None:
    ada = stage.actor("Ada")
    step = await ada("SELECT 1 / 0")
    assert (step.state, step.sqlstate, type(step.error)) == ("failed", "22012", DBAPIError)
    with pytest.raises(DBAPIError, match="division by zero"):
        _ = step.value
    after = await ada("SELECT 1")
    assert after.sqlstate == "25P02"
    await ada.rollback()
    assert (await ada("SELECT 1")).state == "done"


async def test_errors_of_sqlalchemy_stay_in_the_step(stage: Stage) -> None:
    async def nobody(session: AsyncSession) -> User:
        return (await session.scalars(select(User).where(User.email == "nobody@example.org"))).one()

    step = await stage.actor("Ada")(nobody)
    assert (type(step.error), step.sqlstate) == (NoResultFound, None)


async def test_a_mistake_in_a_function_is_raised_at_once(stage: Stage) -> None:
    async def wrong(session: AsyncSession) -> None:
        await session.execute(text(ADD), {"email": ADA})
        raise KeyError("a mistake")

    ada = stage.actor("Ada")
    with pytest.raises(KeyError, match="a mistake"):
        await ada(wrong)
    assert "✗ KeyError" in str(stage)
    await ada.rollback()


async def test_a_mistake_after_a_wait_is_raised_where_its_value_is_asked_for(stage: Stage) -> None:
    async def register(session: AsyncSession) -> User:
        return await UserRepository(session).register("new@example.org", "New")

    ada, bruno = stage.actors("Ada", "Bruno")
    await ada(register)
    waiting = await bruno(register)
    assert waiting.state == "waiting"
    await ada.commit()
    assert isinstance(waiting.error, EmailTaken)
    with pytest.raises(EmailTaken):
        _ = waiting.value
    assert (await bruno("SELECT 1")).state == "done", "a savepoint held the refused INSERT"


async def test_what_cannot_be_stepped_is_refused_in_a_sentence(stage: Stage) -> None:
    ada = stage.actor("Ada")

    def plain(session: AsyncSession) -> int:
        return 1

    async def nested(session: AsyncSession) -> None:
        await ada("SELECT 1")

    for sentence, wrong in {
        "neither": lambda: ada(5),  # type: ignore[arg-type]
        "no async function": lambda: ada(plain),  # type: ignore[arg-type]
        "given by name": lambda: ada(READ, ADA),
        "cannot take another": lambda: ada(nested),
    }.items():
        with pytest.raises(CourseError, match=sentence):
            await wrong()
    for control in ("COMMIT", " rollback", "BEGIN", "END;", "ROLLBACK AND CHAIN", "START TRANSACTION"):
        with pytest.raises(CourseError, match="must know when its transaction ends"):
            await ada(control)


async def test_an_error_that_a_function_hides_still_fails_the_transaction(stage: Stage, engine: AsyncEngine) -> None:
    async def hides_it(session: AsyncSession) -> str:
        await session.execute(text(WRITE), {"tokens": 1, "email": ADA})
        with suppress(DBAPIError):
            await session.execute(text("SELECT 1 / 0"))
        return "all is well"

    ada = stage.actor("Ada")
    assert (await ada(hides_it)).value == "all is well"
    assert (await ada.commit()).state == "done"
    assert "✗ rolled back instead: it had failed" in str(stage)
    assert await tokens_of(engine, ADA) != 1


async def test_a_value_the_driver_refuses_fails_no_transaction(stage: Stage, engine: AsyncEngine) -> None:
    ada = stage.actor("Ada")
    await ada(WRITE, tokens=1, email=ADA)
    assert (await ada(WRITE, tokens="many", email=ADA)).state == "failed"
    await ada.commit()
    assert "rolled back instead" not in str(stage)
    assert await tokens_of(engine, ADA) == 1


async def test_savepoints_may_be_written_as_sql(stage: Stage) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    await ada("SAVEPOINT here")
    await ada(ADD, email=ADA)
    waiting = await bruno(ADD, email=ADA)
    assert waiting.waits_for == ("Ada",)
    await ada("ROLLBACK TO SAVEPOINT here")
    assert waiting.state == "done", "the lock was of the savepoint"


async def test_a_stage_is_open_only_inside_its_block(engine: AsyncEngine) -> None:
    stage = Stage(engine)
    ada = stage.actor("Ada")
    with pytest.raises(CourseError, match="the stage is closed"):
        await ada("SELECT 1")
    async with stage:
        await ada("SELECT 1")
        with pytest.raises(CourseError, match="for one scene"):
            await stage.__aenter__()
    with pytest.raises(CourseError, match="the stage is closed"):
        await ada("SELECT 1")


def test_a_stage_wants_an_engine_distinct_names_and_a_known_isolation_level() -> None:
    with pytest.raises(CourseError, match="str is none"):
        Stage("postgresql://")  # type: ignore[arg-type]
    stage = Stage(create_async_engine("postgresql+asyncpg://"))
    stage.actor("Ada", isolation_level="repeatable_read")
    with pytest.raises(CourseError, match="There is a Ada on this stage"):
        stage.actors("Bruno", "Ada")
    with pytest.raises(CourseError, match="'SNAPSHOT' is no isolation level"):
        stage.actor("Chidi", isolation_level="SNAPSHOT")


# locks

LOCKS = {
    "a row": (LOCK, LOCK),
    "a table": ("LOCK TABLE users IN ACCESS EXCLUSIVE MODE", READ),
    "an advisory lock": ("SELECT pg_advisory_xact_lock(5)", "SELECT pg_advisory_xact_lock(5)"),
    "an advisory lock of the session": ("SELECT pg_advisory_lock(5)", "SELECT pg_advisory_lock_shared(5)"),
    "a change of the schema": (READ, "ALTER TABLE users ADD COLUMN nickname text"),
    "a foreign key": (
        "DELETE FROM users WHERE email = :email",
        "INSERT INTO conversations (user_id, title) SELECT id, 'Hello' FROM users WHERE email = :email",
    ),
}


@pytest.mark.parametrize(("holds", "wants"), LOCKS.values(), ids=LOCKS)
async def test_every_kind_of_lock_is_seen(stage: Stage, holds: str, wants: str) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    await ada(holds, **({"email": ADA} if ":email" in holds else {}))
    waiting = await bruno(wants, **({"email": ADA} if ":email" in wants else {}))
    assert (waiting.state, waiting.waits_for) == ("waiting", ("Ada",))
    if "pg_advisory_lock" in holds:
        await ada("SELECT pg_advisory_unlock(5)")
    else:
        await ada.rollback()
    assert waiting.state == "done"


INSERT = "INSERT INTO users (email, name) VALUES ('new@example.org', :name)"


@pytest.mark.parametrize(
    ("conflict", "ends", "rows", "sqlstate"),
    [
        ("", "commit", None, "23505"),
        ("", "rollback", 1, None),
        (" ON CONFLICT DO NOTHING", "commit", 0, None),
        (" ON CONFLICT (email) DO UPDATE SET name = excluded.name", "commit", 1, None),
    ],
)
async def test_an_insert_of_the_same_key_waits_for_the_other_transaction(
    stage: Stage, conflict: str, ends: str, rows: int | None, sqlstate: str | None
) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    await ada(INSERT, name="First")
    waiting = await bruno(INSERT + conflict, name="Second")
    assert waiting.waits_for == ("Ada",)
    await (ada.commit if ends == "commit" else ada.rollback)()
    assert waiting.sqlstate == sqlstate
    assert isinstance(waiting.error, IntegrityError) if sqlstate else waiting.value.affected == rows


async def test_nowait_fails_and_skip_locked_goes_by_without_waiting(stage: Stage) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    await ada(LOCK, email=ADA)
    skipped = await bruno(LOCK + " SKIP LOCKED", email=ADA)
    refused = await bruno(LOCK + " NOWAIT", email=ADA)
    assert (len(skipped.value), refused.state, refused.sqlstate) == (0, "failed", "55P03")


async def test_a_lock_timeout_ends_a_waiting_step_by_itself(stage: Stage) -> None:
    ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
    await ada(LOCK, email=ADA)
    await bruno(LOCK, email=BRUNO)
    await chidi(LOCK, email=CHIDI)
    await bruno("SET LOCAL lock_timeout = '400ms'")
    timed_out = await bruno(LOCK, email=ADA)
    behind = await chidi(LOCK, email=BRUNO)
    assert (timed_out.state, behind.waits_for) == ("waiting", ("Bruno",))
    assert await timed_out.ended() is timed_out
    assert (timed_out.state, timed_out.sqlstate) == ("failed", "55P03")
    assert behind.state == "done", "the lock went with the failed transaction"
    scene = str(stage)
    assert "✗ DBAPIError 55P03" in scene
    await ada.rollback()
    assert str(stage).startswith(scene.rsplit("\n", 1)[0]), "what happened by itself stands before the next step"


async def test_a_wait_that_nothing_ends_is_not_waited_for_forever(engine: AsyncEngine) -> None:
    async with Stage(engine, patience=0.5) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        await ada(LOCK, email=ADA)
        waiting = await bruno(LOCK, email=ADA)
        with pytest.raises(CourseError, match="Bruno still waits for Ada, and nothing has ended that"):
            await waiting.ended()


async def test_a_step_that_neither_ends_nor_waits_is_an_error(engine: AsyncEngine) -> None:
    async with Stage(engine, patience=0.5) as stage:
        ada = stage.actor("Ada")
        with pytest.raises(CourseError, match=r"Ada's step has neither ended .* 0\.5 seconds: SELECT pg_sleep\(60\)"):
            await ada("SELECT pg_sleep(60)")
        with pytest.raises(CourseError):
            await ada("SELECT 1")
    assert "✗ cut off: the scene was over" in str(stage)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_session_off_stage_can_be_waited_for(stage: Stage, engine: AsyncEngine) -> None:
    bruno = stage.actor("Bruno")
    async with engine.begin() as off_stage:
        await off_stage.execute(text(LOCK), {"email": ADA})
        waiting = await bruno(LOCK, email=ADA)
        assert waiting.waits_for == ("another session",)
        with pytest.raises(CourseError, match="let that one commit or roll back first"):
            await bruno("SELECT 1")
    assert (await bruno("SELECT 1")).state == "done"
    assert waiting.state == "done"
    assert str(stage).index("goes on → 'Ada Merrow'") < str(stage).index("2  │ SELECT 1")


async def test_those_who_wait_for_a_locked_row_go_on_in_turn(stage: Stage, engine: AsyncEngine) -> None:
    ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
    before = int(str(await tokens_of(engine, ADA)))
    await ada(LOCK, email=ADA)
    second, third = await bruno(ADD, email=ADA), await chidi(ADD, email=ADA)
    assert (second.waits_for, third.waits_for) == (("Ada",), ("Bruno",))
    await ada.commit()
    assert (second.state, third.state) == ("done", "waiting")
    await bruno.commit()
    assert third.state == "done"
    await chidi.commit()
    assert await tokens_of(engine, ADA) == before + 20


async def test_one_commit_lets_two_go_on_at_once(stage: Stage) -> None:
    ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
    await ada("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    waiting = [await bruno(READ, email=ADA), await chidi(READ, email=ADA)]
    assert [step.waits_for for step in waiting] == [("Ada",), ("Ada",)]
    await ada.commit()
    assert [step.state for step in waiting] == ["done", "done"]


async def test_a_function_that_commits_frees_the_next_in_the_same_step(stage: Stage) -> None:
    async def spend(session: AsyncSession) -> str:
        await session.execute(update(User).where(User.email == ADA).values(tokens_used=User.tokens_used + 1))
        await session.commit()
        return "spent"

    ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
    await ada(LOCK, email=ADA)
    steps = [await bruno(spend), await chidi(spend)]
    await ada.rollback()
    assert [step.value for step in steps] == ["spent", "spent"]
    assert [entry.sql for entry in steps[1].statements if entry.is_control] == ["BEGIN", "COMMIT"]


async def test_a_function_may_use_a_session_of_its_own(stage: Stage, engine: AsyncEngine) -> None:
    async def on_its_own(session: AsyncSession) -> None:
        async with AsyncSession(engine) as own, own.begin():
            await own.execute(text(ADD), {"email": ADA})

    ada, bruno = stage.actors("Ada", "Bruno")
    await ada(LOCK, email=ADA)
    waiting = await bruno(on_its_own)
    assert waiting.waits_for == ("Ada",)
    await ada.rollback()
    assert [entry.line.split()[0] for entry in waiting.statements] == ["BEGIN", "UPDATE", "COMMIT"]


async def test_a_function_can_stand_in_its_own_way(engine: AsyncEngine) -> None:
    async def in_two_sessions(session: AsyncSession) -> None:
        await session.execute(text(ADD), {"email": ADA})
        async with AsyncSession(engine) as own:
            await own.execute(text(ADD), {"email": ADA})

    async with Stage(engine) as stage:
        step = await stage.actor("Ada")(in_two_sessions)
        assert (step.state, step.waits_for) == ("waiting", ("Ada",))
    assert step.state == "failed"
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


# anomalies


async def test_read_committed_loses_an_update(stage: Stage, engine: AsyncEngine) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    [(ada_read,)] = (await ada(READ, email=ADA)).value
    [(bruno_read,)] = (await bruno(READ, email=ADA)).value
    await ada(WRITE, tokens=ada_read + 10, email=ADA)
    await bruno(WRITE, tokens=bruno_read + 10, email=ADA)
    await ada.commit()
    await bruno.commit()
    assert await tokens_of(engine, ADA) == ada_read + 10


async def test_repeatable_read_refuses_the_second_update(engine: AsyncEngine, stage: Stage) -> None:
    ada, bruno = stage.actors("Ada", "Bruno", isolation_level="REPEATABLE READ")
    await ada(READ, email=ADA)
    await bruno(READ, email=ADA)
    await ada(ADD, email=ADA)
    waiting = await bruno(ADD, email=ADA)
    await ada.commit()
    assert waiting.sqlstate == "40001"


async def test_serializable_refuses_the_commit_that_has_no_order(stage: Stage) -> None:
    ada, bruno = stage.actors("Ada", "Bruno", isolation_level="SERIALIZABLE")
    total = "SELECT sum(tokens_used) FROM users"
    await ada(total)
    await bruno(total)
    await ada(ADD, email=ADA)
    await bruno(ADD, email=BRUNO)
    assert (await ada.commit()).state == "done"
    refused = await bruno.commit()
    assert (refused.state, refused.sqlstate) == ("failed", "40001")
    assert (await bruno.rollback()).state == "done"
    assert (await bruno(total)).state == "done"


async def test_a_deferrable_transaction_waits_for_a_safe_snapshot(stage: Stage) -> None:
    ada, bruno = stage.actors("Ada", "Bruno", isolation_level="SERIALIZABLE")
    await ada(READ, email=ADA)
    await bruno("SET TRANSACTION READ ONLY, DEFERRABLE")
    waiting = await bruno(READ, email=ADA)
    assert waiting.waits_for == ("Ada",)
    await ada.commit()
    assert waiting.state == "done"


async def test_the_first_who_waited_is_the_victim_of_a_deadlock(stage: Stage, engine: AsyncEngine) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    before = int(str(await tokens_of(engine, ADA)))
    await ada(ADD, email=ADA)
    await bruno(ADD, email=BRUNO)
    first = await ada(ADD, email=BRUNO)
    second = await bruno(ADD, email=ADA)
    assert (first.state, first.sqlstate, second.state) == ("failed", "40P01", "done")
    await ada.commit()
    await bruno.commit()
    assert await tokens_of(engine, ADA) == before + 10, "COMMIT after a failure commits nothing"
    assert "✗ rolled back instead: it had failed" in str(stage)


async def test_a_deadlock_of_three_ends_one_and_leaves_one_waiting(stage: Stage) -> None:
    ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
    for actor, email in ((ada, ADA), (bruno, BRUNO), (chidi, CHIDI)):
        await actor(ADD, email=email)
    steps = [await ada(ADD, email=BRUNO), await bruno(ADD, email=CHIDI), await chidi(ADD, email=ADA)]
    assert [step.state for step in steps] == ["failed", "waiting", "done"]
    assert steps[1].waits_for == ("Chidi",)
    await chidi.commit()
    assert steps[1].state == "done"


Scene = Callable[[AsyncEngine], Awaitable[Stage]]


async def lost_update(engine: AsyncEngine) -> Stage:
    async with Stage(engine) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        for actor in (ada, bruno):
            await actor(READ, email=ADA)
        for actor in (ada, bruno):
            await actor(WRITE, tokens=1131, email=ADA)
        await ada.commit()
        await bruno.rollback()
    return stage


async def deadlock(engine: AsyncEngine) -> Stage:
    """Its circle has to close within deadlock_timeout, and this machine may be busy."""
    patient = make_engine(engine.url, connect_args={"server_settings": {"deadlock_timeout": "3s"}})
    async with Stage(patient) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        await ada(ADD, email=ADA)
        await bruno(ADD, email=BRUNO)
        await ada(ADD, email=BRUNO)
        await bruno(ADD, email=ADA)
    await patient.dispose()
    return stage


async def serialization_failure(engine: AsyncEngine) -> Stage:
    async with Stage(engine) as stage:
        ada, bruno = stage.actors("Ada", "Bruno", isolation_level="SERIALIZABLE")
        for actor in (ada, bruno):
            await actor("SELECT count(*) FROM users WHERE tokens_used > 0")
        await ada(ADD, email=ADA)
        await bruno(ADD, email=BRUNO)
        await ada.commit()
        await bruno.commit()
    return stage


@pytest.mark.parametrize("scene", [lost_update, deadlock, serialization_failure])
async def test_a_scene_is_the_same_every_time(engine: AsyncEngine, scene: Scene) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(WRITE), {"tokens": 1131, "email": ADA})
    told = {str(await scene(engine)) for _ in range(3)}
    assert len(told) == 1
    assert {"lost_update": "waits for Ada", "deadlock": "40P01", "serialization_failure": "40001"}[scene.__name__] in (
        told.pop()
    )


# the engine, its pool and its logs


async def test_a_query_log_sees_the_actors_and_not_the_observer(engine: AsyncEngine) -> None:
    with QueryLog() as everything, QueryLog(engine) as log:
        async with Stage(engine) as stage:
            ada, bruno = stage.actors("Ada", "Bruno")
            await ada(LOCK, email=ADA)
            await bruno(LOCK, email=ADA)
            await ada.commit()
    assert [entry.sql.split()[0] for entry in everything.entries] == [
        "BEGIN", "SELECT", "BEGIN", "SELECT", "COMMIT", "ROLLBACK",
    ]  # fmt: skip
    assert [(entry.sql, entry.transaction) for entry in log.entries] == [
        (entry.sql, entry.transaction) for entry in everything.entries
    ]
    assert {entry.where.partition(":")[0] for entry in log.statements if entry.where} == {
        "tests/instruments/test_stage.py"
    }


async def test_neither_isolation_nor_settings_nor_locks_reach_the_pools_next_user(seeded_url: URL) -> None:
    engine = make_engine(seeded_url, pool_size=1, max_overflow=0)
    async with Stage(engine) as stage:
        ada = stage.actor("Ada", isolation_level="SERIALIZABLE")
        assert (await ada("SHOW transaction_isolation")).value[0] == ("serializable",)
        await ada("SET lock_timeout = '77s'")
        await ada("SELECT pg_advisory_lock(99)")
        await ada.commit()
        assert (await ada("SHOW transaction_isolation")).value[0] == ("serializable",), "in every transaction"
    assert await ask(engine, "SHOW transaction_isolation") == "read committed"
    assert await ask(engine, "SHOW lock_timeout") == "0"
    assert await ask(engine, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 99") == 0
    await engine.dispose()


async def test_a_pool_that_is_too_small_is_said_at_once(seeded_url: URL) -> None:
    engine = make_engine(seeded_url, pool_size=1, max_overflow=1)
    async with Stage(engine) as stage:
        ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
        await ada(LOCK, email=ADA)
        assert (await bruno(LOCK, email=ADA)).state == "waiting", "the observer takes no connection of the pool"
        async with asyncio.timeout(5):
            with pytest.raises(CourseError, match="no connection for Chidi"):
                await chidi("SELECT 1")
        assert (await ada.commit()).state == "done"
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await engine.dispose()


async def test_two_stages_at_once_do_not_disturb_each_other(engine: AsyncEngine) -> None:
    async def scene(name: str, email: str) -> str:
        async with Stage(engine) as stage:
            first, second = stage.actors(name, "Second")
            for _ in range(3):
                await first(LOCK, email=email)
                waiting = await second(LOCK, email=email)
                assert waiting.waits_for == (name,)
                await first.commit()
                assert len(waiting.statements) == 2
                await second.commit()
        return str(stage).replace(name, "First").replace(email, "")

    alone = await scene("Ada Alone", ADA)
    assert set(await asyncio.gather(scene("Ada Alone", ADA), scene("Bruno Too", BRUNO))) >= {alone}


async def test_any_role_can_have_a_stage(engine: AsyncEngine, seeded_url: URL) -> None:
    role = f"plain_{uuid4().hex[:12]}"
    async with engine.begin() as connection:
        for sql in (
            f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
            f"GRANT CONNECT ON DATABASE {seeded_url.database} TO {role}",
            f"GRANT SELECT, UPDATE ON users TO {role}",
        ):
            await connection.execute(text(sql))
    plain = make_engine(seeded_url.set(username=role, password="secret"))
    try:
        async with Stage(plain) as stage, engine.begin() as owner:
            ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
            await owner.execute(text(LOCK), {"email": CHIDI})
            assert (await ada("SELECT current_setting('is_superuser')")).value[0] == ("off",)
            await ada(ADD, email=ADA)
            assert (await bruno(ADD, email=ADA)).waits_for == ("Ada",)
            assert (await chidi(ADD, email=CHIDI)).waits_for == ("another session",)
    finally:
        await plain.dispose()
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP OWNED BY {role}"))
            await connection.execute(text(f"DROP ROLE {role}"))


async def test_a_stage_stands_on_psycopg_as_well(seeded_url: URL) -> None:
    engine = create_async_engine(seeded_url.set(drivername="postgresql+psycopg"))
    async with Stage(engine) as stage:
        ada, bruno = stage.actors("Ada", "Bruno")
        await ada(ADD, email=ADA)
        await bruno(ADD, email=BRUNO)
        first, second = await ada(ADD, email=BRUNO), await bruno(ADD, email=ADA)
        assert (first.sqlstate, second.state) == ("40P01", "done")
    assert "✗ OperationalError 40P01: deadlock detected" in str(stage)
    assert "░ waits for Ada" in str(stage)
    await engine.dispose()


async def test_a_lost_connection_stays_in_the_step(stage: Stage, engine: AsyncEngine) -> None:
    ada, bruno = stage.actors("Ada", "Bruno")
    [(pid,)] = (await ada("SELECT pg_backend_pid()")).value
    await ada(LOCK, email=ADA)
    waiting = await bruno(LOCK, email=ADA)
    await ask(engine, f"SELECT pg_terminate_backend({pid}, 5000)")
    assert (await ada("SELECT 1")).state == "failed"
    assert waiting.state == "done"
    await ada.rollback()
    assert (await ada("SELECT 1")).state == "done"


# leaving


async def test_leaving_rolls_back_what_is_open_and_lets_what_waits_end(engine: AsyncEngine, seeded_url: URL) -> None:
    before = await tokens_of(engine, ADA)
    async with Stage(engine) as stage:
        ada, bruno, chidi = stage.actors("Ada", "Bruno", "Chidi")
        await ada(WRITE, tokens=1, email=ADA)
        steps = [await bruno(WRITE, tokens=2, email=ADA), await chidi(WRITE, tokens=3, email=ADA)]
    assert [step.state for step in steps] == ["done", "done"]
    assert await tokens_of(engine, ADA) == before
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await engine.dispose()
    assert await other_sessions(seeded_url) == 0


async def test_what_waits_for_a_session_off_stage_is_cut_off(engine: AsyncEngine) -> None:
    async with engine.begin() as off_stage:
        await off_stage.execute(text(LOCK), {"email": ADA})
        async with Stage(engine) as stage:
            waiting = await stage.actor("Bruno")(ADD, email=ADA)
        assert waiting.state == "failed"
        with pytest.raises(CourseError, match="was cut off"):
            _ = waiting.value
        assert "✗ cut off: the scene was over" in str(stage)
        assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]


async def test_an_error_in_the_block_goes_on_and_leaves_nothing(engine: AsyncEngine, seeded_url: URL) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Stage(engine) as stage:
            ada, bruno = stage.actors("Ada", "Bruno")
            await ada(WRITE, tokens=1, email=ADA)
            await bruno(WRITE, tokens=2, email=ADA)
            _ = 1 / 0
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await engine.dispose()
    assert await other_sessions(seeded_url) == 0


@pytest.mark.parametrize("moment", ["between steps", "in a step", "in a deadlock"])
async def test_an_interrupted_cell_leaves_nothing(engine: AsyncEngine, seeded_url: URL, moment: str) -> None:
    reached = asyncio.Event()

    async def cell() -> None:
        async with Stage(engine) as stage:
            ada, bruno = stage.actors("Ada", "Bruno")
            await ada(ADD, email=ADA)
            await bruno(ADD, email=BRUNO)
            await ada(ADD, email=BRUNO)
            reached.set()
            if moment == "between steps":
                await asyncio.sleep(60)
            await bruno("SELECT pg_sleep(60)" if moment == "in a step" else ADD.replace(":email", f"'{ADA}'"))

    task = asyncio.create_task(cell())
    await reached.wait()
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(8):
            await task
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await engine.dispose()
    assert await other_sessions(seeded_url) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")
async def test_ctrl_c_leaves_nothing(seeded_url: URL) -> None:
    program = textwrap.dedent("""
        import asyncio, os
        from course_lib.db import make_engine
        from course_lib.instruments import Stage

        async def main():
            async with Stage(make_engine(os.environ["STAGE_URL"])) as stage:
                ada, bruno = stage.actors("Ada", "Bruno")
                await ada("LOCK TABLE users")
                await bruno("SELECT 1 FROM users FOR UPDATE")
                print("waiting", flush=True)
                await ada("SELECT pg_sleep(60)")

        asyncio.run(main())
    """)
    environment = os.environ | {"STAGE_URL": seeded_url.render_as_string(hide_password=False)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"waiting\n"
    await asyncio.sleep(0.2)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        _, said = await process.communicate()
    assert said.rstrip().endswith(b"KeyboardInterrupt")
    assert await other_sessions(seeded_url) == 0
