"""A model whose tokens are booked on a user's row."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from course_lib.judging.attempt import Attempt
from course_lib.judging.metered import MeteredModel


def model_for(attempt: Attempt, user_id: UUID, *reply: Any, crowd: int = 1) -> MeteredModel:
    """A model for this user's calls; ``reply`` and its cost if there is one."""
    return MeteredModel(attempt, partial(used_by, attempt, user_id), *reply, crowd=crowd)


async def used_by(attempt: Attempt, user_id: UUID) -> int:
    """``tokens_used`` of the user, as everybody sees it."""
    used: int = await attempt.value("SELECT tokens_used FROM users WHERE id = :id", id=user_id)
    return used
