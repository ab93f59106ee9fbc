"""Vectors in binary: 1 KB instead of 3 KB each, and no number turned into digits and back.

``pgvector.sqlalchemy`` sends and reads vectors as text, ``[0.12,…]``. Registering pgvector's codec on asyncpg's
connections beside it does not do: the type has written its text already, and the codec refuses a text. So two things
change together, on one engine: the codec is registered on each of its connections, and its dialect swaps pgvector's
column types for ones that hand the value to the codec as it is. Models, and other engines, stay as they are.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pgvector import HalfVector, SparseVector, Vector
from pgvector.asyncpg import register_vector
from pgvector.sqlalchemy import HALFVEC, SPARSEVEC, VECTOR
from sqlalchemy import Dialect, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.errors import CourseError

_SCHEMA = (
    "SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"
)


class _Binary:
    """Mixed into a type of pgvector's: a value is checked here, as pgvector does, and written by the codec.

    The cast tells the server the type where it cannot infer it, as in an INSERT … SELECT FROM (VALUES …).
    """

    render_bind_cast = True
    made_of: ClassVar[type[Any]]

    def bind_processor(self, dialect: Dialect) -> Any:
        made_of = self.made_of

        def process(value: Any) -> Any:
            return value if value is None or isinstance(value, made_of) else made_of(value)

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        def process(value: Any) -> Any:
            return None if value is None else value.to_list()

        return process


class BinaryVector(_Binary, VECTOR):
    """VECTOR on an engine whose connections have pgvector's codec. Reads lists of floats, as VECTOR does."""

    made_of = Vector


class BinaryHalfVector(_Binary, HALFVEC):
    """HALFVEC likewise."""

    made_of = HalfVector


class BinarySparseVector(_Binary, SPARSEVEC):
    """SPARSEVEC likewise. Reads a SparseVector, as SPARSEVEC does."""

    made_of = SparseVector

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        return None


_SWAPPED = {VECTOR: BinaryVector, HALFVEC: BinaryHalfVector, SPARSEVEC: BinarySparseVector}


def use_binary_vectors(engine: AsyncEngine) -> None:
    """Make vectors travel in binary, both ways, on every connection that ``engine`` opens from now on.

    Column values, and what they are compared with, may be lists, numpy arrays (any float type) or pgvector's own
    ``Vector``; what is read is a list of floats, as without. ``text()`` statements name no types: their vectors come
    as ``Vector`` and are given as any of the three. Calling it again does nothing.

    Raises:
        CourseError: the driver is not asyncpg, or the engine has connections that are without the codec.
    """
    if engine.dialect.driver != "asyncpg":
        raise CourseError(
            f"Binary vectors are made for asyncpg, and this engine speaks through {engine.dialect.driver}.",
            "Make the engine with make_engine(lesson.url, binary_vectors=True).",
        )
    if speaks_binary(engine.dialect):
        return
    if _has_connections(engine.sync_engine):
        raise CourseError(
            "This engine has connected already, and those connections would go on with text.",
            "Ask for it at the start: make_engine(url, binary_vectors=True)",
        )
    dialect: Any = engine.dialect
    dialect.colspecs = {**dialect.colspecs, **_SWAPPED}  # the instance's own; the class keeps what it has
    event.listen(engine.sync_engine, "connect", _register)


def speaks_binary(dialect: Dialect) -> bool:
    """Whether vectors travel in binary on connections of this dialect's engine."""
    return dialect.colspecs.get(VECTOR) is BinaryVector


def _has_connections(engine: Engine) -> bool:
    status: Any = engine.pool
    return any(getattr(status, count, int)() > 0 for count in ("checkedin", "checkedout"))


def _register(connection: Any, _: object) -> None:
    connection.run_async(_register_codecs)


async def _register_codecs(connection: Any) -> None:
    schema = await connection.fetchval(_SCHEMA)  # some servers keep extensions in a schema of their own
    if schema is None:
        raise CourseError(
            "This database has no extension vector, so there is nothing that could travel in binary.",
            "Create it with an engine without binary_vectors first: CREATE EXTENSION vector",
        )
    await register_vector(connection, schema=schema)
