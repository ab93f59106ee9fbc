"""Two versions of a program that run at once: each knows one name of a column, and nothing of the other."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import message_of
from course_lib.judging.staging import new_email, new_name

Names = dict[UUID, str]
"""What each user is called."""
CROWD = "email LIKE 'crowd-%'"  # users of whom there are many, each called by the e-mail address
ADD_CROWD = """
    INSERT INTO users (email, name) SELECT email, email
    FROM (SELECT 'crowd-' || n || '@example.org' AS email FROM generate_series(1, 1100) AS n) AS crowd
"""


class Failed(Exception):
    """A statement of a program failed: its kind, and what the server said."""

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(f"{kind}: {said}")
        self.kind, self.said = kind, said


class Program:
    """One version: it reads, adds and changes users, by statements that name their columns.

    Args:
        which: ``old`` or ``new``.
        column: in which a user's name is, as this version knows it.
        names: what users are called, which every version keeps up to date as it writes.

    Raises:
        Failed: of each method, where the server refuses it.
    """

    def __init__(self, attempt: Attempt, which: str, column: str, names: Names) -> None:
        self.which = which
        self._attempt, self._column, self._names = attempt, column, names

    async def read(self) -> Names:
        """All users but the crowd."""
        return {
            id: name for id, name in await self._run("SELECT", f"SELECT id, {{column}} FROM users WHERE NOT {CROWD}")
        }

    async def read_crowd(self) -> int:
        """How many of the crowd it finds under another name than theirs."""
        found: list[tuple[int]] = await self._run(
            "SELECT", f"SELECT count(*) FROM users WHERE {CROWD} AND {{column}} IS DISTINCT FROM email"
        )
        return found[0][0]

    async def write(self) -> None:
        """Each kind of statement that it has; a user that it adds here is not touched again."""
        await self.add()
        added = await self.add()
        await self.rename(added)
        await self._add_or_rename(added)
        await self._use_tokens(added)

    async def add(self) -> UUID:
        """A user; returns the id."""
        statement = "INSERT INTO users (email, {column}) VALUES (:email, :name) RETURNING id, {column}"
        added: list[tuple[UUID, str]] = await self._run(
            "INSERT", statement, email=new_email(), name=f"{new_name()} O'Hara"
        )
        (id, name), *_ = added
        self._names[id] = name
        return id

    async def rename(self, id: UUID, name: str | None = None) -> None:
        """Call a user ``name``, else something that nobody is called."""
        self._names[id] = name if name is not None else new_name()
        await self._run("UPDATE", "UPDATE users SET {column} = :name WHERE id = :id", name=self._names[id], id=id)

    async def rename_many(self, *ids: UUID) -> None:
        """In one statement, by what they are called."""
        statement = "UPDATE users SET {column} = {column} || ' II' WHERE id = ANY(CAST(:ids AS uuid[]))"
        await self._run("UPDATE", statement, ids=list(ids))
        self._names |= {id: f"{self._names[id]} II" for id in ids}

    async def _add_or_rename(self, id: UUID) -> None:
        statement = """
            INSERT INTO users (email, {column}) SELECT email, :name FROM users WHERE id = :id
            ON CONFLICT (email) DO UPDATE SET {column} = excluded.{column}
        """
        self._names[id] = new_name()
        await self._run("INSERT … ON CONFLICT", statement, name=self._names[id], id=id)

    async def _use_tokens(self, id: UUID) -> None:
        await self._run("UPDATE", "UPDATE users SET tokens_used = tokens_used + 1 WHERE id = :id", id=id)

    async def _run(self, kind: str, statement: str, **values: Any) -> Any:
        try:
            return await self._attempt.sql(statement.replace("{column}", self._column), **values)
        except Wrong as wrong:
            raise Failed(kind, message_of(wrong.__cause__ or wrong).rstrip(".")) from wrong
