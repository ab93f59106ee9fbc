"""1.6: pages of a list that does not hold still."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.judging.asking import ask, calling_it, fetched, is_list, readable
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article, article_of_pair, quoted
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user
from course_lib.judging.threads import shuffled
from course_lib.models import Conversation

PAGES = 8  # all of them full: the hardest end of a list
TIES = 3
STATEMENTS = 2
GROWTH = 3  # times as long as the first: a place in a list is as short at its end as at its beginning
MESSAGES = """
    INSERT INTO messages (conversation_id, seq, role, content)
    SELECT id, n, 'user', 'said ' || n FROM conversations, generate_series(1, 2) AS n WHERE user_id = :mine
"""


class ConversationsPage(Exercise):
    """Keyset pagination over a key that does not change."""

    id = "1.6"
    title = "Older conversations, page by page"
    answer = "conversations_page"
    minutes = 15
    points = 3
    level = "mid"
    hints: ClassVar = (
        "Counting from the top goes wrong when the top moves. Remember instead what stood last on the page.",
        "Two conversations can have the same `created_at`. So the place in the list is a pair: `created_at` and `id`.",
        "`tuple_(Conversation.created_at, Conversation.id) < after` compares pairs: the first decides, then the "
        "second.",
        "Ask for `limit + 1` rows: if that many come, there is another page. The extra one is not shown.",
    )
    why = (
        "The place is a value, not a count and not a row: rows may come and go above it, even the row it was read "
        "from. "
        "Every page costs the same. The price: no jump to page 17, and the order must be over columns that do not "
        "change."
    )
    follow_up = (
        "The product wants the list by `updated_at`, which changes. What can a reader then miss, and what would you do?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`conversations_page` returned None. | Did you forget `return`?",
        "not a pair": "`conversations_page` returned {kind}, and not a list of conversations with the next `after`. "
        "| `return items, next_after`",
        "not conversations": "The first of the pair holds {kind}, and `Conversation` objects were asked for. "
        "| `select(Conversation)` with `scalars` gives objects.",
        "strangers": "{count} of the conversations belong to other users. | Is the owner a condition of every page?",
        "wrong length": "Page {page} has {count} conversations for limit = {limit}. "
        "| As many as `limit`, fewer only at the end.",
        "never ends": "All were shown, and after {pages} pages `next_after` is still not None. "
        "| How do you know that nothing is left?",
        "empty page": "After the last conversation `next_after` was not None, and the page it led to was empty. "
        "| Whether anything is left has to be known together with the page.",
        "no conversations": "For a user without conversations it {did}. | `[]` and None were asked for.",
        "ended early": "`next_after` was None after {count} conversations, and there are more. "
        "| How do you know that nothing is left?",
        "twice": "{count} conversations came twice, while others were added and renamed between the pages. "
        "| A place counted from the top moves when something is put on top.",
        "skipped": "{count} conversations never came. "
        "| Where several have the same `created_at`, does the next page begin right behind the last one shown?",
        "lost its place": "Page {page} began at the wrong place after the last conversation of the page before it was "
        "deleted. "
        "| Remember the values to compare with, not a row and not a count.",
        "order": "The conversations did not come newest first by `created_at`, then by id. "
        "| Both columns in `order_by`, both descending.",
        "remembers": "Asked for the first page again, it did not begin at the top. "
        "| The place comes in as `after`, and is kept nowhere else.",
        "kept elsewhere": "Asked once more for a page in the middle, it did not go on from the `after` it was given. "
        "| The place comes in as `after`, and is kept nowhere else.",
        "loaded everything": "{rows} rows were fetched for a page of {limit}; `limit + 1` is the budget. "
        "| Let the server skip and limit; whether more follow, the row behind the last one tells. "
        "What belongs to the conversations is not asked for.",
        "growing place": "`next_after` grew from {first} to {last} characters over {pages} pages. "
        "| The place of the last one shown is enough to go on from.",
        "too many statements": "{count} statements were sent for one page. "
        "| One SELECT can give the page and tell if more follow.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        limit = 5 + randbelow(3)
        mine, newcomer = await add_user(attempt), await add_user(attempt)
        rows = _conversations(mine, limit)
        await add_rows(attempt, "conversations", shuffled(rows))
        await attempt.sql(MESSAGES, mine=mine)
        await add_double(attempt, mine)
        walk = _Walk(attempt, mine, limit, [row["id"] for row in rows])
        await walk.to_the_end()
        walk.compare()
        attempt.expect(walk.statements <= STATEMENTS, "too many statements", count=walk.statements)
        attempt.expect(walk.rows <= limit + 1, "loaded everything", rows=walk.rows, limit=limit)
        first, last = walk.places[0], max(walk.places)
        attempt.expect(last <= GROWTH * first, "growing place", first=first, last=last, pages=len(walk.places))
        top = await attempt.sql(
            "SELECT id FROM conversations WHERE user_id = :mine ORDER BY created_at DESC, id DESC LIMIT :n",
            mine=mine, n=limit,
        )  # fmt: skip
        again, _ = await walk.page(None)
        attempt.expect([item.id for item in again] == top.column("id"), "remembers")
        await walk.goes_on_from_the_middle()
        attempt.expect(not walk.ends_empty, "empty page")
        with calling_it(attempt, "no conversations", did="raised an error"):
            items, after = await _Walk(attempt, newcomer, limit, []).page(None)
        attempt.expect(not items, "strangers", count=len(items))
        attempt.expect(after is None, "no conversations", did=f"gave {quoted(after)} as the second value")
        await expect_errors_to_rise(attempt, mine, None, limit)


class _Walk:
    """From the first page to the last, while the list is used by others."""

    def __init__(self, attempt: Attempt, user_id: UUID, limit: int, ordered: list[UUID]) -> None:
        self.attempt, self.user_id, self.limit = attempt, user_id, limit
        self.ordered = ordered
        self.shown: list[UUID] = []
        self.in_order = True  # on each page
        self.bare_starts: list[int] = []  # how many were shown when a page began whose predecessor's last was deleted
        self.places: list[int] = []  # lengths of ``next_after``
        self.middle: tuple[Any, UUID] | None = None  # a place, and the conversation that was shown before it
        self.ends_empty = False
        self.rows = self.statements = 0

    async def to_the_end(self) -> None:
        after, most, gone, short = None, 2 * PAGES, False, list[int]()
        for number in range(1, most + 1):
            if gone:
                self.bare_starts.append(len(self.shown))
            with calling_it(self.attempt, "lost its place", page=number) if gone else nullcontext():
                items, after = await self.page(after)
            self.shown += [item.id for item in items]
            places = [self.ordered.index(item.id) for item in items if item.id in self.ordered]
            self.in_order &= places == sorted(places)
            strangers = sum(item.user_id != self.user_id for item in items)
            self.attempt.expect(not strangers, "strangers", count=strangers)
            self.attempt.expect(
                len(items) <= self.limit, "wrong length", page=number, count=len(items), limit=self.limit
            )
            if items and short:  # the page before was not the last one
                raise self.attempt.wrong("wrong length", page=number - 1, count=short[-1], limit=self.limit)
            short += [len(items)] * (len(items) < self.limit)
            self.ends_empty = number > 1 and not items
            if after is None:
                return
            if number == 2:
                self.middle = after, self.shown[-1]
            self.places.append(len(repr(after)))
            gone = number % 2 == 0 and not self._complete()
            await self._others_use_the_list(gone)
        self.attempt.expect(not self._complete(), "never ends", pages=most)

    async def goes_on_from_the_middle(self) -> None:
        if self.middle is None:
            return
        after, last = self.middle
        there = (await self.attempt.sql("SELECT id FROM conversations WHERE user_id = :id", id=self.user_id)).column(
            "id"
        )
        behind = [id for id in self.ordered[self.ordered.index(last) + 1 :] if id in there]
        items, _ = await self.page(after)
        self.attempt.expect([item.id for item in items] == behind[: self.limit], "kept elsewhere")

    def _complete(self) -> bool:
        return set(self.ordered) <= set(self.shown)

    async def page(self, after: Any) -> tuple[list[Conversation], Any]:
        expect = self.attempt.expect
        page = await ask(self.attempt, self.user_id, after, self.limit)
        expect(page is not None, "nothing returned")
        expect(is_list(page) and len(page) == 2 and is_list(page[0]), "not a pair", kind=article_of_pair(page))
        odd = [item for item in page[0] if not isinstance(item, Conversation)]
        expect(not odd, "not conversations", kind=article(odd[0]) if odd else "")
        self.rows = max(self.rows, fetched(self.attempt.log))
        self.statements = max(self.statements, self.attempt.log.count)
        return [item for item in page[0] if readable(item, "id", "user_id")], page[1]

    async def _others_use_the_list(self, last_goes: bool) -> None:
        """One is put on top, one shown and one not shown yet are answered in, now and then the last one shown goes."""
        waiting = [id for id in self.ordered if id not in self.shown]
        await self.attempt.sql(
            """
            WITH added AS (INSERT INTO conversations (user_id, title) VALUES (:user_id, 'a new one')),
                 gone AS (DELETE FROM conversations WHERE id = CAST(:gone AS uuid))
            UPDATE conversations SET updated_at = now() WHERE id IN (CAST(:shown AS uuid), CAST(:waiting AS uuid))
            """,
            user_id=self.user_id, gone=self.shown[-1] if last_goes else None,
            shown=next(iter(self.shown), None), waiting=next(reversed(waiting), None),
        )  # fmt: skip

    def _breaks(self) -> set[int]:
        """The places at which what was shown does not go on as it should."""
        numbers = [self.ordered.index(id) if id in self.ordered else None for id in self.shown]
        before = [-1, *(len(self.ordered) if number is None else number for number in numbers)]
        gaps = {place for place, number in enumerate(numbers) if number != before[place] + 1}
        return gaps if before[-1] == len(self.ordered) - 1 else gaps | {len(numbers)}

    def compare(self) -> None:
        shown, ordered, attempt = self.shown, self.ordered, self.attempt
        if shown == ordered:
            return
        attempt.expect(self.in_order, "order")
        breaks = self._breaks()
        attempt.expect(not breaks <= set(self.bare_starts), "lost its place", page=min(breaks) // self.limit + 1)
        twice = len(shown) - len(set(shown))
        attempt.expect(not twice, "twice", count=twice)
        places = [ordered.index(id) for id in shown if id in ordered]
        attempt.expect(places == sorted(places), "order")
        attempt.expect(shown != ordered[: len(shown)], "ended early", count=len(shown))
        missing = len(set(ordered) - set(shown))
        attempt.expect(missing > 0, "order")  # all came, and others, newer ones, between them
        raise attempt.wrong("skipped", count=missing)


def _conversations(user_id: UUID, limit: int) -> list[dict[str, Any]]:
    """Newest first; some of the same moment, across the ends of pages too; updated in another order than created."""
    start = datetime.now(UTC) - timedelta(days=30)
    moments = [start - timedelta(hours=7 * place, microseconds=randbelow(10**9)) for place in range(PAGES * limit)]
    for first in (2 * limit, 4 * limit, 6 * limit, *(page * limit - 2 for page in range(1, PAGES, 2))):
        moments[first : first + TIES] = [moments[first]] * TIES
    rows = [
        {"id": uuid4(), "user_id": user_id, "title": f"Question {place}", "created_at": moment}
        | {"updated_at": moment + timedelta(hours=randbelow(600))}
        for place, moment in enumerate(moments)
    ]
    rows.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
    rows[limit + 1]["id"] = UUID(int=2**128 - 1 - randbelow(2**64))  # ids alone do not lead on from the first page
    rows[limit + 2]["id"] = UUID(int=randbelow(2**64))
    return rows
