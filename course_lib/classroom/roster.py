"""The roster: a CSV file of names, as a spreadsheet writes it, read whole or refused with the line and the mend."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from course_lib.classroom.naming import LOGIN, LONGEST_LOGIN
from course_lib.errors import CourseError

MOST_LEARNERS = 1_000
LARGEST = 1_000_000  # bytes
LONGEST_NAME = 80  # letters
FORMULA = tuple("=+-@\t\r|")
"""What a spreadsheet would run when the credentials are opened in it (https://owasp.org/www-community/attacks/CSV_Injection)."""
UNDECOMPOSED = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})


@dataclass(frozen=True)
class Learner:
    """A line of the roster. ``login`` is the part of the role's name that is the learner's own."""

    name: str
    login: str


def read_roster(path: Path) -> list[Learner]:
    """The learners, in the file's order.

    One column of names needs no heading. With more, the first line names them: ``name``, and ``login`` where a name
    alone gives none or the same as another's; other columns are not read. Columns are separated by commas, semicolons
    or tabs.

    Raises:
        CourseError: the file or a line of it cannot be used; the sentence names the line.
    """
    text = _text_of(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first.count)
    learners: dict[str, tuple[int, Learner]] = {}
    for line, row in _rows(text, separator, path):
        learner = _learner(row, line)
        if learner.login in learners:
            raise _twice(learner, line, learners[learner.login])
        learners[learner.login] = line, learner
    if not learners:
        raise CourseError(f"{path} names no learner.", "Write one name on each line.")
    if len(learners) > MOST_LEARNERS:
        raise CourseError(
            f"{path} names {len(learners)} learners; a class has at most {MOST_LEARNERS}.", "Make several of it."
        )
    return [learner for _, learner in learners.values()]


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {error.strerror}.", "Name the file with the learners.") from error
    if len(raw) > LARGEST:
        raise CourseError(f"{path} is larger than a megabyte.", "A roster has one line for each learner.")
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeError:
        line = raw[: _first_bad(raw)].count(b"\n") + 1
        raise CourseError(
            f"Line {line} of {path} is not UTF-8.", "In the spreadsheet, save it as: CSV UTF-8."
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise CourseError(f"Line {line} of {path} is no text.", "In the spreadsheet, save it as: CSV UTF-8.")
    return text


def _first_bad(raw: bytes) -> int:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _rows(text: str, separator: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each line with something in it: its number, and its cells by column."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise CourseError(f"Line {line} of {path} is no CSV: {error}.", "Look for a quote too many.") from None
        if not any(cells):
            continue
        if columns is None:
            columns, is_heading = _columns(cells, line)
            if is_heading:
                continue
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            raise CourseError(
                f"Line {line} has {len(cells)} cells, and the first line {len(columns)}.",
                'Put a name that has a comma in it between quotes: "Lovelace, Ada"',
            )
        yield line, dict(zip(columns, cells, strict=False))


def _columns(cells: list[str], line: int) -> tuple[list[str], bool]:
    """What the columns are called, and whether these cells say so."""
    names = [cell.casefold() for cell in cells]
    if "name" in names:
        for column in ("name", "login"):
            if names.count(column) > 1:
                raise CourseError(f"Line {line} names the column {column} twice.", "Leave one of them.")
        return names, True
    if len([cell for cell in cells if cell]) > 1:
        raise CourseError(
            f"Line {line} has several cells, and none of them says which column has the names.",
            "Begin the file with a line that names the columns: name,login",
        )
    return ["name"], False


def _learner(row: dict[str, str], line: int) -> Learner:
    name, login = row.get("name", ""), row.get("login", "").casefold()
    if not name:
        raise CourseError(f"Line {line} has no name.", "Write the learner's name there, or remove the line.")
    for cell in (name, login):
        if cell.startswith(FORMULA):
            raise CourseError(
                f"Line {line} begins a cell with {cell[0]}, as a formula does.", "Write the name itself into the cell."
            )
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise CourseError(
            f"The name on line {line} has a line break or another sign that does not print, or more than "
            f"{LONGEST_NAME} letters.",
            "Write it on one line, and shorter.",
        )
    return Learner(name, _checked(login, line) if login else _login_of(name, line))


def _checked(login: str, line: int) -> str:
    if not LOGIN.match(login) or len(login) > LONGEST_LOGIN:
        raise CourseError(
            f"The login on line {line} cannot be part of a role's name.",
            f"Take letters a to z, and digits behind a letter, at most {LONGEST_LOGIN}: for example ada_lovelace",
        )
    return login


def _login_of(name: str, line: int) -> str:
    """``adam_nagy`` of ``Ádám Nagy``."""
    plain = unicodedata.normalize("NFKD", name.casefold()).translate(UNDECOMPOSED)
    letters = "".join(sign for sign in plain if not unicodedata.combining(sign))
    foreign = [sign for sign in letters if sign.isalpha() and not sign.isascii()]
    login = re.sub(r"_(?=\d)", "", re.sub(r"[^a-z0-9]+", "_", letters).strip("_"))[:LONGEST_LOGIN].strip("_")
    if foreign or not LOGIN.match(login):
        raise CourseError(
            f"The name on line {line} gives no login of letters a to z.",
            "Add a column login to the roster (its first line then is: name,login), and write one there.",
        )
    return login


def _twice(learner: Learner, line: int, earlier: tuple[int, Learner]) -> CourseError:
    before, other = earlier
    if other.name == learner.name:
        return CourseError(
            f"{learner.name} stands on line {before} and again on line {line}.",
            "Remove one of them; two people of one name need a column login (first line: name,login).",
        )
    return CourseError(
        f"The names on line {before} and line {line} both give the login {learner.login}.",
        "Add a column login to the roster (first line: name,login), and write another one for one of them.",
    )
