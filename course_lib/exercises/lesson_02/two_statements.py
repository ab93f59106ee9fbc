"""2.1: a list and what belongs to each of its lines, without a statement per line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_02.scenes.belongings import give_belongings
from course_lib.exercises.lesson_02.scenes.going_on import go_on
from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, NOT_UNIQUE, naming_lazy_loads
from course_lib.judging.asking import ask, expect_list, expect_news, fetched, readable, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article, quoted
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user
from course_lib.judging.threads import Thread, add_threads
from course_lib.models import Conversation

CONVERSATIONS = 50
STATEMENTS = 2
Said = list[tuple[Any, ...]]  # of each message the number, the role and the text


class TwoStatements(Exercise):
    """Eager loading of a collection."""

    id = "2.1"
    title = "Two statements"
    answer = "conversations_with_messages"
    minutes = 8
    hints: ClassVar = (
        "All messages of all fifty conversations can be asked for at once. Something has to be said in the query that "
        "finds the conversations.",
        "`select(Conversation).options(…)` takes a loader strategy for a relationship. Which one sends a second SELECT "
        "with all keys in it?",
        "`selectinload(Conversation.messages)`, and two columns in `order_by`: `updated_at`, then `id`, both "
        "`.desc()`.",
    )
    why = (
        "`selectinload` gathers the keys of all conversations and asks for their messages in one more SELECT. So the "
        "number of statements no longer depends on the number of conversations, and everything is in memory before the "
        "session closes."
    )
    follow_up = "The same list for 1,200 conversations sends more than two statements. How many, and why?"
    mistakes: ClassVar = {
        "nothing returned": "`conversations_with_messages` returned None. | Did you forget `return`?",
        "not a list": "`conversations_with_messages` returned {kind}, and a list was asked for. "
        "| `.all()` makes a list of a result.",
        "not conversations": "The list holds {kind}, and `Conversation` objects were asked for. "
        "| `select(Conversation)` with `scalars` gives objects.",
        "loaded on access": LOADED_ON_ACCESS,
        "not unique": NOT_UNIQUE,
        "strangers": "{count} of the conversations that came are not the user's. "
        "| Is the owner a condition of the query?",
        "twice": "{count} conversations came more than once. | A join gives one row for every message.",
        "conversations missing": "{count} of the user's conversations did not come. "
        "| Is there a limit, or an inner join, which drops a conversation without messages?",
        "not loaded": "The messages of {count} of {total} conversations cannot be read after the session is closed. "
        "| They must be loaded in the call, with the columns that are read later.",
        "messages missing": "{count} of {total} conversations came without some of their messages. "
        "| All of them belong to it, whatever their role and status.",
        "other messages": "{count} of {total} conversations came with other messages than their own. "
        "| Compare each message's `conversation_id` with the id of the conversation it was given to.",
        "order of messages": "The messages of {count} of {total} conversations are not in the order of `seq`. "
        "| Timestamps can tie and go wrong. The relationship itself is ordered by `seq`.",
        "order": "The right conversations came, but not newest first. | Order by `updated_at`, descending.",
        "ties": "Where several conversations have the same `updated_at`, they came in another order than asked for. "
        "| Of equals, the greater id comes first: a second column in `order_by`.",
        "loaded everything": "{rows} rows were fetched for {total} conversations with {messages} messages. "
        "| Only the user's own messages are wanted.",
        "too many statements": "{count} statements were sent for {total} conversations; the budget is {budget}. "
        "| Sent most often: `{repeated}`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        mine, stranger, newcomer = await add_user(attempt), await add_user(attempt), await add_user(attempt)
        threads = await add_threads(attempt, mine, [place % 7 for place in range(CONVERSATIONS)], gap=3, awkward=True)
        await add_threads(attempt, stranger, [30 + randbelow(9)] * 10)
        await give_belongings(attempt)
        await add_double(attempt, mine)
        before = await self._look_at(attempt, mine, threads)
        for nobody in (newcomer, uuid4()):
            others = await self._ask(attempt, nobody)
            attempt.expect(not others, "strangers", count=len(others))
        threads = await go_on(attempt, threads, gap=3, awkward=True)
        await self._look_at(attempt, mine, threads, before)
        await expect_errors_to_rise(attempt, mine)

    async def _look_at(
        self, attempt: Attempt, user_id: UUID, threads: list[Thread], before: list[Said | None] | None = None
    ) -> list[Said | None]:
        """What the answer says of the user, which is right; it said ``before`` when other rows were there."""
        found = await self._ask(attempt, user_id)
        log = attempt.log
        read = [_messages(item) for item in found]
        expect_news(attempt, before, read)
        self._compare_conversations(attempt, found, threads)
        self._compare_messages(attempt, read, threads)
        messages = sum(len(thread.messages) for thread in threads)
        total, rows = len(threads), fetched(log)
        attempt.expect(
            log.count <= STATEMENTS, "too many statements",
            count=log.count, total=total, budget=STATEMENTS, repeated=sent_most(log),
        )  # fmt: skip
        attempt.expect(rows <= total + messages, "loaded everything", rows=rows, total=total, messages=messages)
        return read

    async def _ask(self, attempt: Attempt, user_id: UUID) -> Sequence[Conversation]:
        with naming_lazy_loads(attempt):
            found = await ask(attempt, user_id)
        found = expect_list(attempt, found)
        odd = [item for item in found if not isinstance(item, Conversation)]
        attempt.expect(not odd, "not conversations", kind=article(odd[0]) if odd else "")
        conversations: Sequence[Conversation] = found
        return conversations

    def _compare_conversations(self, attempt: Attempt, found: Sequence[Conversation], threads: list[Thread]) -> None:
        ids, wanted = [item.id for item in found if readable(item, "id", "title")], [thread.id for thread in threads]
        if ids == wanted:
            return
        strangers = set(ids) - set(wanted)
        attempt.expect(not strangers, "strangers", count=len(strangers))
        attempt.expect(len(ids) == len(set(ids)), "twice", count=sum(ids.count(id) > 1 for id in set(ids)))
        attempt.expect(len(ids) == len(wanted), "conversations missing", count=len(wanted) - len(ids))
        times = {thread.id: thread.updated_at for thread in threads}
        in_time = [times[id] for id in ids] == [times[id] for id in wanted]
        raise attempt.wrong("ties" if in_time else "order")

    def _compare_messages(self, attempt: Attempt, read: list[Said | None], threads: list[Thread]) -> None:
        total, unread = len(threads), sum(messages is None for messages in read)
        attempt.expect(not unread, "not loaded", count=unread, total=total)
        stored = [[(row["seq"], row["role"], row["content"]) for row in thread.messages] for thread in threads]
        pairs = [(messages or [], wanted) for messages, wanted in zip(read, stored, strict=True)]
        fewer = sum(Counter(messages) < Counter(wanted) for messages, wanted in pairs)
        other = sum(Counter(messages) != Counter(wanted) for messages, wanted in pairs)
        attempt.expect(not other or fewer < other, "messages missing", count=fewer, total=total)
        attempt.expect(not other, "other messages", count=other, total=total)
        unordered = sum(messages != wanted for messages, wanted in pairs)
        attempt.expect(not unordered, "order of messages", count=unordered, total=total)


def _messages(conversation: Conversation) -> Said | None:
    """What is shown of its messages; None when that cannot be read without the session."""
    try:
        said = [(message.seq, message.role, message.content) for message in conversation.messages]
    except Exception:
        return None
    return [tuple(part if isinstance(part, int | str) else quoted(part) for part in message) for message in said]
