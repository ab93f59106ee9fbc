"""What stands below a cell that went wrong: the learner's own lines and the last one, or one sentence."""

from __future__ import annotations

import re

import pytest

from tests.kernels import Kernel
from tests.postgres.places import run_python

SETUP = """import asyncio, json
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from course_lib import Lesson, check, explain, open_lesson
engine = create_async_engine("postgresql+asyncpg://localhost/none")
lesson = Lesson("02", None, engine)"""

SHOWN = {
    "a line of one's own": (
        "1 / 0",
        """
Cell, line 1
----> 1 1 / 0
ZeroDivisionError: division by zero""",
    ),
    "a library's error": (
        "with create_engine('sqlite://').connect() as connection:\n    connection.exec_driver_sql('SELEC 1')",
        """
Cell, line 2
      1 with create_engine('sqlite://').connect() as connection:
----> 2     connection.exec_driver_sql('SELEC 1')
(library code left out; %tb shows everything)
OperationalError: (sqlite3.OperationalError) near "SELEC": syntax error
[SQL: SELEC 1]
(Background on this error at: https://sqlalche.me/e/21/e3q8)""",
    ),
    "a line before a finally": (
        "try:\n    1 / 0\nfinally:\n    x = 1",
        """
Cell, line 2
      1 try:
----> 2     1 / 0
      3 finally:
      4     x = 1
ZeroDivisionError: division by zero""",
    ),
    "a comprehension": (
        "[\n    1 / i\n    for i in [0]\n]",
        """
Cell, line 2
      1 [
----> 2     1 / i
      3     for i in [0]
      4 ]
ZeroDivisionError: division by zero""",
    ),
    "a generator expression": (
        "x = 1\nsum(1 / i for i in [0])",
        """
Cell, line 2
      1 x = 1
----> 2 sum(1 / i for i in [0])
Cell, line 2, in <genexpr>(.0)
----> 2 sum(1 / i for i in [0])
ZeroDivisionError: division by zero""",
    ),
    "a recursion": (
        "def down(n):\n    return down(n + 1)\ndown(0)",
        """
Cell, line 3
      1 def down(n):
      2     return down(n + 1)
----> 3 down(0)
Cell, line 2, in down(n)
      1 def down(n):
----> 2     return down(n + 1)
Cell, line 2, in down(n)
      1 def down(n):
----> 2     return down(n + 1)
(calls left out; %tb shows everything)
RecursionError: maximum recursion depth exceeded""",
    ),
    "own code that a library calls": (
        "sorted([1], key=lambda n: json.loads('x'))",
        """
Cell, line 1
----> 1 sorted([1], key=lambda n: json.loads('x'))
Cell, line 1, in <lambda>(n)
----> 1 sorted([1], key=lambda n: json.loads('x'))
(library code left out; %tb shows everything)
JSONDecodeError: Expecting value: line 1 column 1 (char 0)""",
    ),
    "notes": (
        "error = ValueError('bad')\nerror.add_note('one')\nerror.add_note('two')\nraise error",
        """
Cell, line 4
      1 error = ValueError('bad')
      2 error.add_note('one')
      3 error.add_note('two')
----> 4 raise error
ValueError: bad
one
two""",
    ),
    "a cause with lines of one's own": (
        "try:\n    json.loads('x')\nexcept ValueError as error:\n    raise KeyError('k') from error",
        """
Cell, line 2
      1 try:
----> 2     json.loads('x')
      3 except ValueError as error:
JSONDecodeError: Expecting value: line 1 column 1 (char 0)
The above exception was the direct cause of the following exception:
Cell, line 4
      1 try:
      2     json.loads('x')
      3 except ValueError as error:
----> 4     raise KeyError('k') from error
(library code left out; %tb shows everything)
KeyError: 'k'""",
    ),
    "a cause among libraries that says more": (
        "from openai import OpenAI\nOpenAI(base_url='http://127.0.0.1:1', api_key='none', max_retries=0).models.list()",
        """
Cell, line 2
      1 from openai import OpenAI
----> 2 OpenAI(base_url='http://127.0.0.1:1', api_key=***, max_retries=0).models.list()
(library code left out, with the cause, ConnectError: [Errno 111] Connection refused; %tb shows everything)
APIConnectionError: Connection error.""",
    ),
    "an exception on which nothing can be set": (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Odd(Exception):\n    n: int\nraise Odd(3)",
        """
Cell, line 5
      1 from dataclasses import dataclass
      2 @dataclass(frozen=True)
      3 class Odd(Exception):
      4     n: int
----> 5 raise Odd(3)
Odd: 3""",
    ),
    "a group": (
        "async def one():\n    json.loads('x')\nasync with asyncio.TaskGroup() as group:\n    group.create_task(one())",
        """
Cell, line 3
      1 async def one():
      2     json.loads('x')
----> 3 async with asyncio.TaskGroup() as group:
      4     group.create_task(one())
(library code left out; %tb shows everything)
ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
  | JSONDecodeError                           Traceback (most recent call last)
  | Cell, line 2, in one()
  |       1 async def one():
  | ----> 2     json.loads('x')
  |
  | JSONDecodeError: Expecting value: line 1 column 1 (char 0)""",
    ),
    "a group of many": (
        "raise ExceptionGroup('many', [ValueError(n) for n in range(50)]) from None",
        """
Cell, line 1
----> 1 raise ExceptionGroup('many', [ValueError(n) for n in range(50)]) from None
ExceptionGroup: many (50 sub-exceptions)"""
        + "".join(
            f"""
  +-+---------------- {n + 1} ----------------
  | ValueError                                Traceback (most recent call last)
  | ValueError: {n}"""
            for n in range(5)
        )
        + "\n  +---------------- and 45 more ----------------",
    ),
    "a cell that is no Python": (
        "x = = 1",
        """
  Cell, line 1
    x = = 1
        ^
SyntaxError: invalid syntax""",
    ),
    "code that is no Python": (
        "exec('x = = 1')",
        """
Traceback (most recent call last):
  Cell, line 1
    exec('x = = 1')
  File <string>:1
    x = = 1
        ^
SyntaxError: invalid syntax""",
    ),
    "a magic that is none": ("%nothing", "\nUsageError: Line magic function `%nothing` not found."),
    "a failure of the course": (
        "await open_lesson('x')",
        """
A lesson has a number, like '02'; 'x' is none.
  → Try: await open_lesson("00")""",
    ),
}
"""What happens: the cell, and what is shown."""

FORGOTTEN = "{} was not awaited, so it has not run: write `await` in front of it.\n"
FOLDED, WHOLE = "library code left out", "json/decoder.py"


@pytest.fixture(scope="module")
def kernel(fresh_kernel: Kernel) -> Kernel:
    fresh_kernel.run(SETUP)
    return fresh_kernel


def plain(shown: str) -> str:
    """Without the title, blank lines, and the number of the cell."""
    title = re.compile(r"-{70,}|\w+ +Traceback \(most recent call last\)|\s*")
    kept = [line for line in shown.splitlines() if not title.fullmatch(line)]
    return re.sub(r"Cell In\[\d+\]", "Cell", "\n".join(["", *kept]))


@pytest.mark.parametrize("what", SHOWN)
def test_an_error_is_the_learners_own_lines_and_the_last_one(kernel: Kernel, what: str) -> None:
    code, shown = SHOWN[what]
    assert plain(kernel.show(code)) == shown


def test_a_group_is_an_error_and_not_text_on_stderr(kernel: Kernel) -> None:
    outputs = kernel.outputs("raise ExceptionGroup('one', [ValueError(1)])")
    assert [output["msg_type"] for output in outputs] == ["error"]
    assert outputs[0]["content"]["ename"] == "ExceptionGroup"


@pytest.mark.parametrize(
    "code", ["json.loads('x')", "raise ExceptionGroup('', [ValueError()]) from None", "await open_lesson('x')"]
)
def test_tb_shows_everything(kernel: Kernel, code: str) -> None:
    kernel.show(code)
    whole = kernel.show("%tb")
    assert "Traceback (most recent call last)" in whole and "left out" not in whole
    assert WHOLE in whole or "json" not in code


def test_other_modes_and_other_handlers_stay_the_learners_choice(kernel: Kernel) -> None:
    for mode in ("Plain", "Verbose"):
        kernel.show(f"%xmode {mode}")
        assert WHOLE in kernel.show("json.loads('x')")
    kernel.show("%xmode Context")
    kernel.run("get_ipython().set_custom_exc((KeyError,), lambda *_, tb_offset=None: print('handled by me'))")
    assert kernel.show("raise KeyError") == "handled by me\n"
    kernel.run("get_ipython().set_custom_exc((), None)")


def test_it_is_there_once_and_can_be_taken_back(kernel: Kernel) -> None:
    hooks = "print(len(get_ipython().events.callbacks['pre_run_cell']))"
    assert kernel.run(hooks) == "1"
    kernel.run("import importlib, course_lib\n_ = importlib.reload(course_lib)\n%load_ext course_lib.kernel")
    assert kernel.run(hooks) == "1"
    kernel.run("%unload_ext course_lib.kernel")
    assert kernel.run(hooks) == "0"
    assert WHOLE in kernel.show("json.loads('x')")
    assert "coroutine object" in kernel.show("check('0.1')")
    kernel.run("%load_ext course_lib.kernel")
    assert FOLDED in kernel.show("json.loads('x')")


@pytest.mark.parametrize("mode", ["Context", "Verbose", "Plain"])
def test_no_traceback_shows_a_secret(kernel: Kernel, mode: str) -> None:
    kernel.show(f"%xmode {mode}")
    code = """def use(address, key, password='m4rk3d'):
    raise ValueError(f"no access to {address} with {key}")
use("postgresql://ada:m4rk3d@localhost/db?sslmode=disable", "sk-m4rk3d")"""
    shown = kernel.show(code) + kernel.show("%tb")
    kernel.show("%xmode Context")
    assert "postgresql://***@localhost/db" in shown and "sk-***" in shown
    assert "m4rk3d" not in shown


@pytest.mark.parametrize(
    "call",
    [
        "check('0.1')", "open_lesson('02')", "lesson.sql('SELECT 1')", "lesson.session().execute('SELECT 1')",
        "explain(engine, 'SELECT 1')", "asyncio.sleep(1)",
    ],
)  # fmt: skip
def test_a_forgotten_await_is_one_sentence(kernel: Kernel, call: str) -> None:
    assert kernel.show(call) == FORGOTTEN.format(f"`{call}`")
    assert kernel.show("import gc\n_ = gc.collect()") == ""


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("check('0.1')\nx = 1", "`check('0.1')`"),
        ("lesson.sql('SELECT 1')\nx = 1", "`lesson.sql('SELECT 1')`"),
        ("lesson.sql(\n    'SELECT 1'\n)", "`lesson.sql(…)`"),
        ("async def look():\n    rows = lesson.sql('SELECT 1')\nawait look()", "A call of `sql` in `await look()`"),
    ],
)
def test_above_the_last_line_and_in_functions_too(kernel: Kernel, code: str, what: str) -> None:
    assert kernel.show(code) == FORGOTTEN.format(what)


def test_a_coroutine_in_a_variable_can_still_be_awaited(kernel: Kernel) -> None:
    assert "coroutine object" in kernel.show("later = asyncio.sleep(0, 'done')\nlater")
    assert kernel.show("await later") == "'done'"


def test_outside_of_a_kernel_nothing_is_loaded() -> None:
    code = "import sys, course_lib\nprint({'IPython', 'course_lib.kernel'} & sys.modules.keys())"
    assert run_python(None, code).strip() == "set()"
