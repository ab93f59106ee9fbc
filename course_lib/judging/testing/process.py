"""The process in which a learner's tests are run: for each case it runs pytest, and says what came of it."""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
from _pytest.config import default_plugins
from sqlalchemy.orm import configure_mappers

from course_lib.judging.kept_process_main import Say, serve
from course_lib.judging.quoting import sentence_of
from course_lib.judging.testing.plugin import FILE, CaseHere, Plugin

JOB_SECONDS = 60  # longer than anybody waits for one
ARGUMENTS = ("-c", "pytest.ini", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", "-q")
LOADED = (
    *(f"_pytest.{name}" for name in default_plugins), "asyncpg", "course_lib.instruments", "course_lib.models",
    "hypothesis", "pytest_asyncio.plugin", "sqlalchemy.dialects.postgresql.asyncpg",
)  # fmt: skip


def load() -> None:
    """Have in memory what every case needs: a fork then finds it there, and its garbage collector leaves it alone."""
    os.environ["COURSE_OFFLINE"] = "1"  # nobody pays for a check
    for name in LOADED:
        import_module(name)
    configure_mappers()
    gc.freeze()


def _load_plugins(job: bytes) -> None:
    """And what they name as ``LOADED``, which their libraries import only when it is used."""
    with suppress(Exception):  # it is tried again, and told, where the job is done
        for name in json.loads(job)["plugins"]:
            if name not in sys.modules:
                for more in getattr(import_module(name), "LOADED", ()):
                    import_module(more)
                gc.freeze()


def _work(job: bytes, say: Say) -> None:
    asked = json.loads(job)
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.environ.pop("PYTEST_ADDOPTS", None)
    os.chdir(asked["folder"])
    sys.modules.pop(Path(FILE).stem, None)
    try:
        plugins = [import_module(name) for name in asked["plugins"]]
    except Exception as error:  # of the course's own
        say({"failed": sentence_of(error)})
        return
    plugin = Plugin(CaseHere(asked["case"], say), asked["home"], asked["seconds"], say)
    code = pytest.main([*ARGUMENTS, *asked["arguments"], FILE], [plugin, *plugins])
    os.chdir(tempfile.gettempdir())  # Windows removes no folder that somebody works in
    say({"code": int(code)})


if __name__ == "__main__":
    load()
    serve(_work, JOB_SECONDS, again=True, load=_load_plugins)
