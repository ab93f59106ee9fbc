"""One server for all tests of the board in a process, and a class on it whose board is empty when a test begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from course_lib.judging.board import wait_for_sending
from course_lib.postgres.server import forget_checked
from course_lib.settings import get_settings
from tests.classroom.board.classes import LEARNERS, TEACHER, WORD, Class, SitDown, make_class
from tests.postgres.conftest import temporary_folder
from tests.postgres.places import YourServer


@pytest.fixture(scope="session")
def class_server() -> Iterator[YourServer]:
    with temporary_folder() as folder:
        server = YourServer(folder / "class")
        server.execute("CREATE EXTENSION vector", database="template1")
        server.execute(f"CREATE ROLE {TEACHER} LOGIN CREATEROLE CREATEDB PASSWORD '{WORD}'")
        yield server


@pytest.fixture(scope="session")
def friday_for_all(class_server: YourServer) -> Class:
    return make_class(class_server, "friday")


@pytest.fixture
def friday(friday_for_all: Class) -> Iterator[Class]:
    """A class whose board is empty."""
    friday_for_all.change("DELETE FROM board.learners")
    friday_for_all.change("INSERT INTO board.learners (learner, shown) VALUES ('friday_ada', 'Ada Lovelace')")
    yield friday_for_all
    wait_for_sending(10)


@pytest.fixture
def sit_down(friday: Class, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SitDown]:
    """``sit_down("ada")``: this process is that learner's, with a folder of their own; or the teacher's."""

    def become(who: str) -> None:
        wait_for_sending(10)
        forget_checked()
        monkeypatch.setenv("DATABASE_URL", friday.url(who) if who in LEARNERS else friday.teachers_url())
        monkeypatch.setenv("COURSE_WORK", str(tmp_path / who))
        monkeypatch.setenv("COURSE_CLASS", friday.slug)
        get_settings.cache_clear()

    yield become
    wait_for_sending(10)
    forget_checked()
    get_settings.cache_clear()
