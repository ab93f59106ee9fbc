"""A class made by hand on a server of the tests, as its teacher would have it made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psycopg

from course_lib.classroom.board import install
from course_lib.postgres.marks import Mark
from tests.postgres.places import YourServer

WORD = "word"
LEARNERS = ("ada", "bruno", "mallory")
TEACHER = "teacher"
"""No superuser: one who may create roles and databases, as on a service."""


@dataclass(frozen=True)
class Class:
    """A class of three on a server."""

    server: YourServer
    slug: str

    @property
    def database(self) -> str:
        return f"course_class_{self.slug}"

    def role(self, learner: str) -> str:
        return f"{self.slug}_{learner}"

    def url(self, learner: str) -> str:
        """What stands on the learner's sheet."""
        return self.server.url(self.role(learner), WORD, self.role(learner))

    def teachers_url(self) -> str:
        return self.server.url(TEACHER, WORD)

    async def enter(self, learner: str) -> asyncpg.Connection[Any]:
        """Into the class's database as a learner."""
        return await asyncpg.connect(self.server.url(self.role(learner), WORD, self.database))

    async def enter_as_teacher(self) -> asyncpg.Connection[Any]:
        return await asyncpg.connect(self.server.url(TEACHER, WORD, self.database))

    def look(self, query: str) -> list[tuple[Any, ...]]:
        """What is on the board, past all rights."""
        with psycopg.connect(self.server.dsn(self.database), autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def change(self, statement: str) -> None:
        self.server.execute(statement, database=self.database)

    def standings(self) -> dict[tuple[str, str], tuple[str, str, int]]:
        """State, mistake and tries, by learner and exercise."""
        found = self.look("SELECT learner::text, exercise, state, mistake, tries FROM board.standings")
        return {(row[0].removeprefix(f"{self.slug}_"), row[1]): row[2:] for row in found}


def make_class(server: YourServer, slug: str) -> Class:
    """By SQL, as the teacher's role; the board by the course."""
    made = Class(server, slug)
    with psycopg.connect(server.url(TEACHER, WORD), autocommit=True) as teacher:

        def execute(*statements: str) -> None:
            for statement in statements:
                teacher.execute(statement.encode())

        execute(f"CREATE ROLE {made.database} NOLOGIN")
        for learner in LEARNERS:
            role = made.role(learner)
            execute(
                f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD '{WORD}'",
                f"GRANT {made.database} TO {role} WITH INHERIT TRUE, SET FALSE",
                f"GRANT {role} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE",
                f"CREATE DATABASE {role} OWNER {role}",
                f"REVOKE CONNECT, TEMPORARY ON DATABASE {role} FROM PUBLIC",
            )
        execute(
            f"CREATE DATABASE {made.database}",
            f"REVOKE CONNECT, TEMPORARY ON DATABASE {made.database} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {made.database} TO {made.database}",
            f"COMMENT ON DATABASE {made.database} IS '{Mark.of_this_process('class', slug)}'",
        )
    asyncio.run(_install(made))
    return made


async def _install(made: Class) -> None:
    connection = await made.enter_as_teacher()
    await install(connection, made.database)
    await connection.close()


def verdict(exercise: str = "1.3", state: str = "wrong", mistake: str = "nothing returned", age: float = 0) -> Any:
    """A verdict as it is sent; right ones name no mistake."""
    named = "" if state == "right" else mistake
    return {"id": str(uuid4()), "exercise": exercise, "state": state, "mistake": named, "age": age}


async def tell(connection: asyncpg.Connection[Any], verdicts: Sequence[Any]) -> list[UUID]:
    """As a program of a learner's own would."""
    found: list[UUID] = await connection.fetchval("SELECT board.report($1)", json.dumps(list(verdicts)))
    return found


SitDown = Callable[[str], None]
