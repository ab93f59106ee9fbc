"""Answers to 1.1, somebody signs up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import async_sessionmaker

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("1.1")


@ANSWERS.right
async def add_flush_commit(session, email, name):
    user = User(email=email, name=name)
    session.add(user)
    await session.flush()
    user_id = user.id
    await session.commit()
    return user_id


@ANSWERS.right
async def begin_block(session, email, name):
    async with session.begin():
        user = User(email=email, name=name)
        session.add(user)
    return user.id


@ANSWERS.right
async def core_returning(session, email, name):
    result = await session.execute(insert(User).values(email=email, name=name).returning(User.id))
    user_id = result.scalar_one()
    await session.commit()
    return user_id


@ANSWERS.right
async def raw_sql(session, email, name):
    statement = text("INSERT INTO users (email, name) VALUES (:email, :name) RETURNING id")
    user_id = await session.scalar(statement, {"email": email, "name": name})
    await session.commit()
    return user_id


@ANSWERS.right
async def session_of_its_own(session, email, name):
    async with async_sessionmaker(session.bind, expire_on_commit=False)() as own, own.begin():
        user = User(email=email, name=name)
        own.add(user)
        await own.flush()
        return user.id


@ANSWERS.right
async def id_made_here(session, email, name):
    user_id = uuid4()
    session.add(User(id=user_id, email=email, name=name))
    await session.commit()
    await session.close()
    return user_id


async def tries():
    try:
        while True:
            yield None
    finally:
        await asyncio.sleep(0)


@ANSWERS.right
async def leaves_a_generator_early(session, email, name):
    async for _ in tries():
        id = await core_returning(session, email, name)
        break
    return id


async def _with_model(model, session, email, name):
    async with session:
        row = model(email=email, name=name)
        session.add(row)
        await session.commit()
        await session.refresh(row)
        return row.id


ANSWERS.right(partial(_with_model, User))
ANSWERS.right(lambda session, email, name: add_flush_commit(session, email, name))


class Callable:
    async def __call__(self, session, email, name):
        return await core_returning(session, email, name)


ANSWERS.right(Callable())


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, email, name):
    session.add(User(email=email, name=name))
    await session.commit()


@ANSWERS.wrong("not an id")
async def returns_the_user(session, email, name):
    user = User(email=email, name=name)
    session.add(user)
    await session.commit()
    return user


@ANSWERS.wrong("not an id")
async def id_as_text(session, email, name):
    return str(await core_returning(session, email, name))


@ANSWERS.wrong("not committed")
async def flush_only(session, email, name):
    user = User(email=email, name=name)
    session.add(user)
    await session.flush()
    return user.id


TASKS = set()


@ANSWERS.wrong("still at work")
async def nobody_waits_for_the_commit(session, email, name):
    user = User(email=email, name=name)
    session.add(user)
    await session.flush()
    TASKS.add(asyncio.create_task(session.commit()))
    return user.id


@ANSWERS.wrong("several rows")
async def adds_and_inserts(session, email, name):
    user = User(email=email, name=name)
    session.add(user)
    await session.execute(insert(User).values(email=f"copy.{email}", name=name))
    await session.commit()
    return user.id


@ANSWERS.wrong("other values")
async def email_for_a_name(session, email, name):
    user = User(email=email, name=email)
    session.add(user)
    await session.commit()
    return user.id


@ANSWERS.wrong("wrong id")
async def id_of_its_own_invention(session, email, name):
    session.add(User(email=email, name=name))
    await session.commit()
    return uuid4()


@ANSWERS.wrong("wrong id")
async def id_of_the_newest(session, email, name):
    session.add(User(email=email, name=name))
    await session.commit()
    return await session.scalar(select(User.id).order_by(User.created_at.desc()).limit(1))


@ANSWERS.wrong("not the default")
async def limit_of_its_own(session, email, name):
    user = User(email=email, name=name, token_limit=10_000)
    session.add(user)
    await session.commit()
    return user.id


@ANSWERS.wrong("another moment")
async def stamped_when_defined(session, email, name, now=datetime.now(UTC)):  # noqa: B008
    user = User(email=email, name=name, created_at=now, updated_at=now)
    session.add(user)
    await session.commit()
    return user.id


@ANSWERS.wrong("other values")
async def name_cut(session, email, name):
    return await core_returning(session, email, name[:50])


@ANSWERS.wrong("taken")
async def who_is_there_is_renamed(session, email, name):
    statement = upsert(User).values(email=email, name=name)
    statement = statement.on_conflict_do_update(index_elements=["email"], set_={"name": name}).returning(User.id)
    user_id = await session.scalar(statement)
    await session.commit()
    return user_id


@ANSWERS.wrong("others changed")
async def everybody_is_touched(session, email, name):
    user_id = await core_returning(session, email, name)
    await session.execute(update(User).where(User.id != user_id).values(updated_at=func.now()))
    await session.commit()
    return user_id


@ANSWERS.wrong("injection")
async def quotes_doubled_by_hand(session, email, name):
    name = name.replace("'", "''")
    user_id = await session.scalar(text(f"INSERT INTO users (email, name) VALUES ('{email}', '{name}') RETURNING id"))
    await session.commit()
    return user_id


@ANSWERS.wrong("forgotten await")
async def flush_not_awaited(session, email, name):
    session.add(User(email=email, name=name))
    return session.commit()


@ANSWERS.wrong("not async")
def plain_function(session, email, name):
    session.add(User(email=email, name=name))
    return func.uuidv7()


@ANSWERS.wrong("raised")
async def unknown_column(session, email, name):
    user = User(mail=email, name=name)
    session.add(user)
    await session.commit()
    return user.id
