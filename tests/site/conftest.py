"""The site, built once for all tests, and served as a host of pages would."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

from course_lib.site.building import NEEDED, build_site


@pytest.fixture(scope="session")
def site() -> Path:
    """Its folder. Building it raises where a link is broken or Sphinx complains."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}; make site installs them")
    folder = Path(os.environ["TESTS_SHARED"]) / "site"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with warnings.catch_warnings(action="ignore"):  # of the libraries
                build_site(folder)
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where it is served, on this machine alone."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
