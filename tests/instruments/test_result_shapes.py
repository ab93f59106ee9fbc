"""What was sent back: each column knows its table, each answer is drawn to scale, streamed rows are counted."""

from __future__ import annotations

import pytest
from matplotlib.patches import Rectangle
from sqlalchemy import Engine, Executable, Select, func, insert, literal, select, text, union_all, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, aliased, joinedload, selectinload

from course_lib.errors import CourseError
from course_lib.instruments import QueryLog, Statement, result_shapes
from course_lib.instruments.pictures import FAINT, Picture
from course_lib.models import Conversation, Document, Message, User

Sessions = async_sessionmaker[AsyncSession]
FIFTY = select(Conversation).order_by(Conversation.id).limit(50)
USERS = select(User).order_by(User.id)


async def logged(engine: AsyncEngine, sessions: Sessions, query: Select[tuple[object]]) -> QueryLog:
    with QueryLog(engine) as log:
        async with sessions() as session:
            (await session.scalars(query)).unique().all()
    return log


async def tables_of(engine: AsyncEngine, statement: Executable) -> tuple[str, ...]:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            await connection.execute(statement)
    return log.statements[0].tables


def rectangles(picture: Picture) -> list[Rectangle]:
    return [patch for patch in picture.axes[0].patches if isinstance(patch, Rectangle)]


# the table of each column


async def test_a_column_knows_its_table_through_aliases_subqueries_and_ctes(engine: AsyncEngine) -> None:
    other = aliased(User)
    inner = select(User.id, Document.title.label("heading")).join(User.documents).subquery()
    counted = select(User.id, func.count().label("number")).group_by(User.id).cte("counted")
    for statement, tables in (
        (select(User.id, User.name.label("who")), ("users", "users")),
        (select(other.id, Document.id).join(other.documents), ("users", "documents")),
        (select(inner), ("users", "documents")),
        (select(inner.c.heading.label("name")), ("documents",)),
        (select(counted), ("users", "")),
        (union_all(select(User.id), select(Document.id)), ("users",)),
        (select(User.id).where(User.id == other.id), ("users",)),
    ):
        assert await tables_of(engine, statement) == tables, str(statement)


async def test_what_is_computed_and_what_is_written_as_text_has_no_table(engine: AsyncEngine) -> None:
    computed = select(func.count(User.id), User.tokens_used + 1, literal("x"), func.lower(User.name), User.name)
    assert await tables_of(engine, computed.group_by(User.id)) == ("", "", "", "", "users")
    assert await tables_of(engine, text("SELECT id, name FROM users")) == ("", "")


async def test_returning_counts_as_columns_and_a_plain_write_has_none(engine: AsyncEngine) -> None:
    new = insert(User).values(name="New", email="new@example.org")
    assert await tables_of(engine, new.returning(User.id, func.now())) == ("users", "")
    assert await tables_of(engine, update(User).values(tier="pro")) == ()
    assert await tables_of(engine, text("CREATE TABLE notes (id int)")) == ()


async def test_a_joinedload_with_a_limit_names_the_tables_inside_its_subquery(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    log = await logged(engine, sessions, FIFTY.options(joinedload(Conversation.messages)))
    columns = (len(Conversation.__table__.columns), len(Message.__table__.columns))
    assert log.statements[0].tables == ("conversations",) * columns[0] + ("messages",) * columns[1]


def test_the_synchronous_driver_tells_the_same(sync_engine: Engine) -> None:
    with QueryLog(sync_engine) as log, Session(sync_engine) as session:
        session.execute(select(User.id, func.count()).group_by(User.id))
        session.execute(text("SELECT 1, 2"))
    assert [statement.tables for statement in log.statements] == [("users", ""), ("", "")]


async def test_a_statement_that_failed_answers_with_nothing(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            with pytest.raises(Exception, match="division"):
                await connection.execute(text("SELECT 1 / 0"))
    assert log.statements[0].tables == ()
    assert str(result_shapes({"failed": log})).endswith("failed: 1 statement, 0 rows, 0 values")


# rows of streamed results


async def test_streamed_rows_are_counted_as_they_are_taken(engine: AsyncEngine) -> None:
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            everything = await connection.stream(select(Message.id, Message.seq))
            assert log.statements[0].rows is not None
            number = len([row async for row in everything])
            some = await connection.stream(select(Message.id))
            await some.fetchmany(3)
            await some.close()
            as_text = await connection.stream(text("SELECT id FROM messages"))
            await as_text.all()
    assert number > 1_000
    assert [statement.rows for statement in log.statements] == [number, 3, number]
    assert log.statements[0].tables == ("messages", "messages")


def test_rows_of_a_server_side_cursor_are_counted_on_psycopg_too(sync_engine: Engine) -> None:
    with QueryLog(sync_engine) as outer, QueryLog(sync_engine) as log, Session(sync_engine) as session:
        number = sum(1 for _ in session.scalars(select(Message).execution_options(yield_per=100)))
    assert [statement.rows for statement in log.statements] == [number]
    assert [statement.rows for statement in outer.statements] == [number], "two logs at once"
    assert number > 1_000


# the picture


async def test_the_words_count_statements_rows_and_values(engine: AsyncEngine, sessions: Sessions) -> None:
    joined = await logged(engine, sessions, FIFTY.options(joinedload(Conversation.messages)))
    selected = await logged(engine, sessions, FIFTY.options(selectinload(Conversation.messages)))
    messages, columns = joined.rows, (len(Conversation.__table__.columns), len(Message.__table__.columns))
    values = (messages * sum(columns), 50 * columns[0] + messages * columns[1])
    assert str(result_shapes({"joinedload": joined, "selectinload": selected})) == (
        "What was sent back. "
        f"joinedload: 1 statement, {messages:,} rows, {values[0]:,} values; "
        f"selectinload: 2 statements, {messages + 50:,} rows, {values[1]:,} values"
    )


async def test_area_means_values_on_one_scale_for_all(engine: AsyncEngine, sessions: Sessions) -> None:
    both = (User.conversations, User.documents)
    logs = {
        "joined": await logged(engine, sessions, USERS.options(*map(joinedload, both))),
        "selected": await logged(engine, sessions, USERS.options(*map(selectinload, both))),
    }
    picture = result_shapes(logs)
    answers = [statement for log in logs.values() for statement in log.statements]
    expected = [
        (statement.rows or 0) * statement.tables.count(table)
        for statement in answers
        for table in dict.fromkeys(statement.tables)
    ]
    areas = [patch.get_width() * patch.get_height() for patch in rectangles(picture)]
    assert len(areas) == 3 + 3
    scale = areas[0] / expected[0]
    assert areas == pytest.approx([scale * values for values in expected])
    assert logs["joined"].rows > 4 * logs["selected"].rows, "each of one list with each of the other"


async def test_a_table_keeps_its_colour_and_what_is_computed_is_grey(engine: AsyncEngine, sessions: Sessions) -> None:
    joined = await logged(engine, sessions, FIFTY.options(joinedload(Conversation.messages)))
    selected = await logged(engine, sessions, FIFTY.options(selectinload(Conversation.messages)))
    parents, children, parents_again, children_again = rectangles(result_shapes({"a": joined, "b": selected}))
    assert parents.get_facecolor() == parents_again.get_facecolor()
    assert children.get_facecolor() == children_again.get_facecolor()
    assert parents.get_facecolor() != children.get_facecolor()
    with QueryLog(engine) as log:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    [grey] = rectangles(result_shapes({"text": log}))
    assert grey.get_facecolor() == Rectangle((0, 0), 1, 1, facecolor=FAINT).get_facecolor()


async def test_the_answers_of_a_loop_are_one_rectangle(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as lazy:
        async with sessions() as session:
            for conversation in await session.scalars(FIFTY):
                await conversation.awaitable_attrs.messages
    selected = await logged(engine, sessions, FIFTY.options(selectinload(Conversation.messages)))
    patches = rectangles(result_shapes({"lazy": lazy, "selectinload": selected}))
    assert len(patches) == 4
    for one, other in zip(patches[:2], patches[2:], strict=True):
        assert (one.get_width(), one.get_height()) == pytest.approx((other.get_width(), other.get_height()))
    assert "lazy: 51 statements" in str(result_shapes({"lazy": lazy}))


async def test_what_is_very_small_beside_the_others_has_an_edge_to_be_seen_by(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    with QueryLog(engine) as large:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT number FROM generate_series(1, 100000) AS number"))
    small = await logged(engine, sessions, select(User).limit(1))
    for patch in rectangles(result_shapes({"large": large, "small": small})):
        assert patch.get_linewidth() >= 0.8
        assert patch.get_edgecolor() == patch.get_facecolor()


async def test_logs_of_every_kind_can_be_drawn(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as many:
        async with engine.connect() as connection:
            for number in range(80):
                columns = ", ".join(f"1 AS c{column}" for column in range(number + 1))
                await connection.execute(text(f"SELECT {columns}"))
    users = await logged(engine, sessions, USERS)
    nothing = QueryLog(engine)
    for logs in ({"nothing": nothing}, {"many": many}, dict.fromkeys("abcde", users), {"a": many, "b": nothing}):
        picture = result_shapes(logs)
        assert picture.png().startswith(b"\x89PNG")
        assert picture.get_size_inches()[1] < 6


async def test_what_cannot_be_drawn_is_told_in_a_sentence(engine: AsyncEngine) -> None:
    log = QueryLog(engine)
    for wrong in ({}, log, {"statements": log.statements}):
        with pytest.raises(CourseError, match="result_shapes compares query logs"):
            result_shapes(wrong)  # type: ignore[arg-type]
    with pytest.raises(CourseError, match="room for 5"):
        result_shapes(dict.fromkeys("abcdef", log))


def test_a_statement_made_by_hand_needs_no_tables() -> None:
    assert Statement("SELECT 1", None, 1, 1, 0.0).tables == ()
