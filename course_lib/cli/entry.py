"""How ``course`` begins and ends: whatever happens in between is a few lines and an exit code, never a traceback."""

from __future__ import annotations

import errno
import signal
import sys
from types import FrameType

from course_lib.cli.streams import give_up_output, prepare_streams

INTERRUPTED, TERMINATED, PIPE_CLOSED = (128 + number for number in (2, 15, 13))
"""The exit codes of shells for programs ended by SIGINT, SIGTERM and SIGPIPE."""
LONGEST_LINE = 1_000  # characters


def main() -> None:
    """Run the command line; a failure a person can mend is two lines, not a traceback."""
    try:
        code = _run()
    except KeyboardInterrupt:  # while the last words were said
        code = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # from here on nothing is left to give back
    give_up_output()
    sys.exit(code)


def _run() -> int:
    try:
        prepare_streams()
        signal.signal(signal.SIGTERM, _terminate)  # so that what was started is ended
        from course_lib.cli.app import app

        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _say(error)
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def _say(error: Exception) -> int:
    from course_lib.cli.unexpected import unexpected
    from course_lib.errors import CourseError

    if isinstance(error, OSError) and (refused := _output_refused()):
        if refused.errno in (errno.EPIPE, errno.EINVAL):  # Windows calls a closed pipe an invalid argument
            return PIPE_CLOSED
        error = CourseError(f"The output could not be written: {refused.strerror}.", "Send it elsewhere.")
    said = error if isinstance(error, CourseError) else unexpected(error)
    for line in str(said).splitlines():
        print(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…", file=sys.stderr)
    return 1


def _output_refused() -> OSError | None:
    """Why standard output takes nothing more: what it refused once is still to be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return None
