"""1.3: a page of a list, in an order that leaves nothing to chance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.judging.asking import ask, expect_list, fetched, readable
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user
from course_lib.models import Conversation

CONVERSATIONS = 110


class RecentConversations(Exercise):
    """ORDER BY with a tie-breaker, LIMIT."""

    id = "1.3"
    title = "The list on the left"
    answer = "recent_conversations"
    minutes = 6
    hints: ClassVar = (
        "Filter, order, limit: three parts of one SELECT, so that the server sends only what the page shows.",
        "`order_by` takes several columns; the second decides where the first is equal. `.desc()` turns each of them.",
        "`(await session.scalars(statement)).all()` gives objects as a list.",
    )
    why = (
        "Without a unique last column the order of equals is whatever the plan happens to give, and may differ on the "
        "next page load. LIMIT on the server means that the 40th conversation is never sent."
    )
    follow_up = (
        "Which index makes this query cheap for a user with 100,000 conversations, and does the tie-breaker belong in "
        "it?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`recent_conversations` returned None. | Did you forget `return`?",
        "not a list": "`recent_conversations` returned {kind}, and a list was asked for. "
        "| Call `.all()` on the result.",
        "not conversations": "The list holds {kind}, and `Conversation` objects were asked for. "
        "| `select(Conversation)` with `scalars` gives objects.",
        "strangers": "{count} of the conversations belong to other users. | Is the owner a condition of the query?",
        "too many": "{count} conversations came back for n = {n}. | At most `n`, for `n = 0` as well: `limit(n)`.",
        "too few": "{count} conversations came back for n = {n}, and the user has {total}. "
        "| Is something filtered after the limit, joined to what is not there, or a limit fixed?",
        "oldest first": "The list begins with the conversation of {first} and ends with that of {last}. "
        "| Newest first: `.desc()`.",
        "not the newest": "{count} of the conversations are not among the {n} that were updated last. "
        "| Order by `updated_at` before you limit. `created_at` is another moment.",
        "order": "The right conversations came back, but not newest first. | Let the server sort by `updated_at`.",
        "remembered": "After a conversation was answered in, the list was the same as before. "
        "| Ask the database each time.",
        "ties": "Where several conversations have the same `updated_at`, they came back in another order than asked "
        "for. "
        "| Of equals, the greater id comes first: a second column in `order_by`.",
        "loaded everything": "{rows} rows were fetched for a page of {count}. "
        "| Let the server limit to just what is shown: `limit(n)`.",
        "too many statements": "{count} statements were sent for one page. | One SELECT can give whole objects.",
    }

    async def judge(self, attempt: Attempt) -> None:
        n = 12 + randbelow(5)
        mine = await add_user(attempt)
        rows = _conversations(mine, n)
        await add_rows(attempt, "conversations", rows)
        await add_double(attempt, mine)
        await _others_are_active(attempt, mine, 6 * n)
        before = await self._asks(attempt, mine, rows, n)
        answered = min(rows, key=lambda row: row["updated_at"])  # none of those that are nearly tied
        answered["updated_at"] = datetime.now(UTC) - timedelta(seconds=1)
        await attempt.sql(
            "UPDATE conversations SET updated_at = :now WHERE id = :id", now=answered["updated_at"], id=answered["id"]
        )
        for wanted in (n, 0, 2 * CONVERSATIONS):
            await self._asks(attempt, mine, rows, wanted, before)
        await expect_errors_to_rise(attempt, mine, n)

    async def _asks(
        self, attempt: Attempt, mine: UUID, rows: list[dict[str, Any]], n: int, before: list[UUID] | None = None
    ) -> list[UUID]:
        found = await self._ask(attempt, mine, n)
        self._compare(attempt, found, mine, rows, n, before)
        count, fetched_rows = attempt.log.count, fetched(attempt.log)
        attempt.expect(count <= 1, "too many statements", count=count)
        attempt.expect(fetched_rows <= len(found), "loaded everything", rows=fetched_rows, count=len(found))
        return [item.id for item in found]

    async def _ask(self, attempt: Attempt, user_id: UUID, n: int) -> list[Conversation]:
        found = await ask(attempt, user_id, n)
        found = expect_list(attempt, found)
        odd = [item for item in found if not isinstance(item, Conversation)]
        attempt.expect(not odd, "not conversations", kind=article(odd[0]) if odd else "")
        return [item for item in found if readable(item, "id", "user_id", "updated_at")]

    def _compare(
        self,
        attempt: Attempt,
        found: list[Conversation],
        mine: UUID,
        rows: list[dict[str, Any]],
        n: int,
        before: list[UUID] | None,
    ) -> None:
        ordered = sorted(rows, key=lambda row: (row["updated_at"], row["id"]), reverse=True)
        ids, times = [row["id"] for row in ordered[:n]], [row["updated_at"] for row in ordered[:n]]
        found_ids, found_times = [item.id for item in found], [item.updated_at for item in found]
        if found_ids == ids:
            return
        strangers = sum(item.user_id != mine for item in found)
        attempt.expect(not strangers, "strangers", count=strangers)
        attempt.expect(len(found) <= len(ids), "too many", count=len(found), n=n)
        attempt.expect(len(found) == len(ids), "too few", count=len(found), n=n, total=len(rows))
        attempt.expect(found_ids != before, "remembered")
        attempt.expect(found_times != times, "ties")
        ascending = found_times == sorted(found_times)
        dates = {"first": f"{found_times[0]:%d %B %Y}", "last": f"{found_times[-1]:%d %B %Y}"}
        attempt.expect(not ascending, "oldest first", **dates)
        older = len(ids) - len(set(found_ids) & set(ids))
        attempt.expect(older == 0, "not the newest", count=older, n=n)
        raise attempt.wrong("order")


def _conversations(user_id: UUID, n: int) -> list[dict[str, Any]]:
    """Some are tied, some a microsecond apart, across the end of a page of ``n`` too; ids are in no order."""
    start = datetime.now(UTC) - timedelta(days=200)
    moments = [start - timedelta(days=3 * place, minutes=randbelow(999)) for place in range(CONVERSATIONS)]
    ids = [uuid4() for _ in moments]
    for first in (1, n - 2, n + 4):
        low, second, third, high = sorted(ids[first : first + 4])
        moments[first : first + 4] = [moments[first]] * 4
        ids[first : first + 4] = [second, high, low, third]  # right neither forwards nor backwards
    moments[n + 9] = moments[n + 8] - timedelta(microseconds=1)
    ids[n + 8 : n + 10] = sorted(ids[n + 8 : n + 10])
    rows = [
        {"id": id, "user_id": user_id, "title": f"Question {place}", "updated_at": moment}
        | {"created_at": moment - timedelta(days=randbelow(300))}
        for place, (id, moment) in enumerate(zip(ids, moments, strict=True))
    ]
    turned = 1 + randbelow(CONVERSATIONS - 1)  # stored neither newest nor oldest first
    return rows[turned:] + rows[:turned]


async def _others_are_active(attempt: Attempt, mine: UUID, count: int) -> None:
    """Somebody else has newer conversations; of one's own, every second has messages, and some have none."""
    await attempt.sql(
        """
        WITH active AS (
            INSERT INTO conversations (user_id, title) SELECT :stranger, 'new' FROM generate_series(1, :count)
        )
        INSERT INTO messages (conversation_id, seq, role, content)
        SELECT c.id, seq, 'user', 'hello'
        FROM generate_series(1, 3) AS seq, (
            SELECT id, row_number() OVER (ORDER BY updated_at) AS place FROM conversations WHERE user_id = :mine
        ) AS c
        WHERE place % 2 = 0
        """,
        mine=mine, stranger=await add_user(attempt), count=count,
    )  # fmt: skip
