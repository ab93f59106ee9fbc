"""A job that deletes too much on a server that is backed up, and all else that happens there before and since."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from course_lib.data.fresh_server import fresh_server
from course_lib.db import make_engine
from course_lib.postgres.extra_server import Backup, ExtraServer
from course_lib.postgres.server_folders import cluster_of, remove_server

TABLES = ("conversations", "messages", "users")
KEPT = 3  # restored servers at once
GREETING = "INSERT INTO conversations (user_id, title) VALUES ($1, $2) RETURNING id"
ANSWER = "INSERT INTO messages (conversation_id, seq, role, content) VALUES ($1, $2, 'user', $3)"
JOB = "INSERT INTO jobs (kind, status) VALUES ('purge', 'done') RETURNING id"
PURGE = """
    DELETE FROM conversations WHERE user_id = ANY($1) AND title <> 'kept by the rule'
    RETURNING id
"""

Rows = dict[tuple[str, UUID], str]
"""Each row as a text, by its table and its id."""


@dataclass
class Incident:
    """What happened, in the judge's knowledge."""

    live: ExtraServer
    backup: Backup
    connection: asyncpg.Connection[Any]
    engine: AsyncEngine
    job: UUID
    lost: Rows = field(default_factory=dict)
    window: set[tuple[str, UUID]] = field(default_factory=set)
    """Of the lost ones, those that came while the purge was at work."""
    expected: Rows = field(default_factory=dict)
    changed: set[tuple[str, UUID]] = field(default_factory=set)
    """Rows that were there before the purge, and have another value since."""
    deleted: set[tuple[str, UUID]] = field(default_factory=set)
    """Rows that somebody has deleted on purpose since."""
    restored: list[ExtraServer] = field(default_factory=list)
    engines: list[AsyncEngine] = field(default_factory=list)
    owner: UUID | None = None
    begun: int = 0
    """Restores, those that did not come to an end too."""

    async def rows(self) -> Rows:
        return await rows_of(self.connection)

    async def restore(self, moment: datetime | None, inclusive: bool) -> AsyncEngine:
        """A restored server's engine. Meanwhile somebody writes to the live one.

        Raises:
            NoSuchMoment: PostgreSQL does not come to it.
        """
        identity = await self.connection.fetchval(GREETING, self.owner, "written while a backup was restored")
        self.expected |= {key: row for key, row in (await self.rows()).items() if key == ("conversations", identity)}
        self.begun += 1
        if len(self.restored) >= KEPT:
            await self.engines[-KEPT].dispose()
            await self.restored[-KEPT].remove()
        name = restored(self.begun)
        server = await self.live.restore(self.backup, moment, name, inclusive)
        self.restored.append(server)
        self.engines.append(make_engine(server.url, pool_size=5))
        return self.engines[-1]


def restored(number: int) -> str:
    """The name of a restored server."""
    return f"restored_{number}"


async def rows_of(connection: asyncpg.Connection[Any]) -> Rows:
    found: Rows = {}
    for table in TABLES:
        rows = await connection.fetch(f"SELECT id, t::text AS line FROM {table} AS t")
        found |= {(table, row["id"]): row["line"] for row in rows}
    return found


@asynccontextmanager
async def incident(through: Callable[[Any], Any]) -> AsyncIterator[Incident]:
    """The server after all of it, with the learner's engine on it; all is gone at the end of the block.

    Args:
        through: makes the learner's address of the server's.

    Raises:
        CourseError: servers of one's own cannot be had here.
    """
    live = await fresh_server("live")
    connection = await asyncpg.connect(live.dsn, timeout=10)
    engine = make_engine(through(live.url), pool_size=5, max_overflow=0, pool_timeout=2)
    scene: Incident | None = None
    try:
        scene = await _happened(live, connection, engine)
        yield scene
    finally:
        for each in [engine, *(scene.engines if scene else [])]:
            await each.dispose(close=each.pool.checkedout() == 0)  # type: ignore[attr-defined]
        connection.terminate()
        for number in range(1, scene.begun + 1 if scene else 1):
            await asyncio.to_thread(remove_server, cluster_of(restored(number)))
        await live.remove()


async def _happened(live: ExtraServer, connection: asyncpg.Connection[Any], engine: AsyncEngine) -> Incident:
    users = [row["id"] for row in await connection.fetch("SELECT id FROM users ORDER BY email")]
    random.shuffle(users)
    hit, leaving, others = users[:2], users[2], users[3:]
    backup = await live.backup()
    at_work = await asyncpg.connect(live.dsn, timeout=10)
    try:
        purge = at_work.transaction()
        await purge.start()
        job = await at_work.fetchval(JOB)
        scene = Incident(live, backup, connection, engine, job, owner=others[0])
        await asyncio.sleep(0.02)  # by the clock, so that the two moments are apart
        for user in (*hit, leaving):
            identity = await connection.fetchval(GREETING, user, "asked while the purge was at work")
            await connection.execute(ANSWER, identity, 1, "and so was this")
            scene.window.add(("conversations", identity))
        await asyncio.sleep(0.02)
        before = await scene.rows()
        await at_work.fetch(PURGE, [*hit, leaving])
        await purge.commit()
    finally:
        await at_work.close()
    after = await scene.rows()
    scene.lost = {key: row for key, row in before.items() if key not in after}
    await _since(scene, before, hit, leaving, others)
    return scene


async def _since(scene: Incident, before: Rows, hit: list[UUID], leaving: UUID, others: list[UUID]) -> None:
    """Life goes on: something new, something changed, something deleted on purpose, and an account closed."""
    ask = scene.connection
    await ask.execute("UPDATE conversations SET title = 'renamed since' WHERE user_id = $1", others[0])
    await ask.execute("UPDATE users SET name = 'Renamed since' WHERE id = $1", others[1])
    await ask.execute(
        "DELETE FROM conversations WHERE id IN (SELECT id FROM conversations WHERE user_id = $1 ORDER BY id LIMIT 3)",
        others[2],
    )
    for user in (hit[0], others[3]):
        await ask.execute(ANSWER, await ask.fetchval(GREETING, user, "asked since"), 1, "a question of today")
    await ask.execute("DELETE FROM users WHERE id = $1", leaving)
    now = await scene.rows()
    scene.changed = {key for key, row in now.items() if key in before and before[key] != row}
    scene.deleted = {key for key in before if key not in now and key not in scene.lost}
    theirs = {key for key in scene.lost if await _is_of(scene, key, before, leaving)}
    scene.deleted |= theirs
    scene.lost = {key: row for key, row in scene.lost.items() if key not in theirs}
    scene.window &= scene.lost.keys()
    scene.expected = now | scene.lost


async def _is_of(scene: Incident, key: tuple[str, UUID], before: Rows, user: UUID) -> bool:
    """Whether a lost row belonged to a user: a row's text names its owner, a message's its conversation."""
    line = before[key]
    if key[0] == "messages":
        return any(
            str(other) in line and str(user) in before["conversations", other]
            for table, other in scene.lost
            if table == "conversations"
        )
    return str(user) in line
