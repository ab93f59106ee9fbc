"""The ``course`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line; a failure a person can mend is two lines, not a traceback."""
    try:  # the imports are inside, since a Ctrl-C may come while they go on
        from course_lib.cli.entry import finish, run

        code = run()
        finish()
    except KeyboardInterrupt:
        code = 130  # as shells say it
    raise SystemExit(code)
