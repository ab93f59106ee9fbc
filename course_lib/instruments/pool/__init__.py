"""The pool gauge: who waits for a connection, who holds one, and what runs on it meanwhile."""

from course_lib.instruments.pool.gauge import PoolGauge

__all__ = ["PoolGauge"]
