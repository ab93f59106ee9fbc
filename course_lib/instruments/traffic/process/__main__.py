"""``python -m course_lib.instruments.traffic.process``: a job as a line of JSON comes in, two lines go out.

The first says that the block may begin, or why not; the second, after ``stop`` or the end of the input, what was seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any

import asyncpg

from course_lib.instruments.traffic.process.sessions import Watch
from course_lib.instruments.traffic.process.statements import Refused, Statement, Table, study
from course_lib.instruments.traffic.process.workers import FAILURES, Connect, Worker

WARM = 3  # requests of each worker before anything is measured
LOCKED = "3s"  # how long the table may be locked before the block
CONNECTING = 5  # seconds


async def run(job: dict[str, Any], over: asyncio.Event) -> None:
    """Work until it is over."""
    try:
        watch, table, workers = await prepare(job)
    except Refused as error:
        return say(refused=error.args)
    except FAILURES as error:
        return say(refused=[f"The traffic could not begin: {error}."])
    seen = asyncio.Event()
    watching = asyncio.create_task(watch.look_on(table, workers, seen))
    tasks = [asyncio.create_task(worker.work(over)) for worker in workers]
    began = perf_counter()
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), job["baseline_seconds"])
    zero = perf_counter()
    say(ready=True)
    await over.wait()
    ended = perf_counter()
    await asyncio.wait(tasks, timeout=job["patience"])
    seen.set()
    await watching
    await cut_off(workers, tasks, watch)
    lanes = [told(worker, zero) for worker in workers]
    failures = {code: failure for worker in workers for code, failure in worker.names.items()}
    say(began=began - zero, ended=ended - zero, lanes=lanes, failures=failures, **watch.told(zero))
    return None


async def prepare(job: dict[str, Any]) -> tuple[Watch, Table, list[Worker]]:
    """Connections, statements that are known to work, and caches that are warm.

    Raises:
        Refused: the table is none, is locked, or has no such statement.
    """
    name = job["application_name"]
    connect = partial(asyncpg.connect, job["dsn"], timeout=CONNECTING, server_settings={"application_name": name})
    connection = await connect()
    table, workers = await make_workers(connection, job, connect)
    for _ in range(WARM):
        await asyncio.gather(*(worker.request() for worker in workers))
    for worker in workers:
        del worker.requests[:-1]  # the last is as good as any, and there may be no other before the block
    return Watch(connection, connect, name), table, workers


async def cut_off(workers: list[Worker], tasks: list[asyncio.Task[None]], watch: Watch) -> None:
    """End those that still wait. On the server too, which would not notice before they have what they wait for."""
    late = [worker for worker, task in zip(workers, tasks, strict=True) if not task.done()]
    if late:
        for worker in late:
            worker.cut_off()
        await watch.end([worker.pid for worker in late if worker.pid is not None])
        await asyncio.wait(tasks, timeout=1)
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def told(worker: Worker, zero: float) -> dict[str, Any]:
    requests = [[began - zero, ended - zero, *facts] for began, ended, *facts in worker.requests]
    return {"name": worker.name, "kind": worker.kind, "cut_off": worker.is_cut_off, "requests": requests}


async def make_workers(
    connection: asyncpg.Connection[Any], job: dict[str, Any], connect: Connect
) -> tuple[Table, list[Worker]]:
    """The workers, once the statement of each has been tried and rolled back."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCKED}'")
            table = await study(connection, job["table"])
            workers = []
            for given in job["workers"]:
                name, kind, sql = given["name"], given["kind"], given["sql"]
                statement = Statement(sql, given["values"]) if sql else table.statements[kind]()
                table.check(statement.values)
                await try_out(connection, name, table, statement)
                workers.append(Worker(name, kind, connect, table, statement))
    except asyncpg.LockNotAvailableError:
        raise Refused(
            f"The table {job['table']} is locked before the block begins.", "Let the other session commit."
        ) from None
    return table, workers


async def try_out(connection: asyncpg.Connection[Any], name: str, table: Table, statement: Statement) -> None:
    trial = connection.transaction()
    await trial.start()
    try:
        await connection.fetch(statement.sql, *table.values(statement.values))
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except asyncpg.LockNotAvailableError:
        raise
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        said = str(error).partition("\n")[0]
        raise Refused(f"The {name}'s statement fails before the block: {said}.", statement.sql) from error
    finally:
        await trial.rollback()


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    job = json.loads(sys.stdin.readline())
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    def listen() -> None:
        os.read(sys.stdin.fileno(), 1)  # not through sys.stdin, which would be locked when the process ends
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=listen, daemon=True).start()
    loop.run_until_complete(run(job, over))


if __name__ == "__main__":
    main()
