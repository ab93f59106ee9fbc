"""What every repository can do, for whichever model it keeps."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.models.base import Identified

Model = TypeVar("Model", bound=Identified)


class NotFound(LookupError):
    """There is no such row."""

    def __init__(self, model: type[Identified], identity: object) -> None:
        super().__init__(f"there is no {model.__name__} {identity}")


class Repository(Generic[Model]):
    """Get, add, delete and page through the rows of one model.

    A subclass names its model: ``class UserRepository(Repository[User]): model = User``.
    """

    model: ClassVar[type[Identified]]

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def get(self, identity: UUID) -> Model:
        """The row with this id.

        Raises:
            NotFound: there is none.
        """
        found = await self.session.get(self._model, identity)
        if found is None:
            raise NotFound(self.model, identity)
        return found

    async def add(self, entity: Model) -> Model:
        """Insert ``entity``; afterwards it has what the server gave it.

        Raises:
            IntegrityError: a constraint refuses it. The session must be rolled back before it is used again.
        """
        self.session.add(entity)
        await self.session.flush()
        return entity

    async def delete(self, identity: UUID) -> None:
        """Delete the row and, by the foreign keys' ON DELETE, what belongs to it. One statement, nothing loaded.

        Raises:
            NotFound: there is none.
        """
        statement = delete(self._model).where(self._model.id == identity).returning(self._model.id)
        if await self.session.scalar(statement) is None:
            raise NotFound(self.model, identity)

    async def page(self, *conditions: ColumnElement[bool], after: UUID | None = None, limit: int = 50) -> list[Model]:
        """Up to ``limit`` rows in order of their id, which for version 7 UUIDs is the order of creation.

        Args:
            conditions: what the rows must satisfy, as in ``select(...).where(...)``.
            after: the id of the last row of the page before; None for the first page.
        """
        statement = select(self._model).where(*conditions).order_by(self._model.id).limit(limit)
        if after is not None:
            statement = statement.where(self._model.id > after)
        return list(await self.session.scalars(statement))

    @property
    def _model(self) -> type[Model]:
        return self.model  # type: ignore[return-value]  # ClassVar cannot hold a type variable
