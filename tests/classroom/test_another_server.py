"""The teacher's file and a class of the same short name on another server, or roles that are not on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from course_lib.classroom.address import Address
from course_lib.classroom.credentials import class_folder, read_credentials, write_credentials
from course_lib.postgres.server import forget_checked
from course_lib.settings import get_settings
from tests.classroom.classes import CLOSED, Classroom
from tests.postgres.places import YourServer

Create = Callable[..., Classroom]


@pytest.fixture(scope="module")
def second_server(shared_folder: Path) -> Iterator[YourServer]:
    server = YourServer(shared_folder / "second")
    server.execute("CREATE EXTENSION vector", database="template1")
    server.execute("CREATE ROLE teacher LOGIN CREATEROLE CREATEDB PASSWORD 'word'", *CLOSED)
    return server


def test_the_file_of_another_server_is_kept(
    classroom: Create, second_server: YourServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = classroom("a", "Ada", "Bruno", address="class.example.org:6000")
    before = (class_folder("a") / "credentials.csv").read_text()
    old = read_credentials("a")["ada"].password
    there = Classroom(second_server, "a", made.folder)
    with monkeypatch.context() as patch:
        patch.setenv("DATABASE_URL", second_server.url("teacher", "word"))
        get_settings.cache_clear()
        forget_checked()
        done = there.create("Ada", "Chen")
        assert (done.address.host, done.address.port) == ("127.0.0.1", second_server.port)
        assert read_credentials("a")["ada"].password != old
        there.enter("ada").close()
        (aside,) = [path for path in class_folder("a").iterdir() if path.name.startswith("credentials.csv.")]
        assert aside.read_text() == before and aside.stat().st_mode & 0o777 == 0o600
        assert str(aside) in there.said[-1] and "No role in your file is on this server" in there.said[-1]
        there.create("Ada", "Chen")
        assert len([path for path in class_folder("a").iterdir() if path.name.startswith("credentials.csv")]) == 2
    get_settings.cache_clear()
    forget_checked()


def test_the_address_is_that_of_a_role_on_this_server(classroom: Create) -> None:
    made = classroom("a", "Ada", address="class.example.org:6000")
    ada = read_credentials("a")["ada"]
    elsewhere = Address("other.example.org", 7000)
    gone = replace(ada, name="Zoe", login="zoe", role="a_zoe", url=elsewhere.url("a_zoe", "word"))
    write_credentials("a", [gone, ada])
    assert made.create("Ada").address == Address("class.example.org", 6000)
