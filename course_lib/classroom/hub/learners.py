"""Who may sit down at the hub of a class, and which database they get: read anew from the class's file each time.

The file is that of ``course classroom create``. The address needs the password as it is, so a hash beside it would hide
nothing: the file is for the hub's account alone.
A hub on a cluster loads this module by itself, without the course.
"""

from __future__ import annotations

import csv
import hmac
import secrets
from pathlib import Path
from typing import Any

from jupyterhub.auth import Authenticator
from traitlets import Unicode, default

COLUMNS = ("role", "password", "url")


def read_learners(file: str | Path) -> dict[str, dict[str, str]]:
    """The lines of the class's file, by role.

    Raises:
        OSError, ValueError: it cannot be read, or is not such a file.
    """
    with Path(file).open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"no column {missing[0]}")
        return {row["role"]: row for row in reader if all(row[column] for column in COLUMNS)}


class ClassAuthenticator(Authenticator):  # type: ignore[misc]  # jupyterhub has no types
    """The passwords on the learners' sheets. A learner is called by the role, or by the login that it ends in."""

    file = Unicode(config=True, help="The class's file of credentials.")
    slug = Unicode(config=True, help="The short name of the class.")

    @default("allow_all")
    def _whoever_is_in_the_file(self) -> bool:
        return True

    def normalize_username(self, username: str) -> str:
        name = str(super().normalize_username(username.strip()))
        return name if name in read_learners(self.file) else f"{self.slug}_{name}"

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        name = self.normalize_username(data["username"])
        learner = read_learners(self.file).get(name)
        wanted = learner["password"] if learner else secrets.token_hex(16)
        right = hmac.compare_digest(data["password"].encode(), wanted.encode())
        return name if learner and right else None

    async def refresh_user(self, user: Any, handler: Any = None) -> bool:
        """Whoever was taken out of the file is logged out."""
        return user.name in read_learners(self.file)


def database_url(spawner: Any) -> str:
    """For ``Spawner.environment``.

    Raises:
        KeyError: the learner has been taken out of the class.
    """
    return read_learners(spawner.authenticator.file)[spawner.user.name]["url"]
