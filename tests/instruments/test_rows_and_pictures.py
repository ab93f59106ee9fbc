"""Rows read well in a notebook and in a terminal; pictures are drawn from what is there, and say so in words."""

from __future__ import annotations

import re
from html import unescape

import pytest
from sqlalchemy import URL, Table, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from wcwidth import wcswidth

from course_lib.instruments import Rows, bars, distance_lanes, draw_schema, page_walk, read_schema, spans
from course_lib.models import Base, User


def rows(*values: object) -> Rows:
    return Rows(["id", "title"], [(number, value) for number, value in enumerate(values)])


def test_rows_are_a_sequence_of_tuples() -> None:
    found = rows("Lamp", "Horn")
    assert found[0] == (0, "Lamp")
    assert found[-1:] == [(1, "Horn")]
    assert [title for _, title in found] == found.column("title") == ["Lamp", "Horn"]
    assert len(found) == 2
    assert not Rows(["id"], [])


def test_text_and_html_say_the_same() -> None:
    found = rows("Lamp & Lens", None, "<b>not markup</b>")
    html = unescape(re.sub(r"<[^>]+>", " ", found._repr_html_()))
    for words in ("id", "title", "Lamp & Lens", "NULL", "<b>not markup</b>", "3 rows"):
        assert words in str(found)
        assert words in html
    assert "<b>not" not in found._repr_html_()


def test_numbers_stand_to_the_right_and_texts_to_the_left() -> None:
    lines = str(Rows(["n", "t"], [(1, "a"), (1000, "bbb")])).splitlines()
    assert lines[2] == "   1  a"
    assert lines[3] == "1000  bbb"


PASSAGE = "Dinghy hire can be cancelled without cost until two hours before it begins. " * 5


def test_a_few_passages_are_shown_whole() -> None:
    found = rows(*[PASSAGE] * 3)
    assert " ".join(PASSAGE.split()) in found._repr_html_()
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 70
    assert " ".join(" ".join(lines).split()).count("until two hours before it begins.") == 15
    assert lines.count("") == 2, "a line of air between rows of several lines"


def test_many_passages_fit_a_screen_and_say_what_is_left_out() -> None:
    found = rows(*[PASSAGE] * 25)
    assert str(found).count("…") == found._repr_html_().count("…") == 20
    assert len(str(found).splitlines()) == 23
    assert "25 rows, 5 not shown" in str(found)
    assert len(str(rows(PASSAGE * 50)).splitlines()) < 20


def test_what_nobody_reads_is_cut_after_a_line() -> None:
    for value in (f"[{','.join(['0.125'] * 256)}]", "x" * 500, [0.5] * 500):
        text = str(rows(value))
        assert len(text.splitlines()) == 4
        assert "…" in text
        assert max(map(len, text.splitlines())) <= 64


def test_columns_stand_below_each_other_where_letters_are_wide() -> None:
    names = ["Ada", "王小明", "😀 ok", "e\u0301te\u0301"]
    lines = str(Rows(["name", "n"], [(name, 1) for name in names])).splitlines()[2:-1]
    assert [wcswidth(line) for line in lines] == [9] * 4
    japanese = str(rows("電子郵件地址必須是唯一的，因為它是登錄名。" * 5)).splitlines()
    assert len(japanese) == 7
    assert max(map(wcswidth, japanese)) <= 64
    assert (
        "電子郵件地址必須是唯一的，因為它是登錄名。" * 5
        in rows("電子郵件地址必須是唯一的，因為它是登錄名。" * 5)._repr_html_()
    )


async def test_json_and_arrays_are_shown_as_the_server_has_them(engine: AsyncEngine) -> None:
    statement = text("""SELECT '{"a": null, "ok": true, "é": [1]}'::jsonb AS payload, ARRAY['x', 'y'] AS tags""")
    async with engine.connect() as connection:
        found = Rows.of(await connection.execute(statement))
    assert '{"a": null, "ok": true, "é": [1]}  ["x", "y"]' in str(found)
    assert found[0] == ({"a": None, "ok": True, "é": [1]}, ["x", "y"]), "what is handed out stays Python"


async def test_a_statement_that_returns_nothing_says_what_it_touched(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        changed = Rows.of(await connection.execute(text("UPDATE users SET tier = 'pro'")))
        made = Rows.of(await connection.execute(text("CREATE TABLE notes (id int)")))
    assert str(changed) == "8 rows touched"
    assert str(made) == "done"


async def test_the_schema_is_read_from_the_running_server(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE notes (id int PRIMARY KEY, user_id uuid REFERENCES users)"))
    tables = await read_schema(engine)
    assert "notes" in tables
    assert "alembic_version" not in tables
    picture = draw_schema(tables)
    assert f"{len(Base.metadata.tables) + 1} tables" in str(picture)
    assert "notes.user_id refers to users" in str(picture)
    assert picture.png().startswith(b"\x89PNG")


async def test_tables_that_refer_to_themselves_or_in_a_circle_can_be_drawn(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE parts (id int PRIMARY KEY, part_of int REFERENCES parts)"))
        await connection.execute(text("CREATE TABLE hens (id int PRIMARY KEY)"))
        await connection.execute(text("CREATE TABLE eggs (id int PRIMARY KEY, hen_id int REFERENCES hens)"))
        await connection.execute(text("ALTER TABLE hens ADD egg_id int REFERENCES eggs"))
    words = str(draw_schema(await read_schema(engine)))
    for key in ("parts.part_of refers to parts", "eggs.hen_id refers to hens", "hens.egg_id refers to eggs"):
        assert key in words


OTHERS = (
    "CREATE SCHEMA auth",
    "CREATE TABLE auth.accounts (id int PRIMARY KEY)",
    "CREATE TYPE mood AS ENUM ('glad', 'sad')",
    "CREATE TYPE auth.level AS ENUM ('low')",
    "CREATE DOMAIN address AS text CHECK (value ~ '@')",
    """CREATE TABLE notes (id int PRIMARY KEY, account_id int REFERENCES auth.accounts, feeling mood, felt mood[],
                           level auth.level, mail address, at timestamp, place point)""",
    """CREATE TABLE events (id int, at timestamptz, note_id int REFERENCES notes, PRIMARY KEY (id, at))
       PARTITION BY RANGE (at)""",
    "CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    """CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
       PARTITION BY LIST (id)""",
    "CREATE TABLE events_2026_1 PARTITION OF events_2026 FOR VALUES IN (1)",
    "CREATE TABLE marks (event_id int, at timestamptz, FOREIGN KEY (event_id, at) REFERENCES events)",
)


async def made_of_others(engine: AsyncEngine) -> dict[str, Table]:
    """A schema of what the course's own does not have."""
    async with engine.begin() as connection:
        for statement in OTHERS:
            await connection.execute(text(statement))
    return {name: table for name, table in (await read_schema(engine)).items() if name in ("notes", "events", "marks")}


async def test_a_key_into_another_schema_is_told_and_draws_no_arrow(engine: AsyncEngine) -> None:
    tables = await made_of_others(engine)
    picture = draw_schema({"notes": tables["notes"]})
    assert str(picture) == "1 table: notes.account_id refers to auth.accounts, which is not drawn"
    drawn = [written.get_text() for written in picture.axes[0].texts]
    assert "→ auth.accounts" in drawn


async def test_types_have_the_names_that_postgresql_gives_them(engine: AsyncEngine) -> None:
    picture = draw_schema({"notes": (await made_of_others(engine))["notes"]})
    drawn = [written.get_text() for written in picture.axes[0].texts if written.get_ha() == "right"]
    assert drawn == ["integer", "→ auth.accounts", "mood", "mood[]", "auth.level", "address", "timestamp", ""]


async def test_a_partitioned_table_is_one_table_that_says_so(engine: AsyncEngine) -> None:
    tables = await made_of_others(engine)
    assert sorted(tables) == ["events", "marks", "notes"]
    words = str(draw_schema(tables))
    assert "marks.event_id refers to events; " in words
    assert "events_2025" not in words
    assert words.endswith("events has 2 partitions by RANGE (at)")
    assert {"events_2025", "events_2026", "events_2026_1", "accounts"}.isdisjoint(await read_schema(engine))


async def test_some_of_the_tables_and_none_of_them_can_be_drawn(engine: AsyncEngine, empty_url: URL) -> None:
    tables = await read_schema(engine)
    some = draw_schema({name: tables[name] for name in ("messages", "users")})
    assert str(some) == "2 tables: messages.conversation_id refers to conversations, which is not drawn"
    empty = create_async_engine(empty_url)
    nothing = draw_schema(await read_schema(empty))
    await empty.dispose()
    assert str(nothing) == "no tables"
    for picture in (some, nothing, draw_schema(User.metadata.tables)):
        assert picture.png().startswith(b"\x89PNG")


def test_charts_say_in_words_what_they_draw() -> None:
    assert str(bars({"COPY": 70_000, "add_all": 12_000}, "Rows", unit="rows/s")) == (
        "Rows: COPY 70,000 rows/s; add_all 12,000 rows/s"
    )
    assert "one by one 3.0 s" in str(spans({"one by one": [[("wait", 1.0, 2.0), ("query", 2.0, 4.0)]]}, "Requests"))
    walk = page_walk([[1, 2], [2, 4]], range(1, 5), "Pages")
    assert "2" in str(walk) and "3" in str(walk), "what came twice and what never came"
    for picture in (walk, bars({"nothing": 0}, "Empty")):
        assert picture.png().startswith(b"\x89PNG")


@pytest.mark.parametrize("asker", ["Ada", "Bruno"])
def test_the_lanes_name_the_nearest_and_the_askers_own_nearest(asker: str) -> None:
    picture = distance_lanes([("Ada", 0.2), ("Ada", 0.9), ("Bruno", 0.5)], asker=asker)
    assert "nearest is a passage of Ada, at 0.20" in str(picture)
    assert ("Bruno's own is at 0.50" in str(picture)) == (asker == "Bruno")
    assert picture.png().startswith(b"\x89PNG")
