"""8.1: a commit that the client hears of."""

from fastapi import Depends, HTTPException, Request
from sqlalchemy.exc import IntegrityError

from course_lib.unit_of_work import UnitOfWork
from tests.exercises.written import Answers

ANSWERS = Answers("8.1")


@ANSWERS.right
def by_hand(sessions):
    async def session(request: Request):
        session = sessions()
        try:
            yield session
            await session.commit()
        except BaseException:
            await session.rollback()
            raise
        finally:
            await session.close()

    return Depends(session, scope="function")


@ANSWERS.right
def by_a_unit_of_work(sessions):
    class Dependency:
        async def __call__(self):
            async with UnitOfWork(sessions) as work:
                yield work.session
                await work.commit()

    return Depends(Dependency(), scope="function")


# wrong ones


@ANSWERS.wrong("told too early")
def ends_when_the_response_is_sent(sessions):
    async def session():
        async with sessions.begin() as session:
            yield session

    return Depends(session)


@ANSWERS.wrong("not committed")
def closes_the_session_and_no_more(sessions):
    async def session():
        async with sessions() as session:
            yield session

    return Depends(session, scope="function")


@ANSWERS.wrong("no dependency")
def returns_what_depends_is_given(sessions):
    async def session():
        async with sessions.begin() as session:
            yield session

    return session


@ANSWERS.wrong("no session")
def returns_a_block(sessions):
    def session():
        return sessions.begin()

    return Depends(session, scope="function")


@ANSWERS.wrong("error lost")
def speaks_for_the_database(sessions):
    async def session():
        try:
            async with sessions.begin() as session:
                yield session
        except IntegrityError as error:
            raise HTTPException(409, "there is one") from error

    return Depends(session, scope="function")


@ANSWERS.wrong("stored all the same")
def commits_in_any_case(sessions):
    async def session():
        async with sessions() as session:
            try:
                yield session
            finally:
                await session.commit()

    return Depends(session, scope="function")


@ANSWERS.wrong("connection held")
def closes_nothing_after_an_error(sessions):
    async def session():
        session = sessions()
        yield session
        await session.commit()

    return Depends(session, scope="function")


@ANSWERS.wrong("shared")
def makes_one_session_for_all(sessions):
    one = sessions()

    async def session():
        async with one.begin():
            yield one

    return Depends(session, scope="function")


@ANSWERS.wrong("two sessions")
def asks_anew_for_everybody(sessions):
    async def session():
        async with sessions.begin() as session:
            yield session

    return Depends(session, scope="function", use_cache=False)
