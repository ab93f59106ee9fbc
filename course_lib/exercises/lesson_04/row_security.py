"""4.10: the database itself keeps tenants apart, on connections that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.judging.application import as_application
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.methods import look_for_methods
from course_lib.judging.quoting import message_of
from course_lib.judging.rising import expect_methods_to_raise

TABLES = {
    "documents": "SELECT id, user_id FROM documents",
    "document_chunks": "SELECT c.id, d.user_id FROM document_chunks c JOIN documents d ON d.id = c.document_id",
}
REFUSED = "42501"  # SQLSTATE of a row that a policy does not let in
STATE = "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = to_regclass(:table)"
NEW_DOCUMENT = "INSERT INTO documents (user_id, source, title) VALUES (:user_id, 'judge/new', 'New')"
GIVE_AWAY = "UPDATE documents SET user_id = :other"  # reads no column, so the policies for SELECT are not asked
MOVE = "UPDATE document_chunks SET document_id = :theirs, chunk_index = 10000 + (random() * 1e9)::int"
NEW_CHUNK = """
    INSERT INTO document_chunks (document_id, chunk_index, content, token_count, embedding, embedding_model)
    SELECT :document_id, 9999, 'new', 1, array_fill(1, ARRAY[256])::vector, 'judge'
"""


class RowSecurity(Exercise):
    """A policy, FORCE, and a setting that ends with the transaction."""

    id = "4.10"
    title = "Tenants kept apart by the database"
    answer = "Tenancy"
    minutes = 20
    points = 3
    level = "senior"
    seconds = 10.0
    hints: ClassVar = (
        "`ALTER TABLE … ENABLE ROW LEVEL SECURITY`, then `CREATE POLICY … ON … USING (…)`. The owner of a table is "
        "not bound by its policies until it says `FORCE`, and here the application owns the tables.",
        "Whose turn it is can be told by a setting of your own, such as `app.user_id`. "
        "`set_config(name, value, true)` sets it until the end of the transaction; SET itself takes no bound values.",
        "`current_setting(name, true)` is NULL on a connection where it was never set, and an empty text where it was "
        "set by an earlier transaction. `nullif(…, '')` makes NULL of both, and NULL equals no user.",
        "A chunk belongs to whom its document belongs to: `document_id IN (SELECT id FROM documents)`, where the "
        "policy of `documents` applies in turn. Without `WITH CHECK`, USING is asked of what is written too.",
    )
    why = (
        "Every query of every programmer now has the condition, forgotten or not. It fails closed: no setting, no "
        "rows. The setting is transaction-local, so a pooled connection goes to the next tenant without a trace. "
        "FORCE is for the owner, whom policies do not bind otherwise; a superuser, and a role with BYPASSRLS, they "
        "never bind, so neither is what an application connects as."
    )
    follow_up = (
        "An HNSW index knows no policies: what does row-level security do to a search for ten neighbours by a tenant "
        "with one row in a hundred, and what would you do about it?"
    )
    mistakes: ClassVar = {
        "method missing": "`Tenancy` has no `{method}`. | It has two methods: `protect` and `enter`.",
        "not written": "`{method}` of `Tenancy` is not written yet. | It has two methods: `protect` and `enter`.",
        "not enabled": "Row-level security is not switched on for `{table}`: without `enter`, {count} rows can be "
        "read. | A policy does nothing before `ALTER TABLE … ENABLE ROW LEVEL SECURITY`.",
        "owner passes": "The application reads {count} rows of `{table}` without `enter`, because it owns the table. "
        "| Policies do not bind the owner, unless they are forced.",
        "open to nobody": "A transaction that never called `enter` reads {count} rows of `{table}`. "
        "| Nobody's turn means no rows: what does the policy say when the setting is NULL?",
        "raises for nobody": "On a new connection, without `enter`, reading `{table}` fails: {error}. "
        "| `current_setting` has a second argument for a setting that is not there.",
        "raises after somebody": "After a transaction with `enter`, the next one on the same connection reads "
        "`{table}` without, and fails: {error}. | The setting has gone, and left an empty text behind.",
        "stays": "A transaction that never called `enter` reads {count} rows of `{table}`, after one on the same "
        "{place} had called it. | Set it for the transaction, not for the session.",
        "commits itself": "`{method}` {did}. | The commit is the caller's.",
        "own rows hidden": "After `enter`, {count} of the user's {all} rows of `{table}` can be read. "
        "| Does the policy compare what `enter` sets, and as the same type? Is there one that lets rows in?",
        "others seen": "After `enter`, {count} rows of `{table}` can be read that belong to other users. "
        "| Whose chunk is it? That is written in its document.",
        "own write refused": "After `enter`, the user cannot {what} of their own: {error}. "
        "| A policy FOR SELECT allows reading, and nothing else.",
        "written for others": "After `enter` with one user's id, {what} was let in. "
        "| `WITH CHECK` is asked of new rows. Left out, it is the same as USING.",
        "others changed": "After `enter`, {command} without a WHERE took {count} rows of `{table}` that belong to "
        "other users. | Policies may differ by command: which one holds for this?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        world = await _World.made(attempt)
        async with as_application(attempt, TABLES):
            tenancy = await attempt.call()
            look_for_methods(attempt, tenancy, "protect", "enter")
            async with attempt.session() as session:
                await attempt.call(session, function=tenancy.protect)
                early = [table for table in TABLES if any((await attempt.sql(STATE, table=table))[0])]
                did = "committed, so its caller cannot take it back"
                attempt.expect(not early, "commits itself", method="protect", did=did)
                await session.commit()
            await _Trial(attempt, tenancy, world).run()
            async with attempt.session() as session:
                await expect_methods_to_raise(attempt, tenancy, protect=(session,))


@dataclass(frozen=True)
class _World:
    """Who owns what, read before anything is protected."""

    users: tuple[UUID, UUID]
    rows: dict[str, dict[UUID, set[UUID]]]
    """Ids by table and owner."""

    @classmethod
    async def made(cls, attempt: Attempt) -> _World:
        rows: dict[str, dict[UUID, set[UUID]]] = {}
        for table, query in TABLES.items():
            rows[table] = {}
            for id, owner in await attempt.sql(query):
                rows[table].setdefault(owner, set()).add(id)
        users = await attempt.sql("SELECT user_id FROM documents GROUP BY user_id ORDER BY random() LIMIT 2")
        first, second = users.column("user_id")
        return cls((first, second), rows)


class _Trial:
    """Transactions of two users and of nobody, on one connection after another."""

    def __init__(self, attempt: Attempt, tenancy: Any, world: _World) -> None:
        self.attempt = attempt
        self.tenancy = tenancy
        self.world = world

    async def run(self) -> None:
        one, other = self.world.users
        await self._nobody_reads_at_first()
        await self._reads(one)
        await self._nobody_reads_after_somebody()
        await self._reads(other)
        await self._reads_in_one_session(other, one)
        await self._nobody_reads_in_the_same_session(one)
        await self._nobody_reads_after_somebody()
        await self._writes(one, other)

    # -- reading -------------------------------------------------------------------------------------------

    async def _nobody_reads_at_first(self) -> None:
        await self.attempt.engine.dispose()  # a connection on which nothing was ever set
        for table, ids in (await self._read_as_nobody("raises for nobody")).items():
            if ids:
                enabled, forced = (await self.attempt.sql(STATE, table=table))[0]
                mistake = "open to nobody" if forced else "owner passes"
                raise self.attempt.wrong(mistake if enabled else "not enabled", table=table, count=len(ids))

    async def _nobody_reads_after_somebody(self) -> None:
        for table, ids in (await self._read_as_nobody("raises after somebody")).items():
            self.attempt.expect(not ids, "stays", table=table, count=len(ids), place="connection")

    async def _nobody_reads_in_the_same_session(self, user_id: UUID) -> None:
        async with self.attempt.session() as session:
            await self._enter(session, user_id)
            await session.commit()
            for table in TABLES:
                count = len(await _ids(session, table))
                self.attempt.expect(not count, "stays", table=table, count=count, place="session")

    async def _read_as_nobody(self, mistake: str) -> dict[str, set[UUID]]:
        seen = {}
        for table in TABLES:
            async with self.attempt.session() as session:
                try:
                    seen[table] = await _ids(session, table)
                except DBAPIError as error:
                    raise self.attempt.wrong(mistake, table=table, error=message_of(error)) from error
        return seen

    async def _reads(self, user_id: UUID) -> None:
        async with self.attempt.session() as session:
            await self._enter(session, user_id)
            await self._compare(session, user_id)
            await session.commit()

    async def _reads_in_one_session(self, first: UUID, second: UUID) -> None:
        async with self.attempt.session() as session:
            for user_id in (first, second):
                await self._enter(session, user_id)
                await self._compare(session, user_id)
                await session.rollback()

    async def _enter(self, session: AsyncSession, user_id: UUID) -> None:
        await session.execute(text("SELECT 1"))  # somebody's transaction, already begun
        await self.attempt.call(session, user_id, function=self.tenancy.enter)
        did = "ended the transaction that it was to prepare"
        self.attempt.expect(session.in_transaction(), "commits itself", method="enter", did=did)

    async def _compare(self, session: AsyncSession, user_id: UUID) -> None:
        for table in TABLES:
            own = self.world.rows[table][user_id]
            try:
                seen = await _ids(session, table)
            except DBAPIError as error:
                raise self.attempt.wrong("raises after somebody", table=table, error=message_of(error)) from error
            self.attempt.expect(not seen - own, "others seen", table=table, count=len(seen - own))
            self.attempt.expect(seen == own, "own rows hidden", table=table, count=len(seen & own), all=len(own))

    # -- writing -------------------------------------------------------------------------------------------

    async def _writes(self, user_id: UUID, other: UUID) -> None:
        mine, theirs = (min(self.world.rows["documents"][owner]) for owner in (user_id, other))
        for what, statement, values in (
            ("add a document", NEW_DOCUMENT, {"user_id": user_id}),
            ("add a chunk", NEW_CHUNK, {"document_id": mine}),
        ):
            error = await self._refusal(user_id, statement, values)
            self.attempt.expect(not error, "own write refused", what=what, error=error)
        for table, column in (("documents", "title"), ("document_chunks", "content")):
            await self._changes_only_own(user_id, table, "change", f"UPDATE {table} SET {column} = 'changed'")
            await self._changes_only_own(user_id, table, "delete", f"DELETE FROM {table}")
        for what, statement, values in (
            ("a new document of another user", NEW_DOCUMENT, {"user_id": other}),
            ("a new chunk in another user's document", NEW_CHUNK, {"document_id": theirs}),
            ("a change of a document's owner", "UPDATE documents SET user_id = :other WHERE id = :mine",
             {"other": other, "mine": mine}),
            ("an UPDATE without a WHERE that gives all documents to another user", GIVE_AWAY, {"other": other}),
            ("an UPDATE without a WHERE that puts all chunks into another user's document", MOVE, {"theirs": theirs}),
        ):  # fmt: skip
            error = await self._refusal(user_id, statement, values)
            self.attempt.expect(bool(error), "written for others", what=what)

    async def _refusal(self, user_id: UUID, statement: str, values: dict[str, Any]) -> str:
        """What the server said to a statement that was then rolled back; empty if it went through."""
        async with self.attempt.session() as session:
            await self._enter(session, user_id)
            try:
                await session.execute(text(statement), values)
            except DBAPIError as error:
                return message_of(error)
            finally:
                await session.rollback()
        return ""

    async def _changes_only_own(self, user_id: UUID, table: str, what: str, statement: str) -> None:
        """``statement`` reads no column: then the policies for SELECT are not asked."""
        own = len(self.world.rows[table][user_id])
        async with self.attempt.session() as session:
            await self._enter(session, user_id)
            taken = (await session.execute(text(statement))).rowcount  # type: ignore[attr-defined]
            await session.rollback()
        command = {"change": "an UPDATE", "delete": "a DELETE"}[what]
        self.attempt.expect(taken <= own, "others changed", command=command, table=table, count=taken - own)
        kind, error = table.removeprefix("document_"), f"{command} without a WHERE took {taken} of {own}"
        self.attempt.expect(taken == own, "own write refused", what=f"{what} all {kind}", error=error)


async def _ids(session: AsyncSession, table: str) -> set[UUID]:
    return set(await session.scalars(text(f"SELECT id FROM {table}")))
