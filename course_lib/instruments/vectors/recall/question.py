"""What is asked: the nearest rows to some vectors, by one column of one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import Column, ColumnElement, Select, Table, inspect, select
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import InstrumentedAttribute

from course_lib.errors import CourseError

Vector: TypeAlias = list[float]
VectorColumn: TypeAlias = InstrumentedAttribute[Any] | ColumnElement[Any]

DISTANCES = {
    "cosine": "cosine_distance",
    "l2": "l2_distance",
    "inner_product": "max_inner_product",
    "l1": "l1_distance",
}  # our names, and the methods by which pgvector's types write <=>, <->, <#> and <+>
EXAMPLE = "await recall(engine, DocumentChunk.embedding, queries, k=10)"


@dataclass(frozen=True)
class Question:
    """The ``k`` rows nearest to each of ``vectors``, among those that meet ``where``."""

    column: VectorColumn
    key: Column[Any]
    vectors: list[Vector]
    k: int
    distance: str
    where: ColumnElement[bool] | None

    @property
    def table(self) -> str:
        return self.key.table.name

    def distance_to(self, vector: Vector) -> ColumnElement[Any]:
        measure: Callable[[Vector], ColumnElement[Any]] = getattr(self.column, DISTANCES[self.distance])
        return measure(vector)

    def nearest(self, vector: Vector) -> Select[Any, Any]:
        """Keys and distances of the ``k`` rows nearest to ``vector``."""
        distance = self.distance_to(vector)
        return self._within(select(self.key, distance.label("distance"))).order_by(distance).limit(self.k)

    def no_further(self, vector: Vector, keys: Sequence[Any], distance: float) -> Select[Any]:
        """Those of ``keys`` that meet the condition and are within ``distance``."""
        near = self.distance_to(vector) <= distance
        return self._within(select(self.key)).where(self.key.in_(keys), near)

    def _within(self, statement: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
        return statement if self.where is None else statement.where(self.where)


def ask(column: Any, queries: ArrayLike, k: int, where: ColumnElement[bool] | None, distance: str) -> Question:
    """The question, checked.

    Raises:
        CourseError: the column, the vectors, the condition or the distance does not fit.
    """
    if distance not in DISTANCES:
        raise CourseError(f"There is no distance {distance!r}.", f"Choose one of: {', '.join(DISTANCES)}")
    if k < 1:
        raise CourseError(f"Recall is measured over one row or more, and k is {k}.", f"Try: {EXAMPLE}")
    table = _table_of(column)
    key = list(table.primary_key.columns)
    if len(key) != 1:
        raise CourseError(
            f"Rows are told apart by a primary key of one column, and that of {table.name} has {len(key)}.",
            "Measure on a table with an id.",
        )
    question = Question(column, key[0], _vectors(queries, column), k, distance, where)
    if len(question.nearest(question.vectors[0]).get_final_froms()) > 1:
        raise CourseError(
            f"The condition speaks of a table that is not joined to {table.name}.",
            "Ask within it, for example: where=DocumentChunk.document.has(Document.user_id == user_id)",
        )
    return question


def _table_of(column: Any) -> Table:
    table = getattr(column, "table", None)
    if isinstance(getattr(column, "type", None), VECTOR | HALFVEC) and isinstance(table, Table):
        return table
    said = str(column) if isinstance(column, InstrumentedAttribute | ColumnElement) else type(column).__name__
    raise CourseError(
        f"{said} is no column of vectors.",
        f"Name the column, like {EXAMPLE}; a search by anything else goes into search=.",
    )


def _vectors(queries: ArrayLike, column: Any) -> list[Vector]:
    try:
        array = np.atleast_2d(np.asarray(queries, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise CourseError(
            "The queries are no vectors of equal length.", "Give numbers: one row for each query, as embeddings are."
        ) from error
    if array.size == 0:
        raise CourseError("Recall needs at least one query, and there is none.", f"Try: {EXAMPLE}")
    dimensions = column.type.dim
    if array.ndim != 2 or dimensions not in (None, array.shape[1]):
        shape = " x ".join(map(str, array.shape))
        raise CourseError(
            f"The queries are {shape} numbers, and the column {column.key} holds vectors of {dimensions} dimensions.",
            "Embed the queries with the model that the rows were embedded with.",
        )
    if not np.isfinite(array).all():
        raise CourseError("Some of the queries hold NaN or infinity.", "Look where they come from: a text was empty?")
    vectors: list[Vector] = array.tolist()
    return vectors


def key_of(row: Any, key: Column[Any]) -> Any:
    """The key of what a search returned for a row: the key itself, a row or tuple that begins with it, an object."""
    try:
        state = inspect(row)
    except NoInspectionAvailable:
        state = None
    if state is not None and getattr(state, "identity", None):
        return state.identity[0]
    if hasattr(row, "_mapping"):
        return row._mapping.get(key.name, row[0])
    return row[0] if isinstance(row, tuple | list) and row else row
