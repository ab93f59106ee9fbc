"""The course never harms what it did not make, whatever that is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from course_lib.errors import CourseError
from course_lib.lesson import open_lesson
from course_lib.postgres import drop, ensure_template, find_server, list_databases, sweep
from course_lib.postgres.databases import BIRTHMARK
from course_lib.postgres.marks import COURSE, Mark
from course_lib.postgres.templates import KEPT
from course_lib.settings import get_settings
from tests.postgres.places import YourServer, dead_process, names_in, run_course

DEAD = 4194303
PointAt = Callable[[str], None]


def foreign_databases(own: Mark) -> dict[str, tuple[str | None, int]]:
    """Databases that look like the course's and are not, or that are and must stay: name → comment, limit."""
    ours = asdict(own) | {"pid": DEAD}
    return {
        "lesson_02_123_deadbeef": (None, -1),  # our shape of name, nothing else
        "course_template_base_x": (None, -1),
        "course_template_base_0123456789ab": (None, -1),
        "course_build_4194303_deadbeef": (None, -1),
        "birthmark_only": (None, BIRTHMARK),
        "lesson_02_4194303_deadbeef\n": (None, BIRTHMARK),
        "Lesson_02_4194303_deadbeef": (None, BIRTHMARK),
        "lesson_02_5_deadbee1": ("the shop's, do not touch", BIRTHMARK),
        "lesson_02_5_deadbee2": (json.dumps({"owner": "shop", "pid": DEAD}), BIRTHMARK),
        "lesson_02_5_deadbee3": (json.dumps(ours | {"course": "another course"}), BIRTHMARK),
        "lesson_02_5_deadbee4": (json.dumps([COURSE, DEAD]), -1),
        "lesson_02_5_deadbee5": (json.dumps(COURSE), -1),
        "lesson_02_5_deadbee6": (json.dumps(ours | {"pid": "many"}), -1),
        "lesson_02_5_deadbee7": (json.dumps(ours | {"more": 1}), -1),
        "lesson_02_5_deadbee8": ("3", -1),
        "lesson_02_5_deadbee9": ("[" * 200_000, -1),
        "lesson_02_5_deadbeea": (json.dumps(ours | {"pid": -1}), -1),
        "lesson_02_5_deadbeeb": (json.dumps(ours | {"pid": True}), -1),
        "lesson_02_5_deadbeec": (json.dumps(ours | {"host": 5}), -1),
        "lesson_02_5_deadbeed": (json.dumps(ours | {"subject": ["02"]}), -1),
        "lesson_02_5_deadbeee": (json.dumps(ours | {"pid": float("nan")}), -1),
        "lesson_02_5_deadbeef": (json.dumps(ours | {"life": "../../etc"}), -1),
        "lesson_02_5_deadbef0": (json.dumps(ours | {"pid": 10**30}), -1),
        "lesson_02_5_deadbef1": (json.dumps(ours | {"subject": "\u202e02"}), -1),
    }


def living_databases(own: Mark) -> dict[str, tuple[str | None, int]]:
    """Databases with the course's mark that only their maker or time may end."""
    mark = asdict(own)
    return {
        f"lesson_02_{own.pid}_00000001": (json.dumps(mark), BIRTHMARK),
        f"lesson_02_{DEAD}_00000002": (json.dumps(mark | {"pid": DEAD, "host": "another-laptop"}), BIRTHMARK),
        f"lesson_02_{DEAD}_00000003": (json.dumps(mark | {"pid": DEAD, "life": "0123abcd"}), BIRTHMARK),
        f"lesson_02_{DEAD}_00000004": (json.dumps(mark | {"pid": DEAD, "kind": "classroom"}), -1),
        f"lesson_02_{DEAD}_00000005": (json.dumps(mark | {"pid": DEAD, "kind": "template"}), -1),
    }


def create_all(server: YourServer, databases: dict[str, tuple[str | None, int]], owner: str = "postgres") -> None:
    for name, (comment, limit) in databases.items():
        server.execute(f'CREATE DATABASE "{name}" OWNER {owner} CONNECTION LIMIT {limit}')
        if comment is not None:
            literal = comment.replace("'", "''")
            server.execute(f"COMMENT ON DATABASE \"{name}\" IS '{literal}'")


@pytest.fixture
def crowded(your_server: YourServer, point_at: PointAt) -> YourServer:
    """A server full of databases that must survive."""
    point_at(your_server.url())
    own = Mark.of_this_process("lesson", "02")
    present = {str(row[0]) for row in your_server.contents()["databases"]}
    wanted = foreign_databases(own)
    create_all(your_server, {name: value for name, value in wanted.items() if name not in present})
    return your_server


def without_ours(contents: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """Leave out what the course may change: its own templates."""

    def foreign(row: tuple[object, ...]) -> bool:
        return Mark.parse(str(row[6])) is None

    return contents | {"databases": [row for row in contents["databases"] if foreign(row)]}


async def test_every_command_leaves_every_other_database_alone(crowded: YourServer, home: Path) -> None:
    before = without_ours(crowded.contents())
    url = crowded.url(database="shop")
    lesson = await open_lesson("02", "migrated")
    await (await open_lesson("02", "migrated")).close()
    assert lesson.server.version
    for arguments, code in {
        ("db", "up"): 0, ("db", "list"): 0, ("db", "url"): 0, ("db", "down"): 1, ("db", "psql"): 0, ("doctor",): 0,
    }.items():  # fmt: skip
        done = run_course(home, *arguments, DATABASE_URL=url)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert crowded.password not in done.stdout + done.stderr
    assert crowded.cluster.process() is not None, "and the server runs on"
    assert without_ours(crowded.contents()) == before


async def test_down_refuses_to_stop_a_server_it_did_not_start(crowded: YourServer, home: Path) -> None:
    done = run_course(home, "db", "down", DATABASE_URL=crowded.url())
    assert done.returncode == 1
    assert "the course does not stop it" in done.stderr and "unset DATABASE_URL" in done.stderr
    assert crowded.cluster.process() is not None


async def test_sweep_takes_only_what_is_surely_dead_and_ours(your_server: YourServer, point_at: PointAt) -> None:
    point_at(your_server.url())
    server = await find_server()
    own = Mark.of_this_process("lesson", "02")
    living = living_databases(own)
    gone = dead_process(get_settings().home, DATABASE_URL=your_server.url())
    dead = f"lesson_02_{gone.pid}_{gone.life[:4]}0000"
    newborn = f"lesson_02_{gone.pid}_{gone.life[:4]}0001"
    create_all(your_server, {**living, dead: (str(gone), -1), newborn: (None, BIRTHMARK)}, owner="admin")
    create_all(your_server, {"of_another_owner": (str(gone), -1), "renamed": (str(gone), BIRTHMARK)})
    your_server.execute("ALTER DATABASE renamed OWNER TO admin")
    async with server.connection() as connection:
        listed = {database.name for database in await list_databases(connection)}
        assert {*living, dead, newborn, "renamed"} <= listed and "of_another_owner" not in listed
        assert await sweep(connection) == [dead, newborn]
        left = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        assert living.keys() | {"of_another_owner", "renamed"} <= left and not {dead, newborn} & left
    your_server.execute(*(f'DROP DATABASE "{name}"' for name in [*living, "of_another_owner", "renamed"]))


async def test_drop_refuses_what_is_not_marked(crowded: YourServer) -> None:
    server = await find_server()
    async with server.connection() as connection:
        names = [row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")]
        marked = {database.name for database in await list_databases(connection)}
        foreign = [name for name in names if name not in marked]
        assert {"postgres", "template1", "shop", "lesson_02_123_deadbeef", "birthmark_only"} <= set(foreign)
        for name in foreign:
            with pytest.raises(CourseError, match="was not made by the course"):
                await drop(connection, name)
        assert not await drop(connection, "never_was")
        assert [row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")] == names


async def test_only_the_oldest_of_the_courses_templates_are_pruned(crowded: YourServer) -> None:
    crowded.execute("CREATE DATABASE shop_template IS_TEMPLATE true")
    server = await find_server()

    async def nothing(url: object) -> None:
        return

    async with server.connection() as connection:
        names = [
            (await ensure_template(server, connection, "tiny", f"{number:012x}", nothing)).name
            for number in range(KEPT + 2)
        ]
        templates = await connection.fetch("SELECT datname FROM pg_database WHERE datistemplate ORDER BY oid")
        left = [row["datname"] for row in templates]
        assert left[-KEPT:] == names[-KEPT:]
        assert not set(names[:2]) & set(left)
        assert {"template1", "shop_template"} <= set(left)
        for name in names[2:]:
            await drop(connection, name)
    crowded.execute("ALTER DATABASE shop_template IS_TEMPLATE false", "DROP DATABASE shop_template")


async def test_a_foreign_process_keeps_its_files_and_modes(folder: Path, home: Path) -> None:
    """Nothing around the course's own folder is touched."""
    neighbour = folder / "neighbour"
    neighbour.mkdir(mode=0o700)
    (neighbour / "note").write_text("mine")
    before = {path: (path.lstat().st_mode, path.lstat().st_uid) for path in (folder, neighbour, neighbour / "note")}
    lesson = await open_lesson("02", "migrated")
    await lesson.close()
    assert before == {path: (path.lstat().st_mode, path.lstat().st_uid) for path in before}
    assert names_in(folder) == ["home", "neighbour"]
    assert {name for name in names_in(home) if not name.startswith("postgresql-")} == {
        "postgres-18",
    }  # fmt: skip
