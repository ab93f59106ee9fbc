"""2.7: the last few of every group."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, NOT_UNIQUE, naming_lazy_loads
from course_lib.judging.asking import ask, counting_bytes, expect_list, fetched, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article_of_pair
from course_lib.judging.staging import add_user
from course_lib.judging.threads import Groups, Thread, add_threads, is_group

CONVERSATIONS = 200
SHOWN = 3
STATEMENTS = 2
WORDS = 25  # in a message, about 160 bytes
BYTES = 300  # per row, beside the texts that are shown
SIZES = (0, 1, 2, 3, 4, 24, 31, 5, 18, 40)


class LastThree(Exercise):
    """The greatest n per group."""

    id = "2.7"
    title = "The last three"
    answer = "last_three"
    minutes = 15
    points = 3
    level = "senior"
    hints: ClassVar = (
        "`LIMIT 3` limits a whole result. You need a limit for every conversation: the server can number the messages "
        "of each one backwards.",
        "`func.row_number().over(partition_by=Message.conversation_id, order_by=Message.seq.desc())` in a subquery, "
        "and outside of it a condition on the number. A LATERAL subquery with ORDER BY and LIMIT 3 does the same.",
        "Start from the conversations and outer join the numbered messages, with the condition `place <= 3` in the "
        "join and not in the WHERE, so that conversations without messages stay.",
        "The last column of `order_by` is `seq` again, ascending this time: three are chosen from the end, and shown "
        "in the order of reading. Group the rows by the conversation's id.",
    )
    why = (
        "A window function numbers the rows of each group on the server, so only three of each travel. LATERAL runs a "
        "small query per conversation inside the server, which an index on `(conversation_id, seq)` answers without "
        "reading the rest: better when the groups are long."
    )
    follow_up = (
        "A conversation has 100,000 messages. Which of ROW_NUMBER, LATERAL and DISTINCT ON still reads only three of "
        "them, and how do you see it in the plan?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`last_three` returned None. | Did you forget `return`?",
        "not a list": "`last_three` returned {kind}, and a list was asked for. "
        "| `[(title, [content, …]), …]`; a dict loses conversations that have the same title.",
        "not pairs": "The list holds {kind}, and pairs of a title and a list of texts were asked for. "
        "| `(title, [content, …])`, plain values, no objects. An empty list where nothing was said.",
        "loaded on access": LOADED_ON_ACCESS,
        "not unique": NOT_UNIQUE,
        "strangers": "{count} of the texts are from conversations of other users. "
        "| Is the owner a condition of the query?",
        "merged": "{count} lines came for {total} conversations: those with the same title became one. "
        "| Group by the id. A title is no key.",
        "empty ones missing": "{count} of {total} conversations did not come, and those have no message. "
        "| An inner join drops them, and so does a WHERE on what an outer join did not find.",
        "too many lines": "{count} lines came for {total} conversations. | One line for each.",
        "conversations missing": "{count} of {total} conversations did not come. "
        "| A limit on the whole result is no limit for each conversation.",
        "order": "The conversations came in another order than asked for. "
        "| By `updated_at` descending; of equals, the greater id comes first.",
        "mixed up": "{count} of {total} conversations show texts of other conversations. "
        "| Which text belongs where is told by `conversation_id`, not by the place in a list.",
        "too many texts": "{count} conversations came with more than three texts. "
        "| The limit is for each conversation: number the messages of each, or LATERAL.",
        "too few texts": "{count} conversations came with fewer texts than they have to show. "
        "| A conversation shows three if it has three. Where messages were deleted, their numbers are missing.",
        "not the last": "{count} of {total} conversations show other messages than their last three. "
        "| The last ones are those with the greatest `seq`.",
        "newest on top": "The texts of {count} conversations stand last first. "
        "| Chosen from the end, shown in the order of reading.",
        "too many statements": "{count} statements were sent for {total} conversations; the budget is {budget}. "
        "| Sent most often: `{repeated}`.",
        "loaded everything": "{rows} rows were fetched to show {shown} texts of {total} conversations. "
        "| The server has to choose the three.",
        "texts travelled": "{bytes:,} bytes travelled for {shown} texts, which are {text:,} bytes. "
        "| What is gathered in an array or a JSON is sent as well: cut it on the server.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        mine, stranger, newcomer = await add_user(attempt), await add_user(attempt), await add_user(attempt)
        sizes = [SIZES[place * 7 % len(SIZES)] for place in range(CONVERSATIONS)]
        threads = await add_threads(attempt, mine, sizes, words=WORDS, gap=3)
        await add_threads(attempt, stranger, [4] * 9)
        async with counting_bytes(attempt) as network:
            found = await self._ask(attempt, mine)
            received, log = network.bytes_received, attempt.log
        self._compare(attempt, found, threads)
        total, texts = len(threads), [text for thread in threads for text in _last(thread)]
        attempt.expect(
            log.count <= STATEMENTS, "too many statements",
            count=log.count, total=total, budget=STATEMENTS, repeated=sent_most(log),
        )  # fmt: skip
        rows, shown, text = fetched(log), len(texts), sum(map(len, texts))
        attempt.expect(rows <= total + shown, "loaded everything", rows=rows, shown=shown, total=total)
        budget = text + BYTES * (total + shown)
        attempt.expect(received <= budget, "texts travelled", bytes=received, shown=shown, text=text)
        for nobody in (newcomer, uuid4()):
            lines = await self._ask(attempt, nobody)
            attempt.expect(not lines, "strangers", count=len(lines))

    async def _ask(self, attempt: Attempt, user_id: UUID) -> Groups:
        with naming_lazy_loads(attempt):
            found = await ask(attempt, user_id)
        found = expect_list(attempt, found)
        odd = [line for line in found if not is_group(line)]
        attempt.expect(not odd, "not pairs", kind=article_of_pair(odd[0]) if odd else "")
        return [(title, list(texts)) for title, texts in found]

    def _compare(self, attempt: Attempt, found: Groups, threads: list[Thread]) -> None:
        wanted = [(thread.title, _last(thread)) for thread in threads]
        if found == wanted:
            return
        self._compare_lines(attempt, found, threads)
        total = len(threads)
        pairs = [(texts, last) for (_, texts), (_, last) in zip(found, wanted, strict=True)]
        foreign = sum(not set(texts) <= set(thread.contents) for (_, texts), thread in zip(found, threads, strict=True))
        attempt.expect(not foreign, "mixed up", count=foreign, total=total)
        more = sum(len(texts) > SHOWN for texts, _ in pairs)
        attempt.expect(not more, "too many texts", count=more)
        turned = sum(texts != last and texts == last[::-1] for texts, last in pairs)
        attempt.expect(not turned, "newest on top", count=turned)
        fewer = sum(len(texts) < len(last) for texts, last in pairs)
        in_place = all(set(texts) <= set(last) for texts, last in pairs)
        attempt.expect(not (fewer and in_place), "too few texts", count=fewer)
        others = sum(texts != last for texts, last in pairs)
        raise attempt.wrong("not the last", count=others, total=total)

    def _compare_lines(self, attempt: Attempt, found: Groups, threads: list[Thread]) -> None:
        """Which conversations came, and in which order."""
        home = {text: thread for thread in threads for text in thread.contents}
        strange = sum(text not in home for _, texts in found for text in texts)
        attempt.expect(not strange, "strangers", count=strange)
        titles, wanted, total = [title for title, _ in found], [thread.title for thread in threads], len(threads)
        if titles == wanted:
            return
        attempt.expect(not set(titles) - set(wanted), "strangers", count=len(set(titles) - set(wanted)))
        merged = len(found) == len(set(titles)) == len(set(wanted)) < total
        attempt.expect(not merged, "merged", count=len(found), total=total)
        attempt.expect(len(found) <= total, "too many lines", count=len(found), total=total)
        missing, spoken = total - len(found), sum(bool(thread.messages) for thread in threads)
        attempt.expect(missing == 0 or len(found) != spoken, "empty ones missing", count=missing, total=total)
        attempt.expect(missing == 0, "conversations missing", count=missing, total=total)
        raise attempt.wrong("order")


def _last(thread: Thread) -> list[str]:
    return thread.contents[-SHOWN:]
