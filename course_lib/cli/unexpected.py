"""What nobody foresaw, in two lines: the traceback goes into a file of the learner's, without secrets."""

from __future__ import annotations

import contextlib
import os
import tempfile
import traceback
from pathlib import Path

from course_lib.commands import command
from course_lib.errors import CourseError
from course_lib.files import write_whole
from course_lib.masking import masked
from course_lib.settings import get_settings

LONGEST = 300  # characters of an exception's text


def unexpected(error: BaseException) -> CourseError:
    """The sentence for an exception that is a fault of the course; its traceback is kept in a file."""
    kind = type(error).__name__
    text = " ".join(masked(_text(error)).split())
    said = f"{kind}: {text}" if text else kind
    sentence = f"Something the course did not foresee: {said[:LONGEST]}{'…' if len(said) > LONGEST else ''}"
    place = _keep("".join(traceback.format_exception(error)))
    where = f"the file {place}" if place else "this line"
    return CourseError(
        sentence, f"Run: {command('doctor')}. If it finds nothing, report its lines together with {where}"
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # its text is code as well
        return ""


def _keep(report: str) -> Path | None:
    """Write it where only its owner can read it; None where nothing can be written at all."""
    report = masked(report)
    with contextlib.suppress(OSError, CourseError, RuntimeError, ValueError):
        place = get_settings().home / "last-error.txt"
        write_whole(place, report)
        place.chmod(0o600)
        return place
    with contextlib.suppress(OSError):
        number, name = tempfile.mkstemp(prefix="course-error-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(report)
        return Path(name)
    return None
