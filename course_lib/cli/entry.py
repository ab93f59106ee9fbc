"""How ``course`` begins and ends: whatever happens in between is a few lines and an exit code, never a traceback."""

from __future__ import annotations

import errno
import signal
import sys
from pathlib import Path
from types import FrameType

from course_lib.cli.streams import give_up_output, prepare_streams
from course_lib.commands import command, read_in_a_terminal

INTERRUPTED, TERMINATED = 130, 143
"""The exit codes of shells for programs ended by SIGINT and SIGTERM."""
LONGEST_LINE = 1_000  # characters


def run() -> int:
    """Run the command that the program's arguments name. Returns the exit code, 1 after a sentence on what is wrong."""
    try:
        prepare_streams()
        signal.signal(signal.SIGTERM, _terminate)  # so that what was started is ended
        _look_around()
        read_in_a_terminal()
        from course_lib.cli.app import app

        app(prog_name=command("").strip())
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _say(error)
    return 0


def finish() -> None:
    """Nothing is left to give back: an interrupt just ends the process, and the last flush cannot fail."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    give_up_output()


def _look_around() -> None:
    from course_lib.errors import CourseError

    try:
        Path.cwd()
    except OSError as error:
        raise CourseError("The folder you are in is no longer there.", "Go to another one: cd") from error


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def _say(error: Exception) -> int:
    from course_lib.cli.unexpected import unexpected
    from course_lib.errors import CourseError

    if isinstance(error, OSError) and (refused := _output_refused()):
        if refused.errno in (errno.EPIPE, errno.EINVAL):  # Windows calls a closed pipe an invalid argument
            return 1
        error = CourseError(f"The output could not be written: {refused.strerror}.", "Send it elsewhere.")
    said = error if isinstance(error, CourseError) else unexpected(error)
    for line in str(said).splitlines():
        print(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…", file=sys.stderr)
    return 1


def _output_refused() -> OSError | None:
    """Why standard output takes nothing more, if so; else there is an empty line on it."""
    try:
        print(flush=True)
    except OSError as error:
        return error
    return None
