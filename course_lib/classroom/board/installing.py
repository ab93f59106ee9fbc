"""The board's tables and functions in a class database, and who may call these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from course_lib.postgres.databases import quoted

SQL = Path(__file__).with_name("board.sql")
FOR_LEARNERS = "board.report(jsonb), board.show_me(boolean), board.mine(), board.am_i_shown()"


async def install(connection: asyncpg.Connection[Any], group: str) -> None:
    """Make the board, or bring it up to date; what stands on it stays.

    Args:
        connection: to the class database, as its owner.
        group: the role of which all learners of the class are members.
    """
    async with connection.transaction():
        await connection.execute(SQL.read_text(encoding="utf-8"))
        await connection.execute(
            f"GRANT USAGE ON SCHEMA board TO {quoted(group)};"
            f"GRANT EXECUTE ON FUNCTION {FOR_LEARNERS} TO {quoted(group)}"
        )


async def name_learners(connection: asyncpg.Connection[Any], names: Mapping[str, str]) -> None:
    """Say how learners are called on the board: what the roster calls them, by their roles.

    A role that is not named is called by its own name, without the class's before it.
    """
    await connection.executemany(
        "INSERT INTO board.learners (learner, shown) VALUES ($1, $2)"
        " ON CONFLICT (learner) DO UPDATE SET shown = excluded.shown",
        [*names.items()],
    )


async def forget_learner(connection: asyncpg.Connection[Any], role: str) -> None:
    """Take a learner off the board for good, as before their role is dropped: another may get its name."""
    await connection.execute("DELETE FROM board.learners WHERE learner = $1", role)
