"""A revision that gives each user a handle, written well in two ways, and many times with a mistake in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest_asyncio
import sqlalchemy as sa
from alembic import op
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.db import make_engine
from course_lib.judging.testing.plugin import CaseHere

Step = Callable[[], None]

HOW = {
    "no default": "adds the column NOT NULL without a default, which fails as soon as there is a user",
    "left null": "leaves the handle NULL where it is taken",
    "deletes": "deletes the users whose handle is taken",
    "conversations": "deletes the conversations of users whose handle is taken",
    "renames": "overwrites the name of each user with the handle",
    "dates": "sets the `created_at` of users whose handle is taken to now",
    "invalid": "leaves its index INVALID when two users share what stands before the @",
    "nullable": "gives every user a handle and lets the column be NULL",
    "varchar": "makes the column a `varchar(64)`",
    "not unique": "builds `uq_users_handle` as an index that is not unique",
    "two columns": "builds `uq_users_handle` over the handle and the e-mail address together",
    "no downgrade": "has a downgrade that does nothing, so that it cannot go up again",
    "kept": "has a downgrade that does nothing, and an upgrade that bears with what is there already",
    "down deletes": "deletes users on its way down",
    "down drops": "drops the column `tier` too on its way down",
    "down renames": "renames the column to `former_handle` on its way down",
    "function": "leaves a function behind on its way down, so that it cannot go up again",
}
"""What each mutant does, in words."""
NEED_SHARED = {"left null", "deletes", "conversations", "dates", "invalid", "down deletes"}
"""Mutants that do no harm where no two users share a handle."""

NEED_DOWN = {"no downgrade", "kept", "down deletes", "down drops", "down renames", "function"}
NEED_AGAIN = {"no downgrade", "function"}

COLUMN = sa.Column("handle", sa.Text())
FILL = "UPDATE users SET handle = split_part(email, '@', 1)"
RANK = (
    "SELECT id, row_number() OVER (PARTITION BY split_part(email, '@', 1) ORDER BY created_at, id) AS place FROM users"
)
APART = f"UPDATE users SET handle = handle || '-' || r.id FROM ({RANK}) AS r WHERE r.id = users.id AND place > 1"
TAKEN = f"(SELECT id FROM ({RANK}) WHERE place > 1)"
UNIQUE = "CREATE UNIQUE INDEX CONCURRENTLY {again} uq_users_handle ON users (handle)"
SHARED = "SELECT count(*) - count(DISTINCT split_part(email, '@', 1)) FROM users"
OTHERS = """
    INSERT INTO users (email, name) SELECT 'other@' || place || '.example', 'Other' FROM generate_series(1, :n) AS place
"""
LOCK_MS = 1_000  # longer than anybody but the test itself would keep a lock


def _index(again: str = "") -> None:
    with op.get_context().autocommit_block():
        op.execute(UNIQUE.format(again=again))


def _not_null() -> None:
    op.alter_column("users", "handle", nullable=False)


def _filled(type_: sa.types.TypeEngine[str] | None = None) -> None:
    """As ``_upgrade``, before the index and NOT NULL."""
    op.add_column("users", sa.Column("handle", type_ or sa.Text()))
    op.execute(FILL)
    op.execute(APART)


def _upgrade() -> None:
    _filled()
    _not_null()
    _index()


def _downgrade() -> None:
    op.drop_column("users", "handle")


def _with_a_constraint() -> None:
    op.add_column("users", sa.Column("handle", sa.Text(), server_default="", nullable=False))
    op.execute(f"{FILL} || '.' || left(md5(id::text), 12)")
    op.alter_column("users", "handle", server_default=None)
    op.create_unique_constraint("uq_users_handle", "users", ["handle"])


def _constraint_first() -> None:
    op.drop_constraint("uq_users_handle", "users")
    op.drop_column("users", "handle")


def _nullable() -> None:
    _filled()
    _index()


def _varchar() -> None:
    _filled(sa.String(64))
    _not_null()
    _index()


def _with_index(on: str) -> Step:
    def upgrade() -> None:
        _filled()
        _not_null()
        op.execute(f"CREATE {on}")

    return upgrade


def _and_then(statement: str) -> Step:
    def upgrade() -> None:
        _upgrade()
        op.execute(statement)

    return upgrade


def _down_drops() -> None:
    _downgrade()
    op.drop_column("users", "tier")


def _down_renames() -> None:
    op.execute("DROP INDEX uq_users_handle")
    op.execute("ALTER TABLE users DROP COLUMN IF EXISTS former_handle")
    op.alter_column("users", "handle", new_column_name="former_handle", nullable=True)


def _no_default() -> None:
    op.add_column("users", sa.Column("handle", sa.Text(), nullable=False))
    op.execute(FILL)
    op.execute(APART)
    _index()


def _left_null() -> None:
    op.add_column("users", COLUMN.copy())
    op.execute(f"{FILL} WHERE id IN (SELECT id FROM ({RANK}) WHERE place = 1)")
    _index()


def _deletes() -> None:
    op.execute(f"DELETE FROM users WHERE id IN {TAKEN}")
    _upgrade()


def _invalid() -> None:
    op.add_column("users", COLUMN.copy())
    op.execute(FILL)
    _not_null()
    with suppress(DBAPIError):
        _index()
    op.execute(APART)


def _again() -> None:
    op.execute("ALTER TABLE users ADD COLUMN IF NOT EXISTS handle text")
    op.execute(FILL + " WHERE handle IS NULL")
    op.execute(APART.replace("place > 1", "place > 1 AND handle NOT LIKE '%-' || r.id"))
    _not_null()
    _index("IF NOT EXISTS")


def _nothing() -> None:
    pass


def _down_deletes() -> None:
    op.execute("DELETE FROM users WHERE handle <> split_part(email, '@', 1)")
    _downgrade()


def _function() -> None:
    body = "LANGUAGE sql IMMUTABLE AS $$ SELECT split_part(email, '@', 1) $$"
    op.execute(f"CREATE FUNCTION handle_of(email text) RETURNS text {body}")
    _upgrade()


REVISIONS: dict[str, tuple[Step, Step]] = {
    "concurrently": (_upgrade, _downgrade), "constraint": (_with_a_constraint, _constraint_first),
    "no default": (_no_default, _downgrade), "left null": (_left_null, _downgrade), "deletes": (_deletes, _downgrade),
    "conversations": (_and_then(f"DELETE FROM conversations WHERE user_id IN {TAKEN}"), _downgrade),
    "renames": (_and_then("UPDATE users SET name = handle"), _downgrade),
    "dates": (_and_then(f"UPDATE users SET created_at = now() WHERE id IN {TAKEN}"), _downgrade),
    "invalid": (_invalid, _downgrade), "nullable": (_nullable, _downgrade), "varchar": (_varchar, _downgrade),
    "not unique": (_with_index("INDEX uq_users_handle ON users (handle)"), _downgrade),
    "two columns": (_with_index("UNIQUE INDEX uq_users_handle ON users (handle, email)"), _downgrade),
    "no downgrade": (_upgrade, _nothing), "down drops": (_upgrade, _down_drops),
    "down renames": (_upgrade, _down_renames),
    "kept": (_again, _nothing), "down deletes": (_upgrade, _down_deletes), "function": (_function, _downgrade),
}  # fmt: skip
"""Up and down, by the name of the case."""


@dataclass
class Revision:
    """The revision, as Alembic runs it."""

    _engine: AsyncEngine
    _case: CaseHere

    async def upgrade(self) -> None:
        async with self._engine.connect() as connection:
            users = await connection.scalar(sa.text("SELECT count(*) FROM users"))
            shared = await connection.scalar(sa.text(SHARED))
            talks = await connection.scalar(sa.text("SELECT count(*) FROM conversations"))
        self._case.note(up=True, users=users, shared=shared, conversations=talks)
        await self._run(REVISIONS[self._case.name][0])

    async def downgrade(self) -> None:
        self._case.note(up=False)
        await self._run(REVISIONS[self._case.name][1])

    async def _run(self, step: Step) -> None:
        async with self._engine.connect() as connection:
            try:
                await connection.run_sync(_in_context, step)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) == "55P03":
                    self._case.note(kept_out=True)
                    self._case.enough = True  # each step would wait
                raise


def _in_context(connection: sa.Connection, step: Step) -> None:
    context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
    with context.begin_transaction(_per_migration=True), Operations.context(context):
        step()


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def _others(_case: CaseHere, engine: AsyncEngine) -> None:
    """Users who are there before the tests."""
    if count := _case.options.get("others", 0):
        async with engine.begin() as connection:
            await connection.execute(sa.text(OTHERS), {"n": count})


@pytest_asyncio.fixture(loop_scope="session")
async def revision(_case: CaseHere) -> AsyncIterator[Revision]:
    """Each test begins before it."""
    settings: dict[str, Any] = {"server_settings": {"lock_timeout": str(LOCK_MS)}}
    engine = make_engine(_case.url, poolclass=NullPool, connect_args=settings)
    yield Revision(engine, _case)
    async with engine.begin() as connection:
        await connection.execute(sa.text("ALTER TABLE users DROP COLUMN IF EXISTS handle"))
        await connection.execute(sa.text("ALTER TABLE users DROP COLUMN IF EXISTS former_handle"))
        await connection.execute(sa.text("DROP FUNCTION IF EXISTS handle_of"))
    await engine.dispose()
