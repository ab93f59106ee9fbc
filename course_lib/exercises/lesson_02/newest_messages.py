"""2.2: many lines, each with something that several of them share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from secrets import choice, randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_02.scenes.belongings import give_belongings
from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, naming_lazy_loads
from course_lib.judging.asking import ask, expect_list, fetched, is_list, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import AWKWARD_TEXTS, ROLES, STATUSES, awkward_text
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, new_email, new_name
from course_lib.judging.threads import TITLES, shuffled, text_of

OWNERS = 24
CONVERSATIONS = 60
MESSAGES = 96
MORE = 505  # conversations of one older message each: more keys than one selectinload sends
TIED = 6  # messages of the same moment, or nearly so
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
        "wrong length": "{count} lines came back for n = {n}, and the product has {total} messages. "
        "| `limit(n)`, and a line for each message, whatever stands in it.",
        "wrong company": "{count} of {n} lines show another title or name than that of their message. "
        "| A join for each foreign key: `conversation_id`, then `user_id`.",
        "not the newest": "{count} of the {n} lines are not among the newest {n} messages of the product. "
        "| All messages count, whatever their role and status: order them by `created_at` before you limit.",
        "oldest first": "The newest {n} messages came, but the oldest of them first. | Newest first, all the way down.",
        "ties": "Where several messages have the same `created_at`, they came in another order than asked for. "
        "| Of equals, the greater id comes first: a second column in `order_by`.",
        "order": "The right messages came, but not newest first. | Let the server sort by `created_at`.",
        "too many statements": "{count} statements were sent for n = {n}; the budget is {budget}. "
        "| Sent most often: `{repeated}`.",
        "loaded everything": "{rows} rows were fetched for n = {n}. "
        "| Only what the page shows: at most one conversation and one user per message.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        stage = Stage(attempt)
        await stage.set_up()
        await give_belongings(attempt)
        for n in (58 + randbelow(5), 1, 5 + randbelow(3)):  # many first: there no order is right by chance
            await self._look_at(attempt, stage, n)
        await stage.add_older()  # only now: until then a forgotten join multiplies few rows, and is told so at once
        await self._look_at(attempt, stage, MESSAGES + MORE + 1 + randbelow(9))
        await expect_errors_to_rise(attempt, MORE)

    async def _look_at(self, attempt: Attempt, stage: Stage, n: int) -> None:
        found, lines = await self._ask(attempt, n), stage.lines
        log = attempt.log
        if found != lines[:n]:
            attempt.expect(len(found) == len(lines[:n]), "wrong length", count=len(found), n=n, total=len(lines))
            self._tell_what_differs(attempt, found, stage, n)
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

    def _tell_what_differs(self, attempt: Attempt, found: Lines, stage: Stage, n: int) -> None:
        said, wanted = [line[0] for line in found], [line[0] for line in stage.lines[:n]]
        known = {line[0]: line for line in stage.lines}
        strange = sum(line != known.get(line[0], line) for line in found)
        attempt.expect(not strange, "wrong company", count=strange, n=n)
        older = sum((Counter(said) - Counter(wanted)).values())
        newest_times = [stage.times[text] for text in wanted]
        is_tie = [stage.times.get(text) for text in said] == newest_times
        attempt.expect(not is_tie, "ties")
        attempt.expect(older == 0, "not the newest", count=older, n=n)
        attempt.expect([stage.times[text] for text in said] != newest_times[::-1], "oldest first", n=n)
        raise attempt.wrong("order")


def _is_triple(line: Any) -> bool:
    return is_list(line) and len(line) == 3 and all(isinstance(part, str) for part in line)


class Stage:
    """All messages of a product of many owners.

    Attributes:
        lines: as they are to be shown, newest first.
        times: of each text, when it was written. One that was said twice was so in one moment of one conversation.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._newest = datetime.now(UTC)
        self._names: dict[UUID, str] = {}
        self._owners: list[UUID] = []
        self._conversations: dict[UUID, dict[str, Any]] = {}
        self._messages: list[dict[str, Any]] = []
        self.lines: Lines = []
        self.times: dict[str, datetime] = {}

    async def set_up(self) -> None:
        self._names = {uuid4(): (new_name(), choice(AWKWARD_TEXTS))[place % 3 == 0] for place in range(OWNERS)}
        self._owners = list(self._names)
        people = [{"id": id, "name": name, "email": new_email()} for id, name in self._names.items()]
        await add_rows(self._attempt, "users", people)
        await self._attempt.sql("DELETE FROM conversations")
        titles = [f"{choice(TITLES)} {number % 9}" for number in range(CONVERSATIONS - 9)]
        conversations = [self._conversation(title) for title in [*titles, *(awkward_text() for _ in range(9))]]
        await self._add(conversations, _messages(conversations, self._newest))

    async def add_older(self) -> None:
        """A message of long ago in each of many more conversations."""
        conversations = [self._conversation(f"{choice(TITLES)} {number % 9}") for number in range(MORE)]
        long_ago = self._newest - timedelta(days=400)
        moments = [long_ago - timedelta(hours=randbelow(MORE)) for _ in conversations]
        messages = [_message(of, 1, moment) for of, moment in zip(conversations, moments, strict=True)]
        await self._add(conversations, messages)

    def _conversation(self, title: str) -> dict[str, Any]:
        times = {"created_at": self._newest, "updated_at": self._newest + timedelta(days=randbelow(90))}
        return {"id": uuid4(), "user_id": choice(self._owners), "title": title} | times

    async def _add(self, conversations: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
        await add_rows(self._attempt, "conversations", conversations)
        await add_rows(self._attempt, "messages", shuffled(messages))
        self._conversations |= {row["id"]: row for row in conversations}
        self._messages += messages
        self._messages.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
        self.lines = [self._line(row) for row in self._messages]
        self.times = {row["content"]: row["created_at"] for row in self._messages}

    def _line(self, message: dict[str, Any]) -> tuple[str, str, str]:
        conversation = self._conversations[message["conversation_id"]]
        return message["content"], conversation["title"], self._names[conversation["user_id"]]


def _messages(conversations: Sequence[dict[str, Any]], newest: datetime) -> list[dict[str, Any]]:
    """In conversations picked by chance; some written in the same moment, across the ends of a page too.

    Of each moment one text was said twice, and one message may be a microsecond older.
    """
    rows: list[dict[str, Any]] = []
    for number in range(MESSAGES):
        place = number % TIED
        older = timedelta(microseconds=randbelow(2) * (place == 0 < number))
        row = _message(choice(conversations), 1 + number, newest - timedelta(hours=number // TIED) - older)
        if place == TIED // 2:
            row |= {name: rows[-1][name] for name in ("conversation_id", "content", "created_at")}
        rows.append(row)
    return rows


def _message(conversation: dict[str, Any], seq: int, moment: datetime) -> dict[str, Any]:
    row = {"id": uuid4(), "conversation_id": conversation["id"], "seq": seq, "role": choice(ROLES)}
    text = f"{text_of(4)} {choice(AWKWARD_TEXTS) if seq % 3 == 0 else ''}"
    return row | {"status": choice(STATUSES), "content": text, "created_at": moment}
