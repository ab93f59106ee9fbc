"""5.2: nothing is held between two pieces, and what was said is kept."""

import asyncio
from contextlib import aclosing

from sqlalchemy import insert, update

from course_lib.models import Message
from tests.exercises.lesson_05.answers_5_01 import history_of, turn
from tests.exercises.written import Answers

ANSWERS = Answers("5.2")


async def begin(sessions, conversation_id, question):
    """Store the question; the messages for the model, and its number."""
    async with sessions.begin() as session:
        messages, last = await history_of(session, conversation_id)
        session.add(turn(conversation_id, last + 1, "user", question))
    return [*messages, {"role": "user", "content": question}], last + 1


async def keep(sessions, conversation_id, seq, pieces, status):
    async with sessions.begin() as session:
        answer = turn(conversation_id, seq, "assistant", "".join(pieces))
        answer.status = status
        session.add(answer)


@ANSWERS.right
async def with_finally(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async with aclosing(ask_model(messages)) as stream:
            async for piece in stream:
                pieces.append(piece)
                yield piece
        status = "complete"
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, status)


@ANSWERS.right
async def with_base_exception(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    text = ""
    try:
        async for piece in ask_model(messages):
            text += piece
            yield piece
    except BaseException:
        await keep(sessions, conversation_id, last + 1, text, "aborted")
        raise
    await keep(sessions, conversation_id, last + 1, text, "complete")


@ANSWERS.right
async def a_row_that_is_streaming(sessions, ask_model, conversation_id, question):
    async with sessions.begin() as session:
        messages, last = await history_of(session, conversation_id)
        session.add(turn(conversation_id, last + 1, "user", question))
        answer = turn(conversation_id, last + 2, "assistant", "")
        answer.status = "streaming"
        session.add(answer)
    messages.append({"role": "user", "content": question})
    text, status = "", "aborted"
    try:
        async for piece in ask_model(messages):
            text += piece
            yield piece
        status = "complete"
    finally:
        async with sessions.begin() as session:
            await session.execute(update(Message).where(Message.id == answer.id).values(content=text, status=status))


@ANSWERS.right
async def both_at_the_end(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
    messages.append({"role": "user", "content": question})
    pieces, complete = [], False
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
        complete = True
    finally:
        async with sessions.begin() as session:
            status = "complete" if complete else "aborted"
            rows = [("user", question, "complete"), ("assistant", "".join(pieces), status)]
            for n, (role, content, status) in enumerate(rows, 1):
                await session.execute(
                    insert(Message).values(
                        conversation_id=conversation_id, seq=last + n, role=role, content=content, status=status
                    )
                )


@ANSWERS.right
async def one_session_that_commits(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
        session.add(turn(conversation_id, last + 1, "user", question))
        await session.commit()
        answer = turn(conversation_id, last + 2, "assistant", "")
        answer.status = "aborted"
        try:
            async for piece in ask_model([*messages, {"role": "user", "content": question}]):
                answer.content += piece
                yield piece
            answer.status = "complete"
        finally:
            session.add(answer)
            await session.commit()


@ANSWERS.right
async def a_shielded_task_stores(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
        status = "complete"
    finally:
        await asyncio.shield(asyncio.create_task(keep(sessions, conversation_id, last + 1, pieces, status)))


@ANSWERS.right
class Stream:
    """An iterator by hand that reads ahead of its reader."""

    def __init__(self, sessions, ask_model, conversation_id, question):
        self.pieces = with_finally(sessions, ask_model, conversation_id, question)

    def __aiter__(self):
        return self.pieces

    def __anext__(self):
        return self.pieces.__anext__()

    async def aclose(self):
        await self.pieces.aclose()


@ANSWERS.wrong("not a generator")
async def a_list(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces = [piece async for piece in ask_model(messages)]
    await keep(sessions, conversation_id, last + 1, pieces, "complete")
    return pieces


@ANSWERS.wrong("not asked")
async def asks_nobody(sessions, ask_model, conversation_id, question):
    await begin(sessions, conversation_id, question)
    yield question


@ANSWERS.wrong("wrong messages")
async def the_question_alone(sessions, ask_model, conversation_id, question):
    _, last = await begin(sessions, conversation_id, question)
    pieces = []
    async for piece in ask_model([{"role": "user", "content": question}]):
        pieces.append(piece)
        yield piece
    await keep(sessions, conversation_id, last + 1, pieces, "complete")


@ANSWERS.wrong("connection held")
async def streams_inside_of_the_session(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
        session.add(turn(conversation_id, last + 1, "user", question))
        await session.flush()
        answer = turn(conversation_id, last + 2, "assistant", "")
        async for piece in ask_model([*messages, {"role": "user", "content": question}]):
            answer.content += piece
            yield piece
        session.add(answer)
        await session.commit()


@ANSWERS.wrong("buffered")
async def gathers_first(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces = [piece async for piece in ask_model(messages)]
    await keep(sessions, conversation_id, last + 1, pieces, "complete")
    for piece in pieces:
        yield piece


@ANSWERS.wrong("wrong pieces")
async def strips(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces = []
    async for piece in ask_model(messages):
        pieces.append(piece)
        yield piece.strip()
    await keep(sessions, conversation_id, last + 1, pieces, "complete")


@ANSWERS.wrong("question not stored")
async def without_the_question(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
    pieces = []
    async for piece in ask_model([*messages, {"role": "user", "content": question}]):
        pieces.append(piece)
        yield piece
    await keep(sessions, conversation_id, last + 1, pieces, "complete")


@ANSWERS.wrong("not stored")
async def only_streams(sessions, ask_model, conversation_id, question):
    messages, _ = await begin(sessions, conversation_id, question)
    async for piece in ask_model(messages):
        yield piece


@ANSWERS.wrong("stored piecemeal")
async def piece_by_piece(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    await keep(sessions, conversation_id, last + 1, "", "aborted")
    mine = update(Message).where(Message.conversation_id == conversation_id, Message.seq == last + 1)
    async for piece in ask_model(messages):
        async with sessions.begin() as session:
            await session.execute(mine.values(content=Message.content + piece))
        yield piece
    async with sessions.begin() as session:
        await session.execute(mine.values(status="complete"))


@ANSWERS.wrong("too many")
async def the_question_twice(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces = []
    async for piece in ask_model(messages):
        pieces.append(piece)
        yield piece
    _, last = await begin(sessions, conversation_id, question)
    await keep(sessions, conversation_id, last + 1, pieces, "complete")


@ANSWERS.wrong("wrong message")
async def only_the_last_piece(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    status, piece = "aborted", ""
    try:
        async for piece in ask_model(messages):
            yield piece
        status = "complete"
    finally:
        await keep(sessions, conversation_id, last + 1, piece, status)


@ANSWERS.wrong("not complete")
async def always_aborted(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces = []
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, "aborted")


@ANSWERS.wrong("lost with the client")
async def catches_exceptions(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces = []
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
    except Exception:
        await keep(sessions, conversation_id, last + 1, pieces, "aborted")
        raise
    await keep(sessions, conversation_id, last + 1, pieces, "complete")


@ANSWERS.wrong("lost with the model")
async def knows_clients_only(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces = []
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
    except GeneratorExit:
        await keep(sessions, conversation_id, last + 1, pieces, "aborted")
        raise
    await keep(sessions, conversation_id, last + 1, pieces, "complete")


@ANSWERS.wrong("lost with the task")
async def knows_no_cancelling(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces = []
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
    except (Exception, GeneratorExit):
        await keep(sessions, conversation_id, last + 1, pieces, "aborted")
        raise
    await keep(sessions, conversation_id, last + 1, pieces, "complete")


@ANSWERS.wrong("cut short")
async def keeps_after_the_yield(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async for piece in ask_model(messages):
            yield piece
            pieces.append(piece)
        status = "complete"
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, status)


@ANSWERS.wrong("not aborted")
async def always_complete(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces = []
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, "complete")


@ANSWERS.wrong("not aborted")
async def leaves_it_streaming(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    await keep(sessions, conversation_id, last + 1, "", "streaming")
    pieces = []
    async for piece in ask_model(messages):
        pieces.append(piece)
        yield piece
    mine = update(Message).where(Message.conversation_id == conversation_id, Message.seq == last + 1)
    async with sessions.begin() as session:
        await session.execute(mine.values(content="".join(pieces), status="complete"))


TASKS = set()


@ANSWERS.wrong("stored late")
async def stores_in_a_task(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
        status = "complete"
    finally:
        TASKS.add(asyncio.create_task(keep(sessions, conversation_id, last + 1, pieces, status)))


SO_FAR = {}


@ANSWERS.wrong("wrong message")
async def goes_on_with_what_was_cut_off(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = SO_FAR.setdefault(conversation_id, []), "aborted"
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
        status = "complete"
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, status)
        if status == "complete":
            pieces.clear()


@ANSWERS.wrong("not stored")
async def nothing_is_no_answer(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
        status = "complete"
    finally:
        if pieces:
            await keep(sessions, conversation_id, last + 1, pieces, status)


@ANSWERS.wrong("another error")
async def wraps_the_error(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
        status = "complete"
    except RuntimeError as error:
        raise ConnectionError("try again later") from error
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, status)


@ANSWERS.wrong("error swallowed")
async def ends_as_if_nothing_were(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
        status = "complete"
    except RuntimeError:
        pass
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, status)


@ANSWERS.wrong("cancelling swallowed")
async def will_not_be_stopped(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async with aclosing(ask_model(messages)) as stream:
            async for piece in stream:
                pieces.append(piece)
                yield piece
        status = "complete"
    except asyncio.CancelledError:
        pass
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, status)


@ANSWERS.wrong("goes on")
async def says_goodbye(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async for piece in ask_model(messages):
            pieces.append(piece)
            yield piece
        status = "complete"
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, status)
        if status == "aborted":
            yield "…"


@ANSWERS.wrong("buffered")
async def a_task_that_reads_ahead(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status, queue = [], "aborted", asyncio.Queue()

    async def read():
        try:
            async with aclosing(ask_model(messages)) as stream:
                async for piece in stream:
                    queue.put_nowait(piece)
        finally:
            queue.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (piece := await queue.get()) is not None:
            pieces.append(piece)
            yield piece
        await reader
        status = "complete"
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await keep(sessions, conversation_id, last + 1, pieces, status)


@ANSWERS.wrong("buffered")
async def one_piece_ahead(sessions, ask_model, conversation_id, question):
    messages, last = await begin(sessions, conversation_id, question)
    pieces, status = [], "aborted"
    try:
        async with aclosing(ask_model(messages)) as stream:
            next_one = asyncio.ensure_future(anext(stream, None))
            while (piece := await next_one) is not None:
                next_one = asyncio.ensure_future(anext(stream, None))
                await asyncio.sleep(0)
                pieces.append(piece)
                yield piece
        status = "complete"
    finally:
        await keep(sessions, conversation_id, last + 1, pieces, status)
