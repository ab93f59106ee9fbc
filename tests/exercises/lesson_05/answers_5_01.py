"""5.1: read, let go, ask, store."""

import asyncio

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from course_lib.models import Conversation, Message
from tests.exercises.written import Answers

ANSWERS = Answers("5.1")
SEQ = text("SELECT seq FROM messages WHERE conversation_id = :id")


async def history_of(session, conversation_id):
    """The messages as dicts, and the highest number."""
    said = (
        await session.scalars(select(Message).where(Message.conversation_id == conversation_id).order_by(Message.seq))
    ).all()
    return [{"role": m.role, "content": m.content} for m in said], said[-1].seq if said else 0


def turn(conversation_id, seq, role, content):
    return Message(conversation_id=conversation_id, seq=seq, role=role, content=content)


async def store(sessions, conversation_id, last, question, reply):
    async with sessions.begin() as session:
        session.add(turn(conversation_id, last + 1, "user", question))
        session.add(turn(conversation_id, last + 2, "assistant", reply))


@ANSWERS.right
async def two_sessions(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
    reply = await ask_model([*messages, {"role": "user", "content": question}])
    await store(sessions, conversation_id, last, question, reply)
    return reply


@ANSWERS.right
async def one_session_commits_before(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        said = (
            await session.scalars(
                select(Message).where(Message.conversation_id == conversation_id).order_by(Message.seq)
            )
        ).all()
        await session.commit()
        messages = [{"role": m.role, "content": m.content} for m in said]  # expire_on_commit is False
        reply = await ask_model([*messages, {"role": "user", "content": question}])
        last = said[-1].seq if said else 0
        session.add(turn(conversation_id, last + 1, "user", question))
        session.add(turn(conversation_id, last + 2, "assistant", reply))
        await session.commit()
        return reply


@ANSWERS.right
async def rolls_back_and_reads_the_number_later(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, _ = await history_of(session, conversation_id)
        await session.rollback()
        messages.append({"role": "user", "content": question})
        reply = await ask_model(tuple(messages))
        last = await session.scalar(
            select(func.coalesce(func.max(Message.seq), 0)).where(Message.conversation_id == conversation_id)
        )
        new = [("user", question), ("assistant", reply)]
        await session.execute(
            insert(Message),
            [
                {"conversation_id": conversation_id, "seq": last + n, "role": role, "content": content}
                for n, (role, content) in enumerate(new, 1)
            ],
        )
        await session.commit()
    return reply


@ANSWERS.right
async def closes_and_goes_on_with_it(sessions, ask_model, conversation_id, question):
    session = sessions()
    try:
        messages, last = await history_of(session, conversation_id)
        await session.close()
        reply = await ask_model([*messages, {"role": "user", "content": question}])
        session.add_all(
            [turn(conversation_id, last + 1, "user", question), turn(conversation_id, last + 2, "assistant", reply)]
        )
        await session.commit()
    finally:
        await session.close()
    return reply


@ANSWERS.right
async def the_question_first(sessions, ask_model, conversation_id, question):
    async with sessions.begin() as session:
        messages, last = await history_of(session, conversation_id)
        session.add(turn(conversation_id, last + 1, "user", question))
    reply = await ask_model([*messages, {"role": "user", "content": question}])
    async with sessions.begin() as session:
        session.add(turn(conversation_id, last + 2, "assistant", reply))
    return reply


@ANSWERS.right
async def in_sql(sessions, ask_model, conversation_id, question):
    read = text("SELECT role, content FROM messages WHERE conversation_id = :id ORDER BY seq")
    write = text(
        "INSERT INTO messages (conversation_id, seq, role, content) "
        "SELECT :id, coalesce(max(seq), 0) + 1, :role, :content FROM messages WHERE conversation_id = :id"
    )
    async with sessions() as session:
        rows = (await session.execute(read, {"id": conversation_id})).mappings().all()
    messages = [dict(row) for row in rows] + [{"role": "user", "content": question}]
    reply = await ask_model(messages)
    async with sessions.begin() as session:
        for role, content in (("user", question), ("assistant", reply)):
            await session.execute(write, {"id": conversation_id, "role": role, "content": content})
    return reply


@ANSWERS.wrong("connection held")
async def holds(sessions, ask_model, conversation_id, question):
    async with sessions.begin() as session:
        messages, last = await history_of(session, conversation_id)
        reply = await ask_model([*messages, {"role": "user", "content": question}])
        session.add(turn(conversation_id, last + 1, "user", question))
        session.add(turn(conversation_id, last + 2, "assistant", reply))
    return reply


@ANSWERS.wrong("connection held")
async def holds_one_of_its_own(sessions, ask_model, conversation_id, question):
    engine = create_async_engine(sessions.kw["bind"].url)
    async with AsyncSession(engine) as session:
        messages, last = await history_of(session, conversation_id)
        reply = await ask_model([*messages, {"role": "user", "content": question}])
        await session.commit()
    await engine.dispose()
    await store(sessions, conversation_id, last, question, reply)
    return reply


@ANSWERS.wrong("connection held")
async def only_flushes(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
        session.add(turn(conversation_id, last + 1, "user", question))
        await session.flush()
        reply = await ask_model([*messages, {"role": "user", "content": question}])
        session.add(turn(conversation_id, last + 2, "assistant", reply))
        await session.commit()
    return reply


@ANSWERS.wrong("not asked")
async def an_echo(sessions, ask_model, conversation_id, question):
    await store(sessions, conversation_id, 500, question, question)
    return question


@ANSWERS.wrong("unloaded")
async def reads_after_a_rollback(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        said = (
            await session.scalars(
                select(Message).where(Message.conversation_id == conversation_id).order_by(Message.seq)
            )
        ).all()
        await session.rollback()
        return await ask_model([{"role": m.role, "content": m.content} for m in said])


@ANSWERS.wrong("unloaded")
async def reads_what_was_never_loaded(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        conversation = await session.get(Conversation, conversation_id)
    return await ask_model([{"role": m.role, "content": m.content} for m in conversation.messages])


@ANSWERS.wrong("not messages")
async def the_question_alone(sessions, ask_model, conversation_id, question):
    return await ask_model(question)


@ANSWERS.wrong("not messages")
async def objects(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        said = (await session.scalars(select(Message).where(Message.conversation_id == conversation_id))).all()
    return await ask_model(said)


@ANSWERS.wrong("history missing")
async def without_history(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        _, last = await history_of(session, conversation_id)
    reply = await ask_model([{"role": "user", "content": question}])
    await store(sessions, conversation_id, last, question, reply)
    return reply


@ANSWERS.wrong("history missing")
async def the_last_twenty(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
    reply = await ask_model([*messages[-20:], {"role": "user", "content": question}])
    await store(sessions, conversation_id, last, question, reply)
    return reply


REMEMBERED = {}


@ANSWERS.wrong("history missing")
async def remembers(sessions, ask_model, conversation_id, question):
    if conversation_id not in REMEMBERED:
        async with sessions() as session:
            REMEMBERED[conversation_id] = await history_of(session, conversation_id)
    messages, last = REMEMBERED[conversation_id]
    messages.append({"role": "user", "content": question})
    reply = await ask_model(messages)
    await store(sessions, conversation_id, last, question, reply)
    REMEMBERED[conversation_id] = [*messages, {"role": "assistant", "content": reply}], last + 2
    return reply


@ANSWERS.wrong("given twice")
async def the_question_is_among_them(sessions, ask_model, conversation_id, question):
    async with sessions.begin() as session:
        _, last = await history_of(session, conversation_id)
        session.add(turn(conversation_id, last + 1, "user", question))
        await session.flush()
        messages, last = await history_of(session, conversation_id)
    reply = await ask_model([*messages, {"role": "user", "content": question}])
    async with sessions.begin() as session:
        session.add(turn(conversation_id, last + 1, "assistant", reply))
    return reply


@ANSWERS.wrong("wrong order")
async def unordered(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        said = (await session.scalars(select(Message).where(Message.conversation_id == conversation_id))).all()
    messages = [{"role": m.role, "content": m.content} for m in said]
    reply = await ask_model([*messages, {"role": "user", "content": question}])
    await store(sessions, conversation_id, max((m.seq for m in said), default=0), question, reply)
    return reply


@ANSWERS.wrong("wrong messages")
async def everybodys(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        said = (await session.scalars(select(Message).order_by(Message.seq))).all()
    messages = [{"role": m.role, "content": m.content} for m in said]
    return await ask_model([*messages, {"role": "user", "content": question}])


@ANSWERS.wrong("nothing returned")
async def without_return(sessions, ask_model, conversation_id, question):
    await two_sessions(sessions, ask_model, conversation_id, question)


@ANSWERS.wrong("wrong reply")
async def returns_the_message(sessions, ask_model, conversation_id, question):
    reply = await two_sessions(sessions, ask_model, conversation_id, question)
    return {"role": "assistant", "content": reply}


@ANSWERS.wrong("not stored")
async def stores_the_question_only(sessions, ask_model, conversation_id, question):
    async with sessions.begin() as session:
        messages, last = await history_of(session, conversation_id)
        session.add(turn(conversation_id, last + 1, "user", question))
    return await ask_model([*messages, {"role": "user", "content": question}])


STORING = set()


@ANSWERS.wrong("stored late")
async def stores_in_a_task(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
    reply = await ask_model([*messages, {"role": "user", "content": question}])
    STORING.add(task := asyncio.create_task(store(sessions, conversation_id, last, question, reply)))
    task.add_done_callback(STORING.discard)
    return reply


@ANSWERS.wrong("too many")
async def the_question_twice(sessions, ask_model, conversation_id, question):
    async with sessions.begin() as session:
        messages, last = await history_of(session, conversation_id)
        session.add(turn(conversation_id, last + 1, "user", question))
    reply = await ask_model([*messages, {"role": "user", "content": question}])
    await store(sessions, conversation_id, last + 1, question, reply)
    return reply


@ANSWERS.wrong("wrong number")
async def counts(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, _ = await history_of(session, conversation_id)
    reply = await ask_model([*messages, {"role": "user", "content": question}])
    async with sessions.begin() as session:
        taken = {number for (number,) in await session.execute(SEQ, {"id": conversation_id})}
        free = [number for number in range(len(messages) + 1, 99) if number not in taken]
        session.add(turn(conversation_id, free[0], "user", question))
        session.add(turn(conversation_id, free[1], "assistant", reply))
    return reply


@ANSWERS.wrong("wrong number")
async def leaves_a_gap(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
    reply = await ask_model([*messages, {"role": "user", "content": question}])
    await store(sessions, conversation_id, last + 1, question, reply)
    return reply


@ANSWERS.wrong("wrong message")
async def the_other_way_round(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
    reply = await ask_model([*messages, {"role": "user", "content": question}])
    async with sessions.begin() as session:
        session.add(turn(conversation_id, last + 2, "user", question))
        session.add(turn(conversation_id, last + 1, "assistant", reply))
    return reply


@ANSWERS.wrong("error swallowed")
async def swallows(sessions, ask_model, conversation_id, question):
    try:
        return await two_sessions(sessions, ask_model, conversation_id, question)
    except RuntimeError:
        return "I am sorry."


@ANSWERS.wrong("another error")
async def says_what_it_never_got(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
    try:
        reply = await ask_model([*messages, {"role": "user", "content": question}])
    except Exception:
        messages.clear()
    await store(sessions, conversation_id, last, question, reply)
    return reply


@ANSWERS.wrong("another error")
async def another_error_of_the_model(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
    try:
        reply = await ask_model([*messages, {"role": "user", "content": question}])
    except RuntimeError:
        raise ConnectionError("try again later") from None
    await store(sessions, conversation_id, last, question, reply)
    return reply


ONE_AT_A_TIME = asyncio.Semaphore(2)


@ANSWERS.wrong("one after another")
async def two_at_a_time(sessions, ask_model, conversation_id, question):
    async with ONE_AT_A_TIME:
        return await two_sessions(sessions, ask_model, conversation_id, question)


@ANSWERS.wrong("timed out")
async def holds_for_known_users_only(sessions, ask_model, conversation_id, question):
    async with sessions() as session:
        messages, last = await history_of(session, conversation_id)
        if len(messages) != 2:
            await session.commit()
        reply = await ask_model([*messages, {"role": "user", "content": question}])
    await store(sessions, conversation_id, last, question, reply)
    return reply
