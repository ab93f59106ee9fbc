"""What is there after a kill, and how soon; and what a second process sees while the first one is at work."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from course_lib.bench.installed_stores import STORES
from course_lib.bench.large_server import LargeServer
from course_lib.bench.pgvector_store import PgvectorStore
from course_lib.bench.points import Numbers, Vectors
from course_lib.bench.stores import Store

ADDED = 500  # rows between the last save and the kill
PATIENCE = 120  # seconds for a process to come to that


@dataclass(frozen=True)
class Killed:
    """``there`` of ``added`` rows after SIGKILL, ``seconds`` until the first right answer.

    ``second`` is what another process met meanwhile; ``copied``, how many rows a copy of the folder held that was made
    then, opened elsewhere; None where copies are not made of folders.
    """

    added: int
    there: int
    seconds: float
    second: str
    copied: int | None = None


def kill_process(
    name: str, folder: Path, start: int, fresh: Vectors, known: tuple[int, Vectors], ef: int
) -> Killed:  # fmt: skip
    """A process opens what was saved in ``folder``, adds rows from ``start`` on, and is killed.

    ``known`` is a row's number and its vector, which has to be found again at once.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_add_and_wait, args=(name, folder, start, fresh[:ADDED], theirs))
    process.start()
    try:
        if not ours.poll(PATIENCE):
            raise TimeoutError(f"{name} had not added {ADDED} rows after {PATIENCE} seconds")
        ours.recv()
        second = _elsewhere(_opened_beside, name, folder, start)
        copy = folder.with_name(f"{folder.name}-copy")
        shutil.copytree(folder, copy)
        copied = _elsewhere(_counted, name, copy, start)
    finally:
        process.kill()
        process.join()
    there, seconds = _elsewhere(_opened_again, name, folder, start, known, ef)
    shutil.rmtree(copy)
    return Killed(ADDED, there, seconds, second, copied)


def _elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _open(name: str, folder: Path) -> Store:
    return STORES[name][1].open(folder)


def _numbers(start: int) -> Numbers:
    return start + np.arange(ADDED)


def _add_and_wait(name: str, folder: Path, start: int, fresh: Vectors, done: Pipe) -> None:
    store = _open(name, folder)
    store.add(_numbers(start), fresh, np.ones(len(fresh), dtype=np.int64))
    done.send("added")
    time.sleep(2 * PATIENCE)


def _opened_beside(name: str, folder: Path, start: int) -> str:
    try:
        store = _open(name, folder)
    except Exception as error:
        return f"is refused: {str(error).partition(' /')[0]}"
    return f"opens it and sees {store.count_of(_numbers(start))} of the {ADDED} rows"


def _counted(name: str, folder: Path, start: int) -> int:
    try:
        return _open(name, folder).count_of(_numbers(start))
    except Exception:
        return 0


def _opened_again(
    name: str, folder: Path, start: int, known: tuple[int, Vectors], ef: int
) -> tuple[int, float]:  # fmt: skip
    import_module(STORES[name][0])  # before the clock runs
    began = perf_counter()
    store = _open(name, folder)
    seconds = _until_right(store, known, ef, began)
    return store.count_of(_numbers(start)), seconds


def _until_right(store: Store, known: tuple[int, Vectors], ef: int, began: float) -> float:
    """Until a search with a row's own vector finds that row."""
    number, vector = known
    if number not in map(int, store.search(vector, ef)):
        raise AssertionError(f"{store.name} did not find a row after a kill")
    return perf_counter() - began


def kill_server(
    server: LargeServer, start: int, fresh: Vectors, known: tuple[int, Vectors], ef: int
) -> Killed:  # fmt: skip
    """The server's first process is killed as soon as a client's COMMIT has returned; then it is started again."""
    store = PgvectorStore(server.url)
    store.add(_numbers(start), fresh[:ADDED], np.ones(ADDED, dtype=np.int64))
    beside = PgvectorStore(server.url)
    second = f"is served and sees {beside.count_of(_numbers(start))} of the {ADDED} rows"
    process = server.cluster.process()
    assert process is not None
    process.kill()
    process.wait()
    began = perf_counter()
    server.cluster.ensure_running(suspect=True)
    again = PgvectorStore(server.url)
    seconds = _until_right(again, known, ef, began)
    there = again.count_of(_numbers(start))
    for one in (store, beside, again):
        one.close()
    return Killed(ADDED, there, seconds, second)
