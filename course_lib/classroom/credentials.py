"""The learners' passwords: made once, kept in a file that only the teacher can read, and sent to no server.

The server is told what it needs to know one again (SCRAM, RFC 5802), so that none stands in its log.
"""

from __future__ import annotations

import csv
import hmac
import secrets
from base64 import b64encode
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from hashlib import pbkdf2_hmac, sha256
from io import StringIO
from pathlib import Path

from course_lib.classroom.address import Address
from course_lib.classroom.naming import role_name
from course_lib.classroom.roster import Learner
from course_lib.errors import CourseError
from course_lib.files import answering_for
from course_lib.postgres.files import write_file
from course_lib.settings import get_settings

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # typed from paper: none that look alike
LENGTH = 16  # letters, 79 bits
ROUNDS, SALT_BYTES = 4096, 16  # PostgreSQL's own: scram_iterations, SCRAM_DEFAULT_SALT_LEN
FILE = "credentials.csv"


@dataclass(frozen=True)
class Credentials:
    """A line of the file. ``url`` is the learner's whole DATABASE_URL, with the password."""

    name: str
    login: str
    role: str
    password: str
    url: str

    def __repr__(self) -> str:
        return f"Credentials({self.role})"


def class_folder(slug: str) -> Path:
    """Where the teacher has what belongs to the class."""
    return get_settings().work / "classroom" / slug


def read_credentials(slug: str) -> dict[str, Credentials]:
    """By login; none when there is no file.

    Raises:
        CourseError: the file cannot be read, or is not what was written.
    """
    place = class_folder(slug) / FILE
    with answering_for(place.parent, "COURSE_WORK"):
        if not place.exists():
            return {}
        text = place.read_text(encoding="utf-8", errors="replace")
    try:
        found = [Credentials(**row) for row in csv.DictReader(StringIO(text, newline=""), strict=True)]
        broken = any(not value for line in found for value in asdict(line).values())
    except (csv.Error, TypeError):
        broken = True
    if broken:
        raise CourseError(
            f"{place} is not as the course wrote it.",
            "Put it back as it was; a spreadsheet that saved it has changed it.",
        )
    return {line.login: line for line in found}


def write_credentials(slug: str, lines: list[Credentials]) -> Path:
    """Write the file anew, for its owner alone. Returns where it is."""
    folder = class_folder(slug)
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Credentials)])
    writer.writerows(asdict(line).values() for line in lines)
    with answering_for(folder, "COURSE_WORK"):
        make_private(folder)
        write_file(folder / FILE, text.getvalue())
    return folder / FILE


def remove_credentials(slug: str) -> None:
    """Remove the file, and its folder when nothing else is in it."""
    folder = class_folder(slug)
    with answering_for(folder, "COURSE_WORK"):
        (folder / FILE).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can enter."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def new_credentials(learner: Learner, slug: str, address: Address, password: str | None = None) -> Credentials:
    """A line of the file, with a new password unless one is given."""
    password = password or "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    role = role_name(slug, learner.login)
    return Credentials(learner.name, learner.login, role, password, address.url(role, password))


def verifier(password: str) -> str:
    """What ``CREATE ROLE … PASSWORD`` takes in the place of a password of ASCII letters (RFC 5802, section 3)."""
    salt = secrets.token_bytes(SALT_BYTES)
    salted = pbkdf2_hmac("sha256", password.encode("ascii"), salt, ROUNDS)
    stored = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ROUNDS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
