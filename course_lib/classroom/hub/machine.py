"""Whether a machine can run a hub whose learners are kept apart; asked by the hub's configuration as it starts."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values

from course_lib.postgres.binaries import Account
from course_lib.settings import REPOSITORY

BOOTED = Path("/run/systemd/system")  # there where systemd runs the machine: sd_booted(3)
ANYBODY = Account("nobody", 65534, 65534)
SECRETS = ("DATABASE_URL", "OPENAI_API_KEY", "COURSE_SERVICE_SECRET")
"""Settings that are one person's."""


def must_be_fit() -> None:
    """End the hub with what is missing, a sentence each, unless nothing is."""
    if missing := list(obstacles()):
        raise SystemExit("\n".join(missing))


def obstacles() -> Iterator[str]:
    """What keeps this machine from running the hub, and what mends it."""
    if not BOOTED.is_dir():
        yield "systemd does not run this machine, and only it limits memory and processes here; see README.md."
    elif os.geteuid() != 0:
        yield "The hub starts a server for each learner under an account of its own, which takes root: use sudo."
    for place in dict.fromkeys(Path(place).resolve() for place in (REPOSITORY, sys.prefix, sys.base_prefix)):
        if not can_be_read(place):
            yield f"Learners' accounts cannot read {place}: install the course where everybody can, below /opt or /srv."
    yield from settings_for_all(REPOSITORY / ".env")


def settings_for_all(file: Path) -> Iterator[str]:
    """What a ``.env`` beside the README would do to every learner's kernel, which reads it too."""
    if not file.exists():
        return
    if not file.stat().st_mode & stat.S_IROTH:
        yield f"Learners' kernels would fail at {file}, which they may not read: move it to another folder."
        return
    values = dotenv_values(file)
    with_account = ["OPENAI_BASE_URL"] if "@" in (values.get("OPENAI_BASE_URL") or "") else []
    for secret in (*SECRETS, *with_account):
        if values.get(secret):
            yield f"Every learner can read the {secret} in {file}: take it out, and make it anew."


def can_be_read(folder: Path) -> bool:
    """By accounts that own nothing."""
    return ANYBODY.can_enter(folder) and bool(folder.stat().st_mode & stat.S_IROTH)
