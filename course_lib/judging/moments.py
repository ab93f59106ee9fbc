"""Moments in what the learner's code does, which a judge waits for."""

from __future__ import annotations

import asyncio
from typing import Any


async def first_of(running: asyncio.Future[Any], begun: asyncio.Event) -> None:
    """Wait until ``begun`` is set, or ``running`` is over."""
    waiting = asyncio.ensure_future(begun.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
