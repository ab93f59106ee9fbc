"""DATABASE_URL: every reason why a server will not do is one sentence with a mend, and that server stays as it was."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from course_lib.errors import CourseError
from course_lib.lesson import open_lesson
from course_lib.postgres import find_server
from course_lib.postgres.address import libpq_uri, parse_url, public_uri
from course_lib.postgres.binaries import server_account, wheel_installation
from course_lib.postgres.cluster import Cluster
from tests.postgres.places import YourServer, copy_of_installation, free_port, wait_until

PointAt = Callable[[str], None]


async def refused(*secrets: str) -> CourseError:
    """What opening a lesson says: a sentence and a mend, without the password, in its causes neither."""
    with pytest.raises(CourseError) as caught:
        await open_lesson("02", "migrated")
    error = caught.value
    assert error.sentence.count("\n") == 0 and error.sentence.endswith(".") and error.mend
    said, cause = str(error), error.__cause__
    while cause is not None:
        said, cause = f"{said}\n{cause}", cause.__cause__
    for secret in secrets:
        assert secret not in said
    return error


@pytest.fixture
def unchanged(your_server: YourServer) -> Iterator[None]:
    """The server is the same after the test."""
    before = your_server.contents()
    yield
    assert your_server.contents() == before


async def test_a_lesson_opens_and_leaves_the_server_as_it_was(your_server: YourServer, point_at: PointAt) -> None:
    before = your_server.contents()
    point_at(your_server.url(database="shop"))
    lesson = await open_lesson("02", "migrated")
    assert "your server" in str(lesson) and not lesson.server.embedded
    assert your_server.password not in f"{lesson} {lesson!r} {lesson.url} {lesson.sync_url}"
    async with lesson.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM users")).scalar() == 0
    with psycopg.connect(lesson.dsn) as direct:
        assert direct.info.dbname == lesson.database
    await lesson.close()
    after = your_server.contents()
    template = [row for row in after["databases"] if str(row[0]).startswith("course_template_")]
    assert len(template) == 1, "the template stays, for the next opening"
    after["databases"].remove(template[0])
    assert after == before


@pytest.mark.usefixtures("unchanged")
async def test_a_wrong_password(your_server: YourServer, point_at: PointAt) -> None:
    point_at(your_server.url(password="not-the-word"))
    error = await refused("not-the-word")
    assert error.sentence == f"127.0.0.1:{your_server.port} refused the user or the password."
    assert "DATABASE_URL" in error.mend


@pytest.mark.usefixtures("unchanged")
async def test_a_role_that_does_not_exist(your_server: YourServer, point_at: PointAt) -> None:
    point_at(your_server.url(user="nobody_here"))
    assert "refused the user" in (await refused(your_server.password)).sentence


@pytest.mark.usefixtures("unchanged")
async def test_a_database_that_does_not_exist(your_server: YourServer, point_at: PointAt) -> None:
    point_at(your_server.url(database="nowhere"))
    assert "has no database of that name" in (await refused(your_server.password)).sentence


async def test_a_database_that_the_role_may_not_enter(your_server: YourServer, point_at: PointAt) -> None:
    your_server.execute(
        "CREATE ROLE outsider LOGIN PASSWORD 'word'",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
    )
    point_at(your_server.url("outsider", "word", "closed"))
    assert "permission denied for database" in (await refused("word")).sentence
    your_server.execute("DROP DATABASE closed", "DROP ROLE outsider")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:p4ssw0rd@no-such-host.invalid/x", "no host of that name"),
        ("postgresql://u:p4ssw0rd@127.0.0.1:1/x", "No PostgreSQL answers at 127.0.0.1:1"),
        ("postgresql://u:p4ssw0rd@[::1]:1/x", "No PostgreSQL answers at"),
        ("postgresql://u:p4ssw0rd@/x?host=/nowhere/at/all", "No PostgreSQL answers at the local socket"),
        ("mysql://u:p4ssw0rd@127.0.0.1/x", "not the address of a PostgreSQL"),
        ("sqlite:///p4ssw0rd.db", "not the address of a PostgreSQL"),
        ("p4ssw0rd, or something", "not the address of a PostgreSQL"),
        ("postgresql://u:p4ssw0rd@127.0.0.1:p4ssw0rd/x", "not the address of a PostgreSQL"),
        ("postgresql://u:half@p4ssw0rd@127.0.0.1/x", "holds an @ of its own"),
        ("postgresql://u:p4ssw0rd@127.0.0.1/x?sslmode=perhaps", "The option sslmode in DATABASE_URL"),
        ("postgresql://u:p4ssw0rd@127.0.0.1:70000/x", "not the address of a PostgreSQL"),
    ],
)  # fmt: skip
async def test_an_address_that_leads_nowhere(your_server: YourServer, point_at: PointAt, url: str, words: str) -> None:
    point_at(url)
    error = await refused("p4ssw0rd")
    assert words in error.sentence
    assert "postgresql://" in error.mend or "DATABASE_URL" in error.mend or "%40" in error.mend


@pytest.mark.usefixtures("unchanged")
async def test_a_setting_the_server_does_not_know(your_server: YourServer, point_at: PointAt) -> None:
    point_at(your_server.url(more="?schema=public"))
    assert 'unrecognized configuration parameter "schema"' in (await refused(your_server.password)).sentence


async def test_a_program_that_is_no_postgresql(point_at: PointAt) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        point_at(f"postgresql://u:p4ssw0rd@127.0.0.1:{port}/x?sslmode=disable")
        assert f"127.0.0.1:{port}" in (await refused("p4ssw0rd")).sentence


async def test_a_server_that_never_answers(point_at: PointAt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("course_lib.postgres.server.CONNECT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        point_at(f"postgresql://u:p4ssw0rd@127.0.0.1:{silent.getsockname()[1]}/x")
        assert "did not answer in time" in (await refused("p4ssw0rd")).sentence


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("mode", ["disable", "prefer"])
async def test_without_encryption(your_server: YourServer, point_at: PointAt, mode: str) -> None:
    point_at(your_server.url(more=f"?sslmode={mode}&connect_timeout=5&channel_binding=prefer"))
    assert (await find_server()).version.startswith("18")


@pytest.mark.usefixtures("unchanged")
async def test_encryption_that_the_server_does_not_have(your_server: YourServer, point_at: PointAt) -> None:
    point_at(your_server.url(more="?sslmode=require"))
    error = await refused(your_server.password)
    assert "encrypted connection" in error.sentence and "sslmode" in error.mend


async def test_sslmode_reaches_every_driver(your_server: YourServer, point_at: PointAt) -> None:
    from sqlalchemy import create_engine

    point_at(your_server.url(more="?sslmode=disable"))
    lesson = await open_lesson("02", "migrated")
    with create_engine(lesson.sync_url).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM users").scalar() == 0
    await lesson.close()


@pytest.mark.parametrize("password", ["p%40:/+ word", "a@b", "#?&=", "100%", "ü·学", "'\"\\"])
async def test_any_password_will_do(your_server: YourServer, point_at: PointAt, password: str) -> None:
    literal = password.replace("'", "''")
    your_server.execute(f"CREATE ROLE learner CREATEDB LOGIN PASSWORD '{literal}'")
    try:
        url = your_server.url("learner", password)
        point_at(url)
        server = await find_server()
        with psycopg.connect(libpq_uri(server.url)) as connection:
            assert connection.info.user == "learner"
        for shown in (public_uri(server.url, "x"), server.describe(), repr(server)):
            assert password not in shown and url not in shown
    finally:
        your_server.execute("DROP ROLE learner")


async def test_a_role_without_createdb_is_told_what_to_ask_for(your_server: YourServer, point_at: PointAt) -> None:
    your_server.execute("CREATE ROLE \"odd Name\" LOGIN PASSWORD 'word'")
    before = your_server.contents()
    point_at(your_server.url("odd%20Name", "word"))
    error = await refused("word")
    assert "may not create databases" in error.sentence
    assert 'ALTER ROLE "odd Name" CREATEDB;' in error.mend
    assert your_server.contents() == before
    your_server.execute('DROP ROLE "odd Name"')


async def test_a_section_that_needs_more_than_createdb_says_so_before_it_starts(
    your_server: YourServer, point_at: PointAt
) -> None:
    point_at(your_server.url())
    lesson = await open_lesson("05", "migrated")  # an administrator has all
    await lesson.require("SUPERUSER")
    await lesson.require("CREATEROLE")
    await lesson.close()
    your_server.execute("CREATE ROLE \"odd Name\" LOGIN CREATEDB CREATEROLE PASSWORD 'word'")
    your_server.execute("CREATE EXTENSION IF NOT EXISTS vector", database="template1")
    point_at(your_server.url("odd%20Name", "word"))
    lesson = await open_lesson("05", "migrated")
    await lesson.require("CREATEROLE")
    with pytest.raises(CourseError, match="SUPERUSER") as caught:
        await lesson.require("SUPERUSER")
    assert "next section" in caught.value.mend and 'ALTER ROLE "odd Name" SUPERUSER;' in caught.value.mend
    your_server.execute('ALTER ROLE "odd Name" NOCREATEROLE')
    with pytest.raises(CourseError, match="CREATEROLE"):
        await lesson.require("CREATEROLE")
    await lesson.close()
    your_server.drop_courses_databases()
    your_server.execute('DROP ROLE "odd Name"')


async def test_a_role_that_may_not_create_the_extension_until_an_administrator_does(
    folder: Path, point_at: PointAt
) -> None:
    """From the refusal to a working lesson; the migrations' own CREATE EXTENSION IF NOT EXISTS passes then."""
    server = YourServer(folder / "yours")
    server.execute("CREATE ROLE learner LOGIN CREATEDB PASSWORD 'word'")
    before = server.contents()
    point_at(server.url("learner", "word"))
    error = await refused("word")
    assert "may not create the extension" in error.sentence
    assert "in database template1: CREATE EXTENSION vector;" in error.mend
    assert server.contents() == before, "the half-made build is gone"
    server.execute("CREATE EXTENSION vector", database="template1")
    lesson = await open_lesson("02")
    async with lesson.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM users")).scalar() == 8
    await lesson.close()
    server.execute("CREATE ROLE colleague LOGIN CREATEDB PASSWORD 'word'")
    point_at(server.url("colleague", "word"))
    lesson = await open_lesson("02")
    await lesson.close()
    templates = [row for row in server.contents()["databases"] if str(row[0]).startswith("course_template")]
    assert {row[1] for row in templates} == {"learner", "colleague"}, "to each a template, and what is copied from it"


def edit_control(installation: Path, text: str | None) -> None:
    """Replace vector.control of an installation, or remove it."""
    (control,) = (installation / "share").rglob("vector.control")
    content = control.read_text()
    control.unlink()
    if text is not None:
        control.write_text(content.replace("default_version = '0.8.5'", f"default_version = '{text}'"))


@pytest.mark.parametrize(
    ("pgvector", "sentence"),
    [(None, "has no pgvector."), ("0.8.3", "has pgvector 0.8.3; the course needs 0.8.4 or newer.")],
)
@pytest.mark.soak(after=1)
async def test_pgvector_missing_or_too_old(
    folder: Path, point_at: PointAt, pgvector: str | None, sentence: str
) -> None:
    installation = copy_of_installation(folder / "programs")
    edit_control(installation, pgvector)
    server = YourServer(folder / "yours", installation)
    before = server.contents()
    point_at(server.url())
    assert sentence in (await refused(server.password)).sentence
    assert server.contents() == before


@pytest.mark.parametrize(
    ("pgvector", "fits"), [("0.8.4", True), ("0.10.0", True), ("1.0", True), ("0.9.0-dev", True), ("0.8", False)]
)
def test_versions_of_pgvector_are_compared_as_numbers(pgvector: str, fits: bool) -> None:
    from course_lib.postgres.fitness import refuse_unfit

    row = {
        "number": 180004, "version": "18.4", "pgvector": pgvector, "may_create": True, "role": "x",
        "standby": False, "read_only": False, "connections": None,
    }  # fmt: skip
    if fits:
        refuse_unfit(row, "somewhere")  # type: ignore[arg-type]
    else:
        with pytest.raises(CourseError, match=r"needs 0\.8\.4"):
            refuse_unfit(row, "somewhere")  # type: ignore[arg-type]


async def test_postgresql_too_old(folder: Path, point_at: PointAt) -> None:
    original = wheel_installation().with_name("pginstall")
    if not original.exists():
        pytest.skip("the wheel has no older server")
    server = YourServer(folder / "yours", copy_of_installation(folder / "programs", original))
    before = server.contents()
    point_at(server.url())
    error = await refused(server.password)
    assert "is PostgreSQL 16." in error.sentence and "needs 18 or newer" in error.sentence
    assert server.contents() == before


async def test_a_server_that_is_shutting_down(folder: Path, point_at: PointAt) -> None:
    import signal

    server = YourServer(folder / "yours")
    point_at(server.url())
    process = server.cluster.process()
    assert process is not None
    with psycopg.connect(server.dsn()):
        process.send_signal(signal.SIGTERM)  # smart: it waits for this connection, and lets nobody else in
        wait_until(lambda: "stopping" in (server.cluster.data / "postmaster.pid").read_text())
        error = await refused(server.password)
        assert "shutting down" in error.sentence and "try again" in error.mend
    wait_until(lambda: server.cluster.process() is None)
    assert "No PostgreSQL answers" in (await refused(server.password)).sentence


async def test_a_server_without_a_connection_to_spare(your_server: YourServer, point_at: PointAt) -> None:
    your_server.execute("CREATE ROLE crowded LOGIN CREATEDB CONNECTION LIMIT 0 PASSWORD 'word'")
    point_at(your_server.url("crowded", "word"))
    assert "has no connection left to give" in (await refused("word")).sentence
    your_server.execute("DROP ROLE crowded")


@pytest.mark.parametrize("text", ["postgres://u@h/d", "postgresql+psycopg2://u@h/d", " postgresql://u@h/d\n"])
def test_the_usual_spellings_are_taken(text: str) -> None:
    assert libpq_uri(parse_url(text)) == "postgresql://u@h/d"


def test_ipv6_hosts_keep_their_brackets() -> None:
    assert libpq_uri(parse_url("postgresql://u:p@[::1]:5433/d")) == "postgresql://u:p@[::1]:5433/d"


def test_the_servers_own_folder_is_not_opened_to_others(your_server: YourServer) -> None:
    cluster: Cluster = your_server.cluster
    assert stat.S_IMODE(cluster.data.stat().st_mode) == 0o700
    assert stat.S_IMODE((cluster.folder / "socket").stat().st_mode) == 0o700
    account = server_account()
    assert cluster.data.stat().st_uid == (account.uid if account else os.geteuid())
    assert free_port() != your_server.port
