"""Text and HTML of a log say the same thing, the same in every run."""

from __future__ import annotations

import html
import re

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import selectinload

from course_lib.instruments import QueryLog
from course_lib.instruments.query_log.rendering import longest_cycle
from course_lib.models import Conversation, User

Sessions = async_sessionmaker[AsyncSession]


async def n_plus_one(engine: AsyncEngine, sessions: Sessions) -> QueryLog:
    with QueryLog(engine) as log:
        async with sessions() as session:
            for conversation in await session.scalars(select(Conversation).order_by(Conversation.id).limit(5)):
                await conversation.awaitable_attrs.messages
    return log


async def many_transactions(engine: AsyncEngine, sessions: Sessions) -> QueryLog:
    with QueryLog(engine) as log:
        for number in range(4):
            async with sessions.begin() as session:
                session.add(User(email=f"{id(log)}-{number}@example.org", name="New"))
    return log


def facts(markup: str) -> list[str]:
    """The texts of an HTML rendering, in order."""
    return [html.unescape(part).strip() for part in re.split(r"<[^>]*>", markup) if part.strip()]


def squeezed(rendered: str) -> str:
    return re.sub(r"[\s┌│└]", "", rendered)


async def test_an_n_plus_one_reads_like_this(engine: AsyncEngine, sessions: Sessions) -> None:
    log = await n_plus_one(engine, sessions)
    rows = log.statements[0].rows, log.rows - 5
    lines = re.sub(r"tests/instruments/test_log_rendering.py:\d+", "LINE", str(log)).splitlines()
    assert lines[0] == f"6 statements, 1 transaction, {log.rows} rows"
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "BEGIN",
        f"SELECT … 5 columns … FROM conversations ORDER BY conversations.id LIMIT $1 {rows[0]} rows LINE",
        "5 × SELECT … 9 columns … FROM messages WHERE $1 = messages.conversation_id ORDER BY messages.seq "
        f"{rows[1]} rows LINE",
        "ROLLBACK LINE",
        "One statement was issued 5 times from the same line: that is an N+1.",
    ]


async def test_two_runs_render_alike(engine: AsyncEngine, sessions: Sessions) -> None:
    for scene in (n_plus_one, many_transactions):
        first, second = await scene(engine, sessions), await scene(engine, sessions)
        assert str(first) == str(second)
        assert first._repr_html_() == second._repr_html_()


async def test_html_and_text_tell_the_same_facts(engine: AsyncEngine, sessions: Sessions) -> None:
    for scene in (n_plus_one, many_transactions):
        log = await scene(engine, sessions)
        assert repr(log) == str(log)
        assert squeezed("".join(facts(log._repr_html_()))) == squeezed(str(log))


async def test_what_a_loop_does_in_turn_is_one_group(engine: AsyncEngine, sessions: Sessions) -> None:
    log = await many_transactions(engine, sessions)
    lines = str(log).splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["4", "×", "┌", "BEGIN"]
    assert 'rowspan="3"' in log._repr_html_()


async def test_many_rows_at_once_are_not_counted_as_one_more_single_row(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            for batch in (1, 1, 1, 6):
                people = [{"email": f"{batch}{len(log)}{n}@example.org", "name": "New"} for n in range(batch)]
                await connection.execute(insert(User).values(people))
    shown = [" ".join(line.split()[:-1]) for line in str(log).splitlines()[2:4]]
    assert shown == [
        "3 × INSERT INTO users (email, name) VALUES ($1, $2) 3 rows",
        "INSERT INTO users (email, name) VALUES (… ×6) 6 rows",
    ]


async def test_sql_is_escaped_in_html(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 < 2 AND '<script>' <> '&amp;'"))
    assert "<script>" not in log._repr_html_()
    assert "SELECT 1 < 2 AND '<script>' <> '&amp;'" in facts(log._repr_html_())


async def test_a_long_log_is_cut_in_the_middle(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            for number in range(60):
                await connection.execute(text(f"SELECT {number} AS column_{number}"))
    lines = str(log).splitlines()
    assert len(lines) <= 22
    [cut] = [line for line in lines if "⋮" in line]
    shown = len(lines) - 2  # neither the headline nor the cut
    assert cut.split() == ["⋮", str(62 - shown), "more", "lines"]
    assert "column_0" in lines[2]
    assert "column_59" in lines[-2]
    assert " ".join(cut.split()) in facts(log._repr_html_())


async def test_one_of_each_is_singular(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    assert str(log).startswith("1 statement, 1 transaction, 1 row\n")


def test_an_empty_log_says_so_and_is_still_true() -> None:
    log = QueryLog()
    assert str(log) == "0 statements, 0 transactions, 0 rows"
    assert log._repr_html_() == "<b>0 statements, 0 transactions, 0 rows</b>"
    assert log


async def test_an_output_stays_short(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as log:
        async with sessions() as session:
            await session.scalars(select(Conversation).options(selectinload(Conversation.messages)))
    assert len(log._repr_html_()) < 2500


async def test_a_waterfall_has_a_bar_per_statement(engine: AsyncEngine, sessions: Sessions) -> None:
    log = await n_plus_one(engine, sessions)
    picture = log.plot()
    assert len(picture.axes[0].patches) == 6
    assert "6 statements, 1 transaction" in str(picture)
    assert QueryLog().plot().png().startswith(b"\x89PNG")


def test_the_cycle_that_covers_most_is_found() -> None:
    assert longest_cycle("ABABABC", 0) == (2, 3)
    assert longest_cycle("AABAABAAB", 0) == (3, 3)
    assert longest_cycle("AAAA", 0) == (1, 4)
    assert longest_cycle("ABC", 0) == (1, 1)
    assert longest_cycle("XAAB", 1) == (1, 2)
