"""Who asks, in the apps of this lesson's judges: a header says it, as if it had been checked already."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Header


async def caller(x_user: Annotated[UUID, Header()]) -> UUID:
    """The dependency that answers are given."""
    return x_user


def asked_by(user: UUID) -> dict[str, str]:
    """Headers of a request that ``caller`` knows."""
    return {"X-User": str(user)}
