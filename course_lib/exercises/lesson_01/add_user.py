"""1.1: one row, for good."""

from __future__ import annotations

from datetime import timedelta
from secrets import randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from course_lib.judging.asking import ask, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article
from course_lib.judging.staging import new_email, new_name, other_rows

COLUMNS = "id, email, name, tier, token_limit, tokens_used, created_at, updated_at, clock_timestamp() AS now"

AHEAD = timedelta(hours=26)
OTHER_DEFAULTS = """
    ALTER TABLE users ALTER token_limit SET DEFAULT {limit}, ALTER tier SET DEFAULT 'pro',
        ALTER created_at SET DEFAULT now() + interval '26 hours',
        ALTER updated_at SET DEFAULT now() + interval '26 hours'
"""
"""So that it shows who left a column to the table, and who wrote down what stands there today."""


class AddUser(Exercise):
    """INSERT, and the commit that makes it last."""

    id = "1.1"
    title = "Somebody signs up"
    answer = "add_user"
    minutes = 4
    hints: ClassVar = (
        "Three steps: make a `User`, give it to the session, end the transaction so that it lasts.",
        "`session.add(…)` plans an INSERT and is not awaited; `commit()` sends it, makes it last, and is awaited.",
        "The server makes the id. After the commit it stands in the object: `user.id`.",
    )
    why = (
        "`add` plans, `flush` sends, `commit` makes it last and visible to others. The id comes back with the INSERT "
        "itself (`RETURNING id`), so no second statement is needed to learn it."
    )
    follow_up = "Two requests sign up the same e-mail in the same moment. What happens, and what does the user see?"
    mistakes: ClassVar = {
        "nothing returned": "`add_user` returned None. | Did you forget `return`?",
        "not an id": "`add_user` returned {kind}, and an id was asked for, a UUID. "
        "| The id of an object is its attribute `id`; a statement's one value comes with `scalar`.",
        "not committed": "`add_user` returned, and no other connection can see {email}. "
        "| `add` only plans, and what was sent is undone when the session closes. What makes it last?",
        "several rows": "One call added {count} users. | Is something added or sent twice?",
        "other values": "Asked to store {email} and {user!r}, it stored {stored_email} and {stored_name!r}. "
        "| Each argument goes into its own column, as it comes.",
        "not the default": "Of the new user `{column}` is {stored!r}; left to the table it would be {default!r}. "
        "| What is not given is left to the table.",
        "another moment": "`{column}` of the new user is {stored}, and left to the table it would be {now} or a moment "
        "later. | What is not given is left to the table.",
        "wrong id": "The id that came back, {said}, is not that of the row that was stored. "
        "| The server makes the id: read it from the object or from RETURNING.",
        "injection": "It stored {first!r}, and for {user!r} it raised {error}. "
        "| Pass values as values, never inside the SQL text.",
        "taken": "For an e-mail that somebody has already, it raised no error and returned {said}. "
        "| Who calls it must learn that nobody was added.",
        "others changed": "Users who were there before have been changed. | A sign-up adds a row and touches no other.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(OTHER_DEFAULTS.format(limit=1000 + randbelow(9000)))
        first = new_name()
        await self._sign_up(attempt, new_email(), first)
        name = f'Maeve van der O\'{token_hex(2).capitalize()}-McKay, "100%" \\ :x %s Ærøskøbing of the long road'
        email = f"o'maeve+{token_hex(3)}.x_%@example.org"
        with calling_it(attempt, "injection", SQLAlchemyError, first=first, user=name):
            await self._sign_up(attempt, email, name)
        await self._refuses_a_taken_address(attempt, email)

    async def _sign_up(self, attempt: Attempt, email: str, name: str) -> None:
        defaults = await _add_namesake(attempt, name)
        before = (await attempt.sql("SELECT id FROM users")).column("id")
        others = await other_rows(attempt, "users", "email", email)
        said = await ask(attempt, email, name)
        attempt.expect(
            said is not None or attempt.log.count > 0, "not committed", email=email
        )  # an id comes from there
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, UUID), "not an id", kind=article(said))
        rows = await attempt.sql(f"SELECT {COLUMNS} FROM users")
        added = [row for row in rows if row[0] not in before]
        attempt.expect(bool(added), "not committed", email=email)
        attempt.expect(len(added) == 1, "several rows", count=len(added))
        self._compare(attempt, dict(zip(rows.columns, added[0], strict=True)), email, name, defaults)
        attempt.expect(said == added[0][0], "wrong id", said=said)
        attempt.expect(await other_rows(attempt, "users", "email", email) == others, "others changed")

    def _compare(self, attempt: Attempt, row: dict[str, Any], email: str, name: str, defaults: dict[str, Any]) -> None:
        attempt.expect(
            (row["email"], row["name"]) == (email, name), "other values",
            email=email, user=name, stored_email=row["email"], stored_name=row["name"],
        )  # fmt: skip
        for column in ("tier", "token_limit", "tokens_used"):
            stored, default = row[column], defaults[column]
            attempt.expect(stored == default, "not the default", column=column, stored=stored, default=default)
        now = defaults["now"] + AHEAD
        for column in ("created_at", "updated_at"):
            near = now <= row[column] <= row["now"] + AHEAD
            attempt.expect(near, "another moment", column=column, stored=str(row[column]), now=str(now))

    async def _refuses_a_taken_address(self, attempt: Attempt, email: str) -> None:
        before = await other_rows(attempt, "users", "email", "")
        try:
            said = await ask(attempt, email, new_name())
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
        else:
            raise attempt.wrong("taken", said=said)
        attempt.expect(await other_rows(attempt, "users", "email", "") == before, "others changed")


async def _add_namesake(attempt: Attempt, name: str) -> dict[str, Any]:
    """Two of this name, older and newer than whoever comes next; what the table makes of a row by itself."""
    rows = await attempt.sql(
        """
        INSERT INTO users (email, name, created_at)
        VALUES (:first, :name, now() - interval '1 day'), (:second, :name, now() + interval '2 days')
        RETURNING tier, token_limit, tokens_used, clock_timestamp() AS now
        """,
        first=new_email("older"), second=new_email("newer"), name=name,
    )  # fmt: skip
    return dict(zip(rows.columns, rows[0], strict=True))
