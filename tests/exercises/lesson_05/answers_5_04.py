"""5.4: two blocks, entered in order and left in order."""

import asyncio
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from tests.exercises.written import Answers

ANSWERS = Answers("5.4")


@ANSWERS.right
@asynccontextmanager
async def two_blocks(engine, statement):
    async with engine.connect() as connection, connection.stream(statement) as rows:
        yield rows


@ANSWERS.right
@asynccontextmanager
async def by_hand(engine, statement):
    connection = await engine.connect()
    try:
        yield await connection.stream(statement)
    finally:
        await connection.close()


@ANSWERS.right
@asynccontextmanager
async def through_a_session(engine, statement):
    async with AsyncSession(engine) as session:
        yield await session.stream(statement)


@ANSWERS.right
class WithAStack:
    """What was entered is left again, when entering fails too."""

    def __init__(self, engine, statement):
        self.engine, self.statement = engine, statement
        self.stack = AsyncExitStack()

    async def __aenter__(self):
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self.engine.connect())
            rows = await stack.enter_async_context(connection.stream(self.statement))
            self.stack = stack.pop_all()
            return rows

    async def __aexit__(self, *error):
        return await self.stack.__aexit__(*error)


@ANSWERS.right
@asynccontextmanager
async def a_generator_that_is_closed(engine, statement):
    async def rows():
        async with engine.connect() as connection, connection.stream(statement) as result:
            async for row in result:
                yield row

    async with aclosing(rows()) as generator:
        yield generator


@ANSWERS.right
class CleansUpOnEntering:
    """A class whose entering gives back what it took before it fails."""

    def __init__(self, engine, statement):
        self.engine, self.statement = engine, statement

    async def __aenter__(self):
        self.connection = await self.engine.connect()
        try:
            return await self.connection.stream(self.statement)
        except BaseException:
            await self.connection.close()
            raise

    async def __aexit__(self, *_):
        await self.connection.close()


@ANSWERS.right
@asynccontextmanager
async def mappings(engine, statement):
    async with engine.connect() as connection, connection.stream(statement) as rows:
        yield rows.mappings()


@ANSWERS.wrong("not a context manager")
async def only_the_result(engine, statement):
    async with engine.connect() as connection:
        return await connection.stream(statement)


@ANSWERS.wrong("not a context manager")
async def a_bare_generator(engine, statement):
    async with engine.connect() as connection, connection.stream(statement) as rows:
        async for row in rows:
            yield row


@ANSWERS.wrong("no rows")
@asynccontextmanager
async def gives_the_connection(engine, statement):
    async with engine.connect() as connection:
        yield connection


@ANSWERS.wrong("wrong rows")
@asynccontextmanager
async def the_first_is_gone(engine, statement):
    async with engine.connect() as connection, connection.stream(statement) as rows:
        await rows.fetchone()
        yield rows


@ANSWERS.wrong("wrong rows")
@asynccontextmanager
async def scalars(engine, statement):
    async with engine.connect() as connection, connection.stream(statement) as rows:
        yield rows.scalars()


@ANSWERS.wrong("read everything")
@asynccontextmanager
async def all_at_once(engine, statement):
    async with engine.connect() as connection:
        found = (await connection.execute(statement)).all()

    async def rows():
        for row in found:
            yield row

    yield rows()


@ANSWERS.wrong("read everything")
@asynccontextmanager
async def reads_ahead(engine, statement):
    queue, end = asyncio.Queue(), object()

    async def read():
        async with engine.connect() as connection, connection.stream(statement) as result:
            async for row in result:
                queue.put_nowait(row)
        queue.put_nowait(end)

    async def rows():
        while (row := await queue.get()) is not end:
            yield row
        await reading

    reading = asyncio.create_task(read())
    try:
        yield rows()
    finally:
        reading.cancel()
        await asyncio.wait({reading})


@ANSWERS.wrong("read the rest")
@asynccontextmanager
async def tidies_the_cursor(engine, statement):
    async with engine.connect() as connection, connection.stream(statement) as rows:
        try:
            yield rows
        finally:
            async for _ in rows:
                pass


@ANSWERS.wrong("another engine")
@asynccontextmanager
async def an_engine_of_its_own(engine, statement):
    async with create_async_engine(engine.url).connect() as connection, connection.stream(statement) as rows:
        yield rows


CLOSING = set()


@ANSWERS.wrong("late")
@asynccontextmanager
async def closes_in_a_task(engine, statement):
    connection = await engine.connect()
    try:
        yield await connection.stream(statement)
    finally:
        CLOSING.add(asyncio.create_task(connection.close()))


@ANSWERS.wrong("kept at the end")
@asynccontextmanager
async def closes_the_result_only(engine, statement):
    connection = await engine.connect()
    rows = await connection.stream(statement)
    yield rows
    await rows.close()


@ANSWERS.wrong("kept after break")
class UntilTheRowsEnd:
    """Gives back when the last row was read."""

    def __init__(self, engine, statement):
        self.engine, self.statement = engine, statement

    async def __aenter__(self):
        return self.rows()

    async def rows(self):
        async with self.engine.connect() as connection, connection.stream(self.statement) as result:
            async for row in result:
                yield row

    async def __aexit__(self, *_):
        pass


@ANSWERS.wrong("kept after an error")
@asynccontextmanager
async def without_finally(engine, statement):
    connection = await engine.connect()
    yield await connection.stream(statement)
    await connection.close()


@ANSWERS.wrong("kept after a refusal")
class Leaky:
    """As the statement shows it, with its __aexit__ mended."""

    def __init__(self, engine, statement):
        self.engine, self.statement = engine, statement

    async def __aenter__(self):
        self.connection = await self.engine.connect()
        self.rows = await self.connection.stream(self.statement)
        return self.rows

    async def __aexit__(self, *_):
        await self.rows.close()
        await self.connection.close()


@ANSWERS.wrong("kept after a failure")
class BreaksOff(CleansUpOnEntering):
    """An error of the server's is taken for the end of the connection."""

    async def __aexit__(self, kind, error, traceback):
        if "division" not in str(error):
            await self.connection.close()


@ANSWERS.wrong("kept after a cancel")
@asynccontextmanager
async def takes_its_time(engine, statement):
    connection = await engine.connect()
    try:
        yield await connection.stream(statement)
    finally:
        await asyncio.sleep(0)
        await connection.close()


@ANSWERS.wrong("kept after a cancel")
@asynccontextmanager
async def except_exception(engine, statement):
    connection = await engine.connect()
    try:
        yield await connection.stream(statement)
    except Exception:
        await connection.close()
        raise
    else:
        await connection.close()


@ANSWERS.right
class EnteringKnowsExceptionsOnly:
    """SQLAlchemy itself gives back a connection whose statement was cancelled."""

    def __init__(self, engine, statement):
        self.engine, self.statement = engine, statement

    async def __aenter__(self):
        self.connection = await self.engine.connect()
        try:
            return await self.connection.stream(self.statement)
        except Exception:
            await self.connection.close()
            raise

    async def __aexit__(self, *_):
        await self.connection.close()


@ANSWERS.wrong("kept after a cancel")
class AsksInATaskOfItsOwn(CleansUpOnEntering):
    """The task goes on when who waits for it is cancelled."""

    async def __aenter__(self):
        return await asyncio.shield(super().__aenter__())


@ANSWERS.wrong("error swallowed")
@asynccontextmanager
async def suppresses(engine, statement):
    async with engine.connect() as connection, connection.stream(statement) as rows:
        with suppress(Exception):
            yield rows


@ANSWERS.wrong("unusable")
@asynccontextmanager
async def cuts_the_line(engine, statement):
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        try:
            yield await connection.stream(statement)
        finally:
            await connection.close()
            async with engine.connect() as again:
                raw = await again.get_raw_connection()
                raw.driver_connection.terminate()


@ANSWERS.wrong("another engine")
@asynccontextmanager
async def an_engine_for_each_answer(engine, statement):
    apart = create_async_engine(engine.url)
    try:
        async with apart.connect() as connection, connection.stream(statement) as rows:
            yield rows
    finally:
        await apart.dispose()
