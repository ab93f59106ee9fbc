"""Rows read well in a notebook and in a terminal; pictures are drawn from what is there, and say so in words."""

from __future__ import annotations

import re
from html import unescape

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments import Rows, bars, distance_lanes, draw_schema, page_walk, read_schema, spans


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


def test_long_texts_and_long_tables_are_cut_and_say_so() -> None:
    found = rows(*["x" * 500] * 25)
    assert "x" * 100 not in str(found)
    assert "…" in str(found)
    assert "25 rows, 5 not shown" in str(found)


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
    assert "8 tables" in str(picture)
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
