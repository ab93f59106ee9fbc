"""Folders and servers for the tests of classes, as those of the server have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from course_lib.classroom.server import class_cluster
from course_lib.postgres.server import forget_checked
from course_lib.settings import get_settings
from tests.classroom.classes import CLOSED, Classroom
from tests.postgres.conftest import course_home, folder, shared_folder
from tests.postgres.places import YourServer

__all__ = ["folder", "shared_folder"]


@pytest.fixture(scope="module")
def server_of_all(shared_folder: Path) -> YourServer:
    """Somebody's server for a class: closed to strangers, with a teacher who is no superuser and a cinema on it."""
    server = YourServer(shared_folder / "of_all", settings={"max_connections": "150"})
    server.execute("CREATE EXTENSION vector", database="template1")
    server.execute(
        "CREATE ROLE teacher LOGIN CREATEROLE CREATEDB PASSWORD 'word'",
        "GRANT SET ON PARAMETER temp_file_limit TO teacher", *CLOSED, "CREATE DATABASE cinema",
        "REVOKE CONNECT, TEMPORARY ON DATABASE cinema FROM PUBLIC",
    )  # fmt: skip
    return server


@pytest.fixture
def classroom(
    server_of_all: YourServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Classroom]]:
    """``classroom("a", "Ada", "Bruno")`` makes a class of that slug; all are gone when the test ends."""
    made: dict[str, Classroom] = {}

    def create(slug: str, *names: str, **wishes: object) -> Classroom:
        made[slug] = Classroom(server_of_all, slug, folder)
        made[slug].create(*names, **wishes)
        return made[slug]

    with course_home(folder / "home"):
        monkeypatch.setenv("COURSE_WORK", str(folder / "work"))
        monkeypatch.setenv("DATABASE_URL", server_of_all.url("teacher", "word"))
        get_settings.cache_clear()
        class_cluster.cache_clear()
        yield create
        monkeypatch.setenv("DATABASE_URL", server_of_all.url("teacher", "word"))
        get_settings.cache_clear()
        forget_checked()
        for one in made.values():
            one.destroy()
    class_cluster.cache_clear()
