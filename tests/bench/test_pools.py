"""The pools' part: who is refused, and what is written. No times."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL

from course_lib.bench import pools


async def test_only_those_who_wait_for_a_held_connection_are_refused(seeded_url: URL) -> None:
    served = await pools._serve(seeded_url, pools.POOL_SIZE, 0, 40, 1)
    assert served.released_refused == 0
    assert 10 <= served.held_refused <= 35, "the first five are served, and who comes within half a second"
    assert served.held > served.released
    assert len(served.row) == len(pools.HEAD)
    assert served.row[:2] == ["5 + 0", "40"]


def test_the_picture_says_what_is_in_it(results: Path) -> None:
    picture = pools.draw_pools("Requests", {"20 requests": 2.0}, {"20 requests": 0.5})
    assert repr(picture) == "Requests: 20 requests"
    assert picture.png().startswith(b"\x89PNG")
