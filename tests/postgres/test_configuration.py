"""The server's settings, roles and databases are the course's again at each start, whatever became of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from course_lib.lesson import open_lesson
from course_lib.postgres import find_server, stop_embedded
from course_lib.postgres.cluster import Cluster
from course_lib.postgres.server import embedded_cluster, forget_checked
from tests.postgres.conftest import course_home


@pytest.fixture
def home(used_home: Path) -> Path:
    """What is changed here has been used."""
    return used_home


def run(cluster: Cluster, *statements: str, database: str = "postgres") -> None:
    with psycopg.connect(cluster.address().dsn, dbname=database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def all_is_as_made(cluster: Cluster) -> bool:
    """Both databases let a role in that may everything, and nothing is set for them."""
    query = """
        SELECT current_setting('max_connections') || current_setting('port')
            || current_setting('default_transaction_read_only') || current_setting('statement_timeout'),
        (SELECT count(*) FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase
         WHERE s.setdatabase = 0 OR d.datname IN ('postgres', 'template1')),
        (SELECT rolsuper AND rolcreatedb AND rolconnlimit = -1 FROM pg_roles WHERE oid = 10),
        (SELECT string_agg(datname || datistemplate || datallowconn || datconnlimit, ' ' ORDER BY datname)
         FROM pg_database WHERE datname IN ('postgres', 'template1'))
    """
    found = []
    for database in ("postgres", "template1"):
        with psycopg.connect(cluster.address().dsn, dbname=database) as connection:
            found.append(connection.execute(query.encode()).fetchone())
    expected = ("2005432off0", 0, True, "postgresfalsetrue-1 template1truetrue-1")
    assert found == [expected, expected]
    return True


HURTS = {
    "read only": ["ALTER ROLE postgres SET default_transaction_read_only = on"],
    "all roles": ["ALTER ROLE ALL SET search_path = nowhere"],
    "short timeouts": ["ALTER ROLE postgres SET statement_timeout = 10", "ALTER ROLE postgres SET lock_timeout = 10"],
    "in one database": ["ALTER ROLE postgres IN DATABASE postgres SET statement_timeout = 1"],
    "of a database": ["ALTER DATABASE postgres SET client_encoding = 'LATIN1'"],
    "a library that is missing": ["ALTER ROLE postgres SET session_preload_libraries = 'missing'"],
    "no connection": ["ALTER ROLE postgres CONNECTION LIMIT 0", "ALTER DATABASE postgres CONNECTION LIMIT 0"],
    "fewer rights": ["ALTER ROLE postgres NOCREATEDB NOINHERIT"],
    "no login": ["ALTER ROLE postgres NOLOGIN"],
    "expired": ["ALTER ROLE postgres VALID UNTIL '2001-01-01'"],
    "preload": ["ALTER SYSTEM SET shared_preload_libraries = 'missing'"],
    "port": ["ALTER SYSTEM SET port = 1234"],
    "connections": ["ALTER SYSTEM SET max_connections = 1"],
    "standby": ["ALTER SYSTEM SET default_transaction_read_only = on"],
    "a trigger on login": [
        "DROP EVENT TRIGGER IF EXISTS no",
        "CREATE OR REPLACE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$",
        "CREATE EVENT TRIGGER no ON login EXECUTE FUNCTION no()",
    ],
}


@pytest.mark.parametrize("hurt", HURTS)
@pytest.mark.soak(after=5)
async def test_settings_that_hurt_do_not_outlive_a_start(shared_home: Path, hurt: str) -> None:
    await find_server()
    cluster = embedded_cluster()
    run(cluster, *HURTS[hurt])
    cluster.stop()
    assert cluster.ensure_running()
    assert all_is_as_made(cluster)


async def test_a_role_that_was_renamed_has_its_name_again(home: Path) -> None:
    await find_server()
    cluster = embedded_cluster()
    run(cluster, "CREATE ROLE other SUPERUSER LOGIN")
    with psycopg.connect(cluster.address().dsn, user="other", autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres RENAME TO boss")
        connection.execute("CREATE ROLE postgres LOGIN")
    cluster.stop()
    assert cluster.ensure_running()
    assert all_is_as_made(cluster)


MISSING = {
    "postgres renamed": (["ALTER DATABASE postgres RENAME TO mine"], "template1"),
    "postgres dropped": (["DROP DATABASE postgres"], "template1"),
    "postgres closed": (["ALTER DATABASE postgres ALLOW_CONNECTIONS false"], "template1"),
    "template1 dropped": (["ALTER DATABASE template1 IS_TEMPLATE false", "DROP DATABASE template1"], "postgres"),
    "template1 closed": (["ALTER DATABASE template1 ALLOW_CONNECTIONS false"], "postgres"),
}


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.soak(after=2)
async def test_databases_that_are_missing_come_back(home: Path, missing: str) -> None:
    lesson = await open_lesson("02", "migrated")
    cluster = embedded_cluster()
    statements, through = MISSING[missing]
    run(cluster, "CREATE TABLE mine (id int)")
    run(cluster, *statements, database=through)
    cluster.stop()
    assert cluster.ensure_running()
    assert all_is_as_made(cluster)
    if missing == "postgres renamed":
        run(cluster, "SELECT FROM mine")  # what was in it is in it again
    run(cluster, "SELECT FROM users", database=lesson.database)
    assert not (cluster.folder / "data.aside").exists()


@pytest.mark.parametrize("hurt", [*HURTS, *MISSING])
@pytest.mark.soak(after=8)
async def test_a_lesson_opens_on_a_server_that_was_hurt_and_still_runs(shared_home: Path, hurt: str) -> None:
    await find_server()
    cluster = embedded_cluster()
    statements, through = MISSING.get(hurt) or (HURTS[hurt], "postgres")
    run(cluster, *statements, database=through)
    forget_checked()
    lesson = await open_lesson("02", "migrated")
    await lesson.sql("UPDATE users SET name = 'Ada'")
    await lesson.close()
    cluster.stop()
    cluster.ensure_running()


def empty(path: Path) -> None:
    """As after a loss of power, for a file whose content had not been written yet."""
    os.truncate(path, 0)


def scribble(path: Path) -> None:
    path.write_bytes(b"\0garbage = '\xff\n")


@pytest.mark.parametrize("spoil", [empty, scribble, Path.unlink], ids=lambda spoil: spoil.__name__)
async def test_files_of_settings_that_were_spoiled(home: Path, spoil: Callable[[Path], None]) -> None:
    await find_server()
    cluster = embedded_cluster()
    run(cluster, "ALTER SYSTEM SET work_mem = '5MB'")
    cluster.stop()
    names = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"]
    for path in [*(cluster.data / name for name in names), *cluster.folder.glob("course*.conf")]:
        spoil(path)
    assert cluster.ensure_running()
    assert all_is_as_made(cluster)
    assert not (cluster.folder / "data.aside").exists(), "they are no part of the data"


async def test_links_in_the_place_of_files_are_not_followed(home: Path, folder: Path) -> None:
    """Neither in the course's own folder nor in that of the account which the server runs as."""
    await find_server()
    cluster = embedded_cluster()
    cluster.stop()
    precious = folder / "precious"
    precious.write_text("mine")
    places = [cluster.folder / name for name in ("course.conf", "course_hba.conf", "server.log", "alive", "reserve")]
    for place in [*places, cluster.data / "postgresql.auto.conf", cluster.data / "postmaster.pid"]:
        place.unlink(missing_ok=True)
        place.symlink_to(precious)
    shutil.rmtree(cluster.folder / "socket")
    (cluster.folder / "socket").symlink_to(folder)
    assert cluster.ensure_running()
    assert precious.read_text() == "mine"
    assert (cluster.folder / "socket").is_dir() and not (cluster.folder / "socket").is_symlink()


@pytest.mark.parametrize("name", ["tab\there", "a blank at the end ", "\x01", "back\\n", "not\udcffutf", "#;=,{}"])
@pytest.mark.soak(after=2)
async def test_folders_with_odd_names(folder: Path, name: str) -> None:
    with course_home(folder / name):
        server = await find_server()
        async with server.connection() as connection:
            assert await connection.fetchval("SELECT 6 * 7") == 42
        stop_embedded()
