"""Ask PostgreSQL for the plan of a statement."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Mapping
from typing import Any, overload

from sqlalchemy import ClauseElement, Connection, Engine, Executable, SelectBase, TextClause, UpdateBase, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import FromStatement, Session
from sqlalchemy.sql.compiler import SQLCompiler

from course_lib.errors import CourseError
from course_lib.instruments.plan.tree import Plan

OPTIONS = frozenset(
    ("verbose", "costs", "settings", "generic_plan", "buffers", "serialize", "wal", "timing", "summary", "memory")
)  # of PostgreSQL 18, besides ANALYZE and FORMAT, which are explain()'s own
EXPLAINABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE", "WITH", "EXECUTE", "DECLARE")
CREATES_AS = re.compile(
    r"CREATE\s+(\w+\s+){0,2}(TABLE|MATERIALIZED\s+VIEW)\b.*\bAS[\s(]+(SELECT|WITH|VALUES|TABLE|EXECUTE)\b",
    re.IGNORECASE | re.DOTALL,
)
FIRST_WORD = re.compile(r"(?:\s|\(|--[^\n]*|/\*.*?\*/)*(\w*)", re.DOTALL)

Statement = SelectBase | UpdateBase | TextClause | FromStatement[Any]


@overload
def explain(
    target: AsyncSession | AsyncConnection | AsyncEngine,
    statement: Executable | str,
    parameters: Mapping[str, Any] | None = None,
    *,
    analyze: bool = False,
    **options: bool | str,
) -> Awaitable[Plan]: ...
@overload
def explain(
    target: Session | Connection | Engine,
    statement: Executable | str,
    parameters: Mapping[str, Any] | None = None,
    *,
    analyze: bool = False,
    **options: bool | str,
) -> Plan: ...


def explain(
    target: AsyncSession | AsyncConnection | AsyncEngine | Session | Connection | Engine,
    statement: Executable | str,
    parameters: Mapping[str, Any] | None = None,
    *,
    analyze: bool = False,
    **options: bool | str,
) -> Awaitable[Plan] | Plan:
    """The plan of ``statement``: awaited from async code, returned at once to a synchronous session or connection.

    With ``analyze=True`` PostgreSQL runs the statement to count rows; whatever it writes is rolled back. An open
    transaction stays open and usable, even after an error; a target that was in none is in none afterwards.

    Args:
        target: a session, a connection or an engine. Pending objects of a session are not flushed.
        statement: a select, insert, update, delete or text of SQLAlchemy, or a string, which is read as ``text()``.
        parameters: values of the statement's named parameters.
        analyze: run it, and count.
        options: PostgreSQL's own, for example ``buffers=True``, ``generic_plan=True``; see ``plan.raw``.

    Raises:
        CourseError: target, statement or option is none that can be explained.
        sqlalchemy.exc.DBAPIError: PostgreSQL refuses the statement.
    """
    question = _Explain(_explainable(statement), _option_list(analyze, options))
    arguments = dict(parameters or {})
    if isinstance(target, AsyncEngine):
        return _on_async_engine(target, question, arguments)
    if isinstance(target, (AsyncSession, AsyncConnection)):
        return target.run_sync(_ask, question, arguments)
    if isinstance(target, (Session, Connection, Engine)):
        return _ask(target, question, arguments)
    raise CourseError(
        f"explain() asks through a session, a connection or an engine, and {type(target).__name__} is none.",
        "Write: plan = await explain(session, statement)",
    )


class _Explain(Executable, ClauseElement):
    """EXPLAIN around a statement that keeps its bound parameters."""

    inherit_cache = False

    def __init__(self, statement: Statement, option_list: str) -> None:
        self.statement = statement
        self.option_list = option_list


@compiles(_Explain)
def _compile(element: _Explain, compiler: SQLCompiler, **arguments: Any) -> str:
    inner = compiler.process(element.statement, **arguments)
    # the outer statement returns a plan: neither keys of inserted rows nor columns are to be read from it
    compiler.isinsert = compiler.isupdate = compiler.isdelete = False
    compiler._result_columns = []
    return f"EXPLAIN ({element.option_list}) {inner}"


async def _on_async_engine(engine: AsyncEngine, question: _Explain, arguments: dict[str, Any]) -> Plan:
    async with engine.connect() as connection:
        return await connection.run_sync(_ask, question, arguments)


def _ask(target: Session | Connection | Engine, question: _Explain, arguments: dict[str, Any]) -> Plan:
    if isinstance(target, Session):
        # a session outside a transaction is left so: ending one of ours would expire its objects
        target = target.connection() if target.in_transaction() else target.get_bind()
    if isinstance(target, Engine):
        with target.connect() as connection:
            return _ask(connection, question, arguments)
    _refuse_autocommit(target, question)
    scope = target.begin_nested() if target.in_transaction() else target.begin()
    try:
        answer = target.execute(question, arguments).scalar_one()
    finally:
        if scope.is_active:
            scope.rollback()
    return Plan.read_all(json.loads(answer) if isinstance(answer, str) else answer)


def _refuse_autocommit(connection: Connection, question: _Explain) -> None:
    dbapi_connection = connection.connection.dbapi_connection
    assert dbapi_connection is not None
    if "ANALYZE" in question.option_list and connection.dialect.detect_autocommit_setting(dbapi_connection):
        raise CourseError(
            "This connection is in AUTOCOMMIT, where what an analyzed statement writes could not be rolled back.",
            "Give explain() a session, or an engine without isolation_level='AUTOCOMMIT'.",
        )


def _explainable(statement: object) -> Statement:
    if isinstance(statement, str):
        statement = text(statement)
    if not isinstance(statement, (SelectBase, UpdateBase, TextClause, FromStatement)):
        raise CourseError(
            f"explain() takes a statement, and {type(statement).__name__} is none.",
            "Give it what you would execute: a select(), insert(), update(), delete(), text() or a string of SQL.",
        )
    if isinstance(statement, TextClause):
        _refuse_what_has_no_plan(statement.text)
    return statement


def _refuse_what_has_no_plan(sql: str) -> None:
    match = FIRST_WORD.match(sql)
    word = match[1].upper() if match else ""
    if match and CREATES_AS.match(sql, match.start(1)):
        return
    if word == "EXPLAIN":
        raise CourseError("The statement is an EXPLAIN already.", "Leave the EXPLAIN away: explain() writes it.")
    if word not in EXPLAINABLE:
        raise CourseError(
            f"PostgreSQL has no plan for {word or 'an empty statement'}.",
            "Give explain() a SELECT, INSERT, UPDATE, DELETE, MERGE or CREATE TABLE … AS.",
        )


def _option_list(analyze: bool, options: Mapping[str, bool | str]) -> str:
    """The inside of ``EXPLAIN (…)``."""
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise CourseError(
            f"EXPLAIN has no option {unknown[0]!r} that explain() takes.",
            f"Choose among: analyze, {', '.join(sorted(OPTIONS))}",
        )
    written = ["FORMAT JSON", *(["ANALYZE"] if analyze else [])]
    return ", ".join(written + [f"{name.upper()} {_value(value)}" for name, value in options.items()])


def _value(value: bool | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not value.isalpha():
        raise CourseError(f"{value!r} is no value of an EXPLAIN option.", "Options are True, False or one word.")
    return value
