"""Requests of 3.9 as a telephone sends them, and what the tables say of them."""

from __future__ import annotations

from secrets import randbelow, token_hex
from typing import NamedTuple
from uuid import UUID, uuid4

from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.staging import add_rows, add_user


class Request(NamedTuple):
    """What is posted, in the order of the answer's arguments."""

    user_id: UUID
    key: str
    conversation_id: UUID
    content: str


def new_request(user_id: UUID, conversation_id: UUID, content: str | None = None) -> Request:
    """With a key that nobody has used, and content that nobody has posted if none is given."""
    return Request(user_id, f"Key-{token_hex(3)}'_%", conversation_id, content or f"What is {awkward_text()}?")


async def new_conversation(attempt: Attempt, user_id: UUID | None = None) -> tuple[UUID, UUID, int]:
    """A user, a conversation of theirs, and its highest number, which no other conversation here has."""
    user_id, id = user_id or await add_user(attempt), uuid4()
    highest = 1 + await attempt.value("SELECT coalesce(max(seq), 0) FROM messages") + randbelow(5)
    await add_rows(attempt, "conversations", [{"id": id, "user_id": user_id, "title": "On the train"}])
    message = {"conversation_id": id, "seq": highest, "role": "assistant", "content": "Go on."}
    await add_rows(attempt, "messages", [message])
    return user_id, id, highest


async def count_messages(attempt: Attempt) -> int:
    """Of all conversations."""
    count: int = await attempt.value("SELECT count(*) FROM messages")
    return count


async def stored_as(attempt: Attempt, request: Request) -> list[int]:
    """The numbers under which the request's content is stored."""
    statement = "SELECT seq FROM messages WHERE conversation_id = :id AND content = :content ORDER BY seq"
    rows = await attempt.sql(statement, id=request.conversation_id, content=request.content)
    return [row[0] for row in rows]
