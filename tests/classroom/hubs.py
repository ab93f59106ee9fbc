"""A running hub and its learners' browsers: what a person does with forms, cookies and a kernel's socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import psutil
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from course_lib.settings import REPOSITORY
from tests.postgres.places import environment, has_ended, wait_until

SECONDS = 240  # when other tests have the processor


class RunningHub:
    """``jupyterhub`` on a folder that ``course classroom hub`` wrote."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.address = folder, f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(folder / "jupyterhub_config.py")],
                cwd=REPOSITORY, env=environment(None, PYTHONPATH=str(REPOSITORY)), stdout=log, stderr=log,
            )  # fmt: skip
        self.seen: set[psutil.Process] = set()
        wait_until(self.is_ready, SECONDS)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "JupyterHub is now running" in self.log.read_text()

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @contextlib.contextmanager
    def hurried_culler(self, token: str) -> Iterator[None]:
        """The culler, with the configuration's hour made a second."""
        address = f"http://127.0.0.1:{self.port + 2}/hub/api"
        culler = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=1", "--cull-every=1", f"--url={address}"],
            env=environment(None, JUPYTERHUB_API_TOKEN=token), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield
        finally:
            culler.kill()
            culler.wait()

    def processes(self) -> set[psutil.Process]:
        """The hub and all that it has started, now and earlier."""
        this = psutil.Process(self.process.pid)
        self.seen |= {this, *this.children(recursive=True)}
        return self.seen

    def end(self) -> list[psutil.Process]:
        """As Ctrl-C does. Returns what still runs."""
        if self.process.poll() is None:
            self.processes()
            self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        return [process for process in self.seen if not has_ended(process)]


class Browser:
    """What one learner does at the hub, with the cookies of one browser."""

    def __init__(self, hub: RunningHub) -> None:
        self.hub = hub
        self.client = httpx2.AsyncClient(base_url=hub.address, follow_redirects=True, timeout=SECONDS)
        self.name = ""

    async def log_in(self, name: str, password: str) -> httpx2.Response:
        """Fill in the form; the answer is the page that comes of it."""
        page = await self.client.get("/hub/login")
        hidden = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert hidden is not None, page.text
        form = {"username": name, "password": password, "_xsrf": hidden[1]}
        return await self.client.post("/hub/login", data=form)

    async def sit_down(self, name: str) -> str:
        """Wait until the server is up. Returns the path on which a learner lands."""
        self.name = name
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            page = await self.client.get("/hub/spawn")
            assert page.status_code < 500, self.hub.log.read_text()
            if page.url.path.startswith(f"/user/{name}/"):
                return str(page.url.path)
            await asyncio.sleep(2)
        raise AssertionError(self.hub.log.read_text())

    def cookie(self, name: str) -> str:
        path = f"/user/{self.name}/"
        return next(
            str(cookie.value) for cookie in self.client.cookies.jar if (cookie.name, cookie.path) == (name, path)
        )

    async def ask(self, method: str, path: str, content: Any = None) -> httpx2.Response:
        """The server's own interface, as JupyterLab calls it."""
        headers = {"X-XSRFToken": self.cookie("_xsrf")}
        return await self.client.request(method, f"/user/{self.name}/api/{path}", json=content, headers=headers)

    async def kernel(self) -> Kernel:
        answer = await self.ask("POST", "kernels", {"name": "python3"})
        assert answer.status_code == 201, answer.text
        return await Kernel.of(self, answer.json()["id"])


class Kernel:
    """A kernel behind the hub."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    @classmethod
    async def of(cls, browser: Browser, id: str) -> Kernel:
        path = f"/user/{browser.name}/api/kernels/{id}/channels?_xsrf={quote(browser.cookie('_xsrf'))}"
        address = browser.hub.address.replace("http", "ws") + path
        request = browser.client.build_request("GET", path)
        cookies = {"Cookie": request.headers["Cookie"], "Origin": browser.hub.address}
        return cls(await websocket_connect(HTTPRequest(address, headers=cookies)))

    async def run(self, code: str) -> str:
        """What a cell prints and shows; it must not fail."""
        id, said = secrets.token_hex(8), ""
        header = {"msg_id": id, "msg_type": "execute_request", "username": "", "session": "test", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await self.socket.write_message(json.dumps(message))
        async with asyncio.timeout(SECONDS):
            while True:
                answer = json.loads(await self.socket.read_message())
                if answer["parent_header"].get("msg_id") != id:
                    continue
                content = answer["content"]
                assert answer["msg_type"] != "error", content
                said += content.get("text", "") + content.get("data", {}).get("text/plain", "")
                if content.get("execution_state") == "idle":
                    return said.strip()
