"""2.7: the last few of every group."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_02.scenes.belongings import give_belongings
from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, NOT_UNIQUE, naming_lazy_loads
from course_lib.judging.asking import ask, expect_list, expect_news, fetched, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article_of_pair
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user
from course_lib.judging.threads import Groups, Thread, add_threads, insert_threads, is_group, new_threads

CONVERSATIONS = 200
SHOWN = 3
STATEMENTS = 2
LONG = 2500  # characters of the last message that is not shown: to fetch one more weighs more than ``BYTES`` allow
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
        "strangers": "{count} titles or texts came that are in no conversation of the user. "
        "| Is the owner a condition of the query?",
        "pieces": "{count} texts came that are a piece of a message's text, and not the whole. "
        "| Cut off, or joined and split again: whatever separates texts can stand in one. Gather them in an array.",
        "merged": "{count} lines hold texts of several conversations. "
        "| Group by the id. A title is no key.",
        "empty ones missing": "{count} of {total} conversations did not come, and those have no message. "
        "| An inner join drops them, and so does a WHERE on what an outer join did not find.",
        "too many lines": "{count} lines came for {total} conversations. | One line for each.",
        "conversations missing": "{count} of {total} conversations did not come. "
        "| A limit on the whole result is no limit for each conversation.",
        "order": "The conversations came in another order than asked for. "
        "| By `updated_at` descending; of equals, the greater id comes first.",
        "mixed up": "{count} of {total} lines show texts of another conversation than that of their title. "
        "| Which text belongs where is told by `conversation_id`, not by the place in a list.",
        "too many texts": "{count} conversations came with more than three texts. "
        "| The limit is for each conversation: number the messages of each, or LATERAL.",
        "too few texts": "{count} conversations came with fewer texts than they have to show. "
        "| A conversation shows three if it has three, whatever their text. Where some were deleted, numbers miss.",
        "not the last": "{count} of {total} conversations show other messages than their last three. "
        "| The last ones are those with the greatest `seq`, whatever their role and status.",
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
        threads = await _stage(attempt, mine)
        await add_threads(attempt, stranger, [4] * 9)
        await give_belongings(attempt)
        await add_double(attempt, mine)
        found = await self._ask(attempt, mine)
        received, log = attempt.log.bytes_received, attempt.log
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
        few = await add_threads(attempt, newcomer, (5, 0, 1, 3, 4), gap=3, awkward=True)
        found = await self._ask(attempt, newcomer)
        expect_news(attempt, [], found)
        self._compare(attempt, found, few)
        await expect_errors_to_rise(attempt, mine)

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
        home, total = {text: thread for thread in threads for text in thread.contents if text}, len(threads)
        self._compare_lines(attempt, found, threads, home)
        attempt.expect(sorted(found) != sorted(wanted), "order")
        pairs = [(title, texts, home[spoken[0]]) for title, texts in found if (spoken := list(filter(None, texts)))]
        foreign = sum(title != thread.title for title, _, thread in pairs)
        attempt.expect(not foreign, "mixed up", count=foreign, total=total)
        self._compare_texts(attempt, [(texts, _last(thread)) for _, texts, thread in pairs], total)
        fewer = sum(bool(thread.messages) for thread in threads) - len(pairs)
        attempt.expect(fewer <= 0, "too few texts", count=fewer)
        raise attempt.wrong("order")

    def _compare_texts(self, attempt: Attempt, pairs: list[tuple[list[str], list[str]]], total: int) -> None:
        """The texts of each line beside the last three of its conversation."""
        more = sum(len(texts) > SHOWN for texts, _ in pairs)
        attempt.expect(not more, "too many texts", count=more)
        turned = sum(texts != last and texts == last[::-1] for texts, last in pairs)
        attempt.expect(not turned, "newest on top", count=turned)
        fewer = sum(len(texts) < len(last) for texts, last in pairs)
        in_place = all(set(texts) <= set(last) for texts, last in pairs)
        attempt.expect(not (fewer and in_place), "too few texts", count=fewer)
        others = sum(texts != last for texts, last in pairs)
        attempt.expect(not others, "not the last", count=others, total=total)

    def _compare_lines(self, attempt: Attempt, found: Groups, threads: list[Thread], home: dict[str, Thread]) -> None:
        """Which conversations came."""
        own = {text for thread in threads for text in (thread.title, *thread.contents)}
        strange = [text for title, texts in found for text in (title, *texts) if text not in own]
        pieces = sum(any(text in whole for whole in own) for text in strange)
        attempt.expect(pieces < len(strange) or not strange, "pieces", count=pieces)
        attempt.expect(not strange, "strangers", count=len(strange))
        homes = [{home[text].id for text in texts if text} for _, texts in found]
        merged = sum(len(ids) > 1 for ids in homes)
        attempt.expect(not merged, "merged", count=merged)
        total, missing = len(threads), len(threads) - len(found)
        attempt.expect(missing >= 0, "too many lines", count=len(found), total=total)
        spoken = {thread.id for thread in threads if thread.messages}
        all_spoken = set().union(*homes) == spoken and len(found) == len(spoken)
        attempt.expect(missing == 0 or not all_spoken, "empty ones missing", count=missing, total=total)
        attempt.expect(missing == 0, "conversations missing", count=missing, total=total)


async def _stage(attempt: Attempt, user_id: UUID) -> list[Thread]:
    """Many threads. What comes before the last three messages is long."""
    sizes = [SIZES[place * 7 % len(SIZES)] for place in range(CONVERSATIONS)]
    threads = new_threads(user_id, sizes, gap=3, awkward=True)
    for thread in threads:
        for message in thread.messages[-SHOWN - 1 : -SHOWN]:
            message["content"] += LONG * "."
    await insert_threads(attempt, threads)
    return threads


def _last(thread: Thread) -> list[str]:
    return thread.contents[-SHOWN:]
