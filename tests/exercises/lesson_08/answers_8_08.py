"""8.8: start, be ready, drain."""

import asyncio
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import BackgroundTasks, Body, FastAPI, HTTPException, Response
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from tests.exercises.written import Answers

ANSWERS = Answers("8.8")
INSERT = text("INSERT INTO answers VALUES (:question, :reply)")


class Service:
    """An app made of parts; the wrong answers change one."""

    engine_options = {"pool_pre_ping": True}  # noqa: RUF012

    def __init__(self, url, ask_model, stopping):
        self.url, self.ask_model, self.stopping = url, ask_model, stopping
        self.app = FastAPI(lifespan=self.lifespan)
        self.app.get("/livez")(self.alive)
        self.app.get("/readyz")(self.ready)
        self.app.post("/questions", status_code=201)(self.ask)

    async def start(self):
        self.engine = create_async_engine(self.url, **self.engine_options)
        self.sessions = async_sessionmaker(self.engine)

    async def end(self):
        await self.engine.dispose()

    @asynccontextmanager
    async def lifespan(self, app):
        await self.start()
        try:
            yield
        finally:
            await self.end()

    async def alive(self):
        return Response(status_code=200)

    async def database_answers(self):
        try:
            async with asyncio.timeout(5), self.sessions() as session:
                await session.execute(text("SELECT 1"))
        except Exception:
            return False
        return True

    async def ready(self):
        good = not self.stopping.is_set() and await self.database_answers()
        return JSONResponse({"ready": good}, 200 if good else 503)

    def admit(self):
        if self.stopping.is_set():
            raise HTTPException(503, headers={"Retry-After": "1"})

    async def ask(self, question: Annotated[str, Body(embed=True)]):
        self.admit()
        reply = await self.ask_model(question)
        await self.store(question, reply)
        return {"reply": reply}

    async def store(self, question, reply):
        async with self.sessions.begin() as session:
            await session.execute(INSERT, {"question": question, "reply": reply})


def of(kind):
    """The answer with this app."""

    def make_service(url, ask_model, stopping):
        return kind(url, ask_model, stopping).app

    make_service.__name__ = kind.__name__
    return make_service


@ANSWERS.right
@of
class InParts(Service):
    pass


@ANSWERS.right
@of
class TriesTwice(Service):
    """Without a ping: what a dead connection was good for is tried again on another one."""

    engine_options = {"pool_size": 2, "max_overflow": 0}  # noqa: RUF012

    async def database_answers(self):
        return await super().database_answers() or await super().database_answers()

    async def store(self, question, reply):
        try:
            await super().store(question, reply)
        except Exception:
            await super().store(question, reply)


@ANSWERS.wrong("not started")
@of
class LooksFirst(Service):
    async def start(self):
        await super().start()
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))


@ANSWERS.wrong("not alive")
@of
class AsksTheDatabase(Service):
    async def alive(self):
        return await self.ready()


@ANSWERS.wrong("wrong readiness")
@of
class LookedOnce(Service):
    async def start(self):
        await super().start()
        self.there = await super().database_answers()

    async def database_answers(self):
        return self.there


@ANSWERS.wrong("wrong readiness")
@of
class ReadyToTheEnd(Service):
    async def ready(self):
        return Response(status_code=200 if await self.database_answers() else 503)


@ANSWERS.wrong("not answered")
@of
class DeadConnections(Service):
    engine_options = {}  # noqa: RUF012


@ANSWERS.wrong("told too early")
@of
class StoresBehindTheResponse(Service):
    async def ask(self, question: Annotated[str, Body(embed=True)], later: BackgroundTasks):
        self.admit()
        reply = await self.ask_model(question)
        later.add_task(self.store, question, reply)
        return {"reply": reply}


@ANSWERS.wrong("one for each")
@of
class WithoutAPool(Service):
    engine_options = {"poolclass": NullPool}  # noqa: RUF012


@ANSWERS.wrong("taken in")
@of
class TakesEverything(Service):
    def admit(self):
        pass


@ANSWERS.wrong("broken off")
@of
class LooksAgain(Service):
    async def store(self, question, reply):
        self.admit()
        await super().store(question, reply)


@ANSWERS.wrong("left open")
@of
class EndedTooEarly(Service):
    """Closed when the process is told to stop: whoever is under way opens another connection."""

    async def start(self):
        await super().start()
        self.watching = asyncio.create_task(self.watch())

    async def watch(self):
        await self.stopping.wait()
        await self.engine.dispose()

    async def end(self):
        await self.watching


@ANSWERS.wrong("wrong readiness")
@of
class NeitherPingsNorLooksAgain(Service):
    """Questions are stored at the second try; readiness has one."""

    engine_options = {"pool_size": 2, "max_overflow": 0}  # noqa: RUF012

    async def store(self, question, reply):
        try:
            await super().store(question, reply)
        except Exception:
            await super().store(question, reply)
