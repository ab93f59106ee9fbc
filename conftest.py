"""How pytest runs the notebooks. Here and not in tests/, because the notebooks lie beside that folder."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from course_lib.settings import Settings, get_settings

for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
    os.environ.pop(name, None)  # tests never use the network
Settings.model_config["env_file"] = None
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; programs of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
SCATTERED = "tests/exercises/lesson_"
_work = tempfile.TemporaryDirectory(prefix="course-work-")
os.environ["COURSE_WORK"] = _work.name  # what solutions and tests solve is not the learner's progress
os.environ["COURSE_HTML_PICTURES"] = "0"  # lessons are stored so


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reverse-notebooks", action="store_true", help="Run the notebooks last to first.")


class ByFile(LoadScopeScheduling):
    """Tests of a file go to one worker, but for those of lessons' answers, which are many and know nothing of another.

    Cells of one notebook share one kernel, and tests of one file a server of their own.
    """

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(SCATTERED) else nodeid.partition("::")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    """In the place of ``--dist=loadfile``."""
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lessons depend on nothing but themselves: any order must do."""
    if not config.getoption("--reverse-notebooks"):
        return
    cells = [item for item in items if item.path.suffix == ".ipynb"]
    names = sorted({item.path for item in cells}, reverse=True)
    cells.sort(key=lambda item: names.index(item.path))  # stable: the cells of one notebook keep their order
    items[:] = cells + [item for item in items if item.path.suffix != ".ipynb"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """The next test reads the environment anew, which this one may have changed and given back."""
    try:
        return (yield)
    finally:
        get_settings.cache_clear()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Kernels inherit the environment of the moment they start in: before a notebook's first cell."""
    notebook = item.parent
    if getattr(notebook, "kernel", "none") is None:
        notebook.skip_compare = (*notebook.skip_compare, "stderr")
        os.environ["COURSE_OFFLINE"] = "1"
    try:
        return (yield)
    finally:
        os.environ.pop("COURSE_OFFLINE", None)
