"""2.3: a number per line, computed where the rows are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_02.scenes.belongings import give_belongings
from course_lib.exercises.lesson_02.scenes.going_on import go_on
from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, naming_lazy_loads
from course_lib.judging.asking import ask, expect_list, expect_news, fetched, is_list, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article_of_pair
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user
from course_lib.judging.threads import Thread, add_threads

CONVERSATIONS = 32
WORDS = 90  # in a message, about 600 bytes
BYTES = 250  # per line shown: a title, a number, and an object's other columns
Pairs = list[tuple[str, int]]


class MessageCounts(Exercise):
    """Counting children on the server, zero included."""

    id = "2.3"
    title = "Counts, not rows"
    answer = "message_counts"
    minutes = 8
    level = "mid"
    hints: ClassVar = (
        "The server can count the messages of each conversation. Which kind of join keeps a conversation that has "
        "none?",
        "`outerjoin` with `group_by(Conversation.id)`. Two conversations may have the same title, so the title cannot "
        "be what you group by.",
        "`count(*)` counts rows, and an outer join has a row even where there is no message. `func.count(Message.id)` "
        "counts what is not NULL.",
    )
    why = (
        "One number per conversation travels instead of its messages. The outer join keeps empty conversations as a "
        "row of NULLs, which `count(messages.id)` does not count. A correlated subquery says the same and cannot "
        "multiply anything."
    )
    follow_up = (
        "The sidebar of a user with 20,000 conversations shows these numbers on every load. What would you do: count, "
        "keep a counter column, or show fewer lines?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`message_counts` returned None. | Did you forget `return`?",
        "not a list": "`message_counts` returned {kind}, and a list was asked for. "
        "| `.all()` makes a list of a result. A dict loses conversations that have the same title.",
        "not pairs": "The list holds {kind}, and pairs of a title and an int were asked for. "
        "| `select(Conversation.title, …)` with `execute`, not `scalars`.",
        "loaded on access": LOADED_ON_ACCESS,
        "strangers": "{count} lines came with a title that none of the user's conversations has. "
        "| Is the owner a condition of the query?",
        "one for none": "A conversation without messages was said to have {said}. "
        "| An outer join has a row for it, and `count(*)` counts rows.",
        "empty ones missing": "{count} conversations without messages are not in the list. "
        "| An inner join has no row for them, and a WHERE or HAVING on messages drops their row.",
        "merged": "{count} lines came for {total} conversations: those with the same title became one. "
        "| Group by `Conversation.id`. A title is no key.",
        "wrong counts": "{count} of {total} lines have a wrong number. "
        "| Every message counts once, whatever stands in it; numbers have gaps where some were deleted.",
        "wrong length": "{count} lines came for {total} conversations. "
        "| One line for each, equal ones too: grouped by the key, with no `limit` and no DISTINCT (UNION is one).",
        "too many statements": "{count} statements were sent for {total} conversations; the budget is 1. "
        "| Sent most often: `{repeated}`.",
        "loaded messages": "{rows} rows were fetched for {total} numbers. | The server can count: `func.count`.",
        "texts travelled": "{bytes:,} bytes travelled for {total} numbers. "
        "| What is gathered in an array or a JSON is sent as well. Gather a number.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        mine, stranger, newcomer = await add_user(attempt), await add_user(attempt), await add_user(attempt)
        # Neighbours of one title: most are equal lines, 8 and 3 are two.
        sizes = [(0, 0, 5, 5, 2, 2, 8, 3)[place % 8] for place in range(CONVERSATIONS)]
        threads = await add_threads(attempt, mine, sizes, words=WORDS, gap=3, awkward=True)
        await add_threads(attempt, stranger, [0, 7, 11, 4])
        await give_belongings(attempt)
        await add_double(attempt, mine)
        before = await self._look_at(attempt, mine, threads)
        for nobody in (newcomer, uuid4()):
            lines = await self._ask(attempt, nobody)
            attempt.expect(not lines, "strangers", count=len(lines))
        threads = await go_on(attempt, threads, words=WORDS)
        await self._look_at(attempt, mine, threads, before)
        await expect_errors_to_rise(attempt, mine)

    async def _look_at(
        self, attempt: Attempt, user_id: UUID, threads: list[Thread], before: Pairs | None = None
    ) -> Pairs:
        """What the answer says of the user, which is right; it said ``before`` when other rows were there."""
        total = len(threads)
        found = await self._ask(attempt, user_id)
        received, log = attempt.log.bytes_received, attempt.log
        expect_news(attempt, before, found)
        self._compare(attempt, found, threads)
        attempt.expect(log.count <= 1, "too many statements", count=log.count, total=total, repeated=sent_most(log))
        attempt.expect(fetched(log) <= total, "loaded messages", rows=fetched(log), total=total)
        attempt.expect(received <= BYTES * total + 2000, "texts travelled", bytes=received, total=total)
        return found

    async def _ask(self, attempt: Attempt, user_id: UUID) -> Pairs:
        with naming_lazy_loads(attempt):
            found = await ask(attempt, user_id)
        found = expect_list(attempt, found)
        odd = [line for line in found if not _is_pair(line)]
        attempt.expect(not odd, "not pairs", kind=article_of_pair(odd[0]) if odd else "")
        return [(title, count) for title, count in found]

    def _compare(self, attempt: Attempt, found: Pairs, threads: Sequence[Thread]) -> None:
        wanted = Counter((thread.title, len(thread.messages)) for thread in threads)
        if Counter(found) == wanted:
            return
        titles, total = Counter(thread.title for thread in threads), len(threads)
        said = Counter(title for title, _ in found)
        strange = sum(times for title, times in said.items() if title not in titles)
        attempt.expect(not strange, "strangers", count=strange)
        merged = set(said) == set(titles) and len(found) == len(titles) < total
        attempt.expect(not merged, "merged", count=len(found), total=total)
        empty = {thread.title for thread in threads if not thread.messages and titles[thread.title] == 1}
        missing = len(empty - set(said))
        attempt.expect(missing == 0, "empty ones missing", count=missing)
        attempt.expect(len(found) == total, "wrong length", count=len(found), total=total)
        for_none = {count for title, count in found if title in empty} - {0}
        right = sum((Counter(found) & wanted).values())
        only_there = right == total - sum(not thread.messages for thread in threads)
        attempt.expect(not (for_none and only_there), "one for none", said=max(for_none, default=0))
        raise attempt.wrong("wrong counts", count=total - right, total=total)


def _is_pair(line: Any) -> bool:
    return is_list(line) and len(line) == 2 and isinstance(line[0], str) and _is_number(line[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
