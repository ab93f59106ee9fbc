"""Answers to J5, everybody's title changed."""

from __future__ import annotations

from sqlalchemy import delete, func, select, text, update

from course_lib.models import Conversation
from tests.exercises.written import Answers

ANSWERS = Answers("J5")
IN_SQL = text("UPDATE conversations SET title = :title WHERE user_id = :user_id AND id = ANY(:ids) RETURNING id")


def marked(user_id, ids):
    return Conversation.user_id == user_id, Conversation.id.in_(ids)


def renaming(title, *conditions):
    return update(Conversation).where(*conditions).values(title=title)


@ANSWERS.right
async def returning(session, user_id, ids, title):
    renamed = await session.scalars(renaming(title, *marked(user_id, ids)).returning(Conversation.id))
    count = len(renamed.all())
    await session.commit()
    return count


@ANSWERS.right
async def as_objects(session, user_id, ids, title):
    conversations = (await session.scalars(select(Conversation).where(*marked(user_id, ids)))).all()
    for conversation in conversations:
        conversation.title = title
    await session.commit()
    return len(conversations)


@ANSWERS.right
async def by_the_ids_that_were_found(session, user_id, ids, title):
    own = (await session.scalars(select(Conversation.id).where(*marked(user_id, ids)))).all()
    await session.execute(renaming(title, Conversation.id.in_(own)))
    await session.commit()
    return len(own)


@ANSWERS.right
async def one_by_one(session, user_id, ids, title):
    count = 0
    async with session.begin():
        for id in set(ids):
            renamed = await session.execute(renaming(title, Conversation.id == id, Conversation.user_id == user_id))
            count += renamed.rowcount
    return count


@ANSWERS.right
async def in_sql(session, user_id, ids, title):
    renamed = await session.execute(IN_SQL, {"title": title, "user_id": user_id, "ids": ids})
    count = len(renamed.all())
    await session.commit()
    return count


@ANSWERS.wrong("strangers")
async def by_ids_alone(session, user_id, ids, title):
    renamed = await session.execute(renaming(title, Conversation.id.in_(ids)))
    await session.commit()
    return renamed.rowcount


@ANSWERS.wrong("strangers")
async def looks_and_takes_the_list_all_the_same(session, user_id, ids, title):
    own = (await session.scalars(select(Conversation.id).where(*marked(user_id, ids)))).all()
    if own:
        await session.execute(renaming(title, Conversation.id.in_(ids)))
        await session.commit()
    return len(own)


@ANSWERS.wrong("own others")
async def the_owner_beside_the_titles(session, user_id, ids, title):
    titles = (await session.scalars(select(Conversation.title).where(*marked(user_id, ids)))).all()
    await session.execute(renaming(title, Conversation.user_id == user_id, Conversation.title.in_(titles)))
    await session.commit()
    return await session.scalar(select(func.count()).where(*marked(user_id, ids)))


@ANSWERS.wrong("own others")
async def everything_of_the_user(session, user_id, ids, title):
    renamed = await session.execute(renaming(title, Conversation.user_id == user_id))
    await session.commit()
    return renamed.rowcount


@ANSWERS.wrong("wrong count")
async def as_many_as_asked_for(session, user_id, ids, title):
    await session.execute(renaming(title, *marked(user_id, ids)))
    await session.commit()
    return len(ids)


@ANSWERS.wrong("wrong count")
async def as_many_as_different_ids(session, user_id, ids, title):
    await session.execute(renaming(title, *marked(user_id, ids)))
    await session.commit()
    return len(set(ids))


@ANSWERS.wrong("wrong count")
async def only_those_with_another_title(session, user_id, ids, title):
    renamed = await session.execute(renaming(title, *marked(user_id, ids), Conversation.title != title))
    await session.commit()
    return renamed.rowcount


@ANSWERS.wrong("not renamed")
async def all_or_nothing(session, user_id, ids, title):
    own = (await session.scalars(select(Conversation.id).where(*marked(user_id, ids)))).all()
    if len(own) < len(set(ids)):
        return 0
    await session.execute(renaming(title, Conversation.id.in_(own)))
    await session.commit()
    return len(own)


@ANSWERS.wrong("not renamed")
async def only_the_first(session, user_id, ids, title):
    for id in ids:
        renamed = await session.execute(renaming(title, Conversation.id == id, Conversation.user_id == user_id))
        await session.commit()
        return renamed.rowcount
    return 0


@ANSWERS.wrong("not stored")
async def never_committed(session, user_id, ids, title):
    return (await session.execute(renaming(title, *marked(user_id, ids)))).rowcount


@ANSWERS.wrong("not a number")
async def forgotten_return(session, user_id, ids, title):
    await session.execute(renaming(title, *marked(user_id, ids)))
    await session.commit()


@ANSWERS.wrong("others changed")
async def cleared_away_besides(session, user_id, ids, title):
    renamed = await session.execute(renaming(title, *marked(user_id, ids)))
    await session.execute(delete(Conversation).where(Conversation.user_id == user_id, Conversation.id.not_in(ids)))
    await session.commit()
    return renamed.rowcount
