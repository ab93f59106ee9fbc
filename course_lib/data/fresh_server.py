"""A server of one's own that holds what a lesson's database holds: for replicas, backups and moves."""

from __future__ import annotations

import asyncio

from course_lib.data.fresh import RECIPES, fingerprint_of
from course_lib.errors import CourseError
from course_lib.postgres.extra_server import ExtraServer, new_server
from course_lib.postgres.files import remove_tree
from course_lib.postgres.obstacles import is_damage
from course_lib.postgres.server_template import ensure_data
from course_lib.postgres.starting import NotStarted


async def fresh_server(name: str = "primary", recipe: str = "base", **settings: str) -> ExtraServer:
    """A new server with one database made by ``recipe``: durable, with its write-ahead log archived.

    It is of this process alone and gone with it; an earlier one of that name is stopped and removed. It runs the
    programs that come with the course, whatever server ``DATABASE_URL`` names.

    Args:
        name: small letters, digits and ``_``.
        recipe: see ``course_lib.data.fresh.RECIPES``.
        settings: with values as postgresql.conf has them.

    Raises:
        CourseError: there is no such recipe, too little room, or no programs for this machine.
    """
    if recipe not in RECIPES:
        raise CourseError(f"There is no recipe {recipe!r}.", f"Choose one of: {', '.join(sorted(RECIPES))}")
    for last in (False, True):
        data = await ensure_data(recipe, fingerprint_of(recipe), RECIPES[recipe])
        try:
            return await new_server(name, settings, data)
        except CourseError as error:
            damaged = isinstance(error.__cause__, NotStarted) and is_damage(error.__cause__.log)
            if last or not damaged:
                raise
            await asyncio.to_thread(remove_tree, data)  # disks fail: it is built again
    raise AssertionError("the second try returns or raises")
