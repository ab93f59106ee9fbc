"""Several logs on one clock: each keeps its block, every bar its length, and the words say no times."""

from __future__ import annotations

import re

import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import selectinload

from course_lib.errors import CourseError
from course_lib.instruments import QueryLog, network_delay, waterfalls
from course_lib.instruments.pictures import Picture
from course_lib.instruments.query_log.waterfall import THINNEST
from course_lib.models import Conversation

TWENTY = select(Conversation).order_by(Conversation.id).limit(20)


async def lazy_and_eager(engine: AsyncEngine) -> dict[str, QueryLog]:
    sessions = async_sessionmaker(engine)
    with QueryLog(engine) as lazy:
        async with sessions() as session:
            for conversation in await session.scalars(TWENTY):
                await conversation.awaitable_attrs.messages
    with QueryLog(engine) as eager:
        async with sessions() as session:
            (await session.scalars(TWENTY.options(selectinload(Conversation.messages)))).all()
    return {"lazy loading": lazy, "selectinload": eager}


def milliseconds(log: QueryLog) -> float:
    """From the first entry to the last answer."""
    return 1000 * max(entry.started + (entry.seconds or 0) - log.entries[0].started for entry in log.entries)


def bars_of(picture: Picture) -> list[Rectangle]:
    axes: Axes = picture.axes[0]
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


async def test_there_is_a_bar_per_statement_as_long_as_it_took_and_all_start_at_one_zero(engine: AsyncEngine) -> None:
    async with network_delay(engine, round_trip_ms=2) as network:
        logs = await lazy_and_eager(network.engine)
    bars = bars_of(waterfalls(logs))
    statements = [statement for log in logs.values() for statement in log.statements]
    assert len(bars) == len(statements) == 21 + 2
    visible = THINNEST * max(map(milliseconds, logs.values()))
    for bar, statement in zip(bars, statements, strict=True):
        assert bar.get_width() == pytest.approx(max(visible, 1000 * (statement.seconds or 0)))
    for log, first in zip(logs.values(), (bars[0], bars[21]), strict=True):
        assert first.get_x() == pytest.approx(1000 * (log.statements[0].started - log.entries[0].started))
    tops = [bar.get_y() for bar in bars]
    assert tops == sorted(tops), "one below the other"


async def test_a_statement_too_short_to_see_is_drawn_as_a_thin_bar(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            await connection.execute(text("SELECT pg_sleep(1.5)"))
            await connection.execute(text("SELECT 1"))
    picture = waterfalls({"log": log})
    wide = picture.axes[0].get_xlim()[1]
    assert min(bar.get_width() for bar in bars_of(picture)) > 0.001 * wide


async def test_the_same_statement_has_one_colour_in_all_blocks(engine: AsyncEngine) -> None:
    bars = bars_of(waterfalls(await lazy_and_eager(engine)))
    assert bars[0].get_facecolor() == bars[21].get_facecolor(), "the conversations"
    assert len({bar.get_facecolor() for bar in bars[1:21]}) == 1, "the messages of one conversation"
    assert len({bars[0].get_facecolor(), bars[1].get_facecolor(), bars[22].get_facecolor()}) == 3


async def test_the_words_are_the_same_in_every_run(engine: AsyncEngine) -> None:
    first, second = [str(waterfalls(await lazy_and_eager(engine))) for _ in range(2)]
    assert first == second
    assert re.fullmatch(
        r"lazy loading: 21 statements, 1 transaction, (\d+) rows; "
        r"selectinload: 2 statements, 1 transaction, \1 rows; as bars on one clock",
        first,
    )


async def test_empty_logs_and_many_statements_can_be_drawn(engine: AsyncEngine) -> None:
    with QueryLog(engine) as many:
        async with engine.connect() as connection:
            for number in range(300):
                await connection.execute(text(f"SELECT 1 AS shape_{number % 12}"))
    picture = waterfalls({"nothing": QueryLog(engine), "many": many, "nothing more": QueryLog(engine)})
    assert picture.get_size_inches()[1] < 9
    assert picture.png().startswith(b"\x89PNG")
    assert waterfalls({"nothing": QueryLog(engine)}).png().startswith(b"\x89PNG")


async def test_the_waterfall_of_one_log_is_drawn_by_the_same_hand(engine: AsyncEngine) -> None:
    log = (await lazy_and_eager(engine))["lazy loading"]
    alone, among = bars_of(log.plot()), bars_of(waterfalls({"lazy": log}))
    assert [bar.get_width() for bar in alone] == [bar.get_width() for bar in among]
    assert [bar.get_facecolor() for bar in alone] == [bar.get_facecolor() for bar in among]


@pytest.mark.parametrize("wrong", [{}, None, {"lazy": "a log"}, [1]])
def test_what_is_no_log_is_told_in_a_sentence(wrong: object) -> None:
    with pytest.raises(CourseError, match="waterfalls compares query logs"):
        waterfalls(wrong)  # type: ignore[arg-type]
    with pytest.raises(CourseError, match="waterfalls compares query logs"):
        waterfalls(QueryLog())  # type: ignore[arg-type]
