"""Answers to 10.4, read your own writes from a replica."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tests.exercises.written import Answers

ANSWERS = Answers("10.4")
NOW = text("SELECT pg_current_wal_insert_lsn()::text")
THERE = text("SELECT pg_last_wal_replay_lsn() >= CAST(CAST(:token AS text) AS pg_lsn)")


async def rows_of(engine, statement):
    async with engine.connect() as connection:
        return list((await connection.execute(statement)).all())


class Base:
    """What most answers have in common."""

    pause = 0.01
    position = NOW
    reached = THERE

    def __init__(self, primary, replica):
        self.primary, self.replica = primary, replica

    async def write(self, statement):
        async with self.primary.connect() as connection:
            await connection.execute(statement)
            await connection.commit()
            return str((await connection.execute(self.position)).scalar_one())

    async def has(self, connection, token):
        return (await connection.execute(self.reached, {"token": token})).scalar()

    async def read(self, statement, token=None, patience=1.0):
        deadline = time.monotonic() + patience
        try:
            async with self.replica.connect() as connection:
                while token is not None and not await self.has(connection, token):
                    if time.monotonic() > deadline:
                        return await rows_of(self.primary, statement)
                    await asyncio.sleep(self.pause)
                return (await connection.execute(statement)).all()
        except (OSError, DBAPIError):
            return await rows_of(self.primary, statement)


@ANSWERS.right
class Router(Base):
    pass


@ANSWERS.right
class WithATimeout:
    def __init__(self, primary, replica):
        self.primary, self.replica = primary, replica

    async def write(self, statement):
        async with self.primary.begin() as connection:
            await connection.execute(statement)
        async with self.primary.connect() as connection:
            return (await connection.execute(text("SELECT CAST(pg_current_wal_lsn() AS text)"))).scalar_one()

    async def caught_up(self, token):
        while True:
            async with self.replica.connect() as connection:
                replayed = (await connection.execute(text("SELECT pg_last_wal_replay_lsn()::text"))).scalar()
            if replayed and self.number(replayed) >= self.number(token):
                return
            await asyncio.sleep(0.02)

    @staticmethod
    def number(lsn):
        high, low = lsn.split("/")
        return (int(high, 16) << 32) + int(low, 16)

    async def read(self, statement, token=None, patience=1.0):
        try:
            if token:
                await asyncio.wait_for(self.caught_up(token), patience)
            return await rows_of(self.replica, statement)
        except (TimeoutError, OSError, SQLAlchemyError):
            return await rows_of(self.primary, statement)


@ANSWERS.right
class AsAWholeNumber(Base):
    """asyncpg makes a number of a pg_lsn."""

    position = text("SELECT pg_current_wal_flush_lsn()")

    async def has(self, connection, token):
        replayed = (await connection.execute(text("SELECT pg_last_wal_replay_lsn()"))).scalar()
        return replayed is not None and int(replayed) >= int(token)


@ANSWERS.right
class ReplicaFirst(Base):
    """Looks first whether it is a standby at all."""

    async def read(self, statement, token=None, patience=1.0):
        try:
            async with asyncio.timeout(patience), self.replica.connect() as connection:
                standby = (await connection.execute(text("SELECT pg_is_in_recovery()"))).scalar()
                while standby and token and not await self.has(connection, token):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                return (await connection.execute(statement)).all()
        except (TimeoutError, OSError, DBAPIError, asyncpg.PostgresError):
            return await rows_of(self.primary, statement)


@ANSWERS.wrong("method missing")
class NoRead:
    def __init__(self, primary, replica):
        self.primary = primary

    async def write(self, statement):
        return "0/0"


@ANSWERS.wrong("not written")
class HalfWritten:
    def __init__(self, primary, replica):
        self.primary = primary

    async def write(self, statement):
        async with self.primary.begin() as connection:
            await connection.execute(statement)
        return ""

    async def read(self, statement, token=None, patience=1.0):
        raise NotImplementedError


@ANSWERS.wrong("no token")
class ReturnsNothing(Base):
    async def write(self, statement):
        await super().write(statement)


@ANSWERS.wrong("not stored")
class NeverCommits(Base):
    async def write(self, statement):
        async with self.primary.connect() as connection:
            await connection.execute(statement)
            return str((await connection.execute(NOW)).scalar_one())


@ANSWERS.wrong("other rows")
class Titles(Base):
    async def read(self, statement, token=None, patience=1.0):
        return [row[0] for row in await super().read(statement, token, patience)]


@ANSWERS.wrong("primary asked")
class AlwaysThePrimary(Base):
    async def read(self, statement, token=None, patience=1.0):
        return await rows_of(self.primary, statement)


@ANSWERS.wrong("primary asked")
class TokensGoToThePrimary(Base):
    async def read(self, statement, token=None, patience=1.0):
        return await rows_of(self.primary if token else self.replica, statement)


@ANSWERS.wrong("primary asked")
class ComparesWithThePrimarysPosition(Base):
    async def has(self, connection, token):
        async with self.primary.connect() as primary:
            newest = (await primary.execute(NOW)).scalar_one()
        return await super().has(connection, newest)


@ANSWERS.wrong("waits for others")
class WaitsUntilNothingIsLeft(Base):
    """The replica has received what it has not replayed."""

    reached = text("SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() OR CAST(:token AS text) IS NULL")


@ANSWERS.wrong("stale")
class AlwaysTheReplica(Base):
    async def read(self, statement, token=None, patience=1.0):
        try:
            return await rows_of(self.replica, statement)
        except (OSError, DBAPIError):
            return await rows_of(self.primary, statement)


@ANSWERS.wrong("stale")
class Received(Base):
    reached = text("SELECT pg_last_wal_receive_lsn() >= CAST(CAST(:token AS text) AS pg_lsn)")


@ANSWERS.wrong("stale")
class AsTexts(Base):
    reached = text("SELECT pg_last_wal_replay_lsn()::text >= CAST(:token AS text)")


@ANSWERS.wrong("stale")
class WaitsAndTakesWhatIsThere(Base):
    async def read(self, statement, token=None, patience=1.0):
        deadline = time.monotonic() + patience
        try:
            async with self.replica.connect() as connection:
                while token and not await self.has(connection, token) and time.monotonic() < deadline:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                return (await connection.execute(statement)).all()
        except (OSError, DBAPIError):
            return await rows_of(self.primary, statement)


@ANSWERS.wrong("stale before commit")
class BeforeTheCommit(Base):
    async def write(self, statement):
        async with self.primary.begin() as connection:
            await connection.execute(statement)
            return str((await connection.execute(NOW)).scalar_one())


@ANSWERS.wrong("stale before commit")
class ByTransaction(Base):
    """A snapshot of a standby does not list what is in progress: it takes the transaction for visible too early."""

    async def write(self, statement):
        async with self.primary.begin() as connection:
            await connection.execute(statement)
            return str((await connection.execute(text("SELECT pg_current_xact_id()::text"))).scalar_one())

    reached = text("SELECT pg_visible_in_snapshot(CAST(CAST(:token AS text) AS xid8), pg_current_snapshot())")


@ANSWERS.wrong("gave up")
class AsksOnce(Base):
    async def read(self, statement, token=None, patience=1.0):
        return await super().read(statement, token, 0)


@ANSWERS.wrong("slept on")
class SleepsThePatience(Base):
    async def read(self, statement, token=None, patience=1.0):
        self.pause = patience - 0.05
        return await super().read(statement, token, patience)


@ANSWERS.wrong("waited too long")
class ForALongTime(Base):
    async def read(self, statement, token=None, patience=1.0):
        return await super().read(statement, token, 5)


@ANSWERS.wrong("no token, no wait")
class WaitsWithoutAToken(Base):
    async def write(self, statement):
        self.last = await super().write(statement)
        return self.last

    async def read(self, statement, token=None, patience=1.0):
        return await super().read(statement, token or self.last, patience)


@ANSWERS.wrong("fell with it")
class OnlyTimeouts(Base):
    async def read(self, statement, token=None, patience=1.0):
        deadline = time.monotonic() + patience
        async with self.replica.connect() as connection:
            while token is not None and not await self.has(connection, token):
                if time.monotonic() > deadline:
                    return await rows_of(self.primary, statement)
                await asyncio.sleep(0.01)
            return (await connection.execute(statement)).all()


@ANSWERS.wrong("fell with it")
class OnlyTheDriversErrors(Base):
    async def read(self, statement, token=None, patience=1.0):
        try:
            return await OnlyTimeouts.read(self, statement, token, patience)
        except DBAPIError:
            return await rows_of(self.primary, statement)


@ANSWERS.wrong("no standby")
class ComparesNothing(Base):
    async def has(self, connection, token):
        replayed = (await connection.execute(text("SELECT pg_last_wal_replay_lsn()"))).scalar()
        return replayed >= int(token)

    position = text("SELECT pg_current_wal_insert_lsn()")


@ANSWERS.wrong("connection held")
class KeepsConnections(Base):
    async def write(self, statement):
        self.kept = connection = await self.primary.connect()
        await connection.execute(statement)
        await connection.commit()
        token = str((await connection.execute(NOW)).scalar_one())
        await connection.commit()
        if "held by the judge" not in str(statement.compile().params):
            await connection.close()
        return token


@ANSWERS.wrong("cancelled")
class ThePrimaryHasItInAnyCase(Base):
    async def read(self, statement, token=None, patience=1.0):
        try:
            return await super().read(statement, token, patience)
        except BaseException:
            return await rows_of(self.primary, statement)


@ANSWERS.wrong("gave up")
class HardlyPatient(Base):
    async def read(self, statement, token=None, patience=0.1):
        return await super().read(statement, token, patience)


@ANSWERS.wrong("only here")
class KeepsThemForAllOfItsKind(Base):
    positions: ClassVar[dict[str, str]] = {}

    async def write(self, statement):
        token = f"write {len(self.positions) + 1}"
        self.positions[token] = await super().write(statement)
        return token

    async def read(self, statement, token=None, patience=1.0):
        return await super().read(statement, self.positions.get(token), patience)


@ANSWERS.wrong("only here")
class KeepsThePositions(Base):
    def __init__(self, primary, replica):
        super().__init__(primary, replica)
        self.positions = {}

    async def write(self, statement):
        token = f"write {len(self.positions) + 1}"
        self.positions[token] = await super().write(statement)
        return token

    async def read(self, statement, token=None, patience=1.0):
        return await super().read(statement, self.positions.get(token), patience)
