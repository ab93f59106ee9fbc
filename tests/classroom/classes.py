"""A class that a test has made, and what its learners can do with the credentials of their sheets."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psycopg

from course_lib.classroom.creating import Created, Wishes, create_class
from course_lib.classroom.credentials import read_credentials
from course_lib.classroom.ending import end, forget_class, what_ends
from course_lib.classroom.roster import read_roster
from course_lib.classroom.server import find_class_server
from course_lib.errors import CourseError
from course_lib.postgres.address import libpq_uri, parse_url
from tests.postgres.places import YourServer

CLOSED = (
    "REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC",
    "GRANT CONNECT ON DATABASE postgres TO teacher",
)


def apart(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to its end in a thread with a loop of its own, so that tests with and without a loop can."""
    import threading

    found: list[Any] = []

    def run() -> None:
        try:
            found.append((asyncio.run(coroutine), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result, error = found[0]
    if error is not None:
        raise error
    return result


class Classroom:
    """A class by its slug, on a server of the test's."""

    def __init__(self, server: YourServer, slug: str, folder: Path) -> None:
        self.server, self.slug, self.folder = server, slug, folder
        self.said: list[str] = []

    def create(self, *names: str, **wishes: Any) -> Created:
        roster = self.folder / f"{self.slug}.csv"
        roster.write_text("name\n" + "".join(f'"{name}"\n' for name in names), encoding="utf-8")
        made: Created = apart(create_class(read_roster(roster), Wishes(self.slug, **wishes), self.said.append))
        return made

    def destroy(self) -> None:
        async def run() -> None:
            server = await find_class_server()
            async with server.connection() as connection:
                try:
                    ending = await what_ends(connection, self.slug)
                except CourseError:
                    return
                await end(server, connection, ending)

        apart(run())
        forget_class(self.slug)

    def url(self, login: str, database: str | None = None) -> str:
        """The learner's DATABASE_URL, or with their role and password that of another database."""
        url = parse_url(read_credentials(self.slug)[login].url)
        return str.__str__(libpq_uri(url, database))

    def enter(self, login: str, database: str | None = None) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(login, database), autocommit=True, connect_timeout=10)
