"""3.1: three rows or none."""

from __future__ import annotations

from secrets import choice
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_lookalikes, awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_rows, new_email

TABLES = ("users", "conversations", "messages")
NAMES = ("  Mara O'Neil", 'Idris "the" Ærø', "Olu {0} :name %s", "C:\\Runa", "東京 Pia ")
NOBODYS_TURN = {"token_limit": 9, "tokens_used": 0} | dict.fromkeys(("created_at", "updated_at"), "2100-01-01T00:00Z")
OTHERS = "SELECT md5(string_agg(u::text, '' ORDER BY u.id)) FROM users AS u WHERE email <> :email"

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
        "the first. "
        "| One of each was asked for.",
        "wrong value": "`{column}` holds {stored!r}, and that is not what was asked for. "
        "| The statement says what goes into each row.",
        "wrong id": "The id it returned is not that of the stored user. "
        "| `user.id`, once the row was sent. Names are not unique, and others sign up meanwhile.",
        "something stayed": "Called with {reason}, `sign_up` raised {error}, and {count} row(s) of that call are "
        "stored in `{table}`. "
        "| What was committed before an error stays: one commit, at the end.",
        "stored all the same": "Called with {reason}, `sign_up` raised nothing, and {count} row(s) of that call are "
        "stored in `{table}`. "
        "| Hand the values to the database as they are, and let what it says go on to the caller.",
        "error swallowed": "Called with {reason}, `sign_up` stored nothing and returned {said} as if all were well. "
        "| The caller has to know: let the error go on, or raise it again after the rollback.",
        "others changed": "Called with {reason}, `sign_up` changed users who were there before. "
        "| A sign-up makes rows, and changes none.",
        "several transactions": "The rows came in {count} transactions, so others could see a user with only a part "
        "of the sign-up. "
        "| One commit, after the last row.",
        "connection kept": "Called with {reason} it raised {error}, and by then {count} connection(s) had not been "
        "given back. "
        "| `async with` closes the session on every way out.",
        "no second try": "After a call with {reason} had failed, a correct one raised {error}. "
        "| Each call needs a session of its own, or one that was rolled back.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await _add_somebody(attempt)
        taken = new_email("o'hara_:x")
        await add_lookalikes(attempt, taken)
        await attempt.sql(WITNESS)
        await self._signs_up(attempt, taken)
        transactions = await attempt.value("SELECT count(DISTINCT xid) FROM written")
        email, others = new_email(), await _others(attempt)
        await self._refuses(attempt, "a question that is None", email, None)
        with calling_it(attempt, "no second try", reason="a question that is None"):
            await self._signs_up(attempt, email)
        await self._refuses(attempt, "an e-mail that is taken", taken, "Which one?")
        attempt.expect(await _others(attempt, email) == others, "others changed", reason="an e-mail that is taken")
        await self._refuses(attempt, "a capital letter in the e-mail", new_email("Mara"), "Which one?")
        await self._refuses(attempt, "a question that PostgreSQL cannot store", new_email(), "a zero: \x00")
        attempt.expect(transactions == 1, "several transactions", count=transactions)

    async def _signs_up(self, attempt: Attempt, email: str) -> None:
        name, question = choice(NAMES), f"  What is {awkward_text()}?"
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
        error, said, held = None, None, 0
        try:
            said = await self._ask(attempt, email, choice(NAMES), question)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            error, held = wrong.__cause__, attempt.engine.pool.checkedout()  # type: ignore[attr-defined]
        for table, count in (await _counts(attempt)).items():
            mistake = "something stayed" if error else "stored all the same"
            stayed = count - before[table]
            attempt.expect(stayed == 0, mistake, reason=reason, error=kind_of(error), count=stayed, table=table)
        attempt.expect(error is not None, "error swallowed", reason=reason, said=article(said))
        attempt.expect(held == 0, "connection kept", reason=reason, error=kind_of(error), count=held)

    async def _ask(self, attempt: Attempt, email: str, name: str, question: str | None) -> Any:
        return await attempt.call(sessions_of(attempt), email, name, question)


async def _add_somebody(attempt: Attempt) -> None:
    """People with every name that will be used; for whoever looks for the newest row or the greatest id, one is it."""
    rows = [{"id": uuid4(), "name": name, "email": new_email(), "tier": "free", **NOBODYS_TURN} for name in NAMES]
    await add_rows(attempt, "users", [*rows, rows[0] | {"id": UUID(int=2**128 - 1), "email": new_email()}])


async def _others(attempt: Attempt, email: str = "") -> str:
    print_: str = await attempt.value(OTHERS, email=email)
    return print_


async def _counts(attempt: Attempt) -> dict[str, int]:
    counts = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in TABLES)
    rows = await attempt.sql(f"SELECT {counts}")
    return dict(zip(rows.columns, rows[0], strict=True))
