"""A template is copied while it holds what was built; a server that goes away in between is tried once more."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
from sqlalchemy import URL

from course_lib.data import fresh
from course_lib.errors import CourseError
from course_lib.lesson import open_lesson
from course_lib.postgres import find_server, list_databases, stop_embedded, templates
from course_lib.postgres import server as server_module
from course_lib.postgres.address import libpq_uri
from course_lib.postgres.databases import Database, create, drop
from course_lib.postgres.marks import Mark
from course_lib.postgres.server import embedded_cluster
from course_lib.postgres.templates import verify_templates
from tests.postgres.conftest import course_home
from tests.postgres.places import count_databases


async def small(url: URL) -> None:
    """In the place of the recipe ``base``: pages enough to damage, built in no time."""
    with psycopg.connect(libpq_uri(url)) as connection:
        connection.execute("CREATE TABLE users AS SELECT id FROM generate_series(1, 8) AS id")
        connection.execute("ALTER TABLE users ADD CONSTRAINT pk_users PRIMARY KEY (id)")
        connection.execute("CREATE TABLE document_chunks AS SELECT repeat(n::text, 900) FROM generate_series(10, 60) n")


@pytest.fixture
def shared_home(shared_folder: Path) -> Iterator[Path]:
    """Without a used server's templates: these tests count them."""
    with course_home(shared_folder / "home") as path:
        yield path


@pytest.fixture(autouse=True)
def small_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fresh.RECIPES, "base", small)


async def template() -> Database:
    server = await find_server()
    async with server.connection() as connection:
        (found,) = [database for database in await list_databases(connection) if database.template]
    return found


async def file_of(relation: str) -> Path:
    """Where the template keeps a table or an index; copies keep the numbers of the files."""
    lesson = await open_lesson("02")
    ((place,),) = await lesson.sql(f"SELECT pg_relation_filepath('{relation}')")
    await lesson.close()
    server, name = await find_server(), (await template()).name
    async with server.connection() as connection:
        oid = await connection.fetchval("SELECT oid FROM pg_database WHERE datname = $1", name)
    return embedded_cluster().data / "base" / str(oid) / Path(str(place)).name


def remove(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    os.truncate(file, 0)


def overwrite(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"\7" * 4096)


@pytest.mark.parametrize("relation", ["users", "pk_users", "document_chunks", "pg_class", "pg_filenode.map"])
@pytest.mark.parametrize("damage", [remove, empty, overwrite], ids=lambda damage: damage.__name__)
@pytest.mark.soak(after=5)
async def test_a_damaged_template_is_made_anew(
    shared_home: Path, relation: str, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    if relation == "pk_users" and damage is overwrite:
        pytest.skip("one page of an index is not read when a lesson opens")
    file = await file_of("pg_class" if relation == "pg_filenode.map" else relation)
    damaged = await template()
    stop_embedded()
    damage(file.with_name(relation) if relation == "pg_filenode.map" else file)
    templates._read.clear()  # as in a new process
    capsys.readouterr()
    lesson = await open_lesson("02")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"The template {damaged.name} does not hold what was built, so it is made anew."
    assert list(await lesson.sql("SELECT count(*) FROM users")) == [(8,)]
    await lesson.close()
    assert count_databases(embedded_cluster(), "course\\_%") == 1
    assert (await template()).name != damaged.name


async def test_every_value_of_a_template_is_read_when_it_is_verified(shared_home: Path) -> None:
    assert await verify_templates(await find_server()) == []
    file, name = await file_of("document_chunks"), (await template()).name
    stop_embedded()
    with file.open("r+b") as opened:
        opened.seek(8192)
        opened.write(b"\7" * 8000)
    assert await verify_templates(await find_server()) == [name]
    assert count_databases(embedded_cluster(), "course\\_build\\_%") == 0


@pytest.mark.parametrize(
    ("victim", "statement"),
    [("postmaster", 1), ("backend", 2), ("backend", 3), ("postmaster", 4), ("backend", 5)],
)
@pytest.mark.soak(after=2)
async def test_a_server_that_goes_away_while_a_lesson_opens_is_tried_once_more(
    home: Path, monkeypatch: pytest.MonkeyPatch, victim: str, statement: int
) -> None:
    """The process of the server, or the one that serves us, is killed before each statement in turn."""
    await find_server()
    left, execute = [statement], asyncpg.Connection.execute

    async def counting(self: asyncpg.Connection, query: str, *args: object, **more: object) -> str:
        left[0] -= 1
        if left[0] == 0:
            process = embedded_cluster().process()
            assert process is not None
            os.kill(process.pid if victim == "postmaster" else self.get_server_pid(), signal.SIGKILL)
        return await execute(self, query, *args, **more)  # type: ignore[no-any-return]

    monkeypatch.setattr(asyncpg.Connection, "execute", counting)
    lesson = await open_lesson("02", "migrated")
    assert left[0] <= 0, "it was killed"
    assert list(await lesson.sql("SELECT count(*) FROM users")) == [(0,)]
    await lesson.close()


async def test_a_server_that_goes_away_again_and_again_is_a_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killing(self: asyncpg.Connection, query: str, *args: object, **more: object) -> str:
        process = embedded_cluster().process()
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)
        raise asyncpg.ConnectionDoesNotExistError("gone")

    await find_server()
    monkeypatch.setattr(server_module, "SETTLE_SECONDS", 1)
    monkeypatch.setattr(asyncpg.Connection, "execute", killing)
    with pytest.raises(CourseError):
        await open_lesson("02", "migrated")
    monkeypatch.undo()


async def test_a_build_that_keeps_failing_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses(url: object) -> None:
        raise asyncpg.InsufficientPrivilegeError("permission denied to build")

    monkeypatch.setitem(fresh.RECIPES, "migrated", refuses)
    with pytest.raises(CourseError, match="refused what a lesson needs: permission denied to build"):
        await open_lesson("02", "migrated")
    assert count_databases(embedded_cluster(), "%\\_%") == 0


async def test_a_template_of_another_version_of_the_course_is_not_called_damaged(home: Path) -> None:
    await (await open_lesson("02", "migrated")).close()
    server = await find_server()
    async with server.connection() as connection:
        name = f"course_template_migrated_{'0' * 12}"
        mark = Mark.of_this_process("template", "migrated", "0123456789ab", "f" * 32)
        await create(connection, name, "template0", mark, "IS_TEMPLATE true")
        assert await verify_templates(server) == []
        assert await drop(connection, name)
