"""The log names the learner's own line, whatever lies between it and the database."""

from __future__ import annotations

import asyncio
import sys
from textwrap import dedent

import nbformat
import pytest
from nbclient import NotebookClient
from sqlalchemy import URL, Engine, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from course_lib.instruments import QueryLog
from course_lib.models import Conversation, User

Sessions = async_sessionmaker[AsyncSession]


def here(offset: int = 0) -> str:
    """The caller's line plus ``offset``, as the log would name it."""
    return f"tests/instruments/test_caller.py:{sys._getframe(1).f_lineno + offset}"


async def test_an_awaited_statement_is_its_line(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as log:
        async with sessions() as session:
            await session.execute(select(User.id))
            expected = here(-1)
    assert log.statements[0].where == expected


async def test_an_awaited_attribute_is_the_line_that_touched_it(engine: AsyncEngine, sessions: Sessions) -> None:
    async with sessions() as session:
        conversation = (await session.scalars(select(Conversation).limit(1))).one()
        with QueryLog(engine) as log:
            await conversation.awaitable_attrs.messages
            expected = here(-1)
    assert log.statements[0].where == expected


def test_a_synchronous_statement_is_its_line(sync_engine: Engine) -> None:
    with QueryLog(sync_engine) as log, Session(sync_engine) as session:
        session.execute(select(User.id))
        expected = here(-1)
    assert log.statements[0].where == expected


def test_a_lazy_load_is_the_line_that_touched_the_attribute(sync_engine: Engine) -> None:
    with Session(sync_engine) as session:
        conversation = session.scalars(select(Conversation).limit(1)).one()
        with QueryLog(sync_engine) as log:
            titles = [message.role for message in conversation.messages]
            expected = here(-1)
    assert titles
    assert log.statements[0].where == expected


async def test_a_function_run_by_the_session_is_its_line(engine: AsyncEngine, sessions: Sessions) -> None:
    def work(session: Session) -> str:
        session.execute(select(User.id))
        return here(-1)

    with QueryLog(engine) as log:
        async with sessions() as session:
            expected = await session.run_sync(work)
    assert log.statements[0].where == expected


async def test_a_flush_at_commit_is_the_line_that_commits(engine: AsyncEngine, sessions: Sessions) -> None:
    with QueryLog(engine) as log:
        async with sessions() as session:
            session.add(User(email="new@example.org", name="New"))
            await session.commit()
            expected = here(-1)
    assert [entry.where for entry in log.entries] == [None, expected, expected]


async def test_what_a_block_sends_when_it_ends_is_the_line_of_the_block(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """SQLAlchemy ends such a block in a task of its own, in which no frame is the learner's."""

    async def add(number: int) -> str:
        async with sessions.begin() as session:
            session.add(User(email=f"new{number}@example.org", name="New"))
        return here(-2)

    async def remain() -> None:
        await asyncio.sleep(0.5)

    with QueryLog(engine) as log:
        remaining = asyncio.create_task(remain())
        expected = await asyncio.gather(*(add(number) for number in range(5)))
        remaining.cancel()
    assert {entry.where for entry in log.entries if entry.sql != "BEGIN"} == set(expected)


async def test_statements_made_tasks_are_the_line_that_waits_for_them(engine: AsyncEngine, sessions: Sessions) -> None:
    async with sessions() as one, sessions() as other:
        with QueryLog(engine) as log:
            await asyncio.gather(one.execute(select(User.id)), other.execute(select(User.id)))
            expected = here(-1)
    assert {statement.where for statement in log.statements} == {expected}


async def test_a_statement_of_another_thread_is_its_line(engine: AsyncEngine, sync_engine: Engine) -> None:
    def work() -> str:
        with sync_engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            return here(-1)

    with QueryLog(sync_engine) as log:
        expected = await asyncio.to_thread(work)
    assert log.statements[0].where == expected


async def test_a_gathered_statement_is_told_from_other_waiting_tasks(engine: AsyncEngine, sessions: Sessions) -> None:
    async def remain() -> None:
        await asyncio.sleep(0.2)

    async with sessions() as session:
        with QueryLog(engine) as log:
            await asyncio.gather(remain(), session.execute(select(User.id)))
            expected = here(-1)
    assert log.statements[0].where == expected


async def test_a_statement_nobody_waits_for_has_no_line(engine: AsyncEngine, sessions: Sessions) -> None:
    started = []

    async def start(session: AsyncSession) -> None:
        started.append(asyncio.create_task(session.execute(select(User.id))))  # type: ignore[arg-type]
        await asyncio.sleep(0.2)

    async def remain() -> None:
        await asyncio.sleep(0.2)

    async with sessions() as session:
        with QueryLog(engine) as log:
            await asyncio.gather(start(session), remain())
    assert [statement.where for statement in log.statements] == [None]


NOTEBOOK = [
    """
    from sqlalchemy import create_engine, select
    from sqlalchemy.orm import Session
    from course_lib import QueryLog
    from course_lib.db import make_engine, make_session_factory
    from course_lib.models import Conversation, User
    engine, sync_engine = make_engine(URL), create_engine(SYNC_URL)
    sessions = make_session_factory(engine)
    """,
    """
    with QueryLog(engine) as log:
        async with sessions() as session:
            users = (await session.scalars(select(User))).all()
            counts = [
                len(await user.awaitable_attrs.documents) for user in users]
    print(*[statement.where for statement in log.statements[:2]], sep="; ")
    """,
    """
    async def load(session):
        return await session.scalars(select(User))
    """,
    """
    with QueryLog(engine) as log:
        async with sessions.begin() as session:
            await load(session)
    print(*[entry.where for entry in log.entries], sep="; ")
    """,
    """
    with QueryLog(sync_engine) as log, Session(sync_engine) as session:
        user = session.scalars(select(User)).first()
        user.documents
    print(*[statement.where for statement in log.statements], sep="; ")
    """,
    """
    log = QueryLog(sync_engine).__enter__()
    session = Session(sync_engine)
    def users():
        return session.scalars(select(User)).first()
    """,
    """
    %%time
    users()
    user = session.scalars(select(User)).first()
    for document in user.documents[:1]:
        document.chunks
    def titles():
        return session.scalars(select(Conversation.title)).all()
    titles()
    """,
    """
    %%capture
    session.scalars(select(User)).first()
    users()
    """,
    """
    %%timeit -n 1 -r 1
    session.scalars(select(User)).first()
    users()
    """,
    """
    number = 1
    %time session.scalars(select(User)).first()
    titles()
    """,
    """
    print(*[statement.where for statement in log.statements], sep="; ")
    log.__exit__()
    """,
]


@pytest.mark.skipif(sys.platform == "win32", reason="the gate runs notebooks on Windows; this only names lines")
def test_in_a_notebook_lines_are_those_of_cells(seeded_url: URL) -> None:
    url = seeded_url.render_as_string(hide_password=False)
    sync_url = seeded_url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    sources = [
        _dedented(source).replace("SYNC_URL", repr(sync_url)).replace("URL", repr(url), 1) for source in NOTEBOOK
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    printed = [cell.outputs[0].text.strip() for cell in notebook.cells if "print(" in cell.source]
    assert printed == [
        "cell line 3; cell line 5",
        "None; load, cell line 2; cell line 2",
        "cell line 2; cell line 3",
        "users, cell line 4; cell line 3; cell line 4; cell line 5; titles, cell line 7; "
        "cell line 2; users, cell line 4; cell line 2; users, cell line 4; cell line 2; titles, cell line 7",
    ]


def _dedented(source: str) -> str:
    return dedent(source).strip()
