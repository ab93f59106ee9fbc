"""Standard streams that take every sentence: a console that lacks a sign gets one that looks like it."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import unicodedata

LOOK_ALIKES = {
    "→": "->", "←": "<-", "·": "-", "•": "*", "…": "...", "≈": "~", "≥": ">=", "≤": "<=", "×": "x", "÷": "/",
    "█": "#", "░": ".", "–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "«": '"', "»": '"',
    "\u00a0": " ", "\u2002": " ", "\u202f": " ", "µ": "u", "ß": "ss", "⌘": "Cmd-", "─": "-", "━": "-", "│": "|",
}  # fmt: skip
ERRORS = "course-look-alikes"
PLAIN = "course-ascii"
"""ASCII under a name of ours: Typer takes a stream in ASCII for a mistake and writes UTF-8 to it all the same."""


def prepare_streams() -> None:
    """Let no standard stream be missing or refuse a character."""
    _fill_gaps()
    codecs.register_error(ERRORS, _look_alike)
    codecs.register(_plain_codec)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # what a test or a debugger puts here may have none
        if reconfigure is None:
            continue
        plain = codecs.lookup(stream.encoding).name == "ascii"
        reconfigure(encoding=PLAIN if plain else None, errors=ERRORS)


def give_up_output() -> None:
    """Send what is still to be written nowhere, so that the interpreter's last flush cannot fail."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _fill_gaps() -> None:
    """Where one was closed (``>&-``), the next file to be opened would take its number, and what is printed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (by number, for as long as the program runs)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(sign: str) -> str:
    """In ASCII: its look-alike, the letter without its accent, or a question mark."""
    bare = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return LOOK_ALIKES.get(sign) or bare or "?"


def _plain_codec(name: str) -> codecs.CodecInfo | None:
    if name != PLAIN.replace("-", "_"):
        return None
    ascii = codecs.lookup("ascii")
    return codecs.CodecInfo(
        ascii.encode, ascii.decode, streamreader=ascii.streamreader, streamwriter=ascii.streamwriter,
        incrementalencoder=ascii.incrementalencoder, incrementaldecoder=ascii.incrementaldecoder, name=PLAIN,
    )  # fmt: skip
