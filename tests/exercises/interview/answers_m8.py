"""Answers to M8, sign-ups stopped for a minute."""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.exercises.written import Answers

ANSWERS = Answers("M8")
NAME = "fk_documents_reviewed_by"
KEY = "FOREIGN KEY (reviewed_by) REFERENCES users (id) ON DELETE SET NULL"
ADD = f"ALTER TABLE documents ADD CONSTRAINT {NAME} {KEY}"
ADD_NOT_VALID = f"{ADD} NOT VALID"
DROP = f"ALTER TABLE documents DROP CONSTRAINT IF EXISTS {NAME}"
VALIDATE = f"ALTER TABLE documents VALIDATE CONSTRAINT {NAME}"
LET_GO = """
    UPDATE documents SET reviewed_by = NULL
    WHERE reviewed_by IS NOT NULL AND NOT EXISTS (SELECT FROM users WHERE users.id = documents.reviewed_by)
"""
SOME_GO = LET_GO.replace("WHERE", "WHERE id IN (SELECT id FROM documents WHERE", 1) + " LIMIT 10)"
IS_THERE = f"SELECT 1 FROM pg_constraint WHERE conname = '{NAME}'"
SHORT = "SET LOCAL lock_timeout = '200ms'"


async def transaction(engine, *statements):
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def add_if_missing(engine, statement=ADD_NOT_VALID, limit=SHORT):
    async with engine.begin() as connection:
        await connection.execute(text(limit))
        if not (await connection.execute(text(IS_THERE))).first():
            await connection.execute(text(statement))


@ANSWERS.right
async def dropped_and_added(engine):
    await transaction(engine, SHORT, DROP, ADD_NOT_VALID)
    await transaction(engine, SHORT, LET_GO)
    await transaction(engine, SHORT, VALIDATE)


@ANSWERS.right
async def tries_again(engine):
    """Until it gets its lock."""
    while True:
        try:
            await add_if_missing(engine, limit="SET LOCAL lock_timeout = '50ms'")
            break
        except DBAPIError as error:
            if error.orig.sqlstate != "55P03":
                raise
            await asyncio.sleep(0.05)
    await row_by_row(engine)
    await transaction(engine, VALIDATE)


async def row_by_row(engine):
    """Each in a transaction of its own, which may wait for it as long as it takes."""
    nobodys = LET_GO.partition("WHERE")[2]
    async with engine.connect() as connection:
        ids = (await connection.scalars(text(f"SELECT id FROM documents WHERE {nobodys}"))).all()
    for id in ids:
        async with engine.begin() as connection:
            await connection.execute(text(f"{LET_GO} AND id = :id"), {"id": id})


@ANSWERS.right
async def asks_for_both_tables_and_does_not_wait(engine):
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE users, documents IN SHARE ROW EXCLUSIVE MODE NOWAIT"))
        if not (await connection.execute(text(IS_THERE))).first():
            await connection.execute(text(ADD_NOT_VALID))
        await connection.commit()
        await connection.execute(text(SHORT))
        await connection.execute(text(LET_GO))
        await connection.commit()
        await connection.execute(text(VALIDATE))
        await connection.commit()


@ANSWERS.right
async def each_statement_by_itself(engine):
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("SET lock_timeout = '250ms'"))
        try:
            try:
                await connection.execute(text(ADD_NOT_VALID))
            except DBAPIError as error:
                if error.orig.sqlstate != "42710":
                    raise
            await connection.execute(text(LET_GO))
            await connection.execute(text(VALIDATE))
        finally:
            await connection.execute(text("RESET lock_timeout"))


@ANSWERS.right
async def in_batches(engine):
    await add_if_missing(engine)
    gone = 1
    while gone:
        async with engine.begin() as connection:
            await connection.execute(text(SHORT))
            gone = (await connection.execute(text(SOME_GO))).rowcount
    await transaction(engine, SHORT, VALIDATE)


@ANSWERS.right
async def leaves_what_is_locked_for_later(engine):
    await add_if_missing(engine)
    nobodys = LET_GO.partition("WHERE")[2]
    while True:
        async with engine.begin() as connection:
            left = await connection.scalar(text(f"SELECT count(*) FROM documents WHERE {nobodys}"))
            free = f"SELECT id FROM documents WHERE {nobodys} FOR UPDATE SKIP LOCKED"
            await connection.execute(text(f"UPDATE documents SET reviewed_by = NULL WHERE id IN ({free})"))
        if not left:
            break
        await asyncio.sleep(0.02)
    await transaction(engine, VALIDATE)


@ANSWERS.wrong("rows held")
async def cleaned_in_one_go(engine):
    await add_if_missing(engine)
    await transaction(engine, LET_GO)
    await transaction(engine, SHORT, VALIDATE)


@ANSWERS.wrong("rows held")
async def dropped_and_cleaned_in_one_go(engine):
    await transaction(engine, SHORT, DROP, ADD_NOT_VALID)
    await transaction(engine, LET_GO)
    await transaction(engine, SHORT, VALIDATE)


@ANSWERS.wrong("rows held")
async def cleaned_in_batches_that_wait(engine):
    await add_if_missing(engine)
    gone = 1
    while gone:
        async with engine.begin() as connection:
            gone = (await connection.execute(text(SOME_GO))).rowcount
    await transaction(engine, SHORT, VALIDATE)


@ANSWERS.wrong("rows held")
async def locked_before_they_are_cleaned(engine):
    await add_if_missing(engine)
    nobodys = LET_GO.partition("WHERE")[2]
    await transaction(engine, f"SELECT id FROM documents WHERE {nobodys} FOR UPDATE", LET_GO)
    await transaction(engine, SHORT, VALIDATE)


@ANSWERS.right
async def limits_the_statement(engine):
    """Which may be done soon, or not at all."""
    short = "SET LOCAL statement_timeout = '300ms'"
    await add_if_missing(engine, limit=short)
    await transaction(engine, short, LET_GO)
    await transaction(engine, VALIDATE)


@ANSWERS.wrong("sign-ups wait")
async def without_a_limit(engine):
    """Right in all other things."""
    await transaction(engine, DROP, ADD_NOT_VALID)
    await transaction(engine, LET_GO)
    await transaction(engine, VALIDATE)


@ANSWERS.wrong("sign-ups wait")
async def limit_too_generous(engine):
    await add_if_missing(engine, limit="SET LOCAL lock_timeout = '2900ms'")
    await transaction(engine, LET_GO)
    await transaction(engine, VALIDATE)


@ANSWERS.wrong("sign-ups wait")
async def limit_of_another_transaction(engine):
    """SET LOCAL ends with it."""
    await transaction(engine, SHORT)
    await transaction(engine, DROP, ADD_NOT_VALID)
    await transaction(engine, LET_GO)
    await transaction(engine, VALIDATE)


@ANSWERS.wrong("uploads wait")
async def users_without_waiting(engine):
    """And the other table locked until it gets them."""
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE documents IN SHARE ROW EXCLUSIVE MODE"))
        for _ in range(40):
            try:
                async with connection.begin_nested():
                    await connection.execute(text("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE NOWAIT"))
                break
            except DBAPIError:
                await asyncio.sleep(0.1)
        await connection.execute(text(DROP))
        await connection.execute(text(ADD_NOT_VALID))
    await transaction(engine, LET_GO)
    await transaction(engine, VALIDATE)


@ANSWERS.wrong("left behind")
async def only_the_limit(engine):
    await transaction(engine, SHORT, LET_GO, DROP, ADD)


@ANSWERS.wrong("left behind")
async def cleaned_first(engine):
    await transaction(engine, LET_GO)
    await add_if_missing(engine)
    await transaction(engine, SHORT, VALIDATE)


@ANSWERS.wrong("looked under a lock")
async def locked_from_the_beginning(engine):
    lock = "LOCK TABLE users, documents IN SHARE ROW EXCLUSIVE MODE"
    await transaction(engine, SHORT, lock, DROP, LET_GO, ADD)


@ANSWERS.wrong("looked under a lock")
async def steps_of_one_transaction(engine):
    await transaction(engine, SHORT, DROP, ADD_NOT_VALID, LET_GO, VALIDATE)


@ANSWERS.wrong("cleaned under a lock")
async def cleaned_with_the_key(engine):
    await transaction(engine, SHORT, DROP, ADD_NOT_VALID, LET_GO)
    await transaction(engine, SHORT, VALIDATE)


@ANSWERS.wrong("not valid")
async def never_validated(engine):
    await add_if_missing(engine)
    await transaction(engine, LET_GO)


@ANSWERS.wrong("not there")
async def gives_up_quietly(engine):
    try:
        await add_if_missing(engine)
        await transaction(engine, LET_GO)
        await transaction(engine, VALIDATE)
    finally:
        await transaction(engine, DROP)


@ANSWERS.wrong("wrong key")
async def takes_documents_along(engine):
    await add_if_missing(engine, ADD_NOT_VALID.replace("SET NULL", "CASCADE"))
    await transaction(engine, LET_GO)
    await transaction(engine, VALIDATE)


@ANSWERS.wrong("values lost")
async def nobody_reviews(engine):
    await add_if_missing(engine)
    await transaction(engine, "UPDATE documents SET reviewed_by = NULL")
    await transaction(engine, VALIDATE)


@ANSWERS.wrong("changed")
async def titles_too(engine):
    await add_if_missing(engine)
    await transaction(engine, LET_GO.replace("= NULL", "= NULL, title = 'without a reviewer'", 1))
    await transaction(engine, VALIDATE)


@ANSWERS.wrong("not again")
async def adds_in_any_case(engine):
    await transaction(engine, SHORT, ADD_NOT_VALID)
    await transaction(engine, SHORT, LET_GO)
    await transaction(engine, VALIDATE)


given_up = []


class NotNow(Exception):
    sqlstate = "55P03"


@ANSWERS.wrong("never done")
async def at_the_first_call_or_never(engine):
    if given_up:
        raise DBAPIError("", {}, NotNow("an earlier call gave up"))
    try:
        await add_if_missing(engine)
    except DBAPIError:
        given_up.append(engine)
        raise
