"""A model whose tokens are booked on a user's row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

from course_lib.judging.attempt import Attempt
from course_lib.judging.metered import MeteredModel
from course_lib.judging.races import ADVISORY, Intruder, listening

WRITES = re.compile(r"\s*(update|with|insert)\b", re.IGNORECASE)


def model_for(attempt: Attempt, user_id: UUID, *reply: Any, crowd: int = 1) -> MeteredModel:
    """A model for this user's calls; ``reply`` and its cost if there is one."""
    return MeteredModel(attempt, partial(used_by, attempt, user_id), *reply, crowd=crowd)


async def used_by(attempt: Attempt, user_id: UUID) -> int:
    """``tokens_used`` of the user, as everybody sees it."""
    used: int = await attempt.value("SELECT tokens_used FROM users WHERE id = :id", id=user_id)
    return used


async def left_of(attempt: Attempt, user_id: UUID) -> int:
    """How many tokens the user may still spend."""
    left: int = await attempt.value("SELECT token_limit - tokens_used FROM users WHERE id = :id", id=user_id)
    return left


@contextmanager
def others_before_each_write(attempt: Attempt, user_id: UUID) -> Iterator[Intruder]:
    """Until the block ends, another process books a token just before the answer writes, if nothing keeps it out."""
    with Intruder(attempt) as intruder:

        def come_in_between(_: object, __: object, statement: str, *___: object) -> None:
            if WRITES.match(statement) and not intruder.at_its_end and not intruder.value(ADVISORY):
                intruder.change_if_free("users", user_id, "tokens_used = tokens_used + %s", 1)

        with listening(attempt, "before_cursor_execute", come_in_between):
            yield intruder
