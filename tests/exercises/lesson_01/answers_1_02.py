"""Answers to 1.2, who is logging in."""

from __future__ import annotations

from sqlalchemy import func, select, text

from course_lib.models import User
from tests.exercises.written import Answers

ANSWERS = Answers("1.2")


@ANSWERS.right
async def lower_column(session, email):
    result = await session.execute(select(User).where(func.lower(User.email) == func.lower(email)))
    return result.scalar_one_or_none()


@ANSWERS.right
async def filter_by(session, email):
    return (await session.scalars(select(User).filter_by(email=email.lower()))).first()


@ANSWERS.right
async def raw_sql(session, email):
    statement = select(User).from_statement(text("SELECT * FROM users WHERE email = lower(:email)"))
    return (await session.scalars(statement, {"email": email})).one_or_none()


@ANSWERS.right
async def ilike_escaped(session, email):
    for sign in "\\%_":
        email = email.replace(sign, f"\\{sign}")
    return await session.scalar(select(User).where(User.email.ilike(email)))


@ANSWERS.right
async def two_steps(session, email):
    user_id = await session.scalar(select(User.id).where(User.email == email.lower()))
    return await session.get(User, user_id) if user_id else None


@ANSWERS.right
async def row_unpacked(session, email):
    async with session.begin():
        row = (await session.execute(select(User).where(User.email == email.lower()).limit(1))).first()
        return row[0] if row else None


@ANSWERS.wrong("not found")
async def forgot_return(session, email):
    await session.scalar(select(User).where(User.email == email.lower()))


@ANSWERS.wrong("not found")
async def upper_against_lower(session, email):
    return await session.scalar(select(User).where(User.email == email.upper()))


@ANSWERS.wrong("not a user")
async def row(session, email):
    return (await session.execute(select(User).where(User.email == email.lower()))).first()


@ANSWERS.wrong("not a user")
async def only_the_id(session, email):
    return await session.scalar(select(User.id).where(User.email == email.lower()))


@ANSWERS.wrong("not a user")
async def raw_row(session, email):
    statement = text("SELECT * FROM users WHERE email = lower(:email)")
    return (await session.execute(statement, {"email": email})).one_or_none()


@ANSWERS.wrong("somebody else")
async def first_of_all(session, email):
    return await session.scalar(select(User).order_by(User.created_at).limit(1))


@ANSWERS.wrong("case")
async def exact(session, email):
    return await session.scalar(select(User).where(User.email == email))


@ANSWERS.wrong("raises for nobody")
async def one(session, email):
    return (await session.scalars(select(User).where(User.email == email.lower()))).one()


@ANSWERS.wrong("raises for nobody")
async def none_not_handled(session, email):
    row = (await session.execute(select(User).where(User.email == email.lower()))).first()
    return row[0]


@ANSWERS.wrong("invented")
async def creates_on_the_fly(session, email):
    user = await session.scalar(select(User).where(User.email == email.lower()))
    return user or User(email=email.lower(), name="new")


@ANSWERS.wrong("wildcard")
async def ilike(session, email):
    return (await session.scalars(select(User).where(User.email.ilike(email)))).first()


@ANSWERS.wrong("wildcard")
async def like_one_or_none(session, email):
    return (await session.scalars(select(User).where(User.email.like(email.lower())))).one_or_none()


@ANSWERS.wrong("wildcard")
async def regular_expression(session, email):
    return (await session.scalars(select(User).where(User.email.op("~*")(f"^{email}$")))).first()


@ANSWERS.wrong("invented")
async def begins_with(session, email):
    return await session.scalar(select(User).where(User.email.startswith(email.lower(), autoescape=True)))


@ANSWERS.wrong("injection")
async def quotes_doubled_by_hand(session, email):
    safe = email.replace("'", "''")
    return await session.scalar(select(User).where(text(f"email = lower('{safe}')")))


@ANSWERS.wrong("not found")
async def quotes_taken_out(session, email):
    return await session.scalar(select(User).where(User.email == email.lower().replace("'", "")))


@ANSWERS.wrong("not found")
async def casefold(session, email):
    return await session.scalar(select(User).where(User.email == email.casefold()))


@ANSWERS.wrong("invented")
async def tag_cut_off(session, email):
    local, at, host = email.lower().partition("@")
    found = await session.scalar(select(User).where(User.email == email.lower()))
    return found or await session.scalar(select(User).where(User.email == local.partition("+")[0] + at + host))


@ANSWERS.wrong("invented")
async def backslash_not_escaped(session, email):
    pattern = email.replace("%", "\\%").replace("_", "\\_")
    return await session.scalar(select(User).where(User.email.ilike(pattern)))


@ANSWERS.wrong("raises for nobody")
async def refuses_what_is_no_address(session, email):
    if "@" not in email:
        raise ValueError("not an e-mail address")
    return await session.scalar(select(User).where(User.email == email.lower()))


IDS: dict[str, object] = {}


@ANSWERS.wrong("remembered")
async def ids_kept(session, email):
    email = email.lower()
    if email not in IDS:
        found = await session.scalar(select(User.id).where(User.email == email))
        if found is None:
            return None
        IDS[email] = found
    return await session.get(User, IDS[email])


@ANSWERS.wrong("loaded everything")
async def loop_in_python(session, email):
    for user in await session.scalars(select(User)):
        if user.email == email.lower():
            return user
    return None


@ANSWERS.wrong("unreadable")
async def expired(session, email):
    user = await session.scalar(select(User).where(User.email == email.lower()))
    await session.rollback()
    return user
