"""1.1: one row, for good."""

from __future__ import annotations

from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from course_lib.judging.asking import ask, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.staging import new_email, new_name


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
        "not an id": "`add_user` returned {kind}, and an id was asked for. "
        "| The id of an object is its attribute `id`.",
        "not committed": "`add_user` returned, and no other connection can see {email}. "
        "| `add` only plans, and what was sent is undone when the session closes. What makes it last?",
        "several rows": "One call added {count} users. | Is something added or sent twice?",
        "other values": "Asked to store {email} and {user!r}, it stored {stored_email} and {stored_name!r}. "
        "| Which argument goes into which column?",
        "wrong id": "The id that came back, {said}, is not that of the row that was stored. "
        "| The server makes the id: read it from the object or from RETURNING.",
        "injection": "It works for most names, but {user!r} ended in {error}. "
        "| Pass values as values, never inside the SQL text.",
    }

    async def judge(self, attempt: Attempt) -> None:
        await self._sign_up(attempt, new_email(), new_name())
        name = f"Maeve O'{token_hex(2).capitalize()} :x"
        with calling_it(attempt, "injection", SQLAlchemyError, user=name):
            await self._sign_up(attempt, new_email("maeve"), name)

    async def _sign_up(self, attempt: Attempt, email: str, name: str) -> None:
        before = (await attempt.sql("SELECT id FROM users")).column("id")
        said = await ask(attempt, email, name)
        attempt.expect(
            said is not None or attempt.log.count > 0, "not committed", email=email
        )  # an id comes from there
        attempt.expect(said is not None, "nothing returned")
        id = _as_id(said)
        attempt.expect(id is not None, "not an id", kind=article(said))
        added = [row for row in await attempt.sql("SELECT id, email, name FROM users") if row[0] not in before]
        attempt.expect(bool(added), "not committed", email=email)
        attempt.expect(len(added) == 1, "several rows", count=len(added))
        stored_id, *stored = added[0]
        attempt.expect(
            stored == [email, name], "other values",
            email=email, user=name, stored_email=stored[0], stored_name=stored[1],
        )  # fmt: skip
        attempt.expect(id == stored_id, "wrong id", said=said)


def _as_id(said: Any) -> UUID | None:
    try:
        return UUID(str(said)) if isinstance(said, UUID | str) else None
    except ValueError:
        return None
