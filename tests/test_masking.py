"""No secret is shown: neither by the masking of text, nor by any command, nor by any object a learner may print."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import psutil
import pytest
import typer
from typer.testing import CliRunner

from course_lib.cli.app import app
from course_lib.errors import CourseError
from course_lib.lesson import open_lesson
from course_lib.llm import openai_client, openai_client_sync
from course_lib.masking import is_secret, masked, masked_code, public_address, short
from course_lib.postgres import find_server
from course_lib.settings import REPOSITORY, Settings, get_settings
from tests.postgres import conftest
from tests.postgres.places import YourServer

folder, home, shared_folder = conftest.folder, conftest.home, conftest.shared_folder
your_server, point_at = conftest.your_server, conftest.point_at

PointAt = Callable[[str], None]

MARK = "m4rk3d"
"""Stands in every secret below, with a number behind it that tells the place."""


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach postgresql://ada:m4rk3d@h/d, sorry",
        "http://m4rk3d@h/v1",
        "http://user:m4/rk3d?m4rk3d@h/v1",
        "postgresql://h/d?sslmode=require&password=m4rk3d&x=1",
        "sslpassword='m4 rk3d' host=h",
        'PGPASSWORD="m4rk3d"',
        "https://h/v1?api_key=m4rk3d&key=m4rk3d&token=m4rk3d#x",
        '{"api_key": "m4rk3d"}',
        "OPENAI_API_KEY: m4rk3d",
        "Incorrect API key provided: sk-proj-m4rk3d.",
        "Authorization: Bearer m4rk3d",
    ],
)
def test_text_is_masked(text: str) -> None:
    assert not {"m4rk3d", "rk3d"} & set(masked(text).replace("'", " ").replace("@", " ").split())
    assert "rk3d" not in masked(text)


@pytest.mark.parametrize(
    "text", ["http://localhost:11434/v1", "Key (id)=(3) exists", "127.0.0.1:5432 is no PostgreSQL"]
)
def test_text_without_a_secret_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    "code",
    [
        "create_async_engine('postgresql://ada:m4rk3d@h/d')",
        "connect('h', password='m4rk3d')",
        "connect('host=h password=m4rk3d')",
        'client = OpenAI(api_key="m4rk3d")',
        "\x1b[39mclient\x1b[39m(api_key\x1b[38;5;28m=\x1b[39m\x1b[38;5;124m'm4rk3d'\x1b[39m)",
        "headers={'Authorization': 'Bearer m4rk3dm4rk3d'}",
        "key = 'sk-proj-m4rk3d'",
    ],
)
def test_code_is_masked(code: str) -> None:
    assert "m4rk3d" not in masked_code(code)


@pytest.mark.parametrize(
    "code", ["sorted(rows, key=lambda row: row.id)", "tokens = count(text)", "max_tokens=100", "# a basic example"]
)
def test_code_without_a_secret_stays(code: str) -> None:
    assert masked_code(code) == code


def test_names_of_options_that_hold_secrets() -> None:
    assert all(map(is_secret, ["password", "sslpassword", "passfile", "api_key", "apikey", "key", "token", "secret"]))
    assert not any(map(is_secret, ["sslkey", "sslmode", "options", "keepalives", "host", "keyword"]))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:m4rk3d@localhost:11434/v1?key=m4rk3d#m4rk3d", "http://localhost:11434/v1"),
        ("https://[::1]:8000/sk-m4rk3d/v1", "https://[::1]:8000/sk-***/v1"),
        ("http://u:m4/rk3d@h/v1", "***"),
        ("m4rk3d", "***"),
    ],
)
def test_an_address_is_shown_without_account_and_query(url: str, shown: str) -> None:
    assert public_address(url) == shown


def test_long_text_is_cut() -> None:
    assert len(short("x" * 100_000)) == 60 and short("a\nb") == "a b"


RUN = {
    "bundle": ["--to", "notebooks"],
    "classroom create": [str(REPOSITORY / "tests/classroom/roster.csv"), "--name", "told"],
    "classroom board": ["--name", "told"], "classroom me": [], "classroom leave": [], "classroom join": [],
    "classroom check": ["--name", "told"], "classroom sizes": ["--name", "told"], "classroom up": [],
    "classroom remove": ["ada", "--name", "told", "--yes"], "classroom archive": ["--name", "told", "--yes"],
    "classroom destroy": ["--name", "told", "--yes"], "classroom down": [],
    "classroom export": ["--lessons", "00", "--to", "notebooks"],
    "check": ["00"], "db down": [], "db list": [], "db psql": [], "db renew": ["--yes"], "db up": [], "db url": [],
    "doctor": [], "drill": ["--list"], "interview": ["--sheet"],
    "hint": ["0.1"], "present": ["00", "--no-browser"], "progress": [], "reset": ["00"], "solution": ["0.1"],
    "update": [],
}  # fmt: skip
"""Every command, with arguments that let it do something."""

NOT_RUN = {
    "classroom hub": "writes passwords into a file of its own; tests/classroom/test_hub_files.py looks where they are",
    "classroom seat": "becomes a JupyterLab below a hub; tests/classroom/test_hub.py starts it",
    "bench": "measures for minutes", "exercises": "rewrites the repository's notebooks", "lab": "ends only by a signal",
    "lint": "reads no settings, and takes a minute", "notebooks": "rewrites the repository's notebooks",
    "serve": "ends only by a signal", "site": "reads no settings, and takes half a minute",
    "test": "runs this test", "worker": "ends only by a signal",
}  # fmt: skip


def commands(command: click.Command, prefix: str = "") -> Iterator[str]:
    """The names of all commands below ``command``: ``doctor``, ``db up``, …"""
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{prefix}{name} ") if hasattr(below, "commands") else [f"{prefix}{name}"]


def test_every_command_is_tried_for_secrets_or_has_a_reason() -> None:
    assert set(commands(typer.main.get_command(app))) == RUN.keys() | NOT_RUN.keys()


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """Variables with a secret in every place that is no database's."""
    return {
        "OPENAI_BASE_URL": f"http://{MARK}1:{MARK}2@127.0.0.1:9/v1?key={MARK}3",
        "OPENAI_API_KEY": f"sk-{MARK}4",
        "PGPASSWORD": f"{MARK}5",
        "COURSE_WORK": str(tmp_path / "work"),
    }


def addresses(server: YourServer) -> list[str]:
    """A good address with the password where it belongs, one with it behind the question mark, and bad ones."""
    place, word = f"127.0.0.1:{server.port}", f"{MARK}6"
    return [
        f"postgresql://marked:{word}@{place}/postgres",
        f"postgresql://{place}/postgres?user=marked&password={word}",
        f"postgresql://marked:{word}@127.0.0.1:1/postgres",
        f"postgresql://marked:{word}x@{place}/postgres",
        f"postgresql://marked:{word}@{place}/postgres?sslpassword={word}",
        f"postgresql://marked:{word}@{place}:{word}/postgres?token={word}",
        f"mysql://marked:{word}@{place}/postgres",
    ]


class Watch:
    """The command lines that are seen below this process while the block runs, as ``ps`` shows them to everybody."""

    def __enter__(self) -> Watch:
        self.seen: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                try:
                    self.seen.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def marked(your_server: YourServer) -> Iterator[YourServer]:
    """A server with a role whose password is marked."""
    your_server.execute(f"CREATE ROLE marked LOGIN SUPERUSER PASSWORD '{MARK}6'")
    your_server.execute("CREATE EXTENSION IF NOT EXISTS vector", database="template1")  # for a class
    yield your_server
    for name in your_server.contents()["databases"]:
        if str(name[0]).startswith("course_template"):
            your_server.execute(f'ALTER DATABASE "{name[0]}" IS_TEMPLATE false', f'DROP DATABASE "{name[0]}"')
    your_server.execute("DROP OWNED BY marked", "DROP ROLE marked")


def everything_said(command: str) -> str:
    """Both streams, and the whole traceback where a command ended in an error; psql takes the process's place."""
    arguments = [*command.split(), *RUN[command]]
    if command == "db psql":
        done = subprocess.run(
            [sys.executable, "-c", "from course_lib.cli import main; main()", *arguments], cwd=REPOSITORY,
            input="SELECT pg_sleep(.2);\n\\conninfo\n", capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.stdout + done.stderr
    result = CliRunner().invoke(app, arguments)
    return result.output + "".join(traceback.format_exception(result.exception))


def test_no_command_shows_a_secret(marked: YourServer, point_at: PointAt, secrets: dict[str, str]) -> None:
    good, behind, *bad = addresses(marked)
    runs = [(good, command) for command in RUN]
    runs += [(behind, command) for command in ("db list", "db psql", "db url", "doctor")]
    runs += [(address, "doctor") for address in bad]
    before = dict(os.environ)
    try:
        os.environ.update(secrets)
        with Watch() as watch:
            for address, command in runs:
                point_at(address)
                said = everything_said(command)
                assert said, command
                assert MARK not in said, command
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert any("psql" in line for line in watch.seen)
    assert not [line for line in watch.seen if MARK in line]


async def test_no_object_shows_a_secret(
    marked: YourServer, point_at: PointAt, monkeypatch: pytest.MonkeyPatch, secrets: dict[str, str]
) -> None:
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    for address in addresses(marked)[:2]:
        point_at(address)
        lesson = await open_lesson("02", "empty")
        settings = get_settings()
        objects = [settings, lesson, lesson.server, lesson.fresh, lesson.engine, lesson.url, lesson.sync_url]
        for thing in [*objects, lesson.session(), openai_client(), openai_client_sync()]:
            assert MARK not in f"{thing} {thing!r}"
        for thing in objects[:4]:
            assert MARK not in f"{vars(thing)}"
        assert MARK not in repr(lesson.dsn) and MARK in lesson.dsn
        assert MARK not in f"{settings.model_dump()} {settings.model_dump_json()} {openai_client().base_url}"
        await lesson.close()


async def test_no_error_shows_a_secret(your_server: YourServer, point_at: PointAt) -> None:
    for address in addresses(your_server)[2:]:
        point_at(address)
        with pytest.raises(CourseError) as caught:
            await find_server()
        assert MARK not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_BASE_URL", f"http://u:{MARK}/x@h/v1"),
        ("OPENAI_BASE_URL", MARK),
        ("OPENAI_API_KEY", f"sk-{MARK}\udcff"),
        ("OPENAI_API_KEY", f"sk-{MARK}\nx"),
    ],
)
@pytest.mark.parametrize("place", ["environment", "file"])
def test_no_setting_that_is_refused_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, place: str
) -> None:
    if place == "environment":
        monkeypatch.setenv(name, value)
    else:
        (tmp_path / ".env").write_text(f"{name}='{value}'\n", encoding="utf-8", errors="surrogateescape")
        monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    get_settings.cache_clear()
    with pytest.raises(CourseError) as caught:
        get_settings()
    get_settings.cache_clear()
    assert MARK not in "".join(traceback.format_exception(caught.value))
