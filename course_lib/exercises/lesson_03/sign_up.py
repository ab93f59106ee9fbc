"""3.1: three rows or none."""

from __future__ import annotations

from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID

from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import new_email, new_name

TABLES = ("users", "conversations", "messages")

WITNESS = """
    DO $do$
    DECLARE name text;
    BEGIN
        CREATE TABLE written (xid xid8);
        CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS $f$
        BEGIN INSERT INTO written VALUES (pg_current_xact_id()); RETURN NULL; END $f$;
        FOREACH name IN ARRAY ARRAY['users', 'conversations', 'messages'] LOOP
            EXECUTE format('CREATE TRIGGER write_down AFTER INSERT ON %I EXECUTE FUNCTION write_down()', name);
        END LOOP;
    END $do$
"""
STORED = """
    SELECT u.id, u.email, u.name, c.title, m.seq, m.role, m.content,
           (SELECT count(*) FROM conversations WHERE user_id = u.id) AS conversations,
           (SELECT count(*) FROM messages WHERE conversation_id = c.id) AS messages
    FROM users AS u LEFT JOIN conversations AS c ON c.user_id = u.id LEFT JOIN messages AS m ON m.conversation_id = c.id
    WHERE u.email = :email
"""


class SignUp(Exercise):
    """The scope of a transaction: from the first row to the last, and a way out for errors."""

    id = "3.1"
    title = "All or nothing"
    answer = "sign_up"
    minutes = 8
    points = 1
    level = "junior"
    hints: ClassVar = (
        "Three rows that belong together share one transaction. How many commits is that, and where?",
        "`add` only plans. A conversation needs the id of its user: `flush` sends the INSERT and brings the id, "
        "without a commit.",
        "`async with sessions.begin() as session:` commits at the end of the block. If an error passes through it, it "
        "rolls back, closes the session and lets the error go on.",
    )
    why = (
        "The block is the transaction: one commit at its end, a rollback if an error leaves it, and the connection "
        "goes back either way. `flush` inside of it sends rows and fetches ids, and promises nothing to anybody yet."
    )
    follow_up = "A welcome e-mail is to go out with each sign-up. On which side of the commit do you send it, and why?"
    mistakes: ClassVar = {
        "nothing returned": "`sign_up` returned None. | Did you forget `return`?",
        "not an id": "`sign_up` returned {kind}, and the id of the user was asked for. | `user.id` is a UUID.",
        "not stored": "`sign_up` returned, and no other connection sees the user. | What makes it last?",
        "rows missing": "After `sign_up` the user has {conversations} conversation(s), with {messages} message(s) in "
        "the first. | One of each was asked for.",
        "wrong value": "`{column}` holds {stored!r}, and that is not what was asked for. "
        "| The statement says what goes into each row.",
        "wrong id": "The id it returned is not that of the stored user. | `user.id`, once the row was sent.",
        "something stayed": "It was refused because of {reason}, and {count} row(s) of that sign-up stayed in "
        "`{table}`. | What was committed before the error stays: one commit, at the end.",
        "error swallowed": "It was refused because of {reason}, and `sign_up` returned {said} as if all were well. "
        "| Let the error go on to the caller, or raise it again after the rollback.",
        "several transactions": "The rows came in {count} transactions, so others could see a user with only a part "
        "of the sign-up. | One commit, after the last row.",
        "connection kept": "It was refused because of {reason}, and {count} connection(s) had not been given back when "
        "the error came out. | `async with` closes the session on every way out.",
        "no second try": "After a sign-up was refused because of {reason}, a correct one raised {error}. "
        "| Each call needs a session of its own, or one that was rolled back.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(WITNESS)
        taken = new_email()
        await self._signs_up(attempt, taken)
        transactions = await attempt.value("SELECT count(DISTINCT xid) FROM written")
        email = new_email()
        await self._refuses(attempt, "a question that is None", email, None)
        with calling_it(attempt, "no second try", reason="a question that is None"):
            await self._signs_up(attempt, email)
        await self._refuses(attempt, "an e-mail that is taken", taken, "Which one?")
        await self._refuses(attempt, "a question that PostgreSQL cannot store", new_email(), "a zero: \x00")
        attempt.expect(transactions == 1, "several transactions", count=transactions)

    async def _signs_up(self, attempt: Attempt, email: str) -> None:
        name, question = new_name(), f"What is {token_hex(3)}?"
        said = await self._ask(attempt, email, name, question)
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, UUID), "not an id", kind=article(said))
        rows = await attempt.sql(STORED, email=email)
        attempt.expect(len(rows) > 0, "not stored")
        row: dict[str, Any] = dict(zip(rows.columns, rows[0], strict=True))
        counts = {table: row[table] for table in ("conversations", "messages")}
        attempt.expect(set(counts.values()) == {1}, "rows missing", **counts)
        wanted = {"name": name, "title": "Welcome", "seq": 1, "role": "user", "content": question}
        for column, value in wanted.items():
            attempt.expect(row[column] == value, "wrong value", column=column, stored=row[column])
        attempt.expect(said == row["id"], "wrong id")

    async def _refuses(self, attempt: Attempt, reason: str, email: str, question: str | None) -> None:
        before = await _counts(attempt)
        refused, said, held = False, None, 0
        try:
            said = await self._ask(attempt, email, new_name(), question)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            refused, held = True, attempt.engine.pool.checkedout()  # type: ignore[attr-defined]
        for table, count in (await _counts(attempt)).items():
            stayed = count - before[table]
            attempt.expect(stayed == 0, "something stayed", reason=reason, count=stayed, table=table)
        shown = "None" if said is None else article(said)
        attempt.expect(refused, "error swallowed", reason=reason, said=shown)
        attempt.expect(held == 0, "connection kept", reason=reason, count=held)

    async def _ask(self, attempt: Attempt, email: str, name: str, question: str | None) -> Any:
        return await attempt.call(sessions_of(attempt), email, name, question)


async def _counts(attempt: Attempt) -> dict[str, int]:
    counts = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in TABLES)
    rows = await attempt.sql(f"SELECT {counts}")
    return dict(zip(rows.columns, rows[0], strict=True))
