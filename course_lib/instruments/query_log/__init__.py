"""The query log: which statements were sent, how often, by which line."""

from course_lib.instruments.query_log.each import listening, log_each
from course_lib.instruments.query_log.log import QueryLog
from course_lib.instruments.query_log.statement import Repeat, Statement

__all__ = ["QueryLog", "Repeat", "Statement", "listening", "log_each"]
