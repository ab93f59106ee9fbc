"""One step of an actor: what it was asked to do, and how that ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.exc import SQLAlchemyError

from course_lib.errors import CourseError
from course_lib.instruments.stage.words import listed, spoken_value

if TYPE_CHECKING:
    from course_lib.instruments.query_log import Statement

State = Literal["done", "waiting", "failed"]
Kind = Literal["sql", "call", "mark"]  # a mark is COMMIT or ROLLBACK
DRIVERS = ("asyncpg", "psycopg")  # a project has one of them
DEADLOCK = "40P01"


class CutOff(CourseError):
    """The scene was over while a step still went on."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}'s step was cut off: the scene was over.", "Let the others end before the block does.")


class Step:
    """What an actor does at one time. A step that waits is brought up to date in place when it ends.

    Attributes:
        actor: the name of who does it.
        kind: ``"sql"``, ``"call"`` of a function, or ``"mark"``: the end of a transaction.
        what: the SQL, the call, ``COMMIT`` or ``ROLLBACK``.
        values: the values that go with the SQL.
        error: the exception that ended it, else None.
        aborted: the server refused the last thing sent, so that the transaction can only be rolled back.
        waits_for: the names of those whose lock it waits for; empty unless ``state`` is ``"waiting"``.
    """

    def __init__(
        self,
        actor: str,
        kind: Kind,
        what: str,
        values: dict[str, Any],
        sent: Callable[[Step], list[Statement]],
        until_over: Callable[[Step], Awaitable[None]],
    ) -> None:
        self.actor = actor
        self.kind = kind
        self.what = what
        self.values = values
        self.error: BaseException | None = None
        self.waits_for: tuple[str, ...] = ()
        self.pids: set[int] = set()
        self.is_over = False
        self.aborted = False
        self._value: Any = None
        self._sent = sent
        self._until_over = until_over

    @property
    def state(self) -> State:
        """``"done"``, ``"waiting"`` for a lock, or ``"failed"``."""
        if not self.is_over:
            return "waiting"
        return "done" if self.error is None else "failed"

    @property
    def value(self) -> Any:
        """What the function returned, or the ``Rows`` of the SQL.

        Raises:
            CourseError: the step still waits.
            Exception: the step's own error, if it failed.
        """
        if not self.is_over:
            raise CourseError(
                f"{self.actor}'s step has no value yet: it {self.outcome}.",
                "Let the other commit or roll back, then ask again.",
            )
        if self.error is not None:
            raise self.error
        return self._value

    @property
    def sqlstate(self) -> str | None:
        """PostgreSQL's five characters for the error that ended the step, else None."""
        return sqlstate_of(self.error)

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What the step has sent so far, transaction control included."""
        return tuple(self._sent(self))

    async def ended(self) -> Step:
        """Wait until a step that waits has ended by itself, at a ``lock_timeout`` for instance.

        Raises:
            CourseError: it has not within the stage's patience.
        """
        await self._until_over(self)
        return self

    def finish(self, value: Any = None, error: BaseException | None = None) -> None:
        self._value, self.error, self.waits_for, self.is_over = value, error, (), True

    @property
    def outcome(self) -> str:
        """How it stands, in few words."""
        if not self.is_over:
            return f"waits for {listed(self.waits_for)}" if self.waits_for else "still runs"
        return spoken_value(self._value) if self.error is None else spoken_error(self.error)

    def __repr__(self) -> str:
        return f"{self.actor}: {self.what} · {self.outcome}"


def is_of_the_database(error: BaseException) -> bool:
    """True for what belongs in the scene; anything else is a mistake in the function that was stepped."""
    return isinstance(error, SQLAlchemyError) or any(
        kind.__module__.partition(".")[0] in DRIVERS for kind in type(error).__mro__
    )


def driver_error(error: BaseException | None) -> BaseException | None:
    """The driver's exception inside SQLAlchemy's."""
    if getattr(error, "orig", error) is None:
        return error
    return getattr(error, "driver_exception", None) or getattr(error, "orig", None) or error


def is_from_the_server(error: BaseException | None) -> bool:
    """True when the server refused something; a value that the driver itself refuses never gets there."""
    said = driver_error(error)
    return bool(getattr(said, "severity", None) or getattr(getattr(said, "diag", None), "severity", None))


def sqlstate_of(error: BaseException | None) -> str | None:
    """The SQLSTATE of an error of SQLAlchemy or of a driver, else None."""
    state = getattr(driver_error(error), "sqlstate", None) if error is not None else None
    return state if isinstance(state, str) else None


def spoken_error(error: BaseException) -> str:
    """``✗ DBAPIError 40P01: deadlock detected``; the words are the server's, so others than its own are left out."""
    state = sqlstate_of(error)
    if state is None:
        return "✗ cut off: the scene was over" if isinstance(error, CutOff) else f"✗ {type(error).__name__}"
    said = driver_error(error)
    diagnosis = getattr(said, "diag", None)
    message = getattr(diagnosis, "message_primary", None) or getattr(said, "message", None) or str(said)
    return f"✗ {type(error).__name__} {state}: {str(message).splitlines()[0]}"


def detail_of(error: BaseException | None) -> str:
    """The server's DETAIL, empty when there is none."""
    said = driver_error(error)
    diagnosis = getattr(said, "diag", None)
    return str(getattr(diagnosis, "message_detail", None) or getattr(said, "detail", None) or "")
