"""Copies of an attempt's database, for the cases that a learner's tests are tried on.

Where the role may make databases, each case has one of its own. Where they were made ahead there are few: the attempt's
own and what is free are filled again and again.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from course_lib.data.fresh import FreshDatabase, recipe_of
from course_lib.errors import CourseError
from course_lib.judging.attempt import Attempt
from course_lib.postgres import clone, drop
from course_lib.postgres.database_pool import refill, take
from course_lib.postgres.databases import give_up, quoted
from course_lib.postgres.dumping import Dump, dump

MORE = 2  # of the pool, beside the attempt's own: the others are for another notebook


@dataclass
class Copies:
    """So many cases can be tried before the copies are renewed; ``contents`` of the attempt's, where they are to be."""

    attempt: Attempt
    databases: list[FreshDatabase]
    contents: Dump | None = None

    async def renew(self) -> None:
        """As the attempt's database was, without anybody in it."""
        assert self.contents is not None
        for database in self.databases:
            await refill(database.server, database.name, self.contents)
            await _limit(self.attempt, database)


async def _limit(attempt: Attempt, database: FreshDatabase) -> None:
    limit = f"SET statement_timeout = '{attempt.exercise.statement_seconds}s'"
    await attempt.admin.execute(f"ALTER DATABASE {quoted(database.name)} {limit}")


@asynccontextmanager
async def copies_of(attempt: Attempt, count: int) -> AsyncIterator[Copies]:
    """Copies for ``count`` cases, or fewer.

    Raises:
        CourseError: what the attempt's database holds cannot be kept meanwhile.
    """
    async with AsyncExitStack() as stack:
        if attempt.database.server.pooled:
            yield await _of_a_pool(attempt, count, stack)
        else:
            yield Copies(attempt, [await _copy(attempt, stack) for _ in range(count)])


async def _copy(attempt: Attempt, stack: AsyncExitStack) -> FreshDatabase:
    server = attempt.database.server
    name = await clone(attempt.admin, attempt.database.name, attempt.exercise.lesson, server.settings)
    database = FreshDatabase(server, name)
    stack.push_async_callback(_drop, attempt, database)
    await _limit(attempt, database)
    return database


async def _of_a_pool(attempt: Attempt, count: int, stack: AsyncExitStack) -> Copies:
    await attempt.engine.dispose()
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="course-copies-", ignore_cleanup_errors=True))
    server = attempt.database.server
    copies = Copies(attempt, [attempt.database], await dump(server, attempt.database.name, Path(folder)))
    for _ in range(min(MORE, count - 1)):
        try:
            taken = await take(server, attempt.admin, attempt.exercise.lesson, recipe_of("empty"), wait=0)
        except CourseError:  # other notebooks have them
            break
        database = FreshDatabase(server, *taken)
        stack.push_async_callback(_drop, attempt, database)
        copies.databases.append(database)
    stack.push_async_callback(Copies(attempt, [attempt.database], copies.contents).renew)
    await copies.renew()
    return copies


async def _drop(attempt: Attempt, database: FreshDatabase) -> None:
    try:
        await drop(attempt.admin, database.name, database.claim)
    except Exception:  # the next sweep does it
        give_up(database.name)
