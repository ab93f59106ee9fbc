"""What `make bench` measures. Figures, never tests: they belong to the machine and the moment."""

from course_lib.bench.report import Measurement, write_report

__all__ = ["Measurement", "write_report"]
