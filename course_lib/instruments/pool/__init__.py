"""The pool gauge: who waits for a connection, who holds one, and what runs on it meanwhile."""

from course_lib.instruments.pool.each import record_each
from course_lib.instruments.pool.gauge import PoolGauge
from course_lib.instruments.pool.recorder import Recorder

__all__ = ["PoolGauge", "Recorder", "record_each"]
