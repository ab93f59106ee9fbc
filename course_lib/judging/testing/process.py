"""The process in which a learner's tests are run: it runs pytest on each case, and says what came of it.

Where the system can fork, pytest starts and collects once, and each case is a fork of that; elsewhere it starts anew
for each.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from _pytest.config import default_plugins
from sqlalchemy.orm import configure_mappers

from course_lib.judging.kept_process_main import KEEPS, Say, serve
from course_lib.judging.quoting import sentence_of
from course_lib.judging.testing.forks import JOB_SECONDS, Forks
from course_lib.judging.testing.plugin import CONFIGURATION, FILE, CaseHere, Plugin

ARGUMENTS = (
    "-c", CONFIGURATION, "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", "-q",
    "-p", "no:unraisableexception",  # it collects garbage at the end of every fork, which is thrown away
    "--capture=sys",  # a file would be one for all forks
)  # fmt: skip
LOADED = (
    *(f"_pytest.{name}" for name in default_plugins), "asyncpg", "course_lib.instruments", "course_lib.models",
    "hypothesis", "pytest_asyncio.plugin", "sqlalchemy.dialects.postgresql.asyncpg",
)  # fmt: skip

_loaded: set[str] = set()


def load() -> None:
    """Have in memory what every case needs: a fork then finds it there, and its garbage collector leaves it alone."""
    os.environ["COURSE_OFFLINE"] = "1"  # nobody pays for a check
    for name in LOADED:
        import_module(name)
    configure_mappers()
    gc.freeze()


def _load_plugins(job: bytes) -> None:
    """And what they name as ``LOADED``, which their libraries import only when it is used; ``warm_up`` does more."""
    with suppress(Exception):  # it is tried again, and told, where the job is done
        for name in json.loads(job)["plugins"]:
            if name not in _loaded:
                _loaded.add(name)  # one plugin imports others
                plugin = import_module(name)
                for more in getattr(plugin, "LOADED", ()):
                    import_module(more)
                getattr(plugin, "warm_up", lambda: None)()
                gc.freeze()


def _work(job: bytes, say: Say) -> None:
    asked = json.loads(job)
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.environ.pop("PYTEST_ADDOPTS", None)
    os.chdir(asked["folder"])
    try:
        plugins = [import_module(name) for name in asked["plugins"]]
    except Exception as error:  # of the course's own
        say({"failed": sentence_of(error)})
        return
    if KEEPS:
        _run(asked, say, plugins, [Forks(asked["cases"], asked["side_by_side"], say)])
    else:
        for told in asked["cases"]:
            if _run({**asked, "cases": [told]}, say, plugins, []).enough:
                break
    os.chdir(tempfile.gettempdir())  # Windows removes no folder that somebody works in
    say({"done": True})


def _run(asked: dict[str, Any], say: Say, plugins: list[Any], more: list[Any]) -> CaseHere:
    """Run pytest; the case is the first one, until a fork has another one."""
    sys.modules.pop(Path(FILE).stem, None)
    case = CaseHere(asked["cases"][0], say)
    plugin = Plugin(case, asked["home"], asked["seconds"])
    pytest.main([*ARGUMENTS, FILE], [plugin, *more, *plugins])
    return case


if __name__ == "__main__":
    load()
    serve(_work, JOB_SECONDS, again=True, load=_load_plugins, forks=True)
