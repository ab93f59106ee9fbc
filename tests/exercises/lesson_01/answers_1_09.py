"""Answers to 1.9, somebody leaves."""

from __future__ import annotations

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import selectinload

from course_lib.models import ApiKey, Conversation, Document, DocumentChunk, Job, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("1.9")


async def counts_of(session, user_id):
    messages = select(func.count(Message.id)).join(Conversation).where(Conversation.user_id == user_id)
    return {
        "documents": await session.scalar(select(func.count()).where(Document.user_id == user_id)),
        "conversations": await session.scalar(select(func.count()).where(Conversation.user_id == user_id)),
        "messages": await session.scalar(messages),
    }


@ANSWERS.right
async def object_deleted(session, email):
    async with session.begin():
        user = (await session.scalars(select(User).where(User.email == email))).one_or_none()
        if user is None:
            return None
        counts = await counts_of(session, user.id)
        await session.delete(user)
    return counts


@ANSWERS.right
async def raw_sql_in_one_statement(session, email):
    sql = """
        WITH gone AS (DELETE FROM users WHERE email = :email RETURNING id)
        SELECT
            (SELECT count(*) FROM documents WHERE user_id = gone.id) AS documents,
            (SELECT count(*) FROM conversations WHERE user_id = gone.id) AS conversations,
            (SELECT count(*) FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id
             WHERE c.user_id = gone.id) AS messages
        FROM gone
    """
    row = (await session.execute(text(sql), {"email": email})).mappings().one_or_none()
    await session.commit()
    return dict(row) if row else None


async def deleted_table_by_table(session, user_id, **options):
    theirs = select(Conversation.id).where(Conversation.user_id == user_id)
    own = select(Document.id).where(Document.user_id == user_id)
    counts = {}
    for name, statement in {
        "messages": delete(Message).where(Message.conversation_id.in_(theirs)),
        "conversations": delete(Conversation).where(Conversation.user_id == user_id),
        "chunks": delete(DocumentChunk).where(DocumentChunk.document_id.in_(own)),
        "jobs": delete(Job).where(Job.document_id.in_(own)),
        "documents": delete(Document).where(Document.user_id == user_id),
        "users": delete(User).where(User.id == user_id),
    }.items():
        counts[name] = (await session.execute(statement, execution_options=options)).rowcount
    await session.commit()
    return {name: counts[name] for name in ("documents", "conversations", "messages")}


@ANSWERS.right
async def table_by_table(session, email):
    user_id = await session.scalar(select(User.id).where(User.email == email))
    if not user_id:
        return None
    return await deleted_table_by_table(session, user_id, synchronize_session=False)


@ANSWERS.right
async def distinct_over_a_join(session, email):
    statement = (
        select(
            User.id,
            func.count(Document.id.distinct()),
            func.count(Conversation.id.distinct()),
            func.count(Message.id.distinct()),
        )
        .outerjoin(User.documents)
        .outerjoin(User.conversations)
        .outerjoin(Conversation.messages)
        .where(User.email == email)
        .group_by(User.id)
    )
    row = (await session.execute(statement)).first()
    if row is None:
        return None
    await session.execute(delete(User).where(User.id == row[0]))
    await session.commit()
    return {"messages": row[3], "conversations": row[2], "documents": row[1]}


async def id_of(session, email):
    return await session.scalar(select(User.id).where(User.email == email))


@ANSWERS.wrong("nothing returned")
async def forgot_return(session, email):
    await session.execute(delete(User).where(User.email == email))
    await session.commit()


@ANSWERS.wrong("not the counts")
async def a_tuple(session, email):
    user_id = await id_of(session, email)
    if user_id is None:
        return None
    counts = await counts_of(session, user_id)
    await session.execute(delete(User).where(User.id == user_id))
    await session.commit()
    return tuple(counts.values())


@ANSWERS.wrong("not committed")
async def forgot_commit(session, email):
    user_id = await id_of(session, email)
    if user_id is None:
        return None
    counts = await counts_of(session, user_id)
    await session.execute(delete(User).where(User.id == user_id))
    return counts


@ANSWERS.wrong("children let go")
async def loaded_children(session, email):
    paths = (selectinload(User.documents), selectinload(User.conversations).selectinload(Conversation.messages))
    user = await session.scalar(select(User).where(User.email == email).options(*paths))
    if user is None:
        return None
    messages = sum(len(conversation.messages) for conversation in user.conversations)
    counts = {"documents": len(user.documents), "conversations": len(user.conversations), "messages": messages}
    await session.delete(user)
    await session.commit()
    return counts


@ANSWERS.wrong("left behind")
async def the_account_stays(session, email):
    user_id = await id_of(session, email)
    if user_id is None:
        return None
    counts = await counts_of(session, user_id)
    await session.execute(delete(Document).where(Document.user_id == user_id))
    await session.execute(delete(Conversation).where(Conversation.user_id == user_id))
    await session.commit()
    return counts


@ANSWERS.wrong("left behind")
async def made_anonymous(session, email):
    user = await session.scalar(select(User).where(User.email == email))
    if user is None:
        return None
    counts = await counts_of(session, user.id)
    user.email, user.name = f"deleted.{user.id}@example.org", "deleted"
    await session.execute(delete(ApiKey).where(ApiKey.user_id == user.id))
    await session.commit()
    return counts


@ANSWERS.wrong("others deleted")
async def all_conversations(session, email):
    user_id = await id_of(session, email)
    if user_id is None:
        return None
    counts = await counts_of(session, user_id)
    await session.execute(delete(Conversation))
    await session.execute(delete(User).where(User.id == user_id))
    await session.commit()
    return counts


@ANSWERS.wrong("others deleted")
async def by_a_pattern(session, email):
    user_id = await id_of(session, email)
    if user_id is None:
        return None
    counts = await counts_of(session, user_id)
    await session.execute(delete(User).where(User.email.like(email)))
    await session.commit()
    return counts


@ANSWERS.wrong("others deleted")
async def jobs_of_nobody(session, email):
    user_id = await id_of(session, email)
    if user_id is None:
        return None
    counts = await counts_of(session, user_id)
    await session.execute(delete(Job).where(Job.document_id.is_(None)))
    await session.execute(delete(User).where(User.id == user_id))
    await session.commit()
    return counts


@ANSWERS.wrong("nothing owned")
async def inner_joins(session, email):
    statement = (
        select(User.id, *(func.count(table.id.distinct()) for table in (Document, Conversation, Message)))
        .join(User.documents)
        .join(User.conversations)
        .outerjoin(Conversation.messages)
        .where(User.email == email)
        .group_by(User.id)
    )
    row = (await session.execute(statement)).first()
    if row is None:
        return None
    await session.execute(delete(User).where(User.id == row[0]))
    await session.commit()
    return {"documents": row[1], "conversations": row[2], "messages": row[3]}


@ANSWERS.wrong("injection")
async def f_string(session, email):
    user_id = await session.scalar(text(f"SELECT id FROM users WHERE email = '{email}'"))
    if user_id is None:
        return None
    counts = await counts_of(session, user_id)
    await session.execute(delete(User).where(User.id == user_id))
    await session.commit()
    return counts


@ANSWERS.wrong("counted too late")
async def counts_afterwards(session, email):
    user_id = await id_of(session, email)
    if user_id is None:
        return None
    await session.execute(delete(User).where(User.id == user_id))
    counts = await counts_of(session, user_id)
    await session.commit()
    return counts


@ANSWERS.wrong("wrong counts")
async def multiplied(session, email):
    statement = (
        select(User.id, func.count(Document.id), func.count(Conversation.id), func.count(Message.id))
        .outerjoin(User.documents)
        .outerjoin(User.conversations)
        .outerjoin(Conversation.messages)
        .where(User.email == email)
        .group_by(User.id)
    )
    row = (await session.execute(statement)).first()
    if row is None:
        return None
    await session.execute(delete(User).where(User.id == row[0]))
    await session.commit()
    return {"documents": row[1], "conversations": row[2], "messages": row[3]}


@ANSWERS.wrong("unknown user")
async def raises_for_nobody(session, email):
    user = (await session.scalars(select(User).where(User.email == email))).one()
    counts = await counts_of(session, user.id)
    await session.delete(user)
    await session.commit()
    return counts


@ANSWERS.wrong("unknown user")
async def three_noughts_for_nobody(session, email):
    user_id = await id_of(session, email)
    counts = await counts_of(session, user_id)
    await session.execute(delete(User).where(User.email == email))
    await session.commit()
    return counts


@ANSWERS.wrong("loaded rows")
async def counts_with_len(session, email):
    paths = (selectinload(User.documents), selectinload(User.conversations).selectinload(Conversation.messages))
    user = await session.scalar(select(User).where(User.email == email).options(*paths))
    if user is None:
        return None
    counts = {
        "documents": len(user.documents),
        "conversations": len(user.conversations),
        "messages": sum(len(conversation.messages) for conversation in user.conversations),
    }
    await session.execute(delete(User).where(User.id == user.id))
    await session.commit()
    return counts


@ANSWERS.wrong("keys returned")
async def the_orm_asks_for_every_key(session, email):
    user_id = await session.scalar(select(User.id).where(User.email == email))
    return await deleted_table_by_table(session, user_id) if user_id else None


@ANSWERS.wrong("keys returned")
async def counts_what_returning_brings(session, email):
    user_id = await session.scalar(select(User.id).where(User.email == email))
    if user_id is None:
        return None
    counts = {}
    theirs = select(Conversation.id).where(Conversation.user_id == user_id)
    for name, statement in {
        "messages": delete(Message).where(Message.conversation_id.in_(theirs)).returning(Message.id),
        "conversations": delete(Conversation).where(Conversation.user_id == user_id).returning(Conversation.id),
        "documents": delete(Document).where(Document.user_id == user_id).returning(Document.id),
    }.items():
        counts[name] = len((await session.execute(statement)).all())
    await session.execute(delete(User).where(User.id == user_id))
    await session.commit()
    return counts


async def in_batches(session, user_id, of, size):
    some = select(of.id).where(of.user_id == user_id) if of is Conversation else select(of.id)
    if of is Message:
        some = some.join(Conversation).where(Conversation.user_id == user_id)
    off = {"synchronize_session": False}
    statement = delete(of).where(of.id.in_(some.limit(size)))
    while (await session.execute(statement, execution_options=off)).rowcount == size:
        pass


@ANSWERS.wrong("too many statements")
async def a_thousand_messages_at_a_time(session, email):
    user_id = await id_of(session, email)
    if user_id is None:
        return None
    counts = await counts_of(session, user_id)
    await in_batches(session, user_id, Message, 1000)
    await session.execute(delete(User).where(User.id == user_id))
    await session.commit()
    return counts


@ANSWERS.wrong("too many statements")
async def a_hundred_conversations_at_a_time(session, email):
    user_id = await id_of(session, email)
    if user_id is None:
        return None
    counts = await counts_of(session, user_id)
    await in_batches(session, user_id, Conversation, 100)
    await session.execute(delete(User).where(User.id == user_id))
    await session.commit()
    return counts


@ANSWERS.wrong("swallowed")
async def nobody_for_any_error(session, email):
    try:
        return await object_deleted(session, email)
    except Exception:
        return None
