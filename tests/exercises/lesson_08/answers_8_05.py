"""8.5: stream, and keep what was said."""

import asyncio
from typing import Annotated
from uuid import UUID

import anyio
from fastapi import APIRouter, BackgroundTasks, Body, Depends, HTTPException
from fastapi.responses import StreamingResponse
from sqlalchemy import func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from course_lib.models import Conversation, Message
from course_lib.repositories.lasting import uninterrupted
from tests.exercises.written import Answers

ANSWERS = Answers("8.5")
Question = Annotated[str, Body(embed=True)]


async def store(sessions, conversation_id, role, content, status="complete"):
    mine = Message.conversation_id == conversation_id
    seq = select(func.coalesce(func.max(Message.seq), 0) + 1).where(mine).scalar_subquery()
    row = {"conversation_id": conversation_id, "seq": seq, "role": role, "content": content, "status": status}
    async with sessions.begin() as session:
        await session.execute(insert(Message).values(**row))


async def ask(sessions, conversation_id, question):
    try:
        await store(sessions, conversation_id, "user", question)
    except IntegrityError as error:
        raise HTTPException(404) from error


def routed(sessions, told, before=ask):
    """A router from ``told(conversation_id, question)``, which yields."""
    router = APIRouter()

    @router.post("/conversations/{conversation_id}/answers")
    async def answer(conversation_id: UUID, question: Question):
        await before(sessions, conversation_id, question)
        return StreamingResponse(told(conversation_id, question), media_type="text/plain")

    return router


@ANSWERS.right
def by_a_task_that_is_awaited_to_its_end(sessions, model):
    async def told(conversation_id, question):
        said, status = "", "aborted"
        try:
            async for token in model(question):
                said += token
                yield token.encode()
            status = "complete"
        finally:
            if said:
                await uninterrupted(store(sessions, conversation_id, "assistant", said, status))

    return routed(sessions, told)


@ANSWERS.right
def each_ending_by_itself(sessions, model):
    async def told(conversation_id, question):
        said = []
        try:
            async for token in model(question):
                said.append(token)
                yield token
        except BaseException:
            with anyio.CancelScope(shield=True):
                if said:
                    await store(sessions, conversation_id, "assistant", "".join(said), "aborted")
            raise
        await store(sessions, conversation_id, "assistant", "".join(said))

    return routed(sessions, told)


# wrong ones


def in_finally(keep, collect=False):
    """An answer that is right but for ``keep(sessions, …)``, which is awaited in a ``finally``."""

    def answers(sessions, model):
        async def told(conversation_id, question):
            said, status = [], "aborted"
            try:
                async for token in model(question):
                    said.append(token)
                    if not collect:
                        yield token
                status = "complete"
                if collect:
                    yield "".join(said)
            finally:
                if said:
                    await keep(sessions, conversation_id, "assistant", "".join(said), status)

        return routed(sessions, told)

    return answers


async def shielded(*what):
    with anyio.CancelScope(shield=True):
        await store(*what)


@ANSWERS.wrong("not refused")
def leaves_the_404_to_the_stream(sessions, model):
    async def told(conversation_id, question):
        async with sessions() as session:
            if await session.get(Conversation, conversation_id) is None:
                raise HTTPException(404)
        await store(sessions, conversation_id, "user", question)
        async for token in model(question):
            yield token

    async def nothing(*_):
        pass

    return routed(sessions, told, nothing)


@ANSWERS.wrong("no stream")
def answers_201(sessions, model):
    router = APIRouter()

    @router.post("/conversations/{conversation_id}/answers")
    async def answer(conversation_id: UUID, question: Question):
        await ask(sessions, conversation_id, question)
        return StreamingResponse(model(question), 201)

    return router


@ANSWERS.wrong("question missing")
def stores_the_turn_at_its_end(sessions, model):
    async def look(sessions, conversation_id, question):
        async with sessions() as session:
            if await session.get(Conversation, conversation_id) is None:
                raise HTTPException(404)

    async def told(conversation_id, question):
        said = []
        async for token in model(question):
            said.append(token)
            yield token
        await store(sessions, conversation_id, "user", question)
        await store(sessions, conversation_id, "assistant", "".join(said))

    return routed(sessions, told, look)


@ANSWERS.wrong("collected")
def says_all_at_once(sessions, model):
    return in_finally(shielded, collect=True)(sessions, model)


@ANSWERS.wrong("wrong text")
def as_events(sessions, model):
    async def told(conversation_id, question):
        said = []
        async for token in model(question):
            said.append(token)
            yield token
            await asyncio.sleep(0)
        await store(sessions, conversation_id, "assistant", "".join(said))
        yield "[DONE]"

    return routed(sessions, told)


@ANSWERS.wrong("connection held")
def in_one_session(sessions, model):
    async def session():
        async with sessions() as session:
            yield session

    router = APIRouter()

    @router.post("/conversations/{conversation_id}/answers")
    async def answer(conversation_id: UUID, question: Question, session: Annotated[object, Depends(session)]):
        if await session.get(Conversation, conversation_id) is None:
            raise HTTPException(404)
        await ask(sessions, conversation_id, question)

        async def told():
            said = []
            async for token in model(question):
                said.append(token)
                yield token
            await store(sessions, conversation_id, "assistant", "".join(said))

        return StreamingResponse(told())

    return router


@ANSWERS.wrong("told too early")
def in_a_background_task(sessions, model):
    router = APIRouter()

    @router.post("/conversations/{conversation_id}/answers")
    async def answer(conversation_id: UUID, question: Question, tasks: BackgroundTasks):
        await ask(sessions, conversation_id, question)
        said, status = [], ["aborted"]

        async def told():
            async for token in model(question):
                said.append(token)
                yield token
            status[0] = "complete"

        async def keep():
            if said:
                await store(sessions, conversation_id, "assistant", "".join(said), status[0])

        tasks.add_task(keep)
        return StreamingResponse(told())

    return router


@ANSWERS.wrong("not kept")
def stores_the_last_token(sessions, model):
    async def told(conversation_id, question):
        async for token in model(question):
            yield token
        await store(sessions, conversation_id, "assistant", token)

    return routed(sessions, told)


@ANSWERS.wrong("lost")
def in_a_finally_that_is_cancelled(sessions, model):
    return in_finally(store)(sessions, model)


@ANSWERS.wrong("went on")
def lets_a_task_of_its_own_ask_the_model(sessions, model):
    async def told(conversation_id, question):
        queue = asyncio.Queue()

        async def produce():
            said = []
            async for token in model(question):
                said.append(token)
                await queue.put(token)
            await store(sessions, conversation_id, "assistant", "".join(said))
            await queue.put(None)

        producing = asyncio.create_task(produce())
        try:
            while (token := await queue.get()) is not None:
                yield token
        finally:
            with anyio.CancelScope(shield=True):
                await producing

    return routed(sessions, told)


@ANSWERS.wrong("left behind")
def in_a_task_that_nobody_waits_for(sessions, model):
    async def keep(*what):
        await asyncio.shield(store(*what))

    return in_finally(keep)(sessions, model)


@ANSWERS.wrong("failure hidden")
def ends_well_in_any_case(sessions, model):
    async def told(conversation_id, question):
        said, status = [], "aborted"
        try:
            async for token in model(question):
                said.append(token)
                yield token
            status = "complete"
        except RuntimeError:
            pass
        finally:
            if said:
                await shielded(sessions, conversation_id, "assistant", "".join(said), status)

    return routed(sessions, told)


@ANSWERS.wrong("nothing said")
def stores_nothing_as_an_answer(sessions, model):
    async def told(conversation_id, question):
        said, status = [], "aborted"
        try:
            async for token in model(question):
                said.append(token)
                yield token
            status = "complete"
        finally:
            await shielded(sessions, conversation_id, "assistant", "".join(said), status)

    return routed(sessions, told)


@ANSWERS.wrong("swallowed")
def takes_every_error_for_no_conversation(sessions, model):
    async def ask_or_404(sessions, conversation_id, question):
        try:
            await store(sessions, conversation_id, "user", question)
        except DBAPIError as error:
            raise HTTPException(404) from error

    async def told(conversation_id, question):
        said, status = "", "aborted"
        try:
            async for token in model(question):
                said += token
                yield token
            status = "complete"
        finally:
            if said:
                await uninterrupted(store(sessions, conversation_id, "assistant", said, status))

    return routed(sessions, told, before=ask_or_404)
