"""Bring a database to the newest schema."""

from __future__ import annotations

import asyncio
import threading

from sqlalchemy import URL

from course_lib.settings import REPOSITORY

_alembic = threading.Lock()


async def migrate(url: URL, revision: str = "head") -> None:
    """Bring a database to ``revision`` with this repository's own migrations.

    Alembic's environment calls ``asyncio.run``, which a running loop forbids, so it gets a thread of its own;
    one at a time, because Alembic keeps its environment in module-wide variables.
    """
    from alembic import command
    from alembic.config import Config

    config = Config(REPOSITORY / "alembic.ini")
    config.attributes["url"] = url.render_as_string(hide_password=False)

    def upgrade() -> None:
        with _alembic:
            command.upgrade(config, revision)

    await asyncio.to_thread(upgrade)
