"""6.2: what autogenerate wrote, and what it could not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import text

from course_lib.exercises.lesson_06.scenes.catalogue import Catalogue, look_at_catalogue, rows_of
from course_lib.exercises.lesson_06.scenes.environment import Environment, environment_of
from course_lib.judging.asking import NOT_NULL, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import message_of
from course_lib.judging.staging import add_user, new_name

INVOICES = "CREATE TABLE invoices (id int PRIMARY KEY, amount numeric(12, 2) NOT NULL)"
INVOICED = "INSERT INTO invoices SELECT n, n * 1.5 FROM generate_series(1, 40) AS n"
FAILED = "UPDATE documents SET error = 'page ' || length(title) || ' cannot be read' WHERE length(title) % 2 = :odd"

STATUS = ("constraint", "documents.ck_documents_status")
TYPE = ("type", "document_kind")
FAILURE, PAGES, KIND, SUMMARY = (("column", f"documents.{name}") for name in ("failure", "pages", "kind", "summary"))
ERROR = ("column", "documents.error")
COLUMNS = {
    FAILURE: "text", PAGES: "integer NOT NULL DEFAULT 0", SUMMARY: "vector(256)",
    KIND: "document_kind NOT NULL DEFAULT 'upload'::document_kind",
}  # fmt: skip
VALUES = "e 'upload', 'web', 'mail'"  # as the catalogue shows them

AS_BEFORE = "INSERT INTO documents (user_id, source, title, status) VALUES (:user, :title, :title, :status)"
USED = """
    UPDATE documents SET failure = 'read again: ' || title, pages = 7, kind = 'web', status = 'archived'
    WHERE title = :title
"""
DOCUMENTS = """
    SELECT id, {failure}, status, updated_at, ROW(user_id, source, title, content_hash, meta, created_at)::text
    FROM documents ORDER BY id
"""


class MendedRevision(Exercise):
    """A generated revision: what would lose data, what would not run, and what is not in it at all."""

    id = "6.2"
    title = "Mend what autogenerate wrote"
    answer = "MendedRevision"
    minutes = 15
    points = 2
    level = "mid"
    hints: ClassVar = (
        "Read it line by line: which lines would lose something, which would fail on a table that has rows, and which "
        "name something that is not there? Then go through the list of changes: which of them is not in the file?",
        "A rename looks to a comparison like a column that went and another that came: `op.alter_column` with "
        "`new_column_name`. It compares no text of a CHECK, and it creates no enum type for `add_column`.",
        "A CHECK is changed by dropping it and creating another. `op.f(name)` says that a name is complete; without "
        "it the naming convention puts `ck_documents_` in front once more. On the way back, look after the rows first.",
    )
    why = (
        "Autogenerate compares two descriptions of tables. Rows are in neither of them, so it can tell a rename from "
        "a loss as little as a full table from an empty one; and what it does not reflect (texts of CHECKs, a type "
        "of its own) it passes over in silence. Its file is a draft, and the diff of the models is what to read it by."
    )
    follow_up = (
        "`alembic check` passes before this revision and after it, although the CHECK was changed. What would you put "
        "into CI so that it cannot be forgotten?"
    )
    mistakes: ClassVar = {
        "method missing": "`MendedRevision` has no method `{method}`. | Two are asked for: `upgrade` and `downgrade`.",
        "not written": "`{method}` of `MendedRevision` is not written yet. | Mend both directions.",
        "no import": "`upgrade` raised {error}: {said}. "
        "| The template of that project does not import `pgvector.sqlalchemy`; your cell can.",
        "no such type": "`upgrade` raised {error}: the enum type `document_kind` does not exist. "
        "| `op.add_column` creates no type.",
        "another name": "`upgrade` raised {error}: {said}. "
        "| The naming convention was put before a name that is complete: `op.f(name)` says that it is.",
        "rows without a value": "`upgrade` raised {error}: there are documents, and they would have no value. "
        "| A `default` is Python's. What does the server need?",
        "invoices gone": "After `{method}` {what}. "
        "| A table that no model has may be somebody else's. On the way back it would come without its rows.",
        "column missing": "After `upgrade` the table `documents` has no column `{column}`. "
        "| Four columns are in the list of changes.",
        "column stays": "After `upgrade` the table `documents` still has the column `error`. "
        "| It was renamed, not copied.",
        "failure lost": "After `upgrade` {count} document(s) that had an `error` do not have it as their `failure`. "
        "| To the database, drop and add are not a rename.",
        "wrong values": "The type `document_kind` is {found}. | Its values and their order are in the list of changes.",
        "wrong column": "After `upgrade` `documents.{column}` is {found}. | Compare with the list of changes.",
        "check missing": "After `upgrade` there is no valid CHECK called `ck_documents_status` on `documents`. "
        "| To change a CHECK is to drop it and to create another of that name, which looks at the rows too.",
        "status refused": "After `upgrade` a document with the status `{status}` is refused: {said}. "
        "| It is a change of the models that autogenerate does not see.",
        "status let in": "After `upgrade` a document with the status `{status}` is let in. "
        "| The CHECK takes one more value, and still no others.",
        "no default": "After `upgrade` `documents.{column}` is {found}, without a default. "
        "| The program that runs now does not name it in its INSERT.",
        "something else": "After `upgrade` the {what}. | Only what is in the list of changes.",
        "rows changed": "After `{method}` rows of `{table}` are not as they were. | Rows are to be kept.",
        "no way back": "`downgrade` raised {error}: {said}. "
        "| Tables have rows on the way back too, and one of the documents had been archived by then.",
        "still there": "After `upgrade` and `downgrade` the {what}. | Everything that `upgrade` made has to go.",
        "something gone": "After `upgrade` and `downgrade` the {what}. | What was there before comes back as it was.",
        "error lost": "After `downgrade` {count} document(s) do not have in `error` what was their `failure`. "
        "| The way back of a rename is a rename.",
        "archived lost": "After `downgrade` the document that had been archived {became}. "
        "| It is to be `ready`; the task says so.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        for statement in (INVOICES, INVOICED):
            await attempt.sql(statement)
        await attempt.sql(FAILED, odd=1)
        before, title = await look_at_catalogue(attempt), new_name()
        with environment_of(attempt) as environment:
            await self._goes_up(attempt, environment, before)
            await self._takes_statuses(attempt, title)
            await attempt.sql(USED, title=title)
            await self._comes_back(attempt, environment, before, title)

    # -- up ------------------------------------------------------------------------------------------------

    async def _goes_up(self, attempt: Attempt, environment: Environment, before: Catalogue) -> None:
        rows, documents = await rows_of(attempt, before), await _documents(attempt, "error")
        with (
            calling_it(attempt, "no such type", saying='type "document_kind" does not exist'),
            calling_it(attempt, "another name", saying="ck_documents_ck_documents_status"),
            calling_it(attempt, "rows without a value", saying=NOT_NULL),
            calling_it(attempt, "no import", NameError, saying="pgvector"),
        ):
            await environment.upgrade()
        now = await look_at_catalogue(attempt)
        self._look_at_things(attempt, before, now)
        after = await _documents(attempt, "failure")
        lost = [id for id, (error, *_) in documents.items() if error != after.get(id, ("",))[0]]
        attempt.expect(not lost, "failure lost", count=len(lost))
        kept = _without_text(documents) == _without_text(after)
        self._expect_rows(attempt, "upgrade", kept, rows, await rows_of(attempt, before))

    def _look_at_things(self, attempt: Attempt, before: Catalogue, now: Catalogue) -> None:
        attempt.expect(("table", "invoices") in now, "invoices gone", method="upgrade", what="there are no `invoices`")
        for kind, name in COLUMNS:
            attempt.expect((kind, name) in now, "column missing", column=name.partition(".")[2])
        attempt.expect(ERROR not in now, "column stays")
        values = now.get(*TYPE)
        attempt.expect(values in (None, VALUES), "wrong values", found=values)
        for (kind, name), definition in COLUMNS.items():
            found, column = now.things[kind, name], name.partition(".")[2]
            attempt.expect("DEFAULT" in found or "DEFAULT" not in definition, "no default", column=column, found=found)
            attempt.expect(found == definition, "wrong column", column=column, found=found)
        check = now.get(*STATUS) or ""
        attempt.expect(check.startswith("CHECK") and "(not validated)" not in check, "check missing")
        changes = now.since(before, without=(*COLUMNS, ERROR, TYPE, STATUS))
        attempt.expect(not changes, "something else", what=str(changes[0]) if changes else "")

    async def _takes_statuses(self, attempt: Attempt, title: str) -> None:
        """As the program that runs now writes them, and one more; of each a document, and one called ``title``."""
        user = await add_user(attempt)
        for status in ("uploaded", "processing", "ready", "failed", "archived"):
            error = await _refusal(attempt, user=user, title=f"{title} {status}", status=status)
            attempt.expect(error is None, "status refused", status=status, said=message_of(error) if error else "")
        for status in ("lost", "Archived", ""):
            error = await _refusal(attempt, user=user, title=f"{title} {status}", status=status)
            attempt.expect(error is not None, "status let in", status=status)
        await _refusal(attempt, user=user, title=title, status="ready")

    # -- and back ------------------------------------------------------------------------------------------

    async def _comes_back(self, attempt: Attempt, environment: Environment, before: Catalogue, title: str) -> None:
        documents, rows = await _documents(attempt, "failure"), await rows_of(attempt, before)
        with calling_it(attempt, "no way back"):
            await environment.downgrade()
        for difference in (await look_at_catalogue(attempt)).since(before):
            mistake = "still there" if difference.was is None else "something gone"
            raise attempt.wrong(mistake, what=str(difference))
        after = await _documents(attempt, "error")
        for id, (_, status, *_) in documents.items():
            if status == "archived":
                found = after.get(id)
                became = f"has the status `{found[1]}`" if found else "is gone"
                attempt.expect(found is not None and found[1] == "ready", "archived lost", became=became)
        lost = [id for id, (failure, *_) in documents.items() if failure != after.get(id, ("",))[0]]
        attempt.expect(not lost, "error lost", count=len(lost))
        kept = _made_ready(documents) == _made_ready(after)
        self._expect_rows(attempt, "downgrade", kept, rows, await rows_of(attempt, before))

    def _expect_rows(
        self, attempt: Attempt, method: str, kept: bool, before: dict[str, str], after: dict[str, str]
    ) -> None:
        """Of the documents it is known already, since one of their columns has another name."""
        same = before["invoices"] == after["invoices"]
        attempt.expect(same, "invoices gone", method=method, what="the `invoices` are not those that there were")
        attempt.expect(kept, "rows changed", method=method, table="documents")
        for table in before.keys() - {"documents"}:
            attempt.expect(after[table] == before[table], "rows changed", method=method, table=table)


Documents = dict[Any, tuple[Any, str, Any, str]]
"""By id: what went wrong, the status, when it was last changed, everything else."""


async def _documents(attempt: Attempt, failure: str) -> Documents:
    rows: Sequence[Any] = await attempt.sql(DOCUMENTS.format(failure=failure))
    return {id: tuple(row) for id, *row in rows}


def _without_text(documents: Documents) -> dict[Any, list[Any]]:
    return {id: rest for id, (_, *rest) in documents.items()}


def _made_ready(documents: Documents) -> dict[Any, list[Any]]:
    """As the way back leaves them, which may touch ``updated_at``."""
    return {id: [said, status.replace("archived", "ready"), row] for id, (said, status, _, row) in documents.items()}


async def _refusal(attempt: Attempt, **values: Any) -> Exception | None:
    """Why a document cannot be stored; None where it was."""
    async with attempt.judge_session() as session:
        try:
            await session.execute(text(AS_BEFORE), values)
            await session.commit()
        except Exception as error:
            return error
    return None
