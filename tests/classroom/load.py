"""Thirty learners on one server for as long as one likes: no error, no false verdict, nobody sees another's rows.

``make soak ARGS="classroom --minutes 10 --learners 30"``: first with roles that make databases, then with lent ones.
"""

from __future__ import annotations

import asyncio

from course_lib.bench.classroom import HEAD, Room
from course_lib.bench.learners import class_folder, make_class, watch_class

PAUSE = 2.0  # seconds between two deeds of a learner, on average


def soak_classroom(minutes: float, learners: int) -> int:
    """Half of the time each way; how many deeds were wrong."""
    wrong = 0
    for made in (True, False):
        room = asyncio.run(_room(minutes * 30, learners, made))
        print(*(f"{name}: {value}" for name, value in zip(HEAD, room.row, strict=True)), sep=" · ", flush=True)
        for what, count in room.wrong.items():
            print(f"  {count} times {what}", flush=True)
        wrong += sum(room.wrong.values())
    return wrong


async def _room(seconds: float, learners: int, made: bool) -> Room:
    with class_folder() as folder:
        lines = await make_class("soak", learners, made)
        return Room.of(learners, made, await watch_class(folder, "soak", lines, seconds, PAUSE, prying=True))
