"""0.1: one value, computed and not remembered."""

from __future__ import annotations

from secrets import randbelow, token_hex
from typing import ClassVar

from course_lib.judging.asking import ask, fetched, while_another_writes
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise

MANY = 1000
ROWS = 10
BYTES = 8000  # of which one number needs a few hundred; a thousand ids are 37,000
LOCKED = "SELECT id FROM users LIMIT 1 FOR UPDATE"


class CountUsers(Exercise):
    """One value, computed and not remembered."""

    id = "0.1"
    title = "Count the users"
    answer = "count_users"
    minutes = 3
    hints: ClassVar = (
        "`await session.scalar(statement)` runs a statement and gives the first value of the first row.",
        'Let the server count: `select(func.count()).select_from(User)`, or `text("SELECT count(*) FROM users")`.',
    )
    why = "The server counts without sending a single user. Counting in Python would fetch every row to throw it away."
    follow_up = "When is `SELECT count(*)` slow in PostgreSQL, and what would you show instead on a page?"
    mistakes: ClassVar = {
        "nothing returned": "`count_users` returned None. | Did you forget `return`?",
        "not a number": "`count_users` returned {kind}, and a count is an int. "
        "| `scalar` gives a value and not a row, and `count(*)` is an int.",
        "remembered": "It said {said} both before and after {added} users were added. "
        "| Count the rows of `users`, anew each time.",
        "wrong number": "It said {said}, and that is not how many rows the table has. | Count rows of `users`.",
        "nobody": "When the table was empty, it {did}. | `count(*)` of no rows is 0; `sum` and `max` of none are NULL.",
        "counted in Python": "{rows} rows, {bytes:,} bytes, were fetched in order to count users. "
        "| Let the server count: `count(*)`.",
        "skipped": "While another session had locked a user's row, it said {said}, and that row was not counted. "
        "| Count without locks: no `FOR UPDATE`, no `SKIP LOCKED`.",
    }

    async def judge(self, attempt: Attempt) -> None:
        before = await self._ask(attempt)
        added = MANY + randbelow(50)
        await attempt.sql(
            "INSERT INTO users (email, name, created_at) SELECT :mark || n || '@example.org', 'New', "
            "now() - n * interval '1 day' FROM generate_series(1, :n) n",
            mark=f"new{token_hex(3)}.", n=added,
        )  # fmt: skip
        after = await self._ask(attempt)
        rows, received = fetched(attempt.log), attempt.log.bytes_received
        attempt.expect(after != before, "remembered", said=after, added=added)
        attempt.expect(after == await attempt.value("SELECT count(*) FROM users"), "wrong number", said=after)
        attempt.expect(rows <= ROWS and received <= BYTES, "counted in Python", rows=rows, bytes=received)
        locked = await while_another_writes(attempt, LOCKED, {}, lambda: self._ask(attempt))
        attempt.expect(locked == after, "skipped", said=locked)
        await attempt.sql("DELETE FROM users")
        none = await ask(attempt)
        attempt.expect(type(none) is int and none == 0, "nobody", did=f"returned {none!r}")
        await expect_errors_to_rise(attempt)

    async def _ask(self, attempt: Attempt) -> int:
        said = await ask(attempt)
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, int) and not isinstance(said, bool), "not a number", kind=article(said))
        count: int = said
        return count
