"""Cells of a notebook in a kernel that is always ended: whatever they do, there is an outcome for each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Any, Self

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from course_lib.errors import CourseError
from course_lib.notebooks.kernels import private_transport

CELL_SECONDS = 60.0
START_SECONDS = 60.0
GRACE = 5.0  # seconds for a kernel to heed an interrupt or a request to end
LOOK = 0.2  # seconds between looks at a silent kernel
SILENCE = 2.0  # seconds without a word after which a cell whose reply has come is over


@dataclass
class Outcome:
    """What became of a cell."""

    result: dict[str, Any] = field(default_factory=dict)
    """Its value by MIME type, empty when it has none."""
    error: str = ""
    """Class and text of what it raised."""
    late: bool = False
    """It was interrupted because its time was up."""
    ended: str = ""
    """How the kernel ended in it: ``"SIGSEGV"``, ``"exit code 3"``; empty while the kernel lives."""


class Kernel:
    """A kernel that works in ``folder``; as a context manager, so that its process never outlives the block."""

    def __init__(self, folder: Path) -> None:
        self._open = contextlib.ExitStack()
        transport = self._open.enter_context(private_transport())
        self._manager = KernelManager(kernel_name="python3", **transport)
        try:
            self._manager.start_kernel(cwd=str(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError as error:
            self._open.close()
            raise CourseError(
                f"No kernel could be started in {folder}: {error.strerror}.", "Run: course doctor"
            ) from error
        self._client: BlockingKernelClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None and self._manager.is_alive():
                self._manager.shutdown_wait_time = GRACE
                self._manager.shutdown_kernel()  # asks first: then a lesson's database is dropped
        finally:
            self._kill()
            if self._client is not None:
                self._client.stop_channels()
            self._manager.cleanup_resources()
            self._open.close()

    def run(self, source: str, seconds: float = CELL_SECONDS) -> Outcome:
        """Run a cell to its end, at most for so long and some seconds of grace."""
        client = self._ready()
        outcome = Outcome()
        request = client.execute(source, allow_stdin=False)
        deadline = time.monotonic() + seconds
        while not self._over(client, request, outcome, deadline):
            if outcome.late:
                outcome.ended = self._kill()
                break
            outcome.late = True
            self._manager.interrupt_kernel()
            deadline = time.monotonic() + GRACE
        return outcome

    def _ready(self) -> BlockingKernelClient:
        if self._client is None:
            self._client = self._manager.blocking_client()
            self._client.start_channels()
            try:
                self._client.wait_for_ready(timeout=START_SECONDS)
            except RuntimeError as error:
                raise CourseError("The notebook's kernel did not start.", "Run: course doctor") from error
        return self._client

    def _over(self, client: BlockingKernelClient, request: str, outcome: Outcome, deadline: float) -> bool:
        """Listen until the cell is over (True) or its time is up (False)."""
        replied = heard = 0.0
        while time.monotonic() < deadline:
            try:
                message = client.get_iopub_msg(timeout=LOOK)
            except Empty:
                if not self._manager.is_alive():
                    outcome.ended = self._how_it_ended()
                    return True
                replied = replied or self._has_replied(client, request)
                if replied and time.monotonic() - max(replied, heard) > SILENCE:
                    return True
                continue
            heard = time.monotonic()
            if message["parent_header"].get("msg_id") == request and _note(message, outcome):
                return True
        return False

    def _has_replied(self, client: BlockingKernelClient, request: str) -> float:
        """When the reply was seen, in case the message that the kernel is idle is lost among a flood of output."""
        with contextlib.suppress(Empty):
            while True:
                if client.get_shell_msg(timeout=0)["parent_header"].get("msg_id") == request:
                    return time.monotonic()
        return 0.0

    def _process(self) -> Any:
        return getattr(self._manager.provisioner, "process", None)

    def _kill(self) -> str:
        """End the kernel and what it has started, at once."""
        process = self._process()
        if process is not None and process.poll() is None:
            with contextlib.suppress(OSError):
                if os.name == "nt":
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)  # a kernel leads a session of its own
            process.wait(GRACE)
        return self._how_it_ended()

    def _how_it_ended(self) -> str:
        process = self._process()
        code = process.poll() if process is not None else None
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit code {code}"


def _note(message: dict[str, Any], outcome: Outcome) -> bool:
    """Take from a message what is asked about. True when the kernel is idle: the cell is over."""
    content = message["content"]
    if message["msg_type"] == "execute_result":
        outcome.result = content["data"]
    elif message["msg_type"] == "error":
        outcome.error = f"{content['ename']}: {content['evalue']}"
    return bool(message["msg_type"] == "status" and content["execution_state"] == "idle")
