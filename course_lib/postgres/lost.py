"""Say in one sentence that the server has gone, whichever engine notices it.

A connection that one backend lost keeps its own error: lessons are taught with it. Only when the whole embedded
server is down do SQLAlchemy's engines raise the course's sentence instead.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from course_lib.errors import CourseError
from course_lib.postgres.server import embedded_cluster, environment_names_a_server


@cache
def explain_lost_server() -> None:
    """Watch all engines of this process for the loss of the embedded server. Calling it twice is harmless."""
    event.listen(Engine, "do_connect", _before_connecting)
    event.listen(Engine, "handle_error", _after_an_error)


def lost_server() -> CourseError | None:
    """The sentence for the embedded server's end; None while it runs, or when it is not the one in use."""
    if environment_names_a_server() or embedded_cluster().process():
        return None
    return CourseError(
        "The course's PostgreSQL has stopped, and the databases of open notebooks with it.",
        "Run the notebook's first cell again: it starts the server and gives you a fresh database.",
    )


def _before_connecting(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
    if environment_names_a_server():
        return
    address = embedded_cluster().address()
    meant = str(options.get("host")) == address.host and str(options.get("port")) == str(address.port)
    if meant and (sentence := lost_server()):
        raise sentence


def _after_an_error(context: ExceptionContext) -> None:
    if context.is_disconnect and (sentence := lost_server()):
        raise sentence from context.original_exception
