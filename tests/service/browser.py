"""A real Chromium without a window, driven as a person at a keyboard drives it, over its DevTools protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60  # seconds
KEYS = {
    "Enter": (13, "\r"),
    "Tab": (9, ""),
    "Escape": (27, ""),
    "ArrowDown": (40, ""),
    "ArrowUp": (38, ""),
    " ": (32, " "),
}


class Browser:
    """One page."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self._connection = connection
        self._number = 0
        self.complaints: list[str] = []
        """What the page wrote into the browser's log: errors of scripts, what the policy refused."""
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            if message["method"] == "Log.entryAdded":
                self.complaints.append(message["params"]["entry"]["text"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.complaints.append(message["params"]["exceptionDetails"]["text"])

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript, looked at and not used to do anything."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until the expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(f"!!({script})"):
            assert time.monotonic() < deadline, f"{script} never came true: {self.run('document.body.innerText')}"
            time.sleep(0.05)

    def press(self, key: str, times: int = 1, shift: bool = False) -> None:
        code, text = KEYS[key]
        modifiers = 8 if shift else 0
        for _ in range(times):
            facts = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
            self.send("Input.dispatchKeyEvent", type="keyUp", **facts)

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.send("Input.insertText", text=text)

    def tab_to(self, identity: str) -> None:
        """Press Tab until what has this id has the focus: by keyboard it must be reached."""
        for _ in range(60):
            if self.run("document.activeElement.id") == identity:
                return
            self.press("Tab")
        raise AssertionError(f"{identity} cannot be reached by Tab")

    def size(self, width: int, height: int, dark: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own in ``folder``, for the length of a block."""
    assert CHROMIUM is not None
    options = ["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu", "--mute-audio",
               "--disable-background-networking", "--disable-component-update", "--disable-extensions",
               "--disable-dev-shm-usage", "--no-proxy-server", "--remote-allow-origins=*"]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--no-sandbox")
    process = subprocess.Popen(
        [CHROMIUM, *options, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        connection = websocket.create_connection(_page(folder, process), timeout=PATIENCE, http_no_proxy=["127.0.0.1"])
        yield Browser(connection)
        connection.close()
    finally:
        process.terminate()
        process.wait(30)


def _page(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of its one page's socket."""
    deadline = time.monotonic() + PATIENCE
    said = folder / "DevToolsActivePort"
    while not (said.exists() and said.read_text().count("\n")):
        assert process.poll() is None and time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.05)
    port = said.read_text().splitlines()[0]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
        pages = json.load(answer)
    address: str = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
    return address
