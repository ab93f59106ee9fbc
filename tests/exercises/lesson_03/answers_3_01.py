"""Answers to 3.1, all or nothing."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from course_lib.models import Conversation, Message, User
from tests.exercises.written import Answers

ANSWERS = Answers("3.1")


def rows(email, name, question):
    """The three as one tree of objects."""
    message = Message(seq=1, role="user", content=question)
    conversation = Conversation(title="Welcome", messages=[message])
    return User(email=email, name=name, conversations=[conversation])


@ANSWERS.right
async def one_tree_of_objects(sessions, email, name, question):
    async with sessions() as session:
        user = rows(email, name, question)
        session.add(user)
        await session.commit()
        return user.id


@ANSWERS.right
async def begin_inside_the_session(sessions, email, name, question):
    async with sessions() as session, session.begin():
        user_id = await session.scalar(insert(User).values(email=email, name=name).returning(User.id))
        statement = insert(Conversation).values(user_id=user_id, title="Welcome").returning(Conversation.id)
        conversation_id = await session.scalar(statement)
        await session.execute(
            insert(Message).values(conversation_id=conversation_id, seq=1, role="user", content=question)
        )
    return user_id


@ANSWERS.right
async def one_statement(sessions, email, name, question):
    sql = """
        WITH u AS (INSERT INTO users (email, name) VALUES (:email, :name) RETURNING id),
             c AS (INSERT INTO conversations (user_id, title) SELECT id, 'Welcome' FROM u RETURNING id, user_id)
        INSERT INTO messages (conversation_id, seq, role, content)
        SELECT id, 1, 'user', :question FROM c RETURNING (SELECT user_id FROM c)
    """
    async with sessions.begin() as session:
        return await session.scalar(text(sql), {"email": email, "name": name, "question": question})


@ANSWERS.right
async def by_hand(sessions, email, name, question):
    session = sessions()
    try:
        user = User(email=email, name=name)
        session.add(user)
        await session.flush()
        conversation = Conversation(user_id=user.id, title="Welcome")
        session.add(conversation)
        await session.flush()
        session.add(Message(conversation_id=conversation.id, seq=1, role="user", content=question))
        await session.commit()
        return user.id
    except Exception:
        await session.rollback()
        raise
    finally:
        await session.close()


@ANSWERS.right
async def looks_first_and_says_it_in_its_own_words(sessions, email, name, question):
    if question is None:
        raise ValueError("a question, please")
    async with sessions() as session:
        if await session.scalar(select(User.id).where(User.email == email)):
            raise ValueError("taken")
        await session.rollback()
        async with session.begin(), session.begin_nested():
            user = rows(email, name, question)
            session.add(user)
        return user.id


@ANSWERS.wrong("raised")
async def takes_an_email_for_a_pattern(sessions, email, name, question):
    async with sessions.begin() as session:
        if await session.scalar(select(User.id).where(User.email.ilike(email))):
            raise ValueError("taken")
        user = rows(email, name, question)
        session.add(user)
        await session.flush()
        return user.id


@ANSWERS.wrong("raised")
async def email_inside_the_sql(sessions, email, name, question):
    sql = f"INSERT INTO users (email, name) VALUES ('{email}', :name) RETURNING id"
    async with sessions.begin() as session:
        user_id = await session.scalar(text(sql), {"name": name})
        conversation = Conversation(user_id=user_id, title="Welcome")
        conversation.messages = [Message(seq=1, role="user", content=question)]
        session.add(conversation)
    return user_id


@ANSWERS.wrong("nothing returned")
async def forgot_return(sessions, email, name, question):
    async with sessions.begin() as session:
        session.add(rows(email, name, question))


@ANSWERS.wrong("not an id")
async def returns_the_user(sessions, email, name, question):
    async with sessions.begin() as session:
        user = rows(email, name, question)
        session.add(user)
    return user


@ANSWERS.wrong("not stored")
async def forgot_commit(sessions, email, name, question):
    async with sessions() as session:
        user = rows(email, name, question)
        session.add(user)
        await session.flush()
        return user.id


@ANSWERS.wrong("rows missing")
async def a_conversation_without_message(sessions, email, name, question):
    async with sessions.begin() as session:
        user = User(email=email, name=name, conversations=[Conversation(title="Welcome")])
        session.add(user)
    return user.id


@ANSWERS.wrong("wrong value")
async def counts_from_zero_plus_ten(sessions, email, name, question):
    async with sessions.begin() as session:
        user = rows(email, name, question)
        user.conversations[0].messages[0].seq = 10
        session.add(user)
    return user.id


@ANSWERS.wrong("wrong id")
async def id_of_the_conversation(sessions, email, name, question):
    async with sessions.begin() as session:
        user = rows(email, name, question)
        session.add(user)
    return user.conversations[0].id


@ANSWERS.wrong("something stayed")
async def a_commit_for_each_row(sessions, email, name, question):
    async with sessions() as session:
        user = User(email=email, name=name)
        session.add(user)
        await session.commit()
        conversation = Conversation(user_id=user.id, title="Welcome")
        session.add(conversation)
        await session.commit()
        session.add(Message(conversation_id=conversation.id, seq=1, role="user", content=question))
        await session.commit()
        return user.id


@ANSWERS.wrong("something stayed")
async def a_transaction_for_the_user(sessions, email, name, question):
    async with sessions.begin() as session:
        user = User(email=email, name=name)
        session.add(user)
    async with sessions.begin() as session:
        message = Message(seq=1, role="user", content=question)
        session.add(Conversation(user_id=user.id, title="Welcome", messages=[message]))
    return user.id


@ANSWERS.wrong("something stayed")
async def savepoint_for_the_message_only(sessions, email, name, question):
    async with sessions() as session:
        user = User(email=email, name=name, conversations=[Conversation(title="Welcome")])
        session.add(user)
        await session.flush()
        try:
            async with session.begin_nested():
                session.add(Message(conversation_id=user.conversations[0].id, seq=1, role="user", content=question))
        finally:
            await session.commit()
        return user.id


@ANSWERS.wrong("error swallowed")
async def rolls_back_and_says_none(sessions, email, name, question):
    async with sessions() as session:
        try:
            user = rows(email, name, question)
            session.add(user)
            await session.commit()
            return user.id
        except IntegrityError:
            await session.rollback()


@ANSWERS.wrong("error swallowed")
async def the_other_users_id(sessions, email, name, question):
    try:
        async with sessions.begin() as session:
            user = rows(email, name, question)
            session.add(user)
    except IntegrityError:
        if question is None:
            raise
        async with sessions() as session:
            return await session.scalar(select(User.id).where(User.email == email))
    return user.id


@ANSWERS.wrong("several transactions")
async def tidies_up_afterwards(sessions, email, name, question):
    async with sessions() as session:
        user = User(email=email, name=name)
        session.add(user)
        await session.commit()
        user_id = user.id
        try:
            message = Message(seq=1, role="user", content=question)
            session.add(Conversation(user_id=user_id, title="Welcome", messages=[message]))
            await session.commit()
        except Exception:
            await session.rollback()
            await session.execute(delete(User).where(User.id == user_id))
            await session.commit()
            raise
        return user_id


@ANSWERS.wrong("connection kept")
async def closes_when_all_is_well(sessions, email, name, question):
    session = sessions()
    user = rows(email, name, question)
    session.add(user)
    await session.commit()
    await session.close()
    return user.id


UNDER_WAY: set[str] = set()


@ANSWERS.wrong("no second try")
async def remembers_who_tried(sessions, email, name, question):
    if email in UNDER_WAY:
        raise ValueError("this sign-up is under way")
    UNDER_WAY.add(email)
    async with sessions.begin() as session:
        user = rows(email, name, question)
        session.add(user)
    UNDER_WAY.remove(email)
    return user.id


@ANSWERS.wrong("wrong id")
async def id_of_the_newest(sessions, email, name, question):
    async with sessions.begin() as session:
        session.add(rows(email, name, question))
    async with sessions() as session:
        return await session.scalar(select(User.id).order_by(User.created_at.desc(), User.id.desc()).limit(1))


@ANSWERS.wrong("wrong id")
async def id_by_name(sessions, email, name, question):
    async with sessions.begin() as session:
        session.add(rows(email, name, question))
    async with sessions() as session:
        return await session.scalar(select(User.id).where(User.name == name).limit(1))


@ANSWERS.wrong("stored all the same")
async def small_letters(sessions, email, name, question):
    async with sessions.begin() as session:
        user = rows(email.lower(), name, question)
        session.add(user)
    return user.id


@ANSWERS.wrong("stored all the same")
async def an_empty_question(sessions, email, name, question):
    async with sessions.begin() as session:
        user = rows(email, name, question or "")
        session.add(user)
    return user.id


@ANSWERS.wrong("others changed")
async def renamed_for_nothing(sessions, email, name, question):
    async with sessions.begin() as session:
        await session.execute(update(User).where(User.email == email).values(name=name))
    async with sessions.begin() as session:
        user = rows(email, name, question)
        session.add(user)
    return user.id
