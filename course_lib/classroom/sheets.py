"""One sheet for each learner, to print or to send: the address, what to do first, and what the teacher sees."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from course_lib.classroom.credentials import Credentials, class_folder, make_private
from course_lib.classroom.naming import LOGIN, role_name, spoken_class
from course_lib.files import answering_for
from course_lib.postgres.files import write_file

ALL, EACH = "sheets.html", "sheets"


def write_sheets(slug: str, lines: list[Credentials]) -> Path:
    """Write a page with everybody's sheet, and a folder with one file for each; only the teacher can read them.

    Returns:
        The page with all of them, which a browser prints one to a page.
    """
    folder = class_folder(slug)
    with answering_for(folder, "COURSE_WORK"):
        make_private(folder)
        _remove_each(slug)  # of those who left
        make_private(folder / EACH)
        for line in lines:
            write_file(folder / EACH / f"{line.login}.html", render(slug, [line]))
        write_file(folder / ALL, render(slug, lines))
    return folder / ALL


def remove_sheets(slug: str) -> None:
    """Remove what ``write_sheets`` has written, and nothing else that lies there."""
    with answering_for(class_folder(slug), "COURSE_WORK"):
        _remove_each(slug)
        (class_folder(slug) / ALL).unlink(missing_ok=True)
        with suppress(OSError):  # somebody has put something into it
            (class_folder(slug) / EACH).rmdir()


def _remove_each(slug: str) -> None:
    """A sheet is a file that names the role of the login that it is called after."""
    folder = class_folder(slug) / EACH
    for place in [] if folder.is_symlink() else sorted(folder.glob("*.html")):
        if not LOGIN.match(place.stem) or place.is_symlink() or not place.is_file():
            continue
        if f"//{role_name(slug, place.stem)}:" in place.read_text(encoding="utf-8", errors="replace"):
            place.unlink()


def render(slug: str, lines: list[Credentials]) -> str:
    """The page; it needs no other file and no network."""
    return _environment().get_template("sheet.html").render(slug=slug, title=spoken_class(slug), lines=lines)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("course_lib.classroom"),
        autoescape=select_autoescape(("html",)), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
