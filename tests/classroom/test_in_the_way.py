"""What stands in a teacher's way: names that others took, locks that others hold, marks on roles of other names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from course_lib.classroom import creating, waiting
from course_lib.classroom.creating import alone
from course_lib.classroom.databases import make_class_database, make_learners_databases
from course_lib.classroom.roles import GROUP, LEARNER, learners_of
from course_lib.classroom.server import _port, find_class_server
from course_lib.errors import CourseError
from course_lib.postgres.marks import Mark
from tests.classroom.classes import Classroom, apart
from tests.postgres.places import YourServer

Create = Callable[..., Classroom]


@pytest.mark.parametrize("name", ["a_chen", "a_chen_1", "a_ada_1"])
def test_a_neighbour_owns_nobodys_database(classroom: Create, server_of_all: YourServer, name: str) -> None:
    made = classroom("a", "Ada", "Mallory")
    with made.enter("mallory") as mallory:
        mallory.execute(f"CREATE DATABASE {name}".encode())
    before = server_of_all.contents()
    try:
        with pytest.raises(CourseError, match=f"a database {name} on the server, and it is not of the class a: a_mal"):
            made.create("Ada", "Mallory", "Chen")
        assert server_of_all.contents() == before
    finally:
        server_of_all.execute(f"DROP DATABASE {name}")


def test_a_neighbour_who_was_faster_than_the_teacher(classroom: Create, server_of_all: YourServer) -> None:
    """The database is made after all was looked at, and before the teacher makes it."""
    made = classroom("a", "Ada", "Mallory")
    with made.enter("mallory") as mallory:
        for name in ("a_chen", "course_class_b"):
            mallory.execute(f"CREATE DATABASE {name}".encode())
    server_of_all.execute("CREATE ROLE a_chen")

    async def run(home: bool) -> None:
        async with (await find_class_server()).connection() as connection:
            if home:
                await make_learners_databases(connection, "a", "a_chen", createdb=True)
            else:
                await make_class_database(connection, "b")

    try:
        for home in (True, False):
            with pytest.raises(CourseError, match=r"it is not of the class .: a_mallory has it"):
                apart(run(home))
    finally:
        server_of_all.execute("DROP DATABASE a_chen", "DROP DATABASE course_class_b", "DROP ROLE a_chen")


def test_a_lock_that_somebody_keeps_is_named_and_given_up(
    classroom: Create, server_of_all: YourServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "NAMED_AFTER", 0.5)
    monkeypatch.setattr(waiting, "LONGEST", 2.0)
    made = classroom("a", "Ada")
    server_of_all.execute("GRANT CONNECT ON DATABASE postgres TO a_ada")
    try:
        with made.enter("ada", "postgres") as ada:
            ada.execute("SELECT pg_advisory_lock(%s)", (creating.LOCK,))
            holder = f"the role a_ada, process {ada.info.backend_pid}"
            with pytest.raises(CourseError, match=holder) as caught:
                made.create("Ada")
            assert f"pg_terminate_backend({ada.info.backend_pid})" in caught.value.mend
        assert made.said[-2:] == [
            "Somebody else is changing a class on this server; waiting for them.", f"It is {holder}.",
        ]  # fmt: skip
        made.create("Ada")
    finally:
        server_of_all.execute("REVOKE CONNECT ON DATABASE postgres FROM a_ada")


@pytest.mark.parametrize(
    ("database", "statement"),
    [("course_class_a", "SELECT board.show_me(true)"), (None, "ALTER ROLE a_mallory SET work_mem = '5MB'")],
)
def test_a_learners_open_transaction_holds_nobody_up(
    classroom: Create, monkeypatch: pytest.MonkeyPatch, database: str | None, statement: str
) -> None:
    monkeypatch.setattr(waiting, "LOCK_TIMEOUT", "500ms")
    made = classroom("a", "Ada", "Mallory")
    with made.enter("mallory", database) as mallory, made.enter("ada", "course_class_a") as ada:
        mallory.execute("SET idle_in_transaction_session_timeout = 0")
        mallory.execute("BEGIN")
        mallory.execute(statement.encode())
        began, watch = time.monotonic(), threading.Timer(25, mallory.close)  # so that a failure ends
        watch.start()
        made.create("Ada", "Mallory", "Chen")
        watch.cancel()
        assert time.monotonic() - began < 20
        with pytest.raises(psycopg.OperationalError):
            mallory.execute("SELECT 1")
        ada.execute("SELECT 1")  # who holds nothing is not disconnected


def test_a_mark_on_a_role_of_another_name_is_nothing(classroom: Create, server_of_all: YourServer) -> None:
    made = classroom("a", "Ada")
    group, learner = (Mark.of_this_process(kind, "a") for kind in (GROUP, LEARNER))
    server_of_all.execute(
        "CREATE ROLE aaa", f"COMMENT ON ROLE aaa IS '{group}'", "CREATE ROLE zzz", f"COMMENT ON ROLE zzz IS '{learner}'"
    )

    async def names() -> list[str]:
        async with (await find_class_server()).connection() as connection, alone(connection, print):
            return [role.name for role in await learners_of(connection, "a")]

    try:
        assert made.create("Ada").left == []
        assert apart(names()) == ["a_ada"]
    finally:
        server_of_all.execute("DROP ROLE aaa", "DROP ROLE zzz")


def test_programs_that_choose_a_port_at_once_have_the_same(folder: Path) -> None:
    for number in range(10):
        found: list[int] = []
        gate = threading.Barrier(6)

        def choose(
            place: Path = folder / f"class-{number}", to: list[int] = found, at: threading.Barrier = gate
        ) -> None:
            at.wait()
            to.append(_port(place))

        threads = [threading.Thread(target=choose) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6 and len(set(found)) == 1
        assert [path.name for path in (folder / f"class-{number}").iterdir()] == ["class_port"]
