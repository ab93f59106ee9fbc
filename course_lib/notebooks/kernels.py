"""How a notebook's kernel is reached: by sockets in a private folder, where no other user of the machine can listen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from course_lib.postgres.private_folder import new_private_folder


@contextmanager
def private_transport() -> Iterator[dict[str, str]]:
    """Arguments for a KernelManager. On TCP its requests are signed, but anybody may read what a kernel says.

    Raises:
        CourseError: there is no folder for temporary files that others cannot enter.
    """
    if os.name == "nt":
        yield {}
        return
    folder = new_private_folder("course-kernel-", "kernel-ipc-5")
    try:
        yield {"transport": "ipc", "connection_file": str(folder / "kernel.json")}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
