"""Answers to 9.4, the model's bad day: each function's body is a cell."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import openai
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from course_lib.llm import openai_client
from course_lib.models import Message
from tests.exercises.written import Answers

ANSWERS = Answers("9.4")


@ANSWERS.right
def functions_of_their_own_beside_the_class():
    async def said(sessions, conversation_id):
        mine = select(Message.status, Message.content).where(Message.conversation_id == conversation_id)
        async with sessions() as session:
            return [tuple(row) for row in await session.execute(mine.where(Message.role == "assistant"))]

    async def test_once(sessions, reply, conversation_id):
        text = await reply(sessions, openai_client(fail_first=1, retry_after_ms=1), conversation_id)
        assert await said(sessions, conversation_id) == [("complete", text)]

    class TestBadDay:
        async def test_always(self, sessions, reply, conversation_id):
            with pytest.raises(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
            assert not await said(sessions, conversation_id)

        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(Exception):  # noqa: B017
                await reply(sessions, openai_client(break_stream_after=2), conversation_id)
            [(status, content)] = await said(sessions, conversation_id)
            assert (status, bool(content)) == ("aborted", True)

        async def test_slow(self, engine, reply, conversation_id):
            mine = create_async_engine(engine.url, pool_size=1, max_overflow=0)
            client = openai_client()
            create = client.chat.completions.create
            busy = []

            async def slowly(**named):
                busy.append(mine.pool.checkedout())
                return await create(**named)

            client.chat.completions.create = slowly
            try:
                await reply(async_sessionmaker(mine, expire_on_commit=False), client, conversation_id)
            finally:
                del client.chat.completions.create
                await mine.dispose()
            assert busy == [0]


@ANSWERS.right
def one_test_for_all():
    class TestBadDay:
        @pytest.mark.parametrize(
            ("day", "raises", "statuses"),
            [
                ({"fail_first": 1, "retry_after_ms": 1}, None, ["complete"]),
                ({"status": 429, "retry_after_ms": 1}, openai.RateLimitError, []),
                ({"break_stream_after": 4}, Exception, ["aborted"]),
                ({"latency_ms": 300}, None, ["complete"]),
            ],
        )
        async def test_day(self, engine, sessions, reply, conversation_id, day, raises, statuses):
            running = asyncio.ensure_future(reply(sessions, openai_client(**day), conversation_id))
            longest = await self.watch(engine, running)
            error = running.exception()
            assert isinstance(error, raises) if raises else error is None
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id)
                said = (await session.scalars(mine.where(Message.role == "assistant"))).all()
            assert [message.status for message in said if message.content] == statuses
            assert len(said) == len(statuses)
            assert longest < 0.25

        async def watch(self, engine, running):
            """How long the oldest transaction was open that did nothing."""
            asked = """
                SELECT max(extract(epoch FROM clock_timestamp() - state_change)) FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'idle in transaction'
            """
            longest = 0
            async with engine.connect() as connection:
                connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
                while not running.done():
                    longest = max(longest, await connection.scalar(text(asked)) or 0)
                    await asyncio.wait({running}, timeout=0.02)
            return longest


@ANSWERS.right
def a_model_of_its_own():
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'"

    class Watched:
        """The client, with an eye on the database."""

        def __init__(self, client, engine):
            self.client, self.engine, self.open = client, engine, 0
            self.chat = self.completions = self

        def with_options(self, **options):
            self.client = self.client.with_options(**options)
            return self

        async def create(self, **named):
            async with self.engine.connect() as connection:
                self.open += await connection.scalar(text(idle))
            return await self.client.chat.completions.create(**named)

    class TestBadDay:
        async def ask(self, given, **day):
            engine, sessions, reply, conversation_id = given
            client = Watched(openai_client(**day), engine)
            try:
                return await reply(sessions, client, conversation_id)
            finally:
                assert client.open == 0

        @pytest.fixture
        def given(self, engine, sessions, reply, conversation_id):
            return engine, sessions, reply, conversation_id

        async def rows(self, given):
            async with given[0].connect() as connection:
                found = await connection.execute(text("SELECT status, content FROM messages WHERE role = 'assistant'"))
                return found.all()

        async def test_refused_once(self, given):
            before = await self.rows(given)
            answer = await self.ask(given, fail_first=1, retry_after_ms=1)
            assert sorted(await self.rows(given)) == sorted([*before, ("complete", answer)])

        async def test_refused(self, given):
            before = await self.rows(given)
            with pytest.raises(openai.APIStatusError):
                await self.ask(given, status=429, retry_after_ms=1)
            assert await self.rows(given) == before

        async def test_cut(self, given):
            before = await self.rows(given)
            with pytest.raises((openai.APIError, OSError, Exception)):
                await self.ask(given, break_stream_after=1)
            new = [row for row in await self.rows(given) if row not in before]
            assert [row.status for row in new] == ["aborted"] and new[0].content


@ANSWERS.right
def the_shortest():
    class TestBadDay:
        async def test_all_of_it(self, sessions, engine, reply, conversation_id):
            async def stored():
                async with sessions() as session:
                    rows = select(Message).where(Message.role == "assistant").order_by(Message.seq)
                    mine = rows.where(Message.conversation_id == conversation_id)
                    return [(row.status, bool(row.content)) for row in await session.scalars(mine)]

            with pytest.raises(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
            assert await stored() == []
            try:
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            except Exception as error:
                print(error)
            else:
                raise AssertionError("nobody heard of it")
            assert await stored() == [("aborted", True)]
            running = asyncio.ensure_future(
                reply(sessions, openai_client(latency_ms=600, fail_first=1, retry_after_ms=1), conversation_id)
            )
            await asyncio.sleep(0.5)
            async with engine.connect() as connection:
                idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = "
                assert await connection.scalar(text(f"{idle} current_database()")) == 0
            await running
            assert await stored() == [("aborted", True), ("complete", True)]


@ANSWERS.wrong("never called")
def imports_only():
    class TestBadDay:
        async def test_client(self, reply):
            assert openai_client(status=429).max_retries == 2


@ANSWERS.wrong("always fails")
def expects_no_error_at_all():
    class TestBadDay:
        async def test_refused(self, sessions, reply, conversation_id):
            try:
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            except Exception as error:
                pytest.fail(str(error))
            pytest.fail("no error, and that is wrong too")


@ANSWERS.wrong("false alarm")
def wants_no_row_while_it_waits():
    class TestBadDay:
        async def test_no_row_yet(self, sessions, reply, conversation_id):
            client = openai_client(latency_ms=1)
            create = client.chat.completions.create
            seen = []

            async def look(**named):
                async with sessions() as session:
                    rows = select(Message).where(Message.conversation_id == conversation_id)
                    seen.append(len((await session.scalars(rows)).all()))
                return await create(**named)

            client.chat.completions.create = look
            await reply(sessions, client, conversation_id)
            assert seen == [1]


@ANSWERS.wrong("never fails")
def a_good_day():
    class TestBadDay:
        async def test_good_day(self, sessions, reply, conversation_id):
            assert await reply(sessions, openai_client(), conversation_id)


@ANSWERS.wrong("cut as complete")
def a_row_of_whatever_status():
    class TestBadDay:
        async def rows(self, sessions, conversation_id):
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                return (await session.scalars(mine)).all()

        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(Exception):  # noqa: B017
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            assert len(await self.rows(sessions, conversation_id)) == 1

        async def test_refused(self, sessions, reply, conversation_id):
            with pytest.raises(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
            assert not await self.rows(sessions, conversation_id)


@ANSWERS.wrong("lost")
def nothing_complete():
    class TestBadDay:
        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(Exception):  # noqa: B017
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                assert all(message.status != "complete" for message in await session.scalars(mine))


@ANSWERS.wrong("cut in silence")
def whether_it_raises_or_not():
    class TestBadDay:
        async def test_cut(self, sessions, reply, conversation_id):
            try:
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            except Exception as error:
                print(error)
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                message = (await session.scalars(mine)).one()
            assert message.status == "aborted" and message.content


@ANSWERS.wrong("apology")
def no_look_at_the_table():
    class TestBadDay:
        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(Exception):  # noqa: B017
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                message = (await session.scalars(mine)).one()
            assert message.status == "aborted" and message.content

        async def test_refused(self, sessions, reply, conversation_id):
            with pytest.raises(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)


@ANSWERS.wrong("refused in silence")
def rows_only():
    class TestBadDay:
        async def rows(self, sessions, conversation_id):
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                return (await session.scalars(mine)).all()

        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(Exception):  # noqa: B017
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            [row] = await self.rows(sessions, conversation_id)
            assert row.status == "aborted" and row.content

        async def test_refused(self, sessions, reply, conversation_id):
            with contextlib.suppress(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
            assert not await self.rows(sessions, conversation_id)


@ANSWERS.wrong("empty")
def status_and_no_text():
    class TestBadDay:
        async def rows(self, sessions, conversation_id):
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                return (await session.scalars(mine)).all()

        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(openai.APIError):
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            assert [row.status for row in await self.rows(sessions, conversation_id)] == ["aborted"]


@ANSWERS.wrong("row left")
def no_complete_row():
    class TestBadDay:
        async def rows(self, sessions, conversation_id):
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                return (await session.scalars(mine)).all()

        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(openai.APIError):
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            [row] = await self.rows(sessions, conversation_id)
            assert row.status == "aborted" and row.content

        async def test_refused(self, sessions, reply, conversation_id):
            with pytest.raises(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
            assert not [row for row in await self.rows(sessions, conversation_id) if row.status == "complete"]


@ANSWERS.wrong("left streaming")
def any_status_will_do():
    class TestBadDay:
        async def rows(self, sessions, conversation_id):
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                return (await session.scalars(mine)).all()

        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(openai.APIError):
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            [row] = await self.rows(sessions, conversation_id)
            assert row.status == "aborted" and row.content

        async def test_refused(self, sessions, reply, conversation_id):
            with pytest.raises(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
            assert not await self.rows(sessions, conversation_id)

        async def test_refused_once(self, sessions, reply, conversation_id):
            answer = await reply(sessions, openai_client(fail_first=1, retry_after_ms=1), conversation_id)
            assert [row.content for row in await self.rows(sessions, conversation_id)] == [answer]


@ANSWERS.wrong("false alarm")
def looks_all_the_time():
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'"

    class TestBadDay:
        async def test_slow(self, engine, sessions, reply, conversation_id):
            seen = []
            async with engine.connect() as connection:
                looking = await connection.execution_options(isolation_level="AUTOCOMMIT")
                asking = asyncio.create_task(reply(sessions, openai_client(latency_ms=100), conversation_id))
                while not asking.done():
                    seen.append(await looking.scalar(text(idle)))
                    await asyncio.sleep(0.015)
                await asking
            assert (1, 1) not in itertools.pairwise(seen)  # not only for a moment


@ANSWERS.wrong("no second try")
def refused_for_good_and_cut():
    class TestBadDay:
        async def rows(self, sessions, conversation_id):
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                return (await session.scalars(mine)).all()

        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(Exception):  # noqa: B017
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            [row] = await self.rows(sessions, conversation_id)
            assert row.status == "aborted" and row.content

        async def test_refused(self, sessions, reply, conversation_id):
            with pytest.raises(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
            assert not await self.rows(sessions, conversation_id)


@ANSWERS.wrong("held")
def slow_and_looked_at_afterwards():
    class TestBadDay:
        async def rows(self, sessions, conversation_id):
            async with sessions() as session:
                mine = select(Message).where(Message.conversation_id == conversation_id, Message.role == "assistant")
                return (await session.scalars(mine)).all()

        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(Exception):  # noqa: B017
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
            [row] = await self.rows(sessions, conversation_id)
            assert row.status == "aborted" and row.content

        async def test_refused(self, sessions, reply, conversation_id):
            with pytest.raises(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
            assert not await self.rows(sessions, conversation_id)

        async def test_slow(self, engine, sessions, reply, conversation_id):
            await reply(sessions, openai_client(latency_ms=50, fail_first=1, retry_after_ms=1), conversation_id)
            assert [row.status for row in await self.rows(sessions, conversation_id)] == ["complete"]
            async with engine.connect() as connection:
                idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = "
                assert await connection.scalar(text(f"{idle} current_database()")) == 0


@ANSWERS.wrong("only in one order")
def counts_all_rows_there_are():
    class TestBadDay:
        async def test_refused(self, sessions, reply, conversation_id):
            with pytest.raises(openai.RateLimitError):
                await reply(sessions, openai_client(status=429, retry_after_ms=1), conversation_id)
            async with sessions() as session:
                assert not (await session.scalars(select(Message).where(Message.role == "assistant"))).all()

        async def test_cut(self, sessions, reply, conversation_id):
            with pytest.raises(Exception):  # noqa: B017
                await reply(sessions, openai_client(break_stream_after=3), conversation_id)
