"""What an answer has left behind on the server, once all its calls are over."""

from __future__ import annotations

import asyncio
import time

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Wrong
from course_lib.judging.quoting import one_line
from course_lib.judging.trouble import OWN_CONNECTIONS, lets_nobody_in

GOODBYE_SECONDS = 2  # only a wrong answer makes us wait for so long
HURTING = {"default_transaction_read_only", "search_path"}  # set for a database, and not seen by the judge

LEFT_BEHIND = """
    SELECT
        array(
            SELECT coalesce(state, '') FROM pg_stat_activity
            WHERE datname = current_database() AND NOT pid = ANY(CAST(CAST(:watchers AS text[]) AS int[]))
                AND backend_type = 'client backend'
        ),
        array(
            SELECT unnest(setconfig) FROM pg_db_role_setting
            WHERE setrole = 0 AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
        ),
        (
            SELECT datallowconn AND (datconnlimit < 0 OR datconnlimit > :needed OR rolsuper)
            FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user
        )
"""


async def look_for_leftovers(attempt: Attempt) -> None:
    """A right answer leaves no connection out of the pool, no transaction open, and the database as open as it was.

    Raises:
        Wrong: it did not.
    """
    attempt.look_for_held_connections()
    await attempt.engine.dispose()
    states, settings, open_to_others = await _left_behind(attempt)
    if any("transaction" in state for state in states):
        raise Wrong("transaction open", "A transaction was left open.", "Commit or roll back before returning.")
    if states:
        raise Wrong(
            "own engine", f"{len(states)} connection(s) of an engine of your own were left open.",
            "Use the session you are given, or `await engine.dispose()`.",
        )  # fmt: skip
    if not open_to_others:
        raise lets_nobody_in()
    hurting = [one_line(setting) for setting in settings if setting.partition("=")[0] in HURTING]
    if hurting:
        sentence = f"After your answer the database has settings of its own: {', '.join(hurting[:3])}."
        raise Wrong("database broken", sentence, "`ALTER DATABASE … SET` changes it for whoever comes next.")


async def _left_behind(attempt: Attempt) -> tuple[list[str], list[str], bool]:
    """States of those who are still connected, the database's settings, and whether others get in.

    The server takes a moment to see a closed connection off.
    """
    patience, pause = time.monotonic() + GOODBYE_SECONDS, 0.001
    while True:
        known = {"watchers": list(map(str, attempt.watchers)), "needed": OWN_CONNECTIONS}
        states, settings, open_to_others = (await attempt.sql(LEFT_BEHIND, **known))[0]
        if not states or time.monotonic() > patience:
            return states, settings, open_to_others
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.02)
