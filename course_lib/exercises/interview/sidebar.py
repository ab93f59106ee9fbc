"""J3: a loop that looks innocent, because the statement is behind a property."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import sample
from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, naming_lazy_loads
from course_lib.judging.asking import ask, expect_news, fetched, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double, awkward_text
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article, quoted
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user
from course_lib.judging.threads import shuffled

LINES = 20  # in a sidebar
SMALL, LARGE = 3, 28  # conversations of the two users that are looked at
STATEMENTS, ROWS = 4, 3  # for a sidebar, and for each of its lines
LONG = 40  # messages in a long conversation
PREVIEW = 40  # characters
KEYS = ("id", "title", "answers", "preview")
TEXT = "word " * 200  # a kilobyte
Line = dict[str, Any]


class Sidebar(Drill):
    """A view object whose properties load, one object after the other."""

    id = "J3"
    title = "The sidebar got slow"
    answer = "sidebar"
    minutes = 10
    level = "junior"
    topics: ClassVar = ("orm", "performance", "async")
    faults: ClassVar = ("loop", "every message")
    hints: ClassVar = (
        "Run it inside `with QueryLog(engine) as log:` for a user with two conversations and for one with twenty, and "
        "print both logs. Which line of the code sends the statement that repeats itself?",
        "`lines` reads two properties of each `Line`, and both read `conversation.messages`. Loading all messages "
        "eagerly ends the loop. How many rows does a sidebar then fetch for somebody who writes a lot?",
        "A line needs a number and the start of one text. Both can be columns of the first SELECT: a scalar subquery "
        "that counts, and one that takes the newest text with `order_by(Message.seq.desc()).limit(1)`.",
    )
    why = (
        "An attribute that loads looks like one that does not, so a loop over innocent objects sends a statement for "
        "each of them. Loading the collection eagerly makes few statements of it and still fetches every message ever "
        "written, for a number and forty characters. What a page shows is asked of the server as such: columns, and "
        "not objects out of which it could be computed."
    )
    follow_up = "How would you notice in development, and in a test, that a property of a template has begun to load?"
    mistakes: ClassVar = {
        "not a list": "`sidebar` returned {kind}, and a list was asked for. | One dict for each line.",
        "not lines": "A line is {said}. | A dict with the keys `id`, `title`, `answers` and `preview`.",
        "loaded on access": LOADED_ON_ACCESS,
        "strangers": "{count} lines are of conversations that are not the user's. | Is the owner a condition?",
        "other lines": "For a user with {total} conversations {count} lines came, or others than those answered in "
        "last. | The twenty with the newest `updated_at`, those without a message too.",
        "order": "The right lines came in another order. | Newest `updated_at` first.",
        "wrong line": "Of a line, `{key}` is {said}. "
        "| It is to be {look}.",
        "loop": "{few} statements were sent for a sidebar of {small} lines, and {many} for one of {large}. "
        "| That is what was reported. Sent most often: `{repeated}`.",
        "many statements": "{many} statements were sent for a sidebar, and no more for a longer one; four are enough. "
        "| Sent most often: `{repeated}`.",
        "every message": "{rows} rows were fetched for a sidebar of {large} lines. "
        "| What becomes of that for who has written for years? A line needs a number and one text.",
        "texts travelled": "{bytes:,} bytes travelled for a sidebar of {large} lines. "
        "| One text for each line is enough, whatever else it is gathered in.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        busy, starter = await add_user(attempt), await add_user(attempt)
        few = await _stage(attempt, starter, SMALL)
        many = await _stage(attempt, busy, LARGE)
        await add_double(attempt, busy)
        await self._look_at(attempt, starter, few)
        sent = attempt.log.count
        before = await self._look_at(attempt, busy, many)
        log, large = attempt.log, len(before)
        numbers = {"many": log.count, "large": large, "repeated": sent_most(log)}
        attempt.expect(log.count <= max(STATEMENTS, sent), "loop", few=sent, small=SMALL, **numbers)
        attempt.expect(log.count <= STATEMENTS, "many statements", **numbers)
        attempt.expect(fetched(log) <= ROWS * large, "every message", rows=fetched(log), large=large)
        travelled, most = log.bytes_received, (len(TEXT) + 1000) * large
        attempt.expect(travelled <= most, "texts travelled", bytes=travelled, large=large)
        await attempt.sql(
            "INSERT INTO messages (conversation_id, seq, role, content) VALUES (:id, 900, 'assistant', 'Indeed.')",
            id=many[0]["id"],
        )
        many[0] |= {"answers": many[0]["answers"] + 1, "preview": "Indeed."}
        await self._look_at(attempt, busy, many, before)
        await self._look_at(attempt, uuid4(), [])
        await expect_errors_to_rise(attempt, busy)

    async def _look_at(
        self, attempt: Attempt, user_id: UUID, wanted: list[Line], before: list[Line] | None = None
    ) -> list[Line]:
        with naming_lazy_loads(attempt):
            found = await ask(attempt, user_id)
        attempt.expect(found is not None, "not a list", kind="None")
        lines = [dict(line) if isinstance(line, Mapping) else line for line in self._listed(attempt, found)]
        odd = [line for line in lines if not (isinstance(line, dict) and sorted(line) == sorted(KEYS))]
        attempt.expect(not odd, "not lines", said=_shape(odd[0]) if odd else "")
        expect_news(attempt, before, lines)
        self._compare(attempt, lines, wanted)
        return lines

    def _listed(self, attempt: Attempt, found: Any) -> list[Any]:
        attempt.expect(isinstance(found, list | tuple), "not a list", kind=article(found))
        return list(found)

    def _compare(self, attempt: Attempt, lines: list[Line], everything: list[Line]) -> None:
        """``everything`` that the user has, newest first."""
        wanted, own = everything[:LINES], {line["id"] for line in everything}
        ids, strangers = [line["id"] for line in lines], sum(line["id"] not in own for line in lines)
        attempt.expect(not strangers, "strangers", count=strangers)
        right = [line["id"] for line in wanted]
        same = len(ids) == len(right) and set(ids) == set(right)
        attempt.expect(same, "other lines", count=len(ids), total=len(everything))
        attempt.expect(ids == right, "order")
        for line, as_wanted in zip(lines, wanted, strict=True):
            for key in KEYS:
                right_one = line[key] == as_wanted[key] and not isinstance(line[key], bool)
                attempt.expect(right_one, "wrong line", key=key, said=quoted(line[key]), look=LOOKS[key])


LOOKS = {
    "id": "the id of the conversation",
    "title": "the title as it is stored",
    "answers": "the number of messages of the role `assistant` that are `complete`, 0 if none",
    "preview": "the first 40 characters of the message with the greatest `seq`, whoever said it; empty without one",
}


def _shape(line: Any) -> str:
    return f"a dict with the keys {', '.join(map(str, line))}" if isinstance(line, dict) else article(line)


async def _stage(attempt: Attempt, user_id: UUID, count: int) -> list[Line]:
    """Conversations without messages, with few, and with many; the lines they make, newest first."""
    now, lines, rows, messages = datetime.now(UTC), [], [], []
    for place in range(count):
        id, updated = uuid4(), now - timedelta(hours=3 * place, seconds=place)
        title = "New conversation" if place % 3 == 0 else f"Question {token_hex(2)}"
        size = (0, 1, 5, LONG)[place % 4]
        said = _messages(id, size, updated)
        answers = sum(message["role"] == "assistant" and message["status"] == "complete" for message in said)
        preview = max(said, key=lambda message: message["seq"])["content"][:PREVIEW] if said else ""
        rows.append({"id": id, "user_id": user_id, "title": title, "created_at": updated, "updated_at": updated})
        lines.append({"id": id, "title": title, "answers": answers, "preview": preview})
        messages += said
    await add_rows(attempt, "conversations", shuffled(rows))
    await add_rows(attempt, "messages", shuffled(messages))
    return lines


def _messages(id: UUID, size: int, moment: datetime) -> list[Line]:
    """Their clock runs backwards, as that of imported messages may: only ``seq`` tells the order."""
    numbers = sorted(sample(range(1, 3 * size + 1), size))
    return [
        {"id": uuid4(), "conversation_id": id, "seq": seq, "content": f"{awkward_text()[2 * (place % 2):]} {TEXT}",
         "role": ("user", "assistant", "assistant", "tool")[place % 4], "meta": {}, "token_count": 1,
         "status": ("complete", "complete", "aborted", "streaming", "complete")[place % 5],
         "created_at": moment - timedelta(seconds=place)}
        for place, seq in enumerate(numbers)
    ]  # fmt: skip
