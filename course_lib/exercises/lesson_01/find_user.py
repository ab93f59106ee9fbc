"""1.2: one row or none, found by what a stranger typed."""

from __future__ import annotations

from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy.exc import MultipleResultsFound, NoResultFound, SQLAlchemyError

from course_lib.judging.asking import ask, calling_it, fetched, readable
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.staging import add_user, new_email
from course_lib.models import User

CROWD = 30
ROWS = 3  # one is enough; a few more are nobody's harm


class FindUser(Exercise):
    """SELECT with a value that comes from outside."""

    id = "1.2"
    title = "Who is logging in"
    answer = "find_user"
    minutes = 6
    hints: ClassVar = (
        "The table keeps e-mails in lower case. So which of the two has to change, the column or the argument?",
        "`await session.scalar(select(User).where(…))` gives one object, or None when no row matches.",
        "Compare with `==` and the argument in lower case. In LIKE and ILIKE, `_` and `%` stand for other characters.",
    )
    why = (
        "The value travels beside the SQL, so nothing typed into it can become SQL. Lowering the argument instead of "
        "the column keeps the unique index on `email` usable, and `==` has no wildcards, which ILIKE has."
    )
    follow_up = (
        "`lower(email) = …` finds the same user. What does it do to the index on `email`, and what would mend it?"
    )
    mistakes: ClassVar = {
        "not found": "`find_user` returned None for {email}, who is in the table. "
        "| Did you forget `return`, or does the comparison never match?",
        "not a user": "`find_user` returned {kind}, and a `User` was asked for. "
        "| `scalar` and `scalars` give objects, `execute` gives rows.",
        "somebody else": "Asked for {email}, it returned the user with {found}. "
        "| Is the e-mail a condition of the query?",
        "case": "It finds {email}, but not {typed}. | The table keeps lower case. Make the argument lower case too.",
        "raises for nobody": "For {email}, which nobody has, it raised {error}. "
        "| None was asked for: `one` insists on a row, `one_or_none` and `scalar` do not.",
        "invented": "For {email}, which nobody has, it returned the user with {found}. "
        "| Is the whole e-mail compared, and nothing but this e-mail?",
        "wildcard": "Asked for {email}, it mistook {other} for it. "
        "| In LIKE and ILIKE `_` and `%` stand for other characters, in a regex `.` does. `==` takes them as they are.",
        "injection": "The e-mail `{email}` was read as SQL: {what}. "
        "| Pass values as values, never inside the SQL text.",
        "loaded everything": "{rows} rows were fetched to find one user. | Let the server search: `where`.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(
            "INSERT INTO users (email, name) SELECT md5(n::text) || '@example.org', 'x' FROM generate_series(1, "
            ":crowd) n",
            crowd=CROWD,
        )
        email = new_email("mara")
        id = await add_user(attempt, email)
        await self._finds(attempt, email, id)
        rows = fetched(attempt.log)
        await self._ignores_case(attempt, email, id)
        await self._finds_nobody(attempt, email)
        await self._takes_wildcards_as_they_are(attempt)
        await self._takes_sql_as_text(attempt)
        attempt.expect(rows <= ROWS, "loaded everything", rows=rows)

    async def _finds(self, attempt: Attempt, email: str, id: UUID) -> None:
        found = await self._ask(attempt, email)
        attempt.expect(found is not None, "not found", email=email)
        attempt.expect(found.id == id, "somebody else", email=email, found=found.email)

    async def _ignores_case(self, attempt: Attempt, email: str, id: UUID) -> None:
        typed = email.title()
        found = await self._ask(attempt, typed)
        attempt.expect(found is not None and found.id == id, "case", email=email, typed=typed)

    async def _finds_nobody(self, attempt: Attempt, email: str) -> None:
        for unknown in (new_email("nobody"), email[1:], email[:-1]):
            with calling_it(attempt, "raises for nobody", NoResultFound, TypeError, AttributeError, email=unknown):
                found = await self._ask(attempt, unknown)
            attempt.expect(found is None, "invented", email=unknown, found=_email(found))

    async def _takes_wildcards_as_they_are(self, attempt: Attempt) -> None:
        ending = f"{token_hex(3)}@example.org"
        wild = f"li_.{ending}"
        twins = (f"lix.{ending}", f"li_-{ending}")  # to LIKE the first is the same, to a regex the second
        for twin in twins:
            await add_user(attempt, twin)
        id = await add_user(attempt, wild)
        with calling_it(attempt, "wildcard", MultipleResultsFound, email=wild, other=" or ".join(twins)):
            found = await self._ask(attempt, wild)
        attempt.expect(found is not None and found.id == id, "wildcard", email=wild, other=_email(found))
        found = await self._ask(attempt, f"%.{ending}")
        attempt.expect(found is None, "wildcard", email=f"%.{ending}", other=_email(found))

    async def _takes_sql_as_text(self, attempt: Attempt) -> None:
        email = f"o'brien.:x{token_hex(3)}%s@example.org"
        id = await add_user(attempt, email)
        with calling_it(attempt, "injection", SQLAlchemyError, email=email, what="the statement failed"):
            found = await self._ask(attempt, email)
        attempt.expect(found is not None and found.id == id, "injection", email=email, what="its owner was not found")
        email = "nobody@example.org' or 'a'='a"
        with calling_it(attempt, "injection", SQLAlchemyError, email=email, what="the statement failed"):
            found = await self._ask(attempt, email)
        attempt.expect(found is None, "injection", email=email, what="it found a user")

    async def _ask(self, attempt: Attempt, email: str) -> Any:
        found = await ask(attempt, email)
        attempt.expect(found is None or isinstance(found, User), "not a user", kind=article(found))
        return found if found is None or readable(found, "id", "email") else None


def _email(found: Any) -> str:
    return found.email if isinstance(found, User) else "nobody"
