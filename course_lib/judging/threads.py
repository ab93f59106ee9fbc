"""Conversations with messages that judges put on stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from secrets import choice, randbelow, token_hex
from typing import Any
from uuid import UUID, uuid4

from course_lib.judging.asking import is_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import ROLES, STATUSES, awkward_text
from course_lib.judging.staging import add_rows

TIED = 4  # conversations of the same moment: an order without ids gets them right once in 24 times
TITLES = ("Refunds", "Opening hours", "Spare parts", "New conversation")  # titles are not unique
WORDS = ("oven", "tide", "lens", "brake", "valve", "seed", "mast", "fridge", "invoice", "ferry", "dome", "comet")
SIGNS = " ".join(f"{sign} {sign * 3}" for sign in map(chr, range(1, 128)) if not sign.isalnum())  # none separates texts
_random = Random()  # of our own: what an answer seeds is another one
Groups = list[tuple[str, list[str]]]  # the title of each conversation, and texts of its messages


@dataclass
class Thread:
    """A conversation as it stands in the table; ``messages`` are its rows by ``seq``."""

    id: UUID
    user_id: UUID
    title: str
    created_at: datetime
    updated_at: datetime
    messages: list[dict[str, Any]]

    @property
    def contents(self) -> list[str]:
        return [message["content"] for message in self.messages]


async def add_threads(attempt: Attempt, user_id: UUID, sizes: Sequence[int], **kinds: Any) -> list[Thread]:
    """``new_threads``, with its options, put on stage."""
    threads = new_threads(user_id, sizes, **kinds)
    await insert_threads(attempt, threads)
    return threads


def new_threads(
    user_id: UUID,
    sizes: Sequence[int],
    *,
    words: int = 4,
    aborted: int = 0,
    gap: int = 1,
    tied: bool = True,
    awkward: bool = False,
) -> list[Thread]:
    """One conversation for each of ``sizes``, that many messages in it; newest first by ``updated_at``, then id.

    Args:
        words: the length of a message's text.
        aborted: one message of so many was cut off; 0 for none.
        gap: how far the next number may be; 1 for numbers without gaps.
        tied: some were updated in the same moment.
        awkward: roles and statuses of every kind, texts said twice in one conversation, one that is empty, one with
            every sign in it, and neighbours in time with the same title.
    """
    threads = [_thread(user_id, size, place, (words, aborted, gap)) for place, size in enumerate(sizes)]
    if tied:
        _tie(threads)
    if awkward:
        _complicate(threads, aborted)
    threads.sort(key=lambda thread: (thread.updated_at, thread.id), reverse=True)
    return threads


async def insert_threads(attempt: Attempt, threads: Sequence[Thread]) -> None:
    """Put them into the tables, in no order."""
    rows = [{name: value for name, value in vars(thread).items() if name != "messages"} for thread in threads]
    await add_rows(attempt, "conversations", shuffled(rows))
    messages = [message for thread in threads for message in thread.messages]
    if messages:
        await add_rows(attempt, "messages", shuffled(messages))


def is_group(line: Any) -> bool:
    """True for a pair of a title and a list of texts."""
    pair = is_list(line) and len(line) == 2 and isinstance(line[0], str) and is_list(line[1])
    return pair and all(isinstance(text, str) for text in line[1])


def shuffled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In no order, so that none comes by itself."""
    return sorted(rows, key=lambda _: randbelow(1 << 30))


def _thread(user_id: UUID, size: int, place: int, options: tuple[int, int, int]) -> Thread:
    updated = datetime.now(UTC) - timedelta(days=2 * place, minutes=1 + randbelow(999))
    title = choice(TITLES) if place % 5 == 0 else f"Question {token_hex(2)}"
    id = uuid4()
    created = updated - timedelta(hours=1 + randbelow(9000))
    return Thread(id, user_id, title, created, updated, _messages(id, size, created, *options))


def _messages(id: UUID, size: int, created: datetime, words: int, aborted: int, gap: int) -> list[dict[str, Any]]:
    """Stamped by a clock that goes wrong, as those of imported messages do: only ``seq`` tells the order."""
    start, seq, messages = randbelow(max(1, aborted)), 0, []
    for place in range(size):
        seq += 1 + randbelow(gap)
        cut = aborted > 0 and (place + start) % aborted == aborted - 1
        messages.append(
            {"id": uuid4(), "conversation_id": id, "seq": seq, "role": ("user", "assistant")[place % 2]}
            | {"content": text_of(words), "status": "aborted" if cut else "complete"}
            | {"created_at": created + timedelta(seconds=randbelow(3600))}
        )
    return messages


def text_of(words: int) -> str:
    """A text that nobody has written yet."""
    return " ".join([token_hex(4), *_random.choices(WORDS, k=words - 1)])


def _tie(threads: list[Thread]) -> None:
    """Some conversations were updated in the same moment; their ids lie in an order that no plan gives by chance."""
    for first in range(2, len(threads) - TIED, 3 * TIED):
        tied = threads[first : first + TIED]
        for thread in tied:
            thread.updated_at = tied[0].updated_at


def _complicate(threads: Sequence[Thread], aborted: int) -> None:
    """What rows of a real product look like. A text that is said twice is so by one message and the next, alike."""
    for place, thread in enumerate(threads):
        neighbour = threads[place - 1] if place % 2 else thread
        kind = place // 2 % 3
        thread.title = (thread.title, neighbour.title, neighbour.title)[kind] if place % 2 else _title(kind)
        for number, message in enumerate(thread.messages):
            message["role"] = choice(ROLES)
            if message["status"] == "complete":
                message["status"] = choice(("complete", "streaming") if aborted else STATUSES)
            if number % 4 == 1:
                twin = thread.messages[number - 1]
                message |= {name: twin[name] for name in ("role", "status", "content", "created_at")}
            elif number % 4 == 2:
                message["content"] += awkward_text()
    longest = max(threads, key=lambda thread: len(thread.messages))
    if len(longest.messages) > len(ROLES):
        longest.messages[-2] |= {"content": f"{token_hex(4)} {SIGNS}", "status": "aborted"}
        longest.messages[-1] |= {"content": "", "status": "aborted"}


def _title(kind: int) -> str:
    """Of its own, one that many have, or an awkward one."""
    return (f"Question {token_hex(2)}", choice(TITLES), awkward_text())[kind]
