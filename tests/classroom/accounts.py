"""A spawner for tests as root where systemd does not run: an account of its own for each learner, and no limits."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyterhub.spawner import SimpleLocalProcessSpawner

from course_lib.classroom.hub.machine import can_be_read
from course_lib.settings import REPOSITORY

FIRST_ACCOUNT = 61184  # where systemd begins those of DynamicUser=


def accounts_can_be_had() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("setpriv") is not None


def python_is_everybodys() -> bool:
    """Else it lies below root's home, say, and accounts need a right by which they read all files."""
    places = {Path(place).resolve() for place in (REPOSITORY, sys.prefix, sys.base_prefix)}
    return all(map(can_be_read, places))


class OwnAccount(SimpleLocalProcessSpawner):  # type: ignore[misc]  # jupyterhub has no types
    """As systemd's DynamicUser= does: a number that owns nothing but its home folder."""

    @property
    def account(self) -> int:
        return FIRST_ACCOUNT + int(self.user.id)

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        home, account = self.home_dir, self.account

        def make_home() -> None:
            Path(home).mkdir(0o700, exist_ok=True)
            os.chown(home, account, account)
            os.chdir(home)
            os.umask(0o077)

        return make_home

    async def start(self) -> Any:
        rights = [] if python_is_everybodys() else ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        become = ["setpriv", f"--reuid={self.account}", f"--regid={self.account}", "--clear-groups", *rights]
        if self.cmd[0] != "setpriv":
            self.cmd = [*become, *self.cmd]
        return await super().start()

    def get_env(self) -> dict[str, Any]:
        return {**super().get_env(), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
