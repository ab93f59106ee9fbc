"""Traffic sees who waits for a lock and who does not, whatever holds it, and leaves nothing behind however it ends."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.errors import CourseError
from course_lib.instruments import PoolGauge, Traffic
from course_lib.instruments.traffic.record import SeenStatement
from course_lib.models import Base
from course_lib.postgres.address import libpq_uri

KINDS = ("reader", "writer", "inserter")
HELD = 0.3  # seconds
SEEN = 0.25  # of them, at least: a request may begin a moment after the lock was taken


async def sql(engine: AsyncEngine, *statements: str, autocommit: bool = False) -> list[Any]:
    """Run them in one transaction; the rows of the last."""
    options = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    async with engine.connect() as connection:
        await connection.execution_options(**options)
        for statement in statements:
            result = await connection.execute(text(statement))
        rows = list(result.all()) if result.returns_rows else []
        await connection.commit()
        return rows


@pytest.fixture(autouse=True)
async def no_autovacuum(engine: AsyncEngine) -> None:
    """It is a session, too, and comes when it likes."""
    await sql(engine, "ALTER TABLE messages SET (autovacuum_enabled = off)")


def held(traffic: Traffic) -> list[str]:
    """Locks that others had. Most are waited for as well, for as long as a request takes."""
    return [lock.mode for lock in traffic.locks if lock.granted]


async def hold(engine: AsyncEngine, mode: str, seconds: float = HELD) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(f"LOCK TABLE messages IN {mode} MODE"))
        await asyncio.sleep(seconds)


def in_another_process(code: str, given: str) -> None:
    subprocess.run([sys.executable, "-c", code], input=given, text=True, check=True)


async def left_on_the_server(engine: AsyncEngine) -> int:
    """Connections of any traffic in this database, once those that are ending have ended."""
    for _ in range(100):
        [(count,)] = await sql(
            engine,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'traffic %' "
            "AND datname = current_database()",
        )
        if not count:
            break
        await asyncio.sleep(0.02)
    return int(count)


@asynccontextmanager
async def nothing_left(engine: AsyncEngine) -> AsyncIterator[None]:
    """No process, thread, task or connection beyond those that there were."""

    def here() -> tuple[set[int], set[Any], int]:
        children = {child.pid for child in psutil.Process().children()}
        return children, set(threading.enumerate()), len(asyncio.all_tasks())

    before = here()
    yield
    assert here() == before
    assert await left_on_the_server(engine) == 0


# who waits


def of_clients(traffic: Traffic) -> list[SeenStatement]:
    """Autovacuum comes as it likes."""
    return [statement for statement in traffic.statements if not statement.text.startswith("autovacuum:")]


async def test_an_exclusive_lock_keeps_everybody_waiting(engine: AsyncEngine) -> None:
    async with nothing_left(engine), Traffic(engine, "messages") as traffic:
        await hold(engine, "ACCESS EXCLUSIVE")
    assert list(traffic.longest_wait) == list(KINDS)
    for kind in KINDS:
        assert traffic.longest_wait[kind] >= traffic.longest_lock_wait[kind] >= SEEN
        assert traffic.longest_wait[kind] > traffic.baseline[kind] > 0
        assert traffic.requests[kind] == len(traffic.waits_of(kind)) > 1
        assert max(traffic.waits_of(kind)) == traffic.longest_wait[kind]
        assert not traffic.errors[kind]
    [statement] = of_clients(traffic)
    assert statement.text == "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"
    [lock] = [lock for lock in traffic.locks if lock.granted]
    assert lock.mode == "AccessExclusiveLock"
    assert lock.seconds >= SEEN
    assert traffic.seconds >= HELD


async def test_a_share_lock_keeps_those_waiting_that_write(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages") as traffic:
        await hold(engine, "SHARE")
    assert traffic.longest_lock_wait["reader"] == 0
    assert min(traffic.longest_lock_wait["writer"], traffic.longest_lock_wait["inserter"]) >= SEEN
    assert traffic.requests["reader"] > traffic.requests["writer"]
    assert held(traffic) == ["ShareLock"]


async def test_an_index_that_is_built_concurrently_keeps_nobody_waiting(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages") as traffic:
        await sql(engine, "CREATE INDEX CONCURRENTLY by_content ON messages (content)", autocommit=True)
    assert traffic.longest_lock_wait == dict.fromkeys(KINDS, 0.0)
    assert not any(traffic.errors.values())


async def test_everybody_waits_behind_a_change_that_waits_for_a_reader(engine: AsyncEngine) -> None:
    """The change itself would take a millisecond."""
    async with engine.connect() as reading, Traffic(engine, "messages") as traffic:
        await reading.execute(text("SELECT count(*) FROM messages"))
        change = asyncio.create_task(sql(engine, "ALTER TABLE messages ADD COLUMN language text"))
        await asyncio.sleep(HELD)
        await reading.rollback()
        await change
    assert min(traffic.longest_lock_wait.values()) >= SEEN
    modes = {(lock.mode, lock.granted): lock.seconds for lock in traffic.locks}
    assert modes["AccessShareLock", True] >= SEEN
    assert modes["AccessExclusiveLock", False] >= SEEN
    alters = [statement for statement in traffic.statements if "ADD COLUMN" in statement.text]
    alter = max(alters, key=lambda one: one.seconds)  # a busy machine may show how it was parsed, too
    assert alter.seconds >= alter.waited >= SEEN


async def test_a_lock_on_an_index_keeps_readers_waiting(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages", writers=0, inserters=0) as traffic, engine.begin() as connection:
        await connection.execute(text("REINDEX INDEX pk_messages"))
        await asyncio.sleep(HELD)
    assert traffic.longest_lock_wait["reader"] >= SEEN
    assert {("AccessExclusiveLock", "pk_messages"), ("ShareLock", "")} <= {(o.mode, o.index) for o in traffic.locks}


async def test_rows_that_are_locked_keep_writers_waiting_and_nobody_else(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages") as traffic, engine.begin() as connection:
        await connection.execute(text("UPDATE messages SET token_count = token_count + 1"))
        await asyncio.sleep(HELD)
    assert traffic.longest_lock_wait["writer"] >= SEEN
    assert traffic.longest_lock_wait["reader"] == traffic.longest_lock_wait["inserter"] == 0


# from wherever the block works


async def test_workers_go_on_while_the_block_keeps_the_event_loop_busy(
    engine: AsyncEngine, sync_engine: Engine
) -> None:
    async with Traffic(sync_engine, "messages") as traffic:
        with sync_engine.begin() as connection:
            connection.execute(text("LOCK TABLE messages IN SHARE MODE"))
            end = time.perf_counter() + HELD
            while time.perf_counter() < end:
                pass
    assert traffic.requests["reader"] > 10
    assert traffic.longest_lock_wait["reader"] == 0
    assert traffic.longest_lock_wait["writer"] >= SEEN


async def test_a_migration_in_another_process_is_seen(engine: AsyncEngine) -> None:
    code = (
        "import sys, time, psycopg\n"
        "with psycopg.connect(sys.stdin.read()) as connection:\n"
        "    connection.execute('LOCK TABLE messages IN EXCLUSIVE MODE')\n"
        f"    time.sleep({HELD})\n"
    )
    async with Traffic(engine, "messages") as traffic:
        await asyncio.to_thread(in_another_process, code, libpq_uri(engine.url))
    others = [one.text for one in of_clients(traffic)]
    assert others == ["LOCK TABLE messages IN EXCLUSIVE MODE"]
    assert held(traffic) == ["ExclusiveLock"]
    assert traffic.longest_lock_wait["writer"] >= SEEN > traffic.longest_lock_wait["reader"]


async def test_no_connection_of_the_engines_pool_is_taken(engine: AsyncEngine) -> None:
    with PoolGauge(engine) as gauge:
        async with Traffic(engine, "messages", readers=3):
            pass
    assert (gauge.requests, gauge.checkouts, gauge.most_out) == (0, 0, 0)


# errors


async def test_a_column_that_was_dropped_is_missed_by_the_first_request_after_it(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages") as traffic:
        await sql(engine, "ALTER TABLE messages DROP COLUMN token_count")
    for kind in KINDS:
        assert traffic.errors[kind]["42703"] >= 1
    assert "errors: ≈ " in str(traffic)
    assert "× UndefinedColumn (42703)" in str(traffic)


async def test_a_worker_gives_up_after_the_lock_timeout_of_its_database(engine: AsyncEngine) -> None:
    [(database,)] = await sql(engine, "SELECT current_database()")
    await sql(engine, f"ALTER DATABASE {database} SET lock_timeout = '50ms'")
    async with Traffic(engine, "messages") as traffic:
        await hold(engine, "ACCESS EXCLUSIVE")
    for kind in KINDS:
        assert traffic.errors[kind]["55P03"] >= 2
        assert traffic.longest_wait[kind] >= 0.05


async def test_a_prepared_statement_that_no_longer_fits_fails_once_on_every_connection(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages", readers=2) as traffic:
        await sql(engine, "ALTER TABLE messages ALTER COLUMN seq TYPE bigint")
        await asyncio.sleep(0.1)
    assert traffic.errors["reader"] == {"0A000": 2}
    assert not traffic.errors["writer"]
    assert "≈ 2 × InvalidCachedStatement (0A000)" in str(traffic)


async def test_copies_lack_a_column_that_must_not_be_empty(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages") as traffic:
        await sql(
            engine,
            "ALTER TABLE messages ADD COLUMN language text",
            "UPDATE messages SET language = 'en'",
            "ALTER TABLE messages ALTER COLUMN language SET NOT NULL",
        )
    assert traffic.errors["inserter"]["23502"] >= 1
    assert not traffic.errors["reader"]
    assert not traffic.errors["writer"]


async def test_a_table_that_was_dropped_is_an_error_and_no_end(engine: AsyncEngine) -> None:
    async with nothing_left(engine), Traffic(engine, "messages") as traffic:
        await sql(engine, "DROP TABLE messages")
    assert all(traffic.errors[kind]["42P01"] >= 1 for kind in KINDS)


async def test_workers_whose_connections_are_cut_come_back(engine: AsyncEngine) -> None:
    async with nothing_left(engine), Traffic(engine, "messages") as traffic:
        await sql(
            engine, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'traffic %'"
        )
        await asyncio.sleep(HELD)
        await hold(engine, "ACCESS EXCLUSIVE")
    for kind in KINDS:
        assert traffic.errors[kind].total() <= 2  # none for who just had nothing under way
        assert traffic.longest_lock_wait[kind] >= SEEN
    assert held(traffic) == ["AccessExclusiveLock"]


# how it ends


async def test_an_error_of_the_block_passes_through_and_what_was_seen_is_kept(engine: AsyncEngine) -> None:
    async with nothing_left(engine):
        with pytest.raises(ZeroDivisionError):
            async with Traffic(engine, "messages") as traffic:
                await hold(engine, "SHARE")
                raise ZeroDivisionError
    assert traffic.longest_lock_wait["writer"] >= SEEN


async def test_a_block_that_is_cancelled_ends_it(engine: AsyncEngine) -> None:
    inside = asyncio.Event()
    kept: list[Traffic] = []

    async def block() -> None:
        async with Traffic(engine, "messages") as traffic:
            kept.append(traffic)
            inside.set()
            await asyncio.sleep(60)

    async with nothing_left(engine):
        task = asyncio.create_task(block())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert kept[0].requests["reader"] >= 1


async def test_cancelling_it_before_the_block_ends_it_too(engine: AsyncEngine) -> None:
    async with nothing_left(engine):
        entering = asyncio.create_task(Traffic(engine, "messages").__aenter__())
        await asyncio.sleep(0.25)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering


async def test_who_waits_for_a_lock_that_the_block_leaves_behind_is_cut_off(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        async with nothing_left(engine), Traffic(engine, "messages") as traffic:
            await connection.execute(text("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"))
            await asyncio.sleep(HELD)
        assert connection.in_transaction()
    for kind in KINDS:
        assert traffic.longest_wait[kind] >= HELD
        assert not traffic.errors[kind]
    assert str(traffic).count("and it still waited when the block had ended") == 3


async def test_it_ends_with_the_process_that_opened_it(engine: AsyncEngine) -> None:
    code = (
        "import asyncio, sys\n"
        "from course_lib.db import make_engine\n"
        "from course_lib.instruments import Traffic\n"
        "async def main():\n"
        "    async with Traffic(make_engine(sys.stdin.readline().strip()), 'messages'):\n"
        "        print('open', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(  # noqa: ASYNC220 (its own output is waited for)
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write(engine.url.render_as_string(hide_password=False) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "open\n"
        [child] = psutil.Process(process.pid).children()
        process.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()
    assert await left_on_the_server(engine) == 0


async def test_what_the_block_did_stays_and_so_do_the_copies(engine: AsyncEngine) -> None:
    before = await sql(engine, "SELECT to_jsonb(m)::text FROM messages m")
    async with Traffic(engine, "messages") as traffic:
        await sql(engine, "ALTER TABLE messages ADD COLUMN language text DEFAULT 'en'")
        await asyncio.sleep(0.1)
    after = await sql(engine, "SELECT (to_jsonb(m) - 'language')::text, language FROM messages m")
    assert {line for (line,) in before} <= {line for line, _ in after}
    assert len(after) - len(before) >= traffic.requests["inserter"]
    assert {language for _, language in after} == {"en"}


# any table


FIRST_ROWS = {
    "embedding_cache": "INSERT INTO embedding_cache (content_hash, model, embedding) "
    "SELECT sha256(convert_to(content, 'UTF8')), embedding_model, embedding FROM document_chunks LIMIT 1",
    "idempotent_requests": "INSERT INTO idempotent_requests (user_id, key, request_hash, claimed_until) "
    "SELECT id, 'once', sha256(convert_to(email, 'UTF8')), now() FROM users LIMIT 1",
}


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
async def test_every_table_of_the_product_has_its_traffic(engine: AsyncEngine, table: str) -> None:
    if table in FIRST_ROWS:  # they begin empty, and an inserter copies rows
        await sql(engine, FIRST_ROWS[table])
    async with Traffic(engine, table) as traffic:
        await asyncio.sleep(0.1)
    assert not any(traffic.errors.values()), str(traffic)
    assert min(traffic.requests.values()) > 1


TABLES = {
    "composite": "CREATE TABLE composite (day date, place smallint, note text, PRIMARY KEY (day, place)); "
    "INSERT INTO composite VALUES ('2026-01-01', 1, 'a')",
    "identity": "CREATE TABLE identity (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, "
    "twice int GENERATED ALWAYS AS (n * 2) STORED); INSERT INTO identity (n) VALUES (1)",
    "keyed_by_text": "CREATE TABLE keyed_by_text (slug varchar(80) PRIMARY KEY, hash bytea UNIQUE, mark uuid UNIQUE); "
    "INSERT INTO keyed_by_text VALUES ('a', '\\x01', gen_random_uuid())",
    '"Odd name"': 'CREATE TABLE "Odd name" ("the key" serial PRIMARY KEY, "select" text); '
    """INSERT INTO "Odd name" ("select") VALUES ('x')""",
    "elsewhere.items": "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.items (id uuid PRIMARY KEY); "
    "INSERT INTO elsewhere.items VALUES (gen_random_uuid())",
    "parts": "CREATE TABLE parts (id int PRIMARY KEY, what text) PARTITION BY HASH (id); "
    "CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0); INSERT INTO parts VALUES (1)",
}


@pytest.mark.parametrize("table", list(TABLES))
async def test_tables_of_other_shapes(engine: AsyncEngine, table: str) -> None:
    await sql(engine, *TABLES[table].split("; "))
    async with Traffic(engine, table) as traffic:
        await asyncio.sleep(0.1)
    assert not any(traffic.errors.values()), str(traffic)
    [(count,)] = await sql(engine, f"SELECT count(*) FROM {table}")
    assert count > traffic.requests["inserter"]


async def test_two_traffics_on_one_table_do_not_disturb_each_other(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages", inserters=2) as one, Traffic(engine, "messages") as other:
        await asyncio.sleep(0.1)
    assert not any([*one.errors.values(), *other.errors.values()])


async def test_statements_of_the_callers_own_go_by_their_names(engine: AsyncEngine) -> None:
    await sql(engine, "ALTER TABLE messages ADD COLUMN body text")
    copy = (
        "INSERT INTO messages (conversation_id, seq, role, {0}) SELECT conversation_id, :number, role, {0} "
        "FROM messages WHERE id = :id"
    )
    versions = {"old version": copy.format("content"), "next version": copy.format("content, body")}
    looks = {"looks": "SELECT content FROM messages WHERE id = :id AND role <> '\\:id'"}
    async with Traffic(engine, "messages", readers=looks, writers=0, inserters=versions) as traffic:
        await sql(engine, "ALTER TABLE messages DROP COLUMN body")
    assert list(traffic.requests) == ["looks", "old version", "next version"]
    assert not traffic.errors["looks"]
    assert not traffic.errors["old version"]
    assert set(traffic.errors["next version"]) == {"42703"}


async def test_a_statement_of_ones_own_does_without_a_key(engine: AsyncEngine) -> None:
    await sql(engine, "CREATE TABLE heap (line text)")
    async with Traffic(engine, "heap", readers={"all": "SELECT line FROM heap"}, writers=0, inserters=0) as traffic:
        pass
    assert traffic.requests["all"] >= 1


# refusals


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda engine: Traffic("messages", engine), "str is none"),
        (lambda engine: Traffic(engine, Base), "takes the table's name"),
        (lambda engine: Traffic(engine, "messages", readers=0, writers=0, inserters=0), "there must be one"),
        (lambda engine: Traffic(engine, "messages", readers={"x": "SELECT 1"}, writers={"x": "SELECT 1"}), "names"),
        (lambda engine: Traffic(engine, "messages", readers=["SELECT 1"]), "readers is a number"),
        (lambda engine: Traffic(engine, "messages", readers={"x": sql}), "cannot go to another process"),
    ],
)
def test_what_makes_no_traffic(engine: AsyncEngine, make: Callable[[AsyncEngine], Traffic], sentence: str) -> None:
    with pytest.raises(CourseError, match=sentence):
        make(engine)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"table": "mesages"}, "There is no table 'mesages'"),
        ({"table": "overview"}, "There is no table 'overview'"),
        ({"table": "heap"}, "heap has no primary key"),
        ({"table": "blank"}, "An inserter copies rows, and blank has none"),
        ({"table": "spans"}, "The inserter's statement fails before the block: duplicate key"),
        ({"table": "messages", "readers": {"x": "SELECT nothing FROM messages"}}, 'column "nothing" does not exist'),
        ({"table": "messages", "readers": {"x": "SELECT :key"}}, "no value for :key"),
    ],
)
async def test_what_a_table_cannot_have(engine: AsyncEngine, options: dict[str, Any], sentence: str) -> None:
    await sql(
        engine, "CREATE VIEW overview AS SELECT * FROM users", "CREATE TABLE heap (line text)",
        "CREATE TABLE blank (id int PRIMARY KEY)", "CREATE TABLE spans (id int4range PRIMARY KEY)",
        "INSERT INTO spans VALUES ('[1,2)')",
    )  # fmt: skip
    async with nothing_left(engine):
        with pytest.raises(CourseError, match=sentence):
            async with Traffic(engine, **options):
                pass


async def test_a_table_that_is_locked_already(engine: AsyncEngine) -> None:
    async with engine.begin() as connection, nothing_left(engine):
        await connection.execute(text("LOCK TABLE messages IN SHARE MODE"))
        with pytest.raises(CourseError, match="The table messages is locked before the block begins"):
            async with Traffic(engine, "messages"):
                pass


async def test_a_traffic_is_for_one_block_and_tells_when_that_has_ended(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages", writers=0, inserters=0) as traffic:
        assert str(traffic) == "traffic on messages: the block has not ended"
        assert "has not ended" in traffic._repr_html_()
        with pytest.raises(CourseError, match="until the block has ended"):
            _ = traffic.longest_wait
    with pytest.raises(CourseError, match="for one block"):
        async with traffic:
            pass
    with pytest.raises(CourseError, match=r"no 'writer' in this traffic(.|\n)*There is: reader"):
        traffic.waits_of("writer")


async def test_a_database_that_is_not_there(engine: AsyncEngine) -> None:
    from course_lib.db import make_engine

    other = make_engine(engine.url.set(database="nowhere"))
    with pytest.raises(CourseError, match=r'could not begin: database "nowhere" does not exist'):
        async with Traffic(other, "messages"):
            pass


# how it reads


def sanitized(words: str) -> str:
    return re.sub(r"≈ [\d.,]+", "MEASURED", words)


async def test_its_words_are_the_same_in_every_run(engine: AsyncEngine) -> None:
    said = []
    for seconds in (0.02, 0.3):
        async with Traffic(engine, "messages", readers=2) as traffic:
            await hold(engine, "ACCESS EXCLUSIVE", seconds)
        said.append((sanitized(str(traffic)), sanitized(traffic._repr_html_())))
    assert said[0] == said[1]
    line = "requests MEASURED · longest wait MEASURED ms · before the block MEASURED ms · errors: none"
    assert said[0][0].splitlines() == [
        "traffic on messages", f"reader    {line}", f"writer    {line}", f"inserter  {line}",
    ]  # fmt: skip
    cells = re.findall(r"<t[hd] [^>]*>(.*?)</t[hd]>", said[0][1])
    assert cells[:5] == ["who", "requests", "longest wait", "before the block", "errors"]
    assert cells[5:10] == ["reader", "MEASURED", "MEASURED ms", "MEASURED ms", "none"]


async def test_names_are_escaped(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages", readers={"<b>": "SELECT 1"}, writers=0, inserters=0) as traffic:
        pass
    assert "&lt;b&gt;" in traffic._repr_html_()
    assert "<b>:" not in traffic._repr_html_()
