"""What a notebook's kernel needs while the course is used in it: an interrupt that arrives, errors of a few lines.

It is an extension of IPython. ``course lab`` has its kernels load it when they start, importing ``course_lib`` loads it
into any other, and ``%unload_ext course_lib.kernel`` takes it all back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from course_lib.origin import running_shell

_take_back: list[Callable[[], None]] = []


def load_where_a_kernel_runs() -> None:
    """Load the extension if this process is a kernel. Elsewhere nothing happens."""
    shell = running_shell()
    if shell is not None and getattr(shell, "kernel", None) is not None:
        shell.extension_manager.load_extension(__name__)


def load_ipython_extension(shell: Any) -> None:
    """For ``%load_ext``. A second time is harmless."""
    if not _take_back:
        from course_lib.kernel.habits import adopt

        _take_back.append(adopt(shell))


def unload_ipython_extension(shell: Any) -> None:
    """For ``%unload_ext``: the shell is as it was."""
    while _take_back:
        _take_back.pop()()
