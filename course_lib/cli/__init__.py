"""The ``course`` command."""

from course_lib.cli.entry import main

__all__ = ["main"]
