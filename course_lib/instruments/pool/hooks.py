"""Where the gauge listens: on methods of one engine's pool, and on events of SQLAlchemy.

A pool tells by events what was checked out, but not who waits for that, nor who was refused. So a few methods of the
pool object itself are wrapped for as long as somebody listens. All gauges of an engine share one set of hooks, which
makes the order in which they are closed no matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import greenlet  # type: ignore[import-untyped]
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import Pool, QueuePool

from course_lib.instruments.pool.recorder import Recorder

Method = Callable[..., Any]
Which = Callable[[], Recorder | None]
"""The recorder of whoever runs now; None where nobody watches."""

_hooks: WeakKeyDictionary[Engine, Hooks] = WeakKeyDictionary()


def listen(engine: Engine, which: Which) -> None:
    """Tell the recorder that ``which`` names each time what becomes of the engine's connections."""
    if engine not in _hooks:
        _hooks[engine] = Hooks(engine)
    _hooks[engine].told.append(which)


def stop(engine: Engine, which: Which) -> None:
    """Tell it nothing more. With the last one the engine and its pool are again as they were."""
    hooks = _hooks[engine]
    hooks.told.remove(which)
    if not hooks.told:
        hooks.remove()
        del _hooks[engine]


class Hooks:
    """What is put into one engine."""

    def __init__(self, engine: Engine) -> None:
        self.told: list[Which] = []
        self._first_pool = engine.pool  # its listeners move on to the next one with dispose()
        self._wrapped: list[tuple[Any, str, Any]] = []  # object, name, what the object itself had under it
        self._asking: set[Any] = set()
        self._wrap(engine.dialect, "do_commit", self._around_end)
        self._wrap(engine.dialect, "do_rollback", self._around_end)
        self._wrap_pool(engine.pool)
        event.listen(self._first_pool, "checkout", self._checked_out)
        for name, listener in self._listeners():
            event.listen(engine, name, listener)
        self._engine = engine

    def remove(self) -> None:
        for name, listener in self._listeners():
            event.remove(self._engine, name, listener)
        event.remove(self._first_pool, "checkout", self._checked_out)
        for owner, name, before in reversed(self._wrapped):
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)

    def _listeners(self) -> list[tuple[str, Method]]:
        return [
            ("before_cursor_execute", self._sent),
            ("after_cursor_execute", self._answered),
            ("handle_error", self._failed),
            ("engine_disposed", self._disposed),
        ]

    # methods of the pool

    def _wrap_pool(self, pool: Pool) -> None:
        self._wrap(pool, "_do_get", self._around_do_get)
        self._wrap(pool, "_create_connection", self._around_create)
        self._wrap(pool, "_do_return_conn", self._around_return)
        if isinstance(pool, QueuePool):
            self._wrap(pool._pool, "get", self._around_queue(pool))

    def _wrap(self, owner: Any, name: str, around: Callable[[Method], Method]) -> None:
        self._wrapped.append((owner, name, vars(owner).get(name)))
        method = getattr(owner, name)
        setattr(owner, name, wraps(method)(around(method)))

    def _around_do_get(self, method: Method) -> Method:
        def do_get() -> Any:
            asking = greenlet.getcurrent()
            if asking in self._asking:  # a pool that lost a race asks itself again
                return method()
            self._asking.add(asking)
            self._tell(Recorder.asked)
            try:
                record = method()
            except BaseException as error:
                self._tell(Recorder.refused, error)
                raise
            finally:
                self._asking.discard(asking)
            self._tell(Recorder.got, record)
            return record

        return do_get

    def _around_create(self, method: Method) -> Method:
        def create() -> Any:
            self._tell(Recorder.opens)
            return method()

        return create

    def _around_queue(self, pool: QueuePool) -> Callable[[Method], Method]:
        def around(method: Method) -> Method:
            def get(block: bool = True, timeout: float | None = None) -> Any:
                if not block or pool.checkedin():
                    return method(block, timeout)
                self._tell(Recorder.waits)
                try:
                    return method(block, timeout)
                finally:
                    self._tell(Recorder.waited)

            return get

        return around

    def _around_return(self, method: Method) -> Method:
        def do_return(record: Any) -> None:
            self._tell(Recorder.given_back, record)
            try:
                method(record)
            finally:
                self._tell(Recorder.is_back)

        return do_return

    def _around_end(self, method: Method) -> Method:
        def end(connection: Any) -> None:
            record = getattr(connection, "_connection_record", None)
            self._tell(Recorder.ends_transaction, record)
            try:
                method(connection)
            finally:
                self._tell(Recorder.ended_transaction, record)

        return end

    # events

    def _checked_out(self, _: Any, record: Any, proxy: Any) -> None:
        self._tell(Recorder.checked_out, record, proxy)

    def _sent(self, connection: Connection, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:
        self._tell(Recorder.sent, context, getattr(connection.connection, "_connection_record", None))

    def _answered(self, connection: Connection, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:
        self._tell(Recorder.answered, context)

    def _failed(self, context: ExceptionContext) -> None:
        self._tell(Recorder.answered, context.execution_context)

    def _disposed(self, engine: Engine) -> None:
        self._wrap_pool(engine.pool)
        self._tell(Recorder.moved_to, engine.pool)

    def _tell(self, what: Method, *facts: Any) -> None:
        for which in tuple(self.told):
            if (recorder := which()) is not None:
                what(recorder, *facts)
