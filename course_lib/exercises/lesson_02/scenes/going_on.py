"""The product goes on between two calls: what an answer has kept from the first is old in the second."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from course_lib.judging.attempt import Attempt
from course_lib.judging.staging import add_rows
from course_lib.judging.threads import Thread, insert_threads, new_threads, text_of

NEW = 4  # messages of the conversation that was begun


async def go_on(attempt: Attempt, threads: list[Thread], **kinds: Any) -> list[Thread]:
    """The threads some time later: one was deleted, one begun, one has another message. ``kinds`` as they were made."""
    gone, *left = threads
    await attempt.sql("DELETE FROM conversations WHERE id = :id", id=gone.id)
    begun = new_threads(gone.user_id, [NEW], **kinds)
    await insert_threads(attempt, begun)
    longest = max(left, key=lambda thread: len(thread.messages))
    said = longest.messages[-1] | {"id": uuid4(), "seq": longest.messages[-1]["seq"] + 2, "content": text_of(4)}
    await add_rows(attempt, "messages", [said])
    longest.messages.append(said)
    return sorted(left + begun, key=lambda thread: (thread.updated_at, thread.id), reverse=True)
