"""1.2: one row or none, found by what a stranger typed."""

from __future__ import annotations

from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy.exc import MultipleResultsFound

from course_lib.judging.asking import ask, calling_it, fetched, readable
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
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
        "raises for nobody": "For {email!r}, which nobody has, it raised {error}. "
        "| None was asked for: `one` insists on a row, `one_or_none` and `scalar` do not; `==` takes any text.",
        "invented": "For {email!r}, which nobody has, it returned the user with {found}. "
        "| Is the whole e-mail compared, as it was typed, and nothing but this e-mail?",
        "remembered": "The user with {email} got another e-mail, and was still found by the old one. "
        "| Ask the database each time.",
        "wildcard": "Asked for {email}, it found {other}. "
        "| In LIKE and ILIKE `_` and `%` stand for other characters, in a regex `.` does. `==` takes them as they are.",
        "injection": "The e-mail {email} {what}, and more usual ones did no such thing. "
        "| Pass values as values, never inside the SQL text.",
        "loaded everything": "{rows} rows were fetched to find one user. | Let the server search: `where`.",
    }

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(
            "INSERT INTO users (email, name) "
            "SELECT md5(n::text) || '@example.org', 'x' FROM generate_series(1, :crowd) n",
            crowd=CROWD,
        )
        email = new_email("mara")
        id = await add_user(attempt, email)
        await self._finds(attempt, email, id)
        rows = fetched(attempt.log)
        await self._ignores_case(attempt, email, id)
        await self._finds_nobody(attempt, new_email("nobody"))
        await self._takes_wildcards_as_they_are(attempt)
        await self._finds_nobody(attempt, *_near(email))
        await self._takes_other_signs_as_they_are(attempt)
        await self._asks_each_time(attempt, email, id)
        attempt.expect(rows <= ROWS, "loaded everything", rows=rows)
        await expect_errors_to_rise(attempt, email)

    async def _finds(self, attempt: Attempt, email: str, id: UUID) -> None:
        found = await self._ask(attempt, email)
        attempt.expect(found is not None, "not found", email=email)
        attempt.expect(found.id == id, "somebody else", email=email, found=found.email)

    async def _ignores_case(self, attempt: Attempt, email: str, id: UUID) -> None:
        typed = email.title()
        found = await self._ask(attempt, typed)
        attempt.expect(found is not None, "case", email=email, typed=typed)
        attempt.expect(found.id == id, "somebody else", email=typed, found=_email(found))

    async def _finds_nobody(self, attempt: Attempt, *emails: str) -> None:
        for unknown in emails:
            with calling_it(attempt, "raises for nobody", email=unknown):
                found = await self._ask(attempt, unknown)
            attempt.expect(found is None, "invented", email=unknown, found=_email(found))

    async def _takes_wildcards_as_they_are(self, attempt: Attempt) -> None:
        ending = f"{token_hex(3)}@example.org"
        wild = f"li_.{ending}"
        twins = (f"lix.{ending}", f"li_-{ending}")  # to LIKE the first is the same, to a regex the second
        ids = await _add_users(attempt, [*twins, wild])
        with calling_it(attempt, "wildcard", MultipleResultsFound, email=wild, other=f"{' or '.join(twins)} too"):
            found = await self._ask(attempt, wild)
        attempt.expect(found is not None, "not found", email=wild)
        attempt.expect(found.id == ids[wild], "wildcard", email=wild, other=_email(found))
        found = await self._ask(attempt, f"%.{ending}")
        attempt.expect(found is None, "wildcard", email=f"%.{ending}", other=_email(found))

    async def _takes_other_signs_as_they_are(self, attempt: Attempt) -> None:
        mark = token_hex(3)
        quoted, sharp = f"o'brien.:x{mark}%s@example.org", f"weißkopf+{mark}@example.org"
        ids = await _add_users(attempt, [quoted, sharp])
        for email, typed in ((quoted, quoted), (sharp, sharp.title())):
            with calling_it(attempt, "injection", email=typed, what="made it raise an error"):
                found = await self._ask(attempt, typed)
            attempt.expect(found is not None, "not found", email=typed)
            attempt.expect(found.id == ids[email], "somebody else", email=typed, found=_email(found))
        pasted = "nobody@example.org' or 'a'='a"
        with calling_it(attempt, "injection", email=pasted, what="made it raise an error"):
            found = await self._ask(attempt, pasted)
        attempt.expect(found is None, "injection", email=pasted, what=f"found {_email(found)}")

    async def _asks_each_time(self, attempt: Attempt, email: str, id: UUID) -> None:
        await attempt.sql("UPDATE users SET email = :email WHERE id = :id", email=new_email("moved"), id=id)
        attempt.expect(await self._ask(attempt, email) is None, "remembered", email=email)

    async def _ask(self, attempt: Attempt, email: str) -> Any:
        found = await ask(attempt, email)
        attempt.expect(found is None or isinstance(found, User), "not a user", kind=article(found))
        return found if found is None or readable(found, "id", "email") else None


def _near(email: str) -> list[str]:
    """What a cut, a pattern or a tidy-up takes for ``email``."""
    local, _, host = email.partition("@")
    return [
        f"{local}+shop@{host}", f"{email[:1]}\\{email[1:]}", f"{email}\\", f"{email}.net", email[1:], email[:-1], "",
    ]  # fmt: skip


def _email(found: Any) -> str:
    return found.email if isinstance(found, User) else "nobody"


async def _add_users(attempt: Attempt, emails: list[str]) -> dict[str, UUID]:
    rows = await attempt.sql(
        "INSERT INTO users (email, name) SELECT unnest(CAST(:emails AS text[])), 'x' RETURNING email, id", emails=emails
    )
    return {email: id for email, id in rows}
