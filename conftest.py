"""How pytest runs the notebooks. Here and not in tests/, because the notebooks lie beside that folder."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from difflib import unified_diff

import pytest
from nbval.plugin import IPyNbCell
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from course_lib.notebooks.executing import STORED, portable
from course_lib.settings import Settings, get_settings

for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
    os.environ.pop(name, None)  # tests never use the network
Settings.model_config["env_file"] = None
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; programs of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
SCATTERED = "tests/exercises/lesson_"
WORKERS = 4
_work = tempfile.TemporaryDirectory(prefix="course-work-")
os.environ["COURSE_WORK"] = _work.name  # what solutions and tests solve is not the learner's progress
if "TESTS_SHARED" not in os.environ:  # workers inherit its name
    _shared = tempfile.TemporaryDirectory(prefix="course-tests-")
    os.environ["TESTS_SHARED"] = _shared.name


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reverse-notebooks", action="store_true", help="Run the notebooks last to first.")
    parser.addoption("--soak", action="store_true", help="Also the cases that take long and prove little more.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "soak(after=0): the cases of a test after so many are left out, but with --soak or named on their own",
    )


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


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Four at least: a worker waits for a good part of its time, for a lock, a limit, a kernel or a server's start."""
    chosen = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ
    return None if chosen or (os.cpu_count() or 1) > WORKERS else WORKERS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lessons depend on nothing but themselves: any order must do."""
    if not config.getoption("--soak") and not any("::" in argument for argument in config.args):
        left_out = _for_soak(items)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
    if not config.getoption("--reverse-notebooks"):
        return
    cells = [item for item in items if item.path.suffix == ".ipynb"]
    names = sorted({item.path for item in cells}, reverse=True)
    cells.sort(key=lambda item: names.index(item.path))  # stable: the cells of one notebook keep their order
    items[:] = cells + [item for item in items if item.path.suffix != ".ipynb"]


def _for_soak(items: list[pytest.Item]) -> set[pytest.Item]:
    """The cases after those that each mark lets run. A mark of a case alone counts for itself."""
    cases, left_out = Counter[str](), set[pytest.Item]()
    for item in items:
        mark = item.get_closest_marker("soak")
        if mark is None:
            continue
        test = item.nodeid.partition("[")[0]
        cases[test] += 1
        if cases[test] > mark.kwargs.get("after", 0):
            left_out.add(item)
    return left_out


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
    with pytest.MonkeyPatch.context() as patch:
        if getattr(notebook, "kernel", "none") is None:
            notebook.skip_compare = (*notebook.skip_compare, "stderr")
            for name, value in {"COURSE_OFFLINE": "1", **STORED}.items():
                patch.setenv(name, value)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """nbval compares the class and the message of an error; what a reader sees of it is compared here."""
    result = yield
    if isinstance(item, IPyNbCell) and item.options["check"] and item.cell.execution_count is not None:
        stored, shown = _tracebacks(item, item.cell.outputs), _tracebacks(item, item.test_outputs)
        if stored != shown:
            lines = unified_diff(stored.splitlines(), shown.splitlines(), "stored", "shown", lineterm="")
            item.raise_cell_error("Cell tracebacks differ", "\n".join(lines))
    return result


def _tracebacks(cell: IPyNbCell, outputs: list[dict[str, list[str]]]) -> str:
    """nbval runs every cell as the first of its kernel."""
    errors = [output for output in outputs if output["output_type"] == "error"]
    text = "\n".join(part for error in errors for part in portable(error["traceback"]))
    return re.sub(r"Cell In\[\d+\]", "Cell", cell.sanitize(text))
