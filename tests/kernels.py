"""Running ipykernels: what their cells print and show, and the button that interrupts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

from course_lib.notebooks.executing import COLOUR
from tests.postgres.places import environment

SECONDS = 60


class Kernel:
    """A running kernel with the course in ``home``."""

    def __init__(self, home: Path, **more: str) -> None:
        runtime = home.parent / "jupyter"
        folders = {"JUPYTER_RUNTIME_DIR": str(runtime), "IPYTHONDIR": str(runtime)}
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=environment(home, **{**folders, **more}))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)

    def run(self, code: str) -> str:
        """The last line printed by a cell that must not fail."""
        said: list[dict[str, Any]] = []
        reply = self.client.execute_interactive(code, timeout=SECONDS, output_hook=said.append)
        text = "".join(message["content"].get("text", "") for message in said)
        assert reply["content"]["status"] == "ok", [message["content"] for message in said]
        return text.strip().splitlines()[-1] if text.strip() else ""

    def outputs(self, code: str, press: Callable[[], None] | None = None, cell: str = "") -> list[dict[str, Any]]:
        """The messages with what a cell prints, displays and raises.

        Args:
            code: the cell's.
            press: called each time that the cell prints "now".
            cell: its id in the notebook, which front ends send along.
        """
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        request = self.client.session.msg("execute_request", content, metadata={"cellId": cell})
        self.client.shell_channel.send(request)
        found: list[dict[str, Any]] = []
        while True:
            message = self.client.get_iopub_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            if message["content"].get("execution_state") == "idle":
                break
            if message["msg_type"] in ("stream", "display_data", "execute_result", "error"):
                found.append(message)
            if press is not None and "now" in message["content"].get("text", ""):
                press()
        self.client.get_shell_msg(timeout=SECONDS)
        return found

    def show(self, code: str, press: Callable[[], None] | None = None, cell: str = "") -> str:
        """The same as text, without colours."""
        shown = ""
        for content in (message["content"] for message in self.outputs(code, press, cell)):
            shown += content.get("text", "") + content.get("data", {}).get("text/plain", "")
            shown += "\n".join(content.get("traceback", ()))
        return COLOUR.sub("", shown)

    def signal(self) -> None:
        """Interrupt what runs, as JupyterLab's button does."""
        self.manager.interrupt_kernel()

    def message(self) -> None:
        """Interrupt what runs, as front ends do where they can send no signal."""
        self.client.control_channel.send(self.client.session.msg("interrupt_request", {}))

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.process.pid)  # type: ignore[union-attr]

    def end(self) -> None:
        self.client.stop_channels()
        if self.manager.is_alive():
            self.manager.shutdown_kernel()
        self.manager.cleanup_resources()
