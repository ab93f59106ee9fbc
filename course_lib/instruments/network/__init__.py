"""A slower network in front of the same server, and the wire to it: what travels is counted.

Names are loaded when they are first used: the relay's own process needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from course_lib.lazy import lazily

if TYPE_CHECKING:
    from course_lib.instruments.network.delay import Network as Network
    from course_lib.instruments.network.delay import network_delay as network_delay
    from course_lib.instruments.network.wire import Wire as Wire
    from course_lib.instruments.network.wire_log import WireLog as WireLog

_HOMES = {"Network": "delay", "Wire": "wire", "WireLog": "wire_log", "network_delay": "delay"}

__all__ = list(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
