"""Traffic on a table while something else happens to it: who waits, for how long, and behind which lock.

The name is loaded when it is first used: the process with the workers needs none of what draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from course_lib.lazy import lazily

if TYPE_CHECKING:
    from course_lib.instruments.traffic.traffic import Traffic as Traffic

_HOMES = {"Traffic": "traffic"}

__all__ = list(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
