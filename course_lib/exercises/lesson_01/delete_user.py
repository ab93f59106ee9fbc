"""1.9: a user leaves, and everything that was theirs."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import choice, randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from course_lib.judging.asking import NOT_NULL, ask, calling_it, fetched
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double, add_lookalikes
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article, quoted
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user, new_email, other_rows

STATEMENTS = 8
ROWS = 10
MANY = 650  # conversations: a DELETE of a hundred at a time is over the budget
EACH = 10  # messages of each: so is a DELETE of a thousand at a time. More would be hard on a join of all tables
SEEDED = ("bruno", "chidi", "emeka", "farah", "goran")  # who have rows in every table
OWNED = {
    "users": "t.id = :id",
    "api_keys": "t.user_id = :id",
    "documents": "t.user_id = :id",
    "document_chunks": "t.document_id IN (SELECT id FROM documents WHERE user_id = :id)",
    "jobs": "t.document_id IN (SELECT id FROM documents WHERE user_id = :id)",
    "conversations": "t.user_id = :id",
    "messages": "t.conversation_id IN (SELECT id FROM conversations WHERE user_id = :id)",
}
ADD_MESSAGES = """
    DO $$ DECLARE drop text; add text; BEGIN
        SELECT string_agg(format('DROP CONSTRAINT %I', conname), ', '),
               string_agg(format('ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), ', ')
        INTO drop, add FROM pg_constraint WHERE conrelid = 'messages'::regclass AND contype IN ('p', 'u', 'f');
        EXECUTE 'ALTER TABLE messages ' || drop;
        INSERT INTO messages (conversation_id, seq, role, content)
        SELECT id, 900 + n, 'user', 'one more' FROM conversations, generate_series(1, {each}) AS n
        WHERE user_id = '{id}';
        EXECUTE 'ALTER TABLE messages ' || add;
    END $$
"""  # keys that are made afterwards take half of the time of keys that are there from the beginning
COUNTED = ("documents", "conversations", "messages")


class DeleteUser(Exercise):
    """DELETE with ON DELETE CASCADE, counting without loading."""

    id = "1.9"
    title = "Somebody leaves"
    answer = "delete_user"
    minutes = 12
    points = 2
    level = "mid"
    hints: ClassVar = (
        "The foreign keys of this schema say `ON DELETE CASCADE`. So what has to be deleted, and by whom is the rest?",
        "Count before you delete, and on the server: `select(func.count()).select_from(Document).where(…)`.",
        "Several counts in one SELECT: each as a `scalar_subquery()`. Joining all tables and counting multiplies the "
        "rows.",
    )
    why = (
        "One DELETE of the user; the foreign keys take everything else along inside the server, in the same "
        "transaction. "
        "Counting costs three numbers on the wire, not hundreds of messages and every embedding."
    )
    follow_up = (
        "The user has ten million messages. What does this DELETE do "
        "to the others meanwhile, and how would you spread it?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`delete_user` returned None for {email}, who exists. | Did you forget `return`?",
        "not the counts": "`delete_user` returned {kind}: {said}. "
        "| A dict with the keys `documents`, `conversations` and `messages`, all int.",
        "children let go": "It raised {error}: rows that refer to the user were to be let go, and may not be. "
        "| `session.delete` sets the foreign keys of loaded children to NULL. Count without loading them.",
        "not committed": "`delete_user` returned, and other connections still see {email} and everything of theirs. "
        "| What makes it last?",
        "left behind": "{count} rows of theirs are still there: {tables}. "
        "| What refers to a user, directly or through another table?",
        "others deleted": "{count} rows that were not theirs are gone. | Is the owner a condition of every DELETE?",
        "counted too late": "It said that nothing was there, but something was. | Count before you delete.",
        "wrong counts": "It said {said}, and that is not what was there. "
        "| Joining several tables multiplies their rows, and the last number is not how many there are. "
        "Count each table on its own.",
        "nothing owned": "For a user who owns nothing it {did}. | Who has nothing can leave, too: three times 0.",
        "injection": "For {email} it raised {error}, and for an e-mail without quotation mark and colon it did not. "
        "| Pass the e-mail as a value, never inside the SQL text.",
        "unknown user": "For {email}, whom nobody knows, it {did}. | None was asked for, before anything else is read.",
        "loaded rows": "{rows} rows were fetched in order to count and delete them. "
        "| Let the server count: `func.count()`.",
        "keys returned": "{rows} rows came back, most of them from `{statement}`. "
        "| If you did not write RETURNING, the ORM did, to bring the session up to date. With "
        "`execution_options(synchronize_session=False)` it does without.",
        "too many statements": "{count} statements for one user; the budget is {budget}. "
        "| The foreign keys delete what refers to the user.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await self._knows_nobody(attempt)
        email, id = await _somebody(attempt)
        await _add_work(attempt, id)
        before, totals = await _owned(attempt, id), await _totals(attempt)
        with calling_it(attempt, "children let go", IntegrityError, saying=NOT_NULL):
            said = await ask(attempt, email)
        rows, count = fetched(attempt.log), attempt.log.count
        most = max(attempt.log.statements, key=lambda statement: statement.received, default=None)
        attempt.expect(said is not None, "nothing returned", email=email)
        attempt.expect(_are_counts(said), "not the counts", kind=article(said), said=quoted(said))
        await self._compare(attempt, email, before, totals)
        right = {table: said[table] for table in COUNTED} == {table: before[table] for table in COUNTED}
        attempt.expect(right or any(said.values()), "counted too late")
        attempt.expect(right, "wrong counts", said=dict(said))
        mistake = "loaded rows" if most is None or most.is_select else "keys returned"
        attempt.expect(rows <= ROWS, mistake, rows=rows, statement=most.line if most else "")
        attempt.expect(count <= STATEMENTS, "too many statements", count=count, budget=STATEMENTS)
        await self._takes_leave_of_who_owns_nothing(attempt)
        await expect_errors_to_rise(attempt, email)

    async def _takes_leave_of_who_owns_nothing(self, attempt: Attempt) -> None:
        email = new_email("o'hara.:x")
        id = await add_user(attempt, email)
        others = await other_rows(attempt, "users", "id", id)
        with calling_it(attempt, "injection", SQLAlchemyError, email=email):
            said = await ask(attempt, email)
        right = _are_counts(said) and not any(said.values())
        attempt.expect(right, "nothing owned", did=f"returned {quoted(said)}")
        stays = await attempt.value("SELECT count(*) FROM users WHERE id = :id", id=id)
        attempt.expect(not stays, "nothing owned", did="left them where they are")
        attempt.expect(await other_rows(attempt, "users", "id", id) == others, "others deleted", count="some")

    async def _knows_nobody(self, attempt: Attempt) -> None:
        totals, unknown = await _totals(attempt), new_email("nobody")
        with calling_it(attempt, "unknown user", email=unknown, did="raised an error"):
            said = await ask(attempt, unknown)
        after = await _totals(attempt)
        lost = sum(totals[table] - after[table] for table in totals)
        attempt.expect(lost == 0, "others deleted", count=lost)
        attempt.expect(said is None, "unknown user", email=unknown, did=f"returned {quoted(said)}")

    async def _compare(self, attempt: Attempt, email: str, before: dict[str, int], totals: dict[str, int]) -> None:
        after = await _totals(attempt)
        gone = {table: totals[table] - after[table] for table in totals}
        attempt.expect(any(gone.values()), "not committed", email=email)
        more = sum(max(0, gone[table] - before[table]) for table in gone)
        attempt.expect(more == 0, "others deleted", count=more)
        left = {table: before[table] - gone[table] for table in gone if gone[table] < before[table]}
        tables = ", ".join(f"{count} in {table}" for table, count in left.items())
        attempt.expect(not left, "left behind", count=sum(left.values()), tables=tables)


async def _somebody(attempt: Attempt) -> tuple[str, UUID]:
    """One of the seeded users, with a double who has the same of everything, and others whose addresses look alike."""
    email = f"m_ra.{token_hex(3)}@example.org"
    await add_lookalikes(attempt, email)  # first in the table
    id: UUID = await attempt.value(
        "UPDATE users SET email = :email WHERE email = :seeded RETURNING id",
        email=email, seeded=f"{choice(SEEDED)}@example.org",
    )  # fmt: skip
    await add_double(attempt, id)
    return email, id


async def _add_work(attempt: Attempt, id: UUID) -> None:
    """More rows than go in some batches, of no number known beforehand; jobs of theirs, of others, of nobody."""
    await attempt.sql(
        """
        WITH more AS (
            INSERT INTO documents (user_id, source, title) SELECT :id, 'extra ' || n, 'x' FROM generate_series(1, :n) n
            RETURNING id
        ), talks AS (
            INSERT INTO conversations (user_id, title) SELECT :id, 'x' FROM generate_series(1, :talks)
        )
        INSERT INTO jobs (kind, document_id)
        SELECT 'embed_document', id FROM more
        UNION ALL SELECT 'vacuum', CAST(NULL AS uuid) FROM generate_series(1, 2)
        """,
        id=id, n=1 + randbelow(4), talks=MANY + randbelow(40),
    )  # fmt: skip
    await attempt.sql(ADD_MESSAGES.format(id=id, each=EACH))
    await attempt.sql("INSERT INTO conversations (user_id, title) VALUES (:id, 'nothing said yet')", id=id)


async def _owned(attempt: Attempt, id: UUID) -> dict[str, int]:
    """How many rows of each table are this user's."""
    counts = ", ".join(f"(SELECT count(*) FROM {table} AS t WHERE {mine}) AS {table}" for table, mine in OWNED.items())
    rows = await attempt.sql(f"SELECT {counts}", id=id)
    return dict(zip(rows.columns, rows[0], strict=True))


async def _totals(attempt: Attempt) -> dict[str, int]:
    counts = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in OWNED)
    rows = await attempt.sql(f"SELECT {counts}")
    return dict(zip(rows.columns, rows[0], strict=True))


def _are_counts(said: Any) -> bool:
    if not isinstance(said, Mapping) or set(said) != set(COUNTED):
        return False
    return all(isinstance(count, int) and not isinstance(count, bool) for count in said.values())
