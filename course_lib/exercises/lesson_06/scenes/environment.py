"""An answer run as a real revision: a file in a private copy of the course's Alembic environment.

Alembic runs in the event loop's own thread, inside ``attempt.call``: what loops, sleeps or hangs in a migration is
ended there as in any other answer, and while a statement of it waits at the server, the judge goes on looking.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.pool import NullPool

from course_lib.db import make_engine
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.methods import look_for_methods
from course_lib.settings import REPOSITORY

SOURCE = REPOSITORY / "alembic"
REVISION = '''"""An answer

Revision ID: {id}
Revises: {before}
"""

from alembic import context

revision = "{id}"
down_revision = "{before}"


def upgrade() -> None:
    context.config.attributes["answers"][revision]("upgrade")


def downgrade() -> None:
    context.config.attributes["answers"][revision]("downgrade")
'''


class Environment:
    """The course's ``env.py``, template and versions in a folder of one attempt, to which revisions are added.

    ``upgrade`` and ``downgrade`` are ``alembic upgrade`` and ``alembic downgrade`` on the attempt's database: each on a
    connection of its own over the attempt's address, so that no setting of a session outlives its command.

    Attributes:
        folder: where env.py is.
    """

    def __init__(self, attempt: Attempt, folder: Path) -> None:
        self.folder = folder
        self._attempt = attempt
        self._answers: dict[str, Callable[[str], None]] = {}
        self._names: dict[str, str] = {}  # of what a revision calls on the way up
        shutil.copy(SOURCE / "env.py", folder)
        shutil.copy(SOURCE / "script.py.mako", folder)
        shutil.copytree(SOURCE / "versions", folder / "versions", ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def head(self) -> str:
        """The newest revision."""
        head = ScriptDirectory.from_config(self._config()).get_current_head()
        assert head is not None
        return head

    def add(self, answer: Any, upgrade: str = "upgrade") -> str:
        """A class (or an object) with ``upgrade`` and ``downgrade`` as the revision after the newest; returns its id.

        Each command calls it on an instance of its own, as each is a process of its own in life.

        Args:
            upgrade: the method that is called on the way up.
        """
        before = self.head
        id = f"{int(before) + 1:04}"
        self.write(id, REVISION.format(id=id, before=before))
        methods = {"upgrade": upgrade, "downgrade": "downgrade"}
        self._answers[id] = lambda direction: _run(answer, methods[direction])
        self._names[id] = upgrade
        return id

    def write(self, id: str, source: str) -> None:
        """A revision whose file is ``source``."""
        (self.folder / "versions" / f"{id}.py").write_text(source, encoding="utf-8")

    async def upgrade(self, revision: str = "head") -> None:
        """Raises: Wrong, as ``attempt.call`` says it of the function that the revision calls."""
        name = self._names.get(revision, "upgrade")
        await self._attempt.call(function=self._command(name, command.upgrade, revision))

    async def downgrade(self, revision: str = "-1") -> None:
        """Raises: Wrong, as ``attempt.call`` says it of a function ``downgrade``."""
        await self._attempt.call(function=self._command("downgrade", command.downgrade, revision))

    def run_on(self, connection: Connection) -> None:
        """``alembic upgrade head`` on a connection of somebody else's, in which no transaction may be open."""
        command.upgrade(self._config(connection), "head")

    async def version(self) -> str | None:
        """What the database says to be at."""
        version: str | None = await self._attempt.value("SELECT max(version_num) FROM alembic_version")
        return version

    def _config(self, connection: Connection | None = None) -> Config:
        config = Config(attributes={"connection": connection, "answers": self._answers})
        config.set_main_option("script_location", str(self.folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        return config

    def _command(self, name: str, command: Callable[[Config, str], None], revision: str) -> Callable[..., Any]:
        async def run() -> None:
            engine = make_engine(self._attempt.url, poolclass=NullPool)
            async with engine.connect() as connection:
                await connection.run_sync(lambda inside: command(self._config(inside), revision))

        run.__name__ = name  # the name that a message gives
        return run


def _run(answer: Any, direction: str) -> None:
    migration = answer() if isinstance(answer, type) else answer
    returned = getattr(migration, direction)()
    if inspect.iscoroutine(returned):
        returned.close()
    if inspect.isawaitable(returned):
        raise Wrong(
            "async migration", f"`{direction}` is an `async def`, and Alembic calls it without awaiting.",
            "Write a plain `def`: `op` waits for the server by itself.",
        )  # fmt: skip
    if inspect.isgenerator(returned):
        raise Wrong("async migration", f"`{direction}` yields, so nothing of it was run.", "Write it without `yield`.")


@contextmanager
def private_environment(attempt: Attempt) -> Iterator[Environment]:
    """One without a revision besides the course's own, for the length of a block."""
    with TemporaryDirectory(prefix="revisions-") as folder:
        yield Environment(attempt, Path(folder))


@contextmanager
def environment_of(attempt: Attempt, *methods: str) -> Iterator[Environment]:
    """A private environment with the attempt's answer as its newest revision, for the length of a block.

    Args:
        methods: what the answer must have and have written; by default both directions.

    Raises:
        Wrong: "method missing" or "not written", which the exercise has to name.
    """
    look_for_methods(attempt, attempt.answer, *(methods or ("upgrade", "downgrade")))
    with private_environment(attempt) as environment:
        environment.add(attempt.answer)
        yield environment


@contextmanager
def environment_in_steps(attempt: Attempt, *steps: str) -> Iterator[tuple[Environment, dict[str, str]]]:
    """A private environment in which each of these methods of the answer is a revision; and the revisions' ids.

    Raises:
        Wrong: "method missing" or "not written", which the exercise has to name.
    """
    look_for_methods(attempt, attempt.answer, *steps)
    with private_environment(attempt) as environment:
        yield environment, {step: environment.add(attempt.answer, step) for step in steps}
