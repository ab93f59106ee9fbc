"""A class on one server, with learners who are processes: each opens lessons and checks answers as its own role."""

from __future__ import annotations

import asyncio
import contextlib
import io
import multiprocessing
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from random import Random
from typing import Any

import asyncpg
import psutil
from sqlalchemy import make_url

from course_lib.classroom.creating import Wishes, create_class
from course_lib.classroom.credentials import Credentials
from course_lib.classroom.roster import Learner
from course_lib.classroom.server import class_cluster, find_class_server, stop_class_server
from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import solution_answer
from course_lib.lesson import Lesson, open_lesson
from course_lib.postgres.configuration import SHARED_MEMORY
from course_lib.settings import get_settings

IDS = ("0.1", "1.1", "2.1", "3.1", "3.4")  # checked in turn, with the solution and with an answer that does nothing
OPENINGS = 0.2  # of what a learner does; the rest are checks
MINE = "SELECT email FROM users WHERE email LIKE '%@room.example' ORDER BY email"
OTHERS = """
    SELECT datname FROM pg_database WHERE (datname LIKE 'lesson%' OR datname ~ '_1$')
        AND datdba <> (SELECT oid FROM pg_roles WHERE rolname = current_user) ORDER BY random() LIMIT 3
"""
CLIENTS = """
    SELECT usename, count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename LIKE $1 GROUP BY 1
"""
SAMPLE_SECONDS = 2.0
START_SECONDS = 300  # for all to have opened their first lesson

FORKS = "forkserver" in multiprocessing.get_all_start_methods()
_context: Any = multiprocessing.get_context("forkserver" if FORKS else None)


@dataclass(frozen=True)
class Deed:
    """What one learner did: ``first``, ``open`` or ``check``; ``wrong`` is what should not have been."""

    who: str
    what: str
    seconds: float
    wrong: str = ""


@dataclass
class Seen:
    """What a class did and what its server bore: the most clients, those of one learner, and bytes of memory."""

    deeds: list[Deed] = field(default_factory=list)
    clients: int = 0
    of_one: int = 0
    memory: int = 0
    missing: int = 0

    def seconds(self, what: str) -> list[float]:
        """Of each deed of that kind, sorted."""
        return sorted(deed.seconds for deed in self.deeds if deed.what == what and not deed.wrong)

    @property
    def wrong(self) -> Counter[str]:
        """What should not have been, and how often it was."""
        return Counter(deed.wrong for deed in self.deeds if deed.wrong)


# -- the class -----------------------------------------------------------------------------------------------------


@contextmanager
def class_folder() -> Iterator[Path]:
    """A course folder for a class's server and its learners, which ends with the block; in memory where that is."""
    place = SHARED_MEMORY if SHARED_MEMORY.exists() else None
    folder = Path(tempfile.mkdtemp(prefix="course-class-", dir=place))
    folder.chmod(0o755)  # the server of root runs as another user, who must pass
    before = {name: os.environ.pop(name, None) for name in ("COURSE_HOME", "COURSE_WORK", "DATABASE_URL")}
    os.environ |= {"COURSE_HOME": str(folder / "teacher"), "COURSE_WORK": str(folder / "work")}
    get_settings.cache_clear()
    class_cluster.cache_clear()
    try:
        yield folder
    finally:
        stop_class_server()
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        get_settings.cache_clear()
        class_cluster.cache_clear()


async def make_class(slug: str, count: int, createdb: bool) -> list[Credentials]:
    """A class of so many on the embedded server for classes. Returns what each learner is given.

    Raises:
        CourseError: the server will not bear it.
    """
    learners = [Learner(f"Learner {word}", f"learner_{word}") for word in _words(count)]
    made = await create_class(learners, Wishes(slug, createdb=createdb), lambda _: None)
    return made.lines


def _words(count: int) -> list[str]:
    """Two letters for each; a login ends in no number."""
    return [f"{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(count)]


async def watch_class(
    folder: Path, slug: str, lines: list[Credentials], seconds: float, pause: float, prying: bool = False
) -> Seen:
    """Let each learner work for so long once all have opened their first lesson.

    Args:
        folder: below which each has a course folder, as on a machine of their own.
        pause: seconds between two deeds, on average.
        prying: learners try others' databases, too.
    """
    if FORKS:
        _context.set_forkserver_preload([__name__])
    deeds: Queue[Deed | None] = _context.Queue()
    ready = _context.Barrier(len(lines))
    processes = [
        _context.Process(target=_work, args=(line.url, str(folder / line.role), seconds, pause, prying, ready, deeds))
        for line in lines
    ]
    seen = Seen()
    for process in processes:
        process.start()
    try:
        await _follow(slug, processes, deeds, seen)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return seen


async def _follow(slug: str, processes: list[Any], deeds: Queue[Deed | None], seen: Seen) -> None:
    server = await find_class_server()
    left, sampled = len(processes), 0.0
    async with server.connection() as connection:
        while left:
            with suppress(Empty):
                while True:
                    deed = deeds.get_nowait()
                    left -= deed is None
                    seen.deeds += [deed] if deed else []
            if time.monotonic() - sampled > SAMPLE_SECONDS:
                sampled = time.monotonic()
                counts = [row["count"] for row in await connection.fetch(CLIENTS, f"{slug}\\_%")]
                if sum(counts) > seen.clients:  # to ask for memory takes a processor some while
                    seen.memory = max(seen.memory, await asyncio.to_thread(_memory))
                seen.clients, seen.of_one = max(seen.clients, sum(counts)), max([seen.of_one, *counts])
            if not any(process.is_alive() for process in processes):
                seen.missing = max(0, left)  # killed, or ended without a word
                if deeds.empty():
                    return
            await asyncio.sleep(0.1)


def _memory() -> int:
    """Bytes of the server's processes; what they share is counted once, where the system tells."""
    main = class_cluster().process()
    total = 0
    for process in [main, *main.children()] if main else []:
        with suppress(psutil.Error):
            whole = process.memory_full_info()
            total += getattr(whole, "pss", whole.uss)
    return total


# -- a learner -----------------------------------------------------------------------------------------------------


def _work(
    url: str, home: str, seconds: float, pause: float, prying: bool, ready: Any, deeds: Queue[Deed | None]
) -> None:
    """In a process of its own, with nothing of the teacher's."""
    os.environ |= {"DATABASE_URL": url, "COURSE_HOME": home, "COURSE_WORK": f"{home}/work"}
    get_settings.cache_clear()
    who = str(make_url(url).username)
    try:
        asyncio.run(_learn(who, seconds, pause, prying, ready, deeds))
    except Exception as error:
        deeds.put(Deed(who, "work", 0, f"{type(error).__name__}: {error}"[:200]))
    finally:
        deeds.put(None)
        deeds.close()
        deeds.join_thread()


async def _learn(who: str, seconds: float, pause: float, prying: bool, ready: Any, deeds: Queue[Deed | None]) -> None:
    chance = Random(who)
    lesson: Lesson | None = None

    async def timed(what: str, act: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        said, wrong = None, ""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                said = await act()
        except Exception as error:
            wrong = f"{what}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
        deeds.put(Deed(who, what, time.perf_counter() - began, wrong))
        return said

    await asyncio.to_thread(ready.wait, START_SECONDS)
    lesson = await timed("first", lambda: open_lesson("02"))
    await asyncio.to_thread(ready.wait, START_SECONDS)
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        await asyncio.sleep(chance.uniform(0, 2 * pause))
        number += 1
        if lesson is None or chance.random() < OPENINGS:
            lesson = await timed("open", lambda: open_lesson("02"))
            if lesson is not None:
                deeds.put(Deed(who, "looked", 0, await _look_around(who, lesson, number, prying)))
        else:
            await timed("check", lambda: _check(IDS[number % len(IDS)], right=number % 3 > 0))  # noqa: B023
    if lesson is not None:
        await lesson.close()


async def _nothing(*_: Any, **__: Any) -> None:
    """An answer that does nothing."""


async def _check(id: str, right: bool) -> None:
    exercise = find_exercise(id)
    verdict = await judge_answer(exercise, solution_answer(exercise) if right else _nothing)
    assert verdict.passed == right, f"{id} {'right' if right else 'wrong'}: {verdict.finding.sentence}"


async def _look_around(who: str, lesson: Lesson, number: int, prying: bool) -> str:
    """A fresh lesson holds nobody's rows, and then one's own; "" or what is wrong."""
    own = f"{who}-{number}@room.example"
    try:
        if found := list(await lesson.sql(MINE)):
            return f"a fresh lesson holds rows of {len(found)}"
        await lesson.sql("INSERT INTO users (email, name) VALUES (:email, 'Me')", email=own)
        if [row[0] for row in await lesson.sql(MINE)] != [own]:
            return "a lesson holds rows of others"
        for (name,) in list(await lesson.sql(OTHERS)) if prying else ():
            if await _enters(lesson, name):
                return "a learner entered the database of another"
    except Exception as error:
        return f"looking around: {type(error).__name__}: {error}"[:200]
    return ""


async def _enters(lesson: Lesson, name: str) -> bool:
    try:
        async with lesson.server.connection(name):
            return True
    except Exception as error:
        refused = isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError | asyncpg.InvalidCatalogNameError)
        closed = isinstance(error.__cause__, asyncpg.ObjectNotInPrerequisiteStateError)  # a template, or one being made
        if refused or closed:
            return False
        raise
