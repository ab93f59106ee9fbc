"""8.2: 201, 409, 404, 422."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, HTTPException
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models import Document, User
from tests.exercises.written import Answers

ANSWERS = Answers("8.2")
STATUSES = {
    "uq_users_email": 409, "ck_users_email": 422, "ck_users_tokens": 422, "uq_documents_user_id_source": 409,
    "fk_documents_user_id": 404,
}  # fmt: skip


def storable(text):
    if "\0" in text or text != text.encode(errors="replace").decode():
        raise ValueError("this cannot be stored")
    return text


Text = Annotated[str, AfterValidator(storable)]


class NewUser(BaseModel):
    email: Text
    name: Text
    token_limit: int = Field(100_000, ge=0, le=2**31 - 1)


class NewDocument(BaseModel):
    title: Text
    source: Text


class UserOut(NewUser):
    id: UUID


class DocumentOut(NewDocument):
    id: UUID


def translate(app, statuses=STATUSES, name_of=lambda error: error.driver_exception.constraint_name):
    @app.exception_handler(IntegrityError)
    async def refused(request, error):
        name = name_of(error)
        if name not in statuses:
            raise error
        return JSONResponse({"detail": name}, statuses[name])


def add_routes(app, sessions, new_user=NewUser, before=None):
    @app.post("/users", status_code=201, response_model=UserOut)
    async def sign_up(new: new_user):
        async with sessions.begin() as session:
            if before:
                await before(session, new)
            user = User(**new.model_dump())
            session.add(user)
        return {"id": user.id, **new.model_dump()}

    @app.post("/users/{user_id}/documents", status_code=201, response_model=DocumentOut)
    async def upload(user_id: UUID, new: NewDocument):
        async with sessions.begin() as session:
            document = Document(user_id=user_id, **new.model_dump())
            session.add(document)
        return {"id": document.id, **new.model_dump()}


@ANSWERS.right
def by_a_handler_of_all_that_the_driver_says(app, sessions):
    """The server and the driver refuse what the schema lets through."""

    class Lax(BaseModel):
        email: str
        name: str
        token_limit: int = 100_000

    @app.exception_handler(DBAPIError)
    async def refused(request, error):
        driver = error.driver_exception
        if status := STATUSES.get(getattr(driver, "constraint_name", None)):
            return JSONResponse({}, status)
        if isinstance(error, IntegrityError):
            raise error
        return JSONResponse({}, 422)

    add_routes(app, sessions, Lax)


@ANSWERS.right
def by_statements_that_do_nothing(app, sessions):
    @app.post("/users", status_code=201)
    async def sign_up(new: NewUser):
        add = insert(User).values(**new.model_dump()).on_conflict_do_nothing(index_elements=["email"])
        async with sessions.begin() as session:
            if "@" not in new.email or new.email != new.email.lower():
                raise HTTPException(422)
            id = await session.scalar(add.returning(User.id))
        if id is None:
            raise HTTPException(409)
        return {"id": id, **new.model_dump()}

    @app.post("/users/{user_id}/documents", status_code=201)
    async def upload(user_id: UUID, new: NewDocument):
        async with sessions.begin() as session:
            if await session.get(User, user_id, with_for_update={"key_share": True}) is None:
                raise HTTPException(404)
            add = insert(Document).values(user_id=user_id, **new.model_dump())
            add = add.on_conflict_do_nothing(constraint="uq_documents_user_id_source")
            id = await session.scalar(add.returning(Document.id))
            if id is None:
                raise HTTPException(409)
        return {"id": id, **new.model_dump()}


# wrong ones


@ANSWERS.wrong("not created")
def answers_200(app, sessions):
    translate(app)

    @app.post("/users")
    async def sign_up(new: NewUser):
        async with sessions.begin() as session:
            user = User(**new.model_dump())
            session.add(user)
        return {"id": user.id, **new.model_dump()}


@ANSWERS.wrong("wrong answer")
def returns_the_model(app, sessions):
    translate(app)

    @app.post("/users", status_code=201)
    async def sign_up(new: NewUser):
        async with sessions.begin() as session:
            user = User(**new.model_dump())
            session.add(user)
        return user


@ANSWERS.wrong("not stored")
def does_not_commit(app, sessions):
    translate(app)

    @app.post("/users", status_code=201)
    async def sign_up(new: NewUser):
        async with sessions() as session:
            user = User(**new.model_dump())
            session.add(user)
            await session.flush()
            return {"id": user.id, **new.model_dump()}


@ANSWERS.wrong("taken")
def takes_every_refusal_for_nonsense(app, sessions):
    translate(app, {name: 422 for name in STATUSES})
    add_routes(app, sessions)


@ANSWERS.wrong("taken at once")
def looks_first(app, sessions):
    async def look(session, new):
        if await session.scalar(select(User.id).filter_by(email=new.email)):
            raise HTTPException(409)

    translate(app, {name: status for name, status in STATUSES.items() if name != "uq_users_email"})
    add_routes(app, sessions, before=look)


@ANSWERS.wrong("nobody's")
def looks_for_the_user_first(app, sessions):
    translate(app, {name: status for name, status in STATUSES.items() if name != "fk_documents_user_id"})

    @app.middleware("http")
    async def look(request, call_next):
        owner = request.url.path.split("/")[2:3]
        try:
            wanted = UUID(owner[0]) if owner else None
        except ValueError:
            wanted = None
        async with sessions() as session:
            if wanted and await session.get(User, wanted) is None:
                return JSONResponse({}, 404)
        return await call_next(request)

    add_routes(app, sessions)


@ANSWERS.wrong("not refused")
def lets_any_text_through(app, sessions):
    class AnyUser(BaseModel):
        email: str
        name: str
        token_limit: int = Field(100_000, ge=0, le=2**31 - 1)

    translate(app)
    add_routes(app, sessions, AnyUser)


@ANSWERS.wrong("by its text")
def reads_the_error(app, sessions):
    translate(app, name_of=lambda error: next((name for name in STATUSES if name in str(error)), None))
    add_routes(app, sessions)


@ANSWERS.wrong("unknown refusal")
def does_nothing_whatever_refuses(app, sessions):
    translate(app)

    @app.post("/users", status_code=201)
    async def sign_up(new: NewUser):
        add = insert(User).values(**new.model_dump()).on_conflict_do_nothing()
        async with sessions.begin() as session:
            id = await session.scalar(add.returning(User.id))
        if id is None:
            raise HTTPException(409)
        return {"id": id, **new.model_dump()}

    add_routes(app, sessions)  # the first route that fits is taken


@ANSWERS.wrong("told too early")
def commits_when_the_response_is_sent(app, sessions):
    async def transaction():
        async with sessions.begin() as session:
            yield session

    translate(app)

    @app.post("/users", status_code=201, response_model=UserOut)
    async def sign_up(new: NewUser, session: Annotated[AsyncSession, Depends(transaction)]):
        user = User(**new.model_dump())
        session.add(user)
        await session.flush()
        return {"id": user.id, **new.model_dump()}

    @app.post("/users/{user_id}/documents", status_code=201, response_model=DocumentOut)
    async def upload(user_id: UUID, new: NewDocument, session: Annotated[AsyncSession, Depends(transaction)]):
        document = Document(user_id=user_id, **new.model_dump())
        session.add(document)
        await session.flush()
        return {"id": document.id, **new.model_dump()}


@ANSWERS.wrong("unknown refusal")
def takes_what_is_left_for_nonsense(app, sessions):
    @app.exception_handler(IntegrityError)
    async def refused(request, error):
        return JSONResponse({}, STATUSES.get(error.driver_exception.constraint_name, 422))

    add_routes(app, sessions)
