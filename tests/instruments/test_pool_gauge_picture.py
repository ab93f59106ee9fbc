"""The gauge's picture: a bar for each wait, hold and piece of work, on one clock with the counts below."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_rgba
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from course_lib.db import make_engine
from course_lib.instruments import PoolGauge
from course_lib.instruments.pictures import Picture
from course_lib.instruments.pool.picture import HELD, THINNEST, TROUBLE, WAITING, WORK

ONE = text("SELECT 1")


async def gauged(engine: AsyncEngine, requests: int) -> PoolGauge:
    async def request() -> None:
        async with engine.connect() as connection:
            await connection.execute(ONE)
            await asyncio.sleep(0.02)

    with PoolGauge(engine) as gauge:
        await asyncio.gather(*(request() for _ in range(requests)), return_exceptions=True)
    await engine.dispose()
    return gauge


def bars(picture: Picture, colour: str) -> list[tuple[float, float, float]]:
    """Left end, right end and middle height of each bar of that colour in the upper axes."""
    return list(_bars(picture, colour))


def _bars(picture: Picture, colour: str) -> Iterator[tuple[float, float, float]]:
    for collection in picture.axes[0].collections:
        if isinstance(collection, PolyCollection) and tuple(collection.get_facecolor()[0]) == to_rgba(colour):  # type: ignore[index]
            for path in collection.get_paths():
                box = path.get_extents()
                yield box.x0, box.x1, (box.y0 + box.y1) / 2


def labels(picture: Picture) -> list[str]:
    return [label.get_text() for label in picture.legends[0].get_texts()]


async def test_every_wait_and_hold_is_a_bar_on_its_lane(seeded_url: URL) -> None:
    gauge = await gauged(make_engine(seeded_url, pool_size=2, max_overflow=0), 5)
    picture = gauge.plot("Five")
    waits, holds = bars(picture, WAITING), bars(picture, HELD)
    assert len(waits) == 3
    assert len(holds) == 5
    for lane, (began, ended, height) in zip(gauge.lanes, holds, strict=True):
        assert height == pytest.approx(gauge.lanes.index(lane))
        least = THINNEST * picture.axes[1].get_xlim()[1]
        assert ended - began == pytest.approx(max(1000 * lane.holds[0].seconds(0), least))
    for began, ended, height in bars(picture, WORK):
        assert holds[round(height)][0] - 0.01 <= began < ended
    assert sorted(1000 * seconds for seconds in gauge.waits) == pytest.approx(sorted(e - b for b, e, _ in waits))
    assert picture.axes[0].get_title(loc="left") == "Five"
    assert labels(picture) == ["waits for a connection", "how many wait", "holds one", "something runs on it"]


async def test_a_timeout_is_marked_where_it_happened(seeded_url: URL) -> None:
    engine = make_engine(seeded_url, pool_size=1, max_overflow=0, pool_timeout=0.001)
    async with engine.connect():
        gauge = await gauged(engine, 2)
    picture = gauge.plot()
    marks = [
        offset
        for collection in picture.axes[0].collections
        if isinstance(collection, PathCollection) and len(collection.get_offsets())
        for offset in collection.get_offsets()  # type: ignore[union-attr]
    ]
    assert len(marks) == gauge.timeouts == 2
    for mark, wait in zip(marks, bars(picture, WAITING), strict=True):
        assert mark[0] == pytest.approx(wait[1])  # type: ignore[index]
    assert "timed out" in labels(picture)
    assert TROUBLE != WAITING


async def test_the_clock_ends_where_it_is_told_to(seeded_url: URL) -> None:
    gauge = await gauged(make_engine(seeded_url), 2)
    assert gauge.plot(seconds=1.5).axes[1].get_xlim() == (0, 1500)
    assert gauge.plot(seconds=5).axes[1].get_xlim() == (0, 5)
    assert gauge.plot(seconds=5).axes[1].get_xlabel() == "seconds"


async def test_many_lanes_share_the_room_and_the_names_are_thinned_out(seeded_url: URL) -> None:
    few = (await gauged(make_engine(seeded_url, pool_size=4, max_overflow=0), 8)).plot()
    many_gauge = await gauged(make_engine(seeded_url, pool_size=4, max_overflow=0, pool_timeout=0.1), 150)
    many = many_gauge.plot()
    assert len(few.axes[0].get_yticks()) == 8
    assert len(many.axes[0].get_yticks()) < 40
    assert many.get_figheight() < 8
    assert len(bars(many, WAITING)) < 100
    assert "every 2nd is shown" in many.axes[0].get_title(loc="left")


async def test_overflow_is_drawn_above_the_size(seeded_url: URL) -> None:
    picture = (await gauged(make_engine(seeded_url, pool_size=1, max_overflow=2), 4)).plot()
    assert "overflow" in labels(picture)
    assert {text.get_text() for text in picture.axes[1].texts} == {"pool_size 1", "with overflow 3"}


async def test_a_null_pool_and_an_idle_gauge_have_pictures_too(engine: AsyncEngine, seeded_url: URL) -> None:
    null = (await gauged(make_engine(seeded_url, poolclass=NullPool), 2)).plot()
    assert labels(null) == ["holds one", "something runs on it"]
    with PoolGauge(engine) as gauge:
        pass
    for picture in (null, gauge.plot(), PoolGauge(engine).plot()):
        assert picture.png().startswith(b"\x89PNG")
    assert repr(gauge.plot()) == str(gauge)


@pytest.mark.filterwarnings("error")
async def test_a_limit_far_above_what_was_out_takes_no_room(seeded_url: URL) -> None:
    gauge = await gauged(make_engine(seeded_url, pool_size=1, max_overflow=20), 3)
    assert gauge.most_overflow == 2
    picture = gauge.plot()
    assert picture.png()
    assert [note.get_text() for note in picture.axes[1].texts] == ["pool_size 1"]
