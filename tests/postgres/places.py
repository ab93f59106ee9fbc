"""Folders, programs and servers for the tests of the disposable server: real ones, nothing stands in for a database."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg

from course_lib.postgres.binaries import (
    Account,
    copy_installation,
    program,
    reachable_installation,
    server_account,
    wheel_installation,
)
from course_lib.postgres.cluster import Cluster
from course_lib.postgres.marks import Mark
from course_lib.settings import REPOSITORY

OPEN = "import asyncio; from course_lib import open_lesson; lesson = asyncio.run(open_lesson('02', 'migrated'))"
"""A program that opens a lesson; the migrated recipe has no rows and is built fastest."""


def environment(home: Path | None, **more: str) -> dict[str, str]:
    """This process's environment, without what would lead to another server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "COURSE_", "DATABASE_URL"))}
    return kept | ({"COURSE_HOME": str(home)} if home else {}) | more


def start_python(home: Path | None, code: str, prefix: list[str] | None = None, **more: str) -> subprocess.Popen[str]:
    """Run ``code`` in a process of its own."""
    return subprocess.Popen(
        [*(prefix or []), sys.executable, "-c", code], cwd=REPOSITORY, env=environment(home, **more),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run_python(home: Path | None, code: str, prefix: list[str] | None = None, **more: str) -> str:
    """Run ``code`` to its end, which must be a good one. Returns what it printed."""
    process = start_python(home, code, prefix, **more)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    return out


def run_course(home: Path, *arguments: str, text: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run the ``course`` command."""
    return subprocess.run(
        [sys.executable, "-c", "from course_lib.cli import main; main()", *arguments], input=text,
        cwd=REPOSITORY, env=environment(home, **more), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def cluster_in(home: Path, account: Account | None = None) -> Cluster:
    """The embedded server of ``home``, as ``find_server`` would use it."""
    account = account or server_account()
    return Cluster(home / "postgres-18", reachable_installation(home, account), account)


def stop_all_below(folder: Path) -> None:
    """Stop the servers whose data lie somewhere below ``folder``; no others."""
    for data in folder.rglob("data"):
        if (data / "postmaster.pid").exists():
            Cluster(data.parent, wheel_installation()).stop()


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """The same while the event loop goes on."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.02)


def has_ended(process: psutil.Process) -> bool:
    """Gone, or a zombie that nobody has buried yet. It may go while we look."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def count_databases(cluster: Cluster, pattern: str) -> int:
    """How many databases have a name like ``pattern``."""
    with psycopg.connect(cluster.address().dsn, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE %s", (pattern,)).fetchone()
    assert row is not None
    return int(row[0])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def copy_of_installation(folder: Path, original: Path | None = None) -> Path:
    """An installation of PostgreSQL that a test may change: hard links, so replace files, never write into them."""
    original = original or wheel_installation()
    try:
        return copy_installation(original, folder, os.link)
    except OSError:  # the temp folder is on another disk
        shutil.rmtree(folder, ignore_errors=True)
        return copy_installation(original, folder)


class YourServer:
    """A server that somebody set up without the course: TCP on 127.0.0.1, passwords, an administrator ``admin``."""

    def __init__(
        self,
        folder: Path,
        installation: Path | None = None,
        initdb: list[str] | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        account, self.port = server_account(), free_port()
        self.cluster = Cluster(
            folder, installation or reachable_installation(folder, account), account,
            {"listen_addresses": "'127.0.0.1'", "port": str(self.port), **(settings or {})},
            "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\nlocal all all reject\n",
        )  # fmt: skip
        self.password = secrets.token_hex(8)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        data = self.cluster.data
        data.mkdir(mode=0o700)
        if account:
            os.chown(data, account.uid, account.gid)
        arguments = ["-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"]
        self.cluster.programs.run("initdb", [*arguments, *(initdb or [])])
        self.cluster._start_server()  # without what the course puts back on its own
        self.execute(f"CREATE ROLE admin SUPERUSER LOGIN PASSWORD '{self.password}'")

    def restart(self, **settings: str) -> None:
        """With other settings, as its administrator would."""
        self.cluster.stop()
        self.cluster.settings = {**self.cluster.settings, **settings}
        self.cluster._start_server()

    def url(self, user: str = "admin", password: str | None = None, database: str = "postgres", more: str = "") -> str:
        from urllib.parse import quote

        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}{more}"

    def dsn(self, database: str = "postgres") -> str:
        """For the tests themselves: the socket, without a password."""
        return f"host={self.cluster.folder / 'socket'} port={self.port} user=postgres dbname={database}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def psql(self, script: str) -> None:
        """Run what a person would type into psql, as the administrator."""
        psql = str(program(wheel_installation(), "psql"))
        subprocess.run([psql, "-q", "-v", "ON_ERROR_STOP=1", self.url()], input=script, text=True, check=True)

    def courses_databases(self) -> list[str]:
        """Names of the databases that look like the course's."""
        rows = self.contents()["databases"]
        return [str(row[0]) for row in rows if str(row[0]).startswith(("lesson_", "course_"))]

    def drop_courses_databases(self) -> None:
        """Drop them, so that the roles that own them can be dropped."""
        for name in self.courses_databases():
            self.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false', f'DROP DATABASE "{name}" WITH (FORCE)')

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        """Everything on the server that the course could change by mistake."""
        queries = {
            "databases": "SELECT datname, datdba::regrole::text, datistemplate, datallowconn, datconnlimit,"
            " datacl::text, shobj_description(oid, 'pg_database') FROM pg_database ORDER BY datname",
            "roles": "SELECT rolname, rolsuper, rolcreatedb, rolcanlogin, rolconnlimit, rolpassword FROM pg_authid"
            " ORDER BY rolname",
            "settings": "SELECT setdatabase, setrole, setconfig::text FROM pg_db_role_setting ORDER BY 1, 2",
        }
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            found = {name: connection.execute(query.encode()).fetchall() for name, query in queries.items()}
        for database in ("template1", "postgres", "shop"):
            if any(row[0] == database for row in found["databases"]):
                found[database] = self._inside(database)
        return found

    def _inside(self, database: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            query = (
                "SELECT relname, relkind::text FROM pg_class WHERE oid >= 16384 UNION ALL"
                " SELECT extname, extversion FROM pg_extension UNION ALL"
                " SELECT nspname, 'n' FROM pg_namespace ORDER BY 1"
            )
            rows: list[tuple[object, ...]] = list(connection.execute(query.encode()).fetchall())
            if database == "shop":
                rows += connection.execute("SELECT id, what FROM orders ORDER BY id").fetchall()
        return rows


def dead_process(home: Path | None, **more: str) -> Mark:
    """The mark of a process that used the course's folder ``home``, or the server of DATABASE_URL, and was killed."""
    code = """
import os
from course_lib.postgres.marks import Mark
print(Mark.of_this_process("lesson", "02"), flush=True)
os.kill(os.getpid(), 9)
"""
    process = start_python(home, code, **more)
    mark = Mark.parse(process.communicate(timeout=60)[0].strip())
    assert mark is not None
    return mark
