"""8.4: pages by a cursor that only its owner can use, and only as it was given out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from secrets import token_bytes
from typing import ClassVar

from fastapi import FastAPI

from course_lib.exercises.lesson_08.scenes.asking import caller
from course_lib.exercises.lesson_08.scenes.paged import Item, Pages, Shelf
from course_lib.exercises.lesson_08.scenes.serving import SECONDS, Serving, app_with, in_service
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import one_line
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_user

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # of base64 in addresses
CHANGED = 24  # places of a cursor at which a byte is changed
HERE, THERE, ELSEWHERE = "/here", "/there", "/elsewhere"  # where the apps are; the last has another secret
REFUSED = (400, 422)
RUBBISH = ("x", "a" * 3000, "é", "AAAA", "null", "!" * 40, "\0")
NO_LIMITS = ("0", "101", "-1", "many")
LIMITS = (1, 4, 2, 3)  # of pages, by turns
ROWS = 22  # the last page is full


class TurnPages(Exercise):
    """A place in a list, by value and signed."""

    id = "8.4"
    title = "Pages that nothing falls out of"
    answer = "page_routes"
    minutes = 20
    points = 3
    level = "senior"
    seconds = SECONDS
    hints: ClassVar = (
        "A number of rows to skip is no place: it moves whenever a row comes or goes above it. What of the last row "
        "of a page says where the next one begins, also when that row is gone?",
        "`tuple_(Document.created_at, Document.id) < (moment, id)` begins behind a place, in one comparison. To see "
        "whether there is more, ask for one row more than you show.",
        '`hmac.digest(secret, user_id.bytes + place, "sha256")` in front of the place, the two in hex. To open a '
        "cursor, sign its place anew for who asks now, and compare with `hmac.compare_digest`, before anything of it "
        "is read. A microsecond that the cursor loses is a row that a page loses.",
    )
    why = (
        "The cursor holds values and not a number of rows, so nothing that happens above it moves it, and the server "
        "begins there with a comparison instead of counting off what was shown before. The signature makes it a thing "
        "that one can only give back: nobody reads from a place of their own choosing, no text of a client's gets to a "
        "parser, and since the user is signed without being sent, another's cursor is nothing but a wrong one."
    )
    follow_up = (
        "The list is sorted by the time of the last change now, and rows change while somebody turns pages. Which row "
        "can be shown twice, which not at all, and what would you promise to the client?"
    )
    mistakes: ClassVar = {
        "not a page": "`{what}` was answered with {said}. "
        "| Status 200 and an object with `items`, a list of objects that have `id` and `title`, and `next`, a text or "
        "null.",
        "wrong page": "The first page, with limit={limit}, has other documents than the newest {limit} of the caller, "
        "or another order. | Newest first; where `created_at` is the same, the larger `id` first.",
        "next": "With {count} documents behind the page, `next` was {said}. "
        "| One row more than is shown says whether there is a next page.",
        "nothing changed": "{pages} pages that were turned while nothing changed have {twice} documents twice, and "
        "{lost} are on none of them. "
        "| Documents that came at the same moment, or a microsecond apart: the place is both columns, exactly.",
        "something changed": "After {what}, place {place} of the next page had {found}. "
        "| The next page begins behind the last row of this one, by its values: rows above it may come and go, and it "
        "may go itself.",
        "read too much": "A page of {limit} documents read {rows} rows. "
        "| `LIMIT` in the statement; what was shown before is not read again.",
        "changed cursor": "A cursor with one changed byte (number {place} of {length} characters) was answered with "
        "{status}. | Sign what the cursor says, all of it, and look at the signature before at anything else.",
        "another's cursor": "A cursor of another user was answered with {status}. "
        "| What is signed has to say for whom it is.",
        "any secret": "A cursor that was made with another secret was answered with {status}. "
        "| Whoever knows how it is made can make one: a hash has no secret in it, HMAC has.",
        "other process": "Another process with the same secret answered a cursor with {status}. "
        "| What a page needs to go on is in the cursor and the secret, not in one process.",
        "wrong status": "`{what}` was answered with {status}. "
        "| What a client may get wrong is its mistake: a status from 400 on, below 500, as the task says.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        secret = token_bytes(32)

        def make_app() -> FastAPI:
            app = FastAPI()
            for place, key in ((HERE, secret), (THERE, secret), (ELSEWHERE, token_bytes(32))):
                router = attempt.answer(sessions_of(attempt), caller, key)
                app.mount(place, app_with(attempt, router))
            return app

        async def scene(served: Serving) -> None:
            pages = Pages(attempt, served, HERE, await add_user(attempt))
            first = await self._nothing_changes(attempt, pages)
            await self._reads(attempt, pages, first)
            await self._something_changes(attempt, Pages(attempt, served, HERE, await add_user(attempt)))
            await self._tampered(attempt, pages, first)
            await self._elsewhere(attempt, pages, first)
            await self._rubbish(attempt, pages)

        await in_service(attempt, make_app, scene)

    async def _nothing_changes(self, attempt: Attempt, pages: Pages) -> str:
        """All pages; the first cursor."""
        nothing = await pages.get()
        attempt.expect(not nothing.items, "wrong page", limit=20)
        attempt.expect(nothing.next is None, "next", count=0, said="a cursor")
        shelf = await Shelf.filled(attempt, pages.user, ROWS)
        await Shelf.filled(attempt, await add_user(attempt), 3)
        rows = shelf.listed()
        attempt.expect((await pages.get()).items == rows[:20], "wrong page", limit=20)
        for limit in (100, 1, 2):
            page = await pages.get(limit=limit)
            attempt.expect(page.items == rows[:limit], "wrong page", limit=limit)
        turned = [page]
        while page.next is not None and page.items and len(turned) < ROWS:
            page = await pages.get(limit=LIMITS[len(turned) % len(LIMITS)], cursor=page.next)
            turned.append(page)
        shown = [item for page in turned for item in page.items]
        if page.items and shown == rows[: len(shown)]:
            behind = ROWS - len(shown)
            attempt.expect(behind == 0, "next", count=behind, said="null")
        elif shown == rows:  # and one page too many
            raise attempt.wrong("next", count=0, said="a cursor")
        twice, lost = len(shown) - len(set(shown)), len(set(rows) - set(shown))
        attempt.expect(shown == rows, "nothing changed", pages=len(turned), twice=twice, lost=lost)
        return turned[0].next or ""

    async def _reads(self, attempt: Attempt, pages: Pages, cursor: str) -> None:
        with attempt.wire.log() as log:
            await pages.get(limit=3, cursor=cursor)
        attempt.expect(log.received <= 4, "read too much", limit=3, rows=log.received)

    async def _something_changes(self, attempt: Attempt, pages: Pages) -> None:
        """One thing at a time between two pages."""
        shelf = await Shelf.filled(attempt, pages.user, 18)
        page = await pages.get(limit=3)
        shown = page.items
        for change in (shelf.add_on_top, shelf.remove, shelf.add_behind, shelf.remove):
            last = page.items[-1]
            what, rows = await change(last), shelf.behind(last)
            page = await pages.get(limit=2, cursor=page.next)
            for place, wanted in enumerate(rows[:2]):
                found = page.items[place] if place < len(page.items) else None
                told = {"what": what, "place": place + 1, "found": _found(found, shown, rows)}
                attempt.expect(found == wanted, "something changed", **told)
            attempt.expect(page.next is not None, "next", count=len(rows) - 2, said="null")
            shown = shown + page.items

    async def _elsewhere(self, attempt: Attempt, pages: Pages, cursor: str) -> None:
        """Other processes, with the same secret and with another; and another user."""
        here, there = [await pages.ask(place, limit=2, cursor=cursor) for place in (HERE, THERE)]
        attempt.expect(there.status == here.status, "other process", status=there.outcome)
        attempt.expect(there.json["items"] == here.json["items"], "other process", status="another page")
        other = Pages(attempt, pages.served, HERE, await add_user(attempt))
        await Shelf.filled(attempt, other.user, 2)
        reply = await other.ask(cursor=cursor)
        attempt.expect(reply.status in REFUSED, "another's cursor", status=reply.outcome)
        reply = await pages.ask(ELSEWHERE, cursor=cursor)
        attempt.expect(reply.status in REFUSED, "any secret", status=reply.outcome)

    async def _tampered(self, attempt: Attempt, pages: Pages, cursor: str) -> None:
        for place, changed in _changed(cursor):
            reply = await pages.ask(cursor=changed)
            told = {"place": place + 1, "length": len(cursor), "status": reply.outcome}
            attempt.expect(reply.status in REFUSED, "changed cursor", **told)

    async def _rubbish(self, attempt: Attempt, pages: Pages) -> None:
        for name, wrongs, right in (("cursor", RUBBISH, REFUSED), ("limit", NO_LIMITS, (422,))):
            for wrong in wrongs:
                reply = await pages.ask(**{name: wrong})
                what = f"{name}={one_line(wrong, 20)}"
                attempt.expect(reply.status in right, "wrong status", what=what, status=reply.outcome)


def _found(item: Item | None, shown: Sequence[Item], rows: Sequence[Item]) -> str:
    """In words, what stands where another document should."""
    if item is None:
        return "no document"
    if item in shown:
        return "one that was shown before"
    return "one from further behind" if item in rows else "one that is not behind the place where the last page ended"


def _changed(cursor: str) -> Iterator[tuple[int, str]]:
    """The cursor with one byte changed, and where.

    Not at the last place of a run of base64, which may stand for fewer bits than it has.
    """
    places = [place for run in re.finditer(r"[\w-]+", cursor, re.ASCII) for place in range(run.start(), run.end() - 1)]
    for number in range(min(CHANGED, len(places))):
        place = places[number * len(places) // min(CHANGED, len(places))]
        other = ALPHABET[ALPHABET.index(cursor[place]) ^ 1]
        yield place, cursor[:place] + other + cursor[place + 1 :]
