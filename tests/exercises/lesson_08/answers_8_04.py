"""8.4: pages by a signed cursor."""

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Query
from sqlalchemy import and_, exists, or_, select, tuple_

from course_lib.models import Document
from tests.exercises.written import Answers

ANSWERS = Answers("8.4")
Limit = Annotated[int, Query(ge=1, le=100)]
PLACE = tuple_(Document.created_at, Document.id)
NEWEST = Document.created_at.desc(), Document.id.desc()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@ANSWERS.right
def by_text_and_two_comparisons(sessions, caller, secret):
    """A cursor that can be read, two conditions instead of a row, and an EXISTS for what is behind."""
    router = APIRouter(prefix="/documents")

    def signature(*parts):
        return hmac.new(secret, "~".join(map(str, parts)).encode(), hashlib.sha512).hexdigest()

    def behind(user_id, moment, id):
        earlier = or_(Document.created_at < moment, and_(Document.created_at == moment, Document.id < id))
        return and_(Document.user_id == user_id, earlier)

    @router.get("")
    async def page(user_id: Annotated[UUID, Depends(caller)], limit: Limit = 20, cursor: str | None = None):
        mine = Document.user_id == user_id
        if cursor is not None:
            micros, _, rest = cursor.partition("~")
            id, _, given = rest.partition("~")
            if not secrets.compare_digest(given.encode(), signature(micros, id, user_id).encode()):
                raise HTTPException(400, "bad cursor")
            mine = behind(user_id, EPOCH + timedelta(microseconds=int(micros)), UUID(id))
        columns = select(Document.id, Document.title, Document.created_at).where(mine)
        columns = columns.order_by(Document.created_at.desc(), Document.id.desc()).limit(limit)
        async with sessions() as session:
            rows = (await session.execute(columns)).all()
            further = None
            if rows:
                last = rows[-1]
                if await session.scalar(select(exists().where(behind(user_id, last.created_at, last.id)))):
                    micros = (last.created_at - EPOCH) // timedelta(microseconds=1)
                    further = f"{micros}~{last.id}~{signature(micros, last.id, user_id)}"
        return {"items": [{"id": row.id, "title": row.title} for row in rows], "next": further}

    return router


class Cursors:
    """What most answers share; the wrong ones change a part of it."""

    def __init__(self, secret):
        self.secret = secret

    def sign(self, user_id, payload):
        return hmac.digest(self.secret, f"documents:{user_id}:{payload}".encode(), "sha256").hex()

    def seal(self, user_id, row):
        payload = urlsafe_b64encode(f"{row.created_at.isoformat()} {row.id}".encode()).decode().rstrip("=")
        return f"{payload}.{self.sign(user_id, payload)}"

    def open(self, user_id, cursor):
        payload, _, signature = cursor.partition(".")
        if not hmac.compare_digest(signature.encode(), self.sign(user_id, payload).encode()):
            raise HTTPException(422, "bad cursor")
        moment, id = urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode().split()
        return datetime.fromisoformat(moment), UUID(id)


def routes(sessions, caller, cursors, *, order=NEWEST, limits=Limit):
    router = APIRouter()

    @router.get("/documents")
    async def page(user_id: Annotated[UUID, Depends(caller)], limit: limits = 20, cursor: str | None = None):
        mine = select(Document).where(Document.user_id == user_id)
        if cursor is not None:
            mine = mine.where(cursors.open(user_id, cursor) > PLACE)
        async with sessions() as session:
            found = list(await session.scalars(mine.order_by(*order).limit(limit + 1)))
        further = cursors.seal(user_id, found[limit - 1]) if len(found) > limit else None
        return {"items": [{"id": row.id, "title": row.title} for row in found[:limit]], "next": further}

    return router


@ANSWERS.right
def by_a_class(sessions, caller, secret):
    return routes(sessions, caller, Cursors(secret))


@ANSWERS.wrong("not a page")
def only_the_items(sessions, caller, secret):
    router = APIRouter()

    @router.get("/documents")
    async def page(user_id: Annotated[UUID, Depends(caller)], limit: Limit = 20):
        async with sessions() as session:
            found = await session.scalars(select(Document).where(Document.user_id == user_id).limit(limit))
            return [{"id": row.id, "title": row.title} for row in found]

    return router


@ANSWERS.wrong("wrong page")
def by_the_moment_alone(sessions, caller, secret):
    return routes(sessions, caller, Cursors(secret), order=[Document.created_at.desc()])


@ANSWERS.wrong("next")
def more_where_the_page_is_full(sessions, caller, secret):
    router, cursors = APIRouter(), Cursors(secret)

    @router.get("/documents")
    async def page(user_id: Annotated[UUID, Depends(caller)], limit: Limit = 20, cursor: str | None = None):
        mine = select(Document).where(Document.user_id == user_id)
        if cursor is not None:
            mine = mine.where(cursors.open(user_id, cursor) > PLACE)
        async with sessions() as session:
            newest = mine.order_by(Document.created_at.desc(), Document.id.desc())
            found = list(await session.scalars(newest.limit(limit)))
        further = cursors.seal(user_id, found[-1]) if len(found) == limit else None
        return {"items": [{"id": row.id, "title": row.title} for row in found], "next": further}

    return router


@ANSWERS.wrong("nothing changed")
def milliseconds(sessions, caller, secret):
    """As JavaScript and many a JSON library keep a moment."""

    class Rounded(Cursors):
        def open(self, user_id, cursor):
            moment, id = super().open(user_id, cursor)
            return moment.replace(microsecond=moment.microsecond // 1000 * 1000), id

    return routes(sessions, caller, Rounded(secret))


def with_a_number(sessions, caller, secret, *, everything=False):
    router = APIRouter()

    @router.get("/documents")
    async def page(user_id: Annotated[UUID, Depends(caller)], limit: Limit = 20, cursor: str = ""):
        skipped = 0
        if cursor:
            number, _, signature = cursor.partition(".")
            if signature != hmac.digest(secret, f"{user_id}{number}".encode(), "sha256").hex():
                raise HTTPException(422, "bad cursor")
            skipped = int(number)
        mine = select(Document).where(Document.user_id == user_id)
        mine = mine.order_by(Document.created_at.desc(), Document.id.desc())
        if not everything:
            mine = mine.offset(skipped).limit(limit + 1)
        async with sessions() as session:
            found = list(await session.scalars(mine))[skipped if everything else 0 :]
        end = str(skipped + limit)
        signed = f"{end}.{hmac.digest(secret, f'{user_id}{end}'.encode(), 'sha256').hex()}"
        items = [{"id": row.id, "title": row.title} for row in found[:limit]]
        return {"items": items, "next": signed if len(found) > limit else None}

    return router


@ANSWERS.wrong("something changed")
def rows_to_skip(sessions, caller, secret):
    return with_a_number(sessions, caller, secret)


@ANSWERS.wrong("read too much")
def cut_in_python(sessions, caller, secret):
    return with_a_number(sessions, caller, secret, everything=True)


@ANSWERS.wrong("something changed")
def looks_the_last_row_up(sessions, caller, secret):
    class Looking(Cursors):
        def open(self, user_id, cursor):
            _, id = super().open(user_id, cursor)
            columns = Document.created_at, Document.id
            return tuple_(*(select(column).where(Document.id == id).scalar_subquery() for column in columns))

    return routes(sessions, caller, Looking(secret))


@ANSWERS.wrong("changed cursor")
def in_base64_and_no_more(sessions, caller, secret):
    class Open(Cursors):
        def seal(self, user_id, row):
            payload = json.dumps([str(user_id), row.created_at.isoformat(), str(row.id)])
            return urlsafe_b64encode(payload.encode()).decode()

        def open(self, user_id, cursor):
            try:
                owner, moment, id = json.loads(urlsafe_b64decode(cursor))
                place = datetime.fromisoformat(moment), UUID(id)
            except (ValueError, TypeError):
                raise HTTPException(422, "bad cursor") from None
            if owner != str(user_id):
                raise HTTPException(422, "bad cursor")
            return place

    return routes(sessions, caller, Open(secret))


@ANSWERS.wrong("another's cursor")
def for_everybody(sessions, caller, secret):
    class Anybodys(Cursors):
        def sign(self, user_id, payload):
            return super().sign("", payload)

    return routes(sessions, caller, Anybodys(secret))


@ANSWERS.wrong("any secret")
def hashed(sessions, caller, secret):
    class Hashed(Cursors):
        def sign(self, user_id, payload):
            return hashlib.sha256(f"{user_id}{payload}".encode()).hexdigest()

    return routes(sessions, caller, Hashed(secret))


@ANSWERS.wrong("other process")
def remembered_here(sessions, caller, secret):
    class Remembered(Cursors):
        def __init__(self):
            self.places = {}

        def seal(self, user_id, row):
            cursor = secrets.token_urlsafe()
            self.places[cursor] = user_id, row.created_at, row.id
            return cursor

        def open(self, user_id, cursor):
            owner, *place = self.places.get(cursor, [None])
            if owner != user_id:
                raise HTTPException(422, "bad cursor")
            return tuple(place)

    return routes(sessions, caller, Remembered())


@ANSWERS.wrong("wrong status")
def any_limit(sessions, caller, secret):
    return routes(sessions, caller, Cursors(secret), limits=int)


@ANSWERS.wrong("not a page")
def pages_of_up_to_ten(sessions, caller, secret):
    def few(limit: int = 10):
        if limit > 10:
            raise HTTPException(422, "too many")

    router = APIRouter(dependencies=[Depends(few)])
    router.include_router(by_text_and_two_comparisons(sessions, caller, secret))
    return router
