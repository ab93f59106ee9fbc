"""2.2: many lines, each with something that several of them share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from secrets import choice, randbelow
from typing import Any, ClassVar
from uuid import uuid4

from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, naming_lazy_loads
from course_lib.judging.asking import ask, expect_list, fetched, is_list, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.staging import add_rows, new_email, new_name
from course_lib.judging.threads import TITLES, shuffled, text_of

OWNERS = 24
CONVERSATIONS = 60
MESSAGES = 90
TIED = 4
STATEMENTS = 3  # messages, conversations, users
Lines = list[tuple[Any, ...]]


class NewestMessages(Exercise):
    """Eager loading of what a row refers to."""

    id = "2.2"
    title = "Who said what, and where"
    answer = "newest_messages"
    minutes = 8
    hints: ClassVar = (
        "Every message has exactly one conversation, and that has exactly one owner. So a join adds columns and no "
        "rows.",
        "Either select three columns from three joined tables, or load `Message` objects and say what comes along: "
        "`joinedload(Message.conversation)` goes on with `.joinedload(Conversation.user)`.",
        "`select(Message.content, Conversation.title, User.name)`, a `join` for each foreign key, two columns in "
        "`order_by`, `limit(n)`.",
    )
    why = (
        "Towards one, a join never multiplies rows: each message still comes once, with its title and name beside it. "
        "A session remembers objects it has loaded, so a lazy load towards one asks once per conversation, not once "
        "per message: an N+1 that stays hidden while the test data has two users."
    )
    follow_up = (
        "`joinedload(Message.conversation)` writes a LEFT OUTER JOIN unless told otherwise. When does that matter, and "
        "what does `innerjoin=True` promise?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`newest_messages` returned None. | Did you forget `return`?",
        "not a list": "`newest_messages` returned {kind}, and a list was asked for. "
        "| `.all()` makes a list of a result.",
        "not triples": "The list holds {kind}, and tuples of three texts were asked for. "
        "| `(content, title, name)`, in this order.",
        "loaded on access": LOADED_ON_ACCESS,
        "wrong length": "{count} lines came back for n = {n}. | `limit(n)`.",
        "wrong company": "{count} of {n} lines show another title or name than that of their message. "
        "| A join for each foreign key: `conversation_id`, then `user_id`.",
        "not the newest": "{count} of the {n} lines are not among the newest {n} messages of the product. "
        "| Order by the message's `created_at` before you limit.",
        "oldest first": "The newest {n} messages came, but the oldest of them first. | Newest first, all the way down.",
        "ties": "Where several messages have the same `created_at`, they came in another order than asked for. "
        "| Of equals, the greater id comes first: a second column in `order_by`.",
        "order": "The right messages came, but not newest first. | Let the server sort by `created_at`.",
        "too many statements": "{count} statements were sent for {n} messages; the budget is {budget}. "
        "| Sent most often: `{repeated}`.",
        "loaded everything": "{rows} rows were fetched for {n} messages. "
        "| Only what the page shows: at most one conversation and one user per message.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        lines, times = await _stage(attempt)
        for n in (58 + randbelow(5), 5 + randbelow(3)):  # many first: there no order is right by chance
            found = await self._ask(attempt, n)
            log = attempt.log
            if found != lines[:n]:
                self._tell_what_differs(attempt, found, lines, times, n)
            attempt.expect(
                log.count <= STATEMENTS, "too many statements",
                count=log.count, n=n, budget=STATEMENTS, repeated=sent_most(log),
            )  # fmt: skip
            attempt.expect(fetched(log) <= STATEMENTS * n, "loaded everything", rows=fetched(log), n=n)

    async def _ask(self, attempt: Attempt, n: int) -> Lines:
        with naming_lazy_loads(attempt):
            found = await ask(attempt, n)
        found = expect_list(attempt, found)
        odd = [line for line in found if not _is_triple(line)]
        attempt.expect(not odd, "not triples", kind=article(odd[0]) if odd else "")
        return [tuple(line) for line in found]

    def _tell_what_differs(
        self, attempt: Attempt, found: Lines, lines: Lines, times: dict[str, datetime], n: int
    ) -> None:
        attempt.expect(len(found) == n, "wrong length", count=len(found), n=n)
        said = [line[0] for line in found]
        wanted = [line[0] for line in lines[:n]]
        known = {line[0]: line for line in lines}
        strange = sum(line != known.get(line[0], line) for line in found)
        attempt.expect(not strange, "wrong company", count=strange, n=n)
        older = n - len(set(said) & set(wanted))
        newest_times = [times[text] for text in wanted]
        is_tie = [times.get(text) for text in said] == newest_times
        attempt.expect(not is_tie, "ties")
        attempt.expect(older == 0, "not the newest", count=older, n=n)
        attempt.expect([times[text] for text in said] != newest_times[::-1], "oldest first", n=n)
        raise attempt.wrong("order")


def _is_triple(line: Any) -> bool:
    return is_list(line) and len(line) == 3 and all(isinstance(part, str) for part in line)


async def _stage(attempt: Attempt) -> tuple[Lines, dict[str, datetime]]:
    """The newest messages of the product as they are to be shown, newest first, and when each was written."""
    names = {uuid4(): new_name() for _ in range(OWNERS)}
    await add_rows(attempt, "users", [{"id": id, "name": name, "email": new_email()} for id, name in names.items()])
    await attempt.sql("DELETE FROM conversations")  # a forgotten join is to multiply few rows, and tell so at once
    newest = datetime.now(UTC)
    conversations: list[dict[str, Any]] = [
        {"id": uuid4(), "user_id": choice(list(names)), "title": f"{choice(TITLES)} {number % 9}"}
        | {"created_at": newest, "updated_at": newest + timedelta(days=randbelow(90))}
        for number in range(CONVERSATIONS)
    ]
    await add_rows(attempt, "conversations", conversations)
    messages = _messages(conversations, newest)
    await add_rows(attempt, "messages", shuffled(messages))
    messages.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
    of = {row["id"]: row for row in conversations}
    lines: Lines = [
        (row["content"], of[row["conversation_id"]]["title"], names[of[row["conversation_id"]]["user_id"]])
        for row in messages
    ]
    return lines, {row["content"]: row["created_at"] for row in messages}


def _messages(conversations: Sequence[dict[str, Any]], newest: datetime) -> list[dict[str, Any]]:
    """In conversations picked by chance; some written in the same moment, across the ends of a page too."""
    rows = []
    for number in range(MESSAGES):
        moment = newest - timedelta(hours=number // TIED, minutes=randbelow(2) * (number % TIED == 0))
        row = {"id": uuid4(), "conversation_id": choice(conversations)["id"], "seq": 1 + number}
        rows.append(row | {"role": "user", "content": text_of(4), "created_at": moment})
    return rows
