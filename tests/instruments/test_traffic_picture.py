"""The traffic's picture: workers as lanes, and on the same clock what others ran and which locks they had."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_rgba
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.instruments import Traffic
from course_lib.instruments.pictures import Picture
from course_lib.instruments.traffic.lanes import Session, named_statements, sessions_of
from course_lib.instruments.traffic.picture import ANSWERED, AT_LOCK, HELD, OPEN
from course_lib.instruments.traffic.record import Record, SeenLock, SeenStatement, Span

MILLISECONDS = 1000
ALTER = "ALTER TABLE messages ADD COLUMN language text"


def bars(axes: Axes, colour: str) -> list[tuple[float, float, float]]:
    """Left end, right end and middle height of each bar of that colour."""
    return list(_bars(axes, colour))


def _bars(axes: Axes, colour: str) -> Iterator[tuple[float, float, float]]:
    for collection in axes.collections:
        if isinstance(collection, PolyCollection) and tuple(collection.get_facecolor()[0]) == to_rgba(colour):  # type: ignore[index]
            for path in collection.get_paths():
                box = path.get_extents()
                yield box.x0, box.x1, (box.y0 + box.y1) / 2


def rows(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def words(axes: Axes) -> list[str]:
    return [one.get_text() for one in axes.texts]


def legend(picture: Picture) -> list[str]:
    return [label.get_text() for label in picture.legends[0].get_texts()]


@pytest.fixture(autouse=True)
async def no_autovacuum(engine: AsyncEngine) -> None:
    """It is a session, too, and comes when it likes."""
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE messages SET (autovacuum_enabled = off)"))


async def behind_a_reader(engine: AsyncEngine, lock_timeout: str = "") -> Traffic:
    """A change that waits for 0.2 seconds; with a ``lock_timeout`` it gives up and tries again."""

    async def change() -> None:
        while True:
            try:
                async with engine.begin() as connection:
                    await connection.execute(text(f"SET LOCAL lock_timeout = '{lock_timeout or 0}'"))
                    await connection.execute(text(ALTER))
                return
            except DBAPIError:
                await asyncio.sleep(0.03)

    async with engine.connect() as reading, Traffic(engine, "messages") as traffic:
        await reading.execute(text("SELECT count(*) FROM messages"))
        changing = asyncio.create_task(change())
        await asyncio.sleep(0.3)
        await reading.rollback()
        await changing
    return traffic


async def test_who_waits_and_for_what_stands_on_one_clock(engine: AsyncEngine) -> None:
    traffic = await behind_a_reader(engine)
    picture = traffic.plot("A queue")
    workers, sessions, key = picture.axes
    assert workers.get_title(loc="left") == "A queue"
    assert rows(workers) == ["reader", "writer", "inserter"]
    for place, lane in enumerate(traffic.record.lanes):
        longest = max(lane.during, key=lambda request: request.seconds)
        waits = [bar for bar in bars(workers, AT_LOCK) if bar[2] == pytest.approx(place)]
        assert (longest.began * MILLISECONDS, longest.ended * MILLISECONDS) in [
            (pytest.approx(left), pytest.approx(right)) for left, right, _ in waits
        ]
        assert f"{longest.seconds * MILLISECONDS:,.0f} ms, before " in words(workers)[place]
    expected = ["session 1", "AccessShareLock", "session 2", "AccessExclusiveLock"]
    assert [row for row in rows(sessions) if row != "autovacuum"] == expected, "autovacuum comes as it likes"
    heights = dict(zip(rows(sessions), sessions.get_yticks(), strict=True))
    [held] = [bar for bar in bars(sessions, HELD) if bar[2] == pytest.approx(heights["AccessShareLock"], abs=0.02)]
    awaited = [bar for bar in bars(sessions, AT_LOCK) if abs(bar[2] - heights["AccessExclusiveLock"]) < 0.02]
    assert held[1] - held[0] > 0.25 * MILLISECONDS
    assert max(right - left for left, right, _ in awaited) > 0.1 * MILLISECONDS
    assert workers.get_xlim() == sessions.get_xlim()
    assert "1" in words(sessions)
    assert any(line.startswith(f"{ALTER} (") and "at locks)" in line for line in words(key))
    assert legend(picture)[:4] == ["a request or statement", "waits for a lock", "holds the lock", "in a transaction"]
    assert bars(sessions, OPEN)
    assert bars(sessions, ANSWERED)


async def test_a_change_that_is_tried_again_has_one_line_and_a_bar_for_every_try(engine: AsyncEngine) -> None:
    traffic = await behind_a_reader(engine, "30ms")
    _, sessions, key = traffic.plot().axes
    [line] = [line for line in words(key) if line.startswith(ALTER)]
    tries = [one for one in traffic.statements if one.text == ALTER]
    assert len(tries) >= 3
    assert f"({len(tries)} times, " in line
    number = words(key)[words(key).index(line) - 1]
    assert words(sessions).count(number) >= 3


async def test_a_screen_reader_hears_the_numbers_and_a_terminal_the_text(engine: AsyncEngine) -> None:
    traffic = await behind_a_reader(engine)
    picture = traffic.plot("A queue")
    assert repr(picture) == str(traffic)
    assert picture.alt.startswith("A queue: the block took ")
    for part in ("reader: longest wait ", "session 1: AccessShareLock held ", "AccessExclusiveLock waited for ", ALTER):
        assert part in picture.alt
    assert "≈" not in picture.alt


async def test_failures_are_marked_and_counted(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages", writers=0) as traffic, engine.begin() as connection:
        await connection.execute(text("ALTER TABLE messages DROP COLUMN content"))
    picture = traffic.plot()
    for place, (kind, lane) in enumerate(zip(("reader", "inserter"), traffic.record.lanes, strict=True)):
        marks = [at for at in failures(picture.axes[0]) if at[1] == place]
        assert len(marks) == traffic.errors[kind].total() == sum(one.failure is not None for one in lane.requests)
        assert words(picture.axes[0])[place].endswith(f", {len(marks)} failed")
    assert "fails" in legend(picture)


def failures(axes: Axes) -> list[tuple[float, float]]:
    found = [one for one in axes.collections if isinstance(one, PathCollection)]
    return [tuple(at) for one in found for at in one.get_offsets()]  # type: ignore[union-attr,misc]


async def test_nothing_of_others_is_drawn_where_they_did_nothing(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages", readers=2, writers=0, inserters=0) as traffic:
        await asyncio.sleep(0.05)
    picture = traffic.plot()
    assert len(picture.axes) == 1
    assert rows(picture.axes[0]) == ["reader 1", "reader 2"]
    assert legend(picture) == ["a request or statement", "before and after the block"]


async def test_the_clock_ends_where_it_is_told_to(engine: AsyncEngine) -> None:
    async with Traffic(engine, "messages", writers=0, inserters=0) as traffic:
        pass
    short, long = traffic.plot(seconds=1).axes[0], traffic.plot(seconds=8).axes[0]
    assert (short.get_xlabel(), long.get_xlabel()) == ("milliseconds", "seconds")
    assert short.get_xlim()[0] == pytest.approx(-0.2 * MILLISECONDS)
    assert 8 < long.get_xlim()[1] < 8.2
    assert -0.5 < long.get_xlim()[0] < -0.35  # as long as there was traffic


# which sessions are drawn


def record(*statements: SeenStatement, locks: tuple[SeenLock, ...] = (), **transactions: list[Span]) -> Record:
    spans = {int(pid.removeprefix("pid")): found for pid, found in transactions.items()}
    return Record(-0.4, 2.0, [], {}, statements, spans, locks)


def statement(pid: int, sql: str, began: float, ended: float) -> SeenStatement:
    return SeenStatement(pid, sql, began, ended, [])


def lock(pid: int, mode: str, *spans: Span, granted: bool = True, index: str = "") -> SeenLock:
    return SeenLock(pid, mode, granted, index, spans)


def test_sessions_that_take_turns_share_a_lane_and_those_that_overlap_do_not() -> None:
    seen = record(statement(1, "A", 0, 0.5), statement(2, "B", 0.6, 1), statement(1, "C", 1.1, 1.5))
    [one], _ = sessions_of(seen, 2)
    assert [found.text for found in one.statements] == ["A", "C", "B"]
    two, _ = sessions_of(record(statement(1, "A", 0, 0.5), statement(2, "B", 0.4, 1)), 2)
    assert len(two) == 2


def test_a_session_whose_transaction_was_open_meanwhile_has_its_own_lane() -> None:
    seen = record(statement(1, "A", 0, 0.1), statement(2, "B", 0.4, 1), pid1=[(0.0, 2.0)])
    assert len(sessions_of(seen, 2)[0]) == 2


def test_what_is_short_and_keeps_nobody_from_anything_is_left_out() -> None:
    seen = record(
        statement(1, "SELECT 1", 0, 0.001), statement(2, "SELECT 2", 0, 0.001),
        locks=(lock(1, "AccessShareLock", (0, 0.001)), lock(2, "AccessExclusiveLock", (0, 0.001))),
    )  # fmt: skip
    [session], others = sessions_of(seen, 2)
    assert [found.mode for found in session.locks] == ["AccessExclusiveLock"]
    assert others == 0


def test_of_many_sessions_those_are_drawn_that_keep_others_from_most() -> None:
    modes = ["AccessShareLock"] * 5 + ["ShareLock"]
    sessions, others = sessions_of(record(locks=tuple(lock(pid, mode, (0, 2)) for pid, mode in enumerate(modes))), 2)
    assert (len(sessions), others) == (4, 2)
    assert "ShareLock" in [found.mode for session in sessions for found in session.locks]


def test_autovacuum_has_a_lane_of_its_own() -> None:
    seen = record(statement(1, "autovacuum: VACUUM messages", 0, 0.5), statement(2, "VACUUM messages", 0.6, 1))
    sessions, _ = sessions_of(seen, 2)
    assert [session.is_autovacuum for session in sessions] == [True, False]


def test_a_weak_lock_is_drawn_only_where_no_stronger_one_says_it_all() -> None:
    writing = Session(locks=[lock(1, "AccessShareLock", (0, 1)), lock(1, "RowExclusiveLock", (0, 1.005))])
    assert [row[0] for row in writing.rows()] == ["RowExclusiveLock"]
    behind = Session(locks=[lock(1, "RowExclusiveLock", (0, 1), granted=False), lock(1, "ShareLock", (0, 2))])
    assert [row[0] for row in behind.rows()] == ["ShareLock", "RowExclusiveLock"]
    later = Session(locks=[lock(1, "AccessShareLock", (0, 2)), lock(1, "AccessExclusiveLock", (1.5, 2))])
    assert [row[0] for row in later.rows()] == ["AccessExclusiveLock", "AccessShareLock"]


def test_an_index_is_named_where_the_table_itself_is_not_locked_as_strongly() -> None:
    on_index = lock(1, "AccessExclusiveLock", (0, 1), index="pk_messages")
    [reindexing], _ = sessions_of(record(locks=(on_index, lock(1, "ShareLock", (0, 1)))), 2)
    assert [row[0] for row in reindexing.rows()] == ["AccessExclusiveLock on pk_messages", "ShareLock"]
    [altering], _ = sessions_of(record(locks=(on_index, lock(1, "AccessExclusiveLock", (0, 1)))), 2)
    assert [row[0] for row in altering.rows()] == ["AccessExclusiveLock"]


def test_statements_that_name_the_table_are_written_out_before_longer_ones_that_do_not() -> None:
    many = [statement(1, f"SELECT {'x' * place} FROM t", place, place + 0.5) for place in range(1, 9)]
    session = Session(statements=[*many, statement(1, "ALTER TABLE messages SET (a = 1)", 0, 0.001)])
    named = named_statements([session], "public.messages")
    assert len(named) == 6
    assert named[0][0].text.startswith("ALTER TABLE messages")
