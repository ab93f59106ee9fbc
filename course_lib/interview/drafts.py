"""An answer that was begun and is not rated yet: a file in ``work/interview/drafts``, whatever ends the program."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from course_lib.files import write_whole
from course_lib.interview.memory import folder

LARGEST = 2**20  # bytes


def draft_of(id: str) -> str:
    """What was written for the question or drill ``id``; nothing where there is none, or it cannot be read."""
    with suppress(OSError), _file(id).open("rb") as stream:
        return stream.read(LARGEST).decode(errors="replace").strip()
    return ""


def keep_draft(id: str, text: str) -> bool:
    """Keep what is written so far, in place of what was kept before; whether that could be done."""
    try:
        write_whole(_file(id), f"{text.strip()}\n")
    except OSError:
        return False
    return True


def drop_draft(id: str) -> None:
    """The answer has come to its end: it is rated, or kept elsewhere."""
    with suppress(OSError):
        _file(id).unlink(missing_ok=True)


def _file(id: str) -> Path:
    return folder() / "drafts" / f"{id}.md"
