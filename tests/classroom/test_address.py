"""The address on the sheets is one by which learners reach the server of their class."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_lib.classroom.address import Address, learners_address
from course_lib.classroom.server import class_cluster
from course_lib.errors import CourseError
from course_lib.postgres.address import parse_url
from course_lib.postgres.server import Server
from tests.postgres.conftest import course_home


def server(url: str, embedded: bool = False) -> Server:
    return Server(parse_url(url), embedded, "18.4", "0.8.5")


YOURS = "postgresql://teacher:word@db.example.org:5433/postgres"
EARLIER = "postgresql://a_ada:word@class.example.org:6000/a_ada"


@pytest.mark.parametrize(
    ("url", "given", "earlier", "address"),
    [
        (YOURS, None, None, Address("db.example.org", 5433)),
        (f"{YOURS}?sslmode=require", None, None, Address("db.example.org", 5433, "require")),
        (f"{YOURS}?sslmode=require", "pg.org", None, Address("pg.org", 5432, "require")),
        (YOURS, "10.0.0.7:6432", EARLIER, Address("10.0.0.7", 6432)),
        (YOURS, "[fd00::7]:6432", None, Address("fd00::7", 6432)),
        (YOURS, None, EARLIER, Address("class.example.org", 6000)),
        (YOURS, None, "postgresql://a_ada:word@127.0.0.1:56761/a_ada", Address("db.example.org", 5433)),
        ("postgresql://teacher@/postgres?host=/run/postgresql", "pg.org", None, Address("pg.org", 5432)),
    ],
)
def test_the_teachers_unless_another_was_said(
    url: str, given: str | None, earlier: str | None, address: Address
) -> None:
    assert learners_address(server(url), given, earlier) == address


@pytest.mark.parametrize("given", [" ", "pg.org:x", "pg.org:99999", "postgresql://pg.org/x", "u:p@pg.org", "pg.org/x"])
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(CourseError, match="a host and a port"):
        learners_address(server(YOURS), given, None)


@pytest.mark.parametrize("url", ["postgresql://t@/x?host=/run/postgresql", "postgresql://t@a.org:1,b.org:2/x"])
def test_a_teachers_address_that_learners_do_not_have(url: str) -> None:
    with pytest.raises(CourseError, match=r"(?s)no single host.*--address HOST:PORT"):
        learners_address(server(url), None, None)


def test_the_embedded_one_keeps_its_port(folder: Path) -> None:
    with course_home(folder / "home"):
        class_cluster.cache_clear()
        first = learners_address(server("postgresql://postgres@/postgres?host=/x", True), None, EARLIER)
        class_cluster.cache_clear()
        assert learners_address(server("postgresql://postgres@/postgres?host=/y", True), None, None) == first
        assert first.host == "127.0.0.1" and first.local
    class_cluster.cache_clear()


def test_a_learners_url_is_read_by_the_course() -> None:
    url = parse_url(Address("fd00::7", 6432, "require").url("a_ada", "word"))
    assert (url.username, url.password, url.host, url.port, url.database) == ("a_ada", "word", "fd00::7", 6432, "a_ada")
    assert url.query["ssl"] == "require"
