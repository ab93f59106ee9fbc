"""Put the embedded server's own role and databases back as initdb made them, whatever was done to them by SQL.

Its role ``postgres``, its databases ``postgres`` and ``template1`` are the course's way in. Databases of lessons and
other roles keep what they have.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.postgres.address import Address

HOME, TEMPLATE = "postgres", "template1"
CONNECT_SECONDS = 5
PLAIN = " ".join(
    f"-c {setting}"
    for setting in (
        "default_transaction_read_only=off", "statement_timeout=0", "lock_timeout=5s", "transaction_timeout=0",
        "idle_session_timeout=0", "search_path=pg_catalog", "session_preload_libraries=", "local_preload_libraries=",
        "event_triggers=off", "role=none", "allow_system_table_mods=on", "session_replication_role=origin",
    )
)  # fmt: skip
"""Options of a connection that win over what was set for the role, the database or the server."""

CHANGED = """
    SELECT EXISTS (SELECT FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase
                   WHERE (s.setdatabase = 0 AND s.setrole IN (0, 10)) OR d.datname IN ('postgres', 'template1'))
        OR (SELECT count(*) <> 1 FROM pg_roles WHERE oid = 10 AND rolname = 'postgres' AND rolsuper AND rolcanlogin
            AND rolinherit AND rolcreaterole AND rolcreatedb AND rolreplication AND rolbypassrls
            AND rolconnlimit = -1 AND coalesce(rolvaliduntil, 'infinity') = 'infinity')
        OR (SELECT count(*) <> 2 FROM pg_database WHERE datallowconn AND datconnlimit = -1
            AND datistemplate = (datname = 'template1') AND datname IN ('postgres', 'template1'))
        OR EXISTS (SELECT FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.auto.conf')
"""
LOST_FILES = """
    SELECT count(*), (SELECT count(*) FROM pg_event_trigger WHERE evtevent = 'login' AND evtenabled <> 'D')
    FROM pg_class WHERE oid < 16384 AND relkind IN ('r', 'i', 't') AND relpages > 0
    AND coalesce(pg_relation_size(oid), 0) = 0
"""
"""Tables and indexes of the catalogue that PostgreSQL counted pages of, and whose files are missing or empty; and
triggers that run when somebody logs in."""
LOGIN_FREE = """
    DO $$ DECLARE name text; BEGIN
      FOR name IN SELECT evtname FROM pg_event_trigger WHERE evtevent = 'login' LOOP
        EXECUTE format('ALTER EVENT TRIGGER %I DISABLE', name);
      END LOOP;
    END $$
"""

ROLE_BACK = """
    DO $$ DECLARE name text; BEGIN
      SELECT rolname INTO name FROM pg_roles WHERE oid = 10;
      IF name <> 'postgres' THEN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'postgres') THEN
          ALTER ROLE postgres RENAME TO postgres_renamed;
        END IF;
        UPDATE pg_authid SET rolname = 'postgres' WHERE oid = 10;
      END IF;
      ALTER ROLE postgres WITH SUPERUSER LOGIN INHERIT CREATEROLE CREATEDB REPLICATION BYPASSRLS CONNECTION LIMIT -1
        VALID UNTIL 'infinity';
      ALTER ROLE postgres RESET ALL;
      ALTER ROLE ALL RESET ALL;
    END $$
"""
DATABASES_BACK = """
    DO $$ DECLARE name text; setting record; BEGIN
      FOR name IN SELECT datname FROM pg_database WHERE
          (oid = 5 AND datname <> 'postgres' AND NOT EXISTS (SELECT FROM pg_database WHERE datname = 'postgres')) LOOP
        EXECUTE format('ALTER DATABASE %I RENAME TO postgres', name);
      END LOOP;
      FOR name IN SELECT datname FROM pg_database WHERE
          (oid = 1 AND datname <> 'template1' AND NOT EXISTS (SELECT FROM pg_database WHERE datname = 'template1')) LOOP
        EXECUTE format('ALTER DATABASE %I RENAME TO template1', name);
      END LOOP;
      FOR name IN SELECT datname FROM pg_database WHERE datname IN ('postgres', 'template1') LOOP
        EXECUTE format('ALTER DATABASE %I WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1 IS_TEMPLATE %s',
                       name, (name = 'template1')::text);
        EXECUTE format('ALTER DATABASE %I RESET ALL', name);
        FOR setting IN SELECT rolname FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
            JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = name LOOP
          EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', setting.rolname, name);
        END LOOP;
      END LOOP;
    END $$
"""
SINGLE_USER = [
    "SET default_transaction_read_only = off",
    "SET search_path = pg_catalog",
    "SET allow_system_table_mods = on",  # ALTER ROLE does not rename the role that runs it
    ROLE_BACK,
    DATABASES_BACK,
]  # fmt: skip
"""What a server that lets nobody in needs first, one command a line."""

DAMAGED = ("XX", "58", "3D")
"""Classes of SQLSTATE of a catalogue that cannot be read: internal errors, files, databases that are not there."""
REFUSAL = re.compile(r"PANIC: |could not open|does not exist|not permitted to log in|not currently accepting")
"""What a server says that will say the same a moment later. Its SQLSTATE is not to be had of a refused connection."""

Connection = psycopg.Connection[Any]


def restore_defaults(address: Address) -> None:
    """Look at both ways in, and put back what was changed. It costs two connections when nothing was.

    The template is looked at first: a database cannot be copied while somebody is connected, or has been just now.

    Raises:
        psycopg.Error: nobody is let in, or the catalogue cannot be read or restored.
    """
    closed = [] if _is_open(address, TEMPLATE) else [TEMPLATE]
    try:
        connection = (_enter_patiently if closed else _enter)(address, HOME)
    except psycopg.Error:
        connection, closed = _enter_patiently(address, TEMPLATE), [HOME]
    usable = connection.info.dbname
    with connection:
        if not closed and connection.execute(CHANGED).fetchone() == (False,):
            return
        connection.execute(ROLE_BACK)
        connection.execute(DATABASES_BACK)
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("SELECT pg_reload_conf()")
    for name in closed:
        if not _is_open(address, name):
            with _enter_patiently(address, usable) as connection:
                _make_anew(connection, name)
            _enter_patiently(address, name).close()


def _is_open(address: Address, database: str) -> bool:
    try:
        _enter(address, database).close()
    except psycopg.Error:
        return False
    return True


def _enter_patiently(address: Address, database: str) -> Connection:
    """The same, where the server may be recovering: a database without its catalogue takes all backends down."""
    for wait in (0.05, 0.1, 0.2, 0.4, 1.25):
        try:
            return _enter(address, database)
        except psycopg.Error as error:
            if (error.sqlstate or "").startswith(DAMAGED) or REFUSAL.search(str(error)):
                raise
            time.sleep(wait)
    return _enter(address, database)


def _enter(address: Address, database: str) -> Connection:
    """A connection to a database whose catalogue is whole.

    Raises:
        psycopg.Error: there is none to be had.
    """
    connection = psycopg.connect(
        address.dsn, dbname=database, autocommit=True, connect_timeout=CONNECT_SECONDS, options=PLAIN
    )
    try:
        lost, triggers = connection.execute(LOST_FILES).fetchone() or (1, 0)
        if lost:
            raise psycopg.errors.DataCorrupted(f"files of database {database} are lost")
        if triggers:
            connection.execute(LOGIN_FREE)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_anew(connection: Connection, name: str) -> None:
    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
        connection.execute(f"ALTER DATABASE {name} IS_TEMPLATE false".encode())
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    template = str(name == "template1").lower()
    connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 IS_TEMPLATE {template}".encode())


def not_restored(error: psycopg.Error) -> CourseError:
    """The sentence for a server that lets us in and does not let us put things back."""
    return CourseError(
        f"The role and the databases of the course's server could not be put back ({error.sqlstate}: {error}).",
        f"Run: {command('db renew')}",
    )


def enter_alone(single_user: Callable[[str, Sequence[str]], None], failed: type[Exception]) -> None:
    """Let the role in again through PostgreSQL's single-user mode, by whichever database can be entered.

    Args:
        single_user: runs statements in a database of the stopped server.
        failed: what it raises when the database cannot be entered.

    Raises:
        Exception: ``failed``, when none can.
    """
    for name in (HOME, TEMPLATE, "template0"):
        try:
            single_user(name, SINGLE_USER)
        except failed:
            if name == "template0":
                raise
        else:
            return
