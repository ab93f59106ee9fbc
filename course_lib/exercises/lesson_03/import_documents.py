"""3.2: a row that is refused, inside a transaction that must live on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from secrets import SystemRandom, token_bytes, token_hex
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.staging import add_rows, add_user, new_name
from course_lib.judging.trouble import sqlstate_of
from course_lib.models import Document

SOURCE, STATUS, HASH = "uq_documents_user_id_source", "ck_documents_status", "ck_documents_content_hash"
GOOD = ("uploaded", "processing", "ready", "failed")
LATER = "Changed after the import"
ABORTED = "25P02"  # SQLSTATE: the transaction accepts nothing but ROLLBACK
Entry = dict[str, Any]


class ImportDocuments(Exercise):
    """A savepoint for each row; the transaction around them is somebody else's."""

    id = "3.2"
    title = "Keep the good rows"
    answer = "import_documents"
    minutes = 12
    points = 2
    level = "mid"
    hints: ClassVar = (
        "After an error PostgreSQL accepts nothing more in this transaction, but it can go back to a place that was "
        "marked before. Where would you set the mark?",
        "`async with session.begin_nested():` is a savepoint. If an error passes through the block, only what happened "
        "in the block is undone. The `try` goes around the block, not into it.",
        "SQLAlchemy wraps the driver's error, and the driver's knows more: "
        "`error.orig.driver_exception.constraint_name`.",
    )
    why = (
        "An error aborts a transaction back to its last savepoint. One around each row makes that a single row. Who "
        "began the transaction ends it: a commit or a rollback in here would decide about work that is not ours."
    )
    follow_up = (
        "The import has 100,000 rows, and nearly all are good. What does a savepoint per row cost, and what else?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`import_documents` returned None. | Did you forget `return`? Nothing refused is `{{}}`.",
        "not a dict": "`import_documents` returned {kind}, and a dict was asked for. | `{{index: name}}`",
        "not caught": "A row was refused, and `import_documents` raised {error}. "
        "| Catch it, and go on with the next row.",
        "begun already": "It raised {error}, because the caller had begun the transaction already. "
        "| `session.begin()` is for who owns the transaction. Inside of one, `begin_nested()`.",
        "transaction lost": "After a refused row the transaction was of no more use: {error}. "
        "| An error undoes everything back to the last savepoint. Was the row sent inside of one?",
        "commits itself": "`import_documents` committed {count} row(s) before its caller wanted to. "
        "| The transaction is the caller's: set savepoints, and leave the end to them.",
        "caller's work lost": "Of {count} things that the caller had done before the call, {lost} were gone after the "
        "commit. "
        "| `session.rollback()` undoes the whole transaction, not one row.",
        "good rows lost": "{lost} of the {count} rows that the database had nothing against are not stored. "
        "| Does a refused row take others with it, or was one refused that the table would have taken?",
        "wrong value": "Of a stored row, `{column}` is not what was given. | All four keys are columns.",
        "changed what was there": "A document that was there before the import has changed. "
        "| A source that is there already is refused, not overwritten.",
        "another order": "Row {later} of the list was stored before row {earlier}. "
        "| One after the other, in the order of the list.",
        "caller's object lost": "What the caller changed after the call, in an object of theirs in the session, is "
        "not stored. "
        "| `expunge_all`, `rollback` and `close` are about the whole session, and it is the caller's.",
        "made fit": "Row {index} breaks a rule of the table as it is, and is stored with {column} {value!r}. "
        "| Hand the values to the database as they are: what it refuses is not stored.",
        "not reported": "Row {index} was not stored, and the dict does not say so. "
        "| Every refused row goes into the report, by its index in the list, from 0. Of equal rows each has its own: "
        "count them (`enumerate`) rather than look for them (`index`).",
        "reported although stored": "The dict says that row {index} was refused, and the row is in the table. "
        "| Only what the database refuses is refused.",
        "wrong name": "For row {index} it reported {name!r}, and that is not what the server's error says. "
        "| `error.orig.driver_exception.constraint_name`, which may be None.",
        "other error hidden": "A text that PostgreSQL cannot store is no constraint's business, and the error did not "
        "reach the caller. "
        "| Catch `IntegrityError`, and nothing wider.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt)
        await attempt.sql("ALTER TABLE documents ADD COLUMN arrived bigserial")
        there = [{"user_id": user_id, "source": f"there/{n}.md", "title": token_hex(3)} for n in range(2)]
        somebody = await add_user(attempt)
        theirs = [{"user_id": somebody, "source": f"fresh/{n}.md", "title": "Theirs"} for n in range(4)]
        await add_rows(attempt, "documents", there + theirs)
        await self._imports(attempt, user_id, [_entry(f"first/{n}.md") for n in range(3)], kept=True)
        await self._imports(attempt, user_id, _mixed_batch(), kept=True)
        await self._imports(attempt, user_id, [_entry("there/1.md"), _entry("x", status="done")], kept=True)
        await self._imports(attempt, user_id, [], kept=True)
        await self._imports(attempt, user_id, [_entry("late/1.md"), _entry("there/0.md"), _entry("y")], kept=False)
        await self._lets_other_errors_through(attempt, user_id)

    async def _imports(self, attempt: Attempt, user_id: UUID, batch: list[Entry], kept: bool) -> None:
        """One import in the middle of a caller's transaction, which then commits (``kept``) or rolls back."""
        before = await _documents(attempt, user_id)
        own, name = f"own/{token_hex(3)}.md", new_name()
        if len(batch) > 3:
            batch = [*batch, _entry(own)]
        async with attempt.session() as session:
            document = await _caller_works(session, user_id, own, name)
            said = await self._ask(attempt, session, user_id, batch)
            document.title = LATER
            early = len(await _documents(attempt, user_id)) - len(before)
            attempt.expect(early == 0, "commits itself", count=early)
            with self._telling(attempt):
                await (session.commit() if kept else session.rollback())
        after = await _documents(attempt, user_id)
        if kept:
            lost = 2 - (own in after) - (await _name(attempt, user_id) == name)
            attempt.expect(lost == 0, "caller's work lost", count=2, lost=lost)
            attempt.expect(after[own]["title"] == LATER, "caller's object lost")
            self._compare(attempt, before, after, batch, said, own)
        else:
            attempt.expect(len(after) == len(before), "commits itself", count=len(after) - len(before))

    async def _ask(self, attempt: Attempt, session: AsyncSession, user_id: UUID, batch: list[Entry]) -> dict[int, Any]:
        with (
            calling_it(attempt, "not caught", IntegrityError),
            calling_it(attempt, "begun already", InvalidRequestError, saying="already begun"),
            self._telling(attempt),
        ):
            said = await attempt.call(session, user_id, [dict(entry) for entry in batch])
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, Mapping), "not a dict", kind=article(said))
        return dict(said)

    @contextmanager
    def _telling(self, attempt: Attempt) -> Iterator[None]:
        """A session or a transaction that accepts nothing more, in the learner's code or at the caller's commit."""
        try:
            yield
        except (Wrong, SQLAlchemyError) as caught:
            error = caught.__cause__ if isinstance(caught, Wrong) else caught
            aborted = sqlstate_of(error) == ABORTED
            closed = isinstance(error, InvalidRequestError) and "already begun" not in str(error)
            if aborted or closed or error is caught:
                kind = kind_of(getattr(error, "orig", None) or error)
                raise attempt.wrong("transaction lost", error=kind) from caught
            raise

    def _compare(
        self, attempt: Attempt, before: dict[str, Any], after: dict[str, Any], batch: list[Entry],
        said: dict[int, Any], own: str,
    ) -> None:  # fmt: skip
        refused = _refused(batch, {*before, own})
        good = [entry for index, entry in enumerate(batch) if index not in refused]
        for source, row in before.items():
            attempt.expect(after.get(source) == row, "changed what was there")
        lost = sum(_in_place_of(entry, after, batch) for entry in good)
        attempt.expect(lost == 0, "good rows lost", count=len(good), lost=lost)
        for entry in good:
            for column, value in entry.items():
                attempt.expect(after[entry["source"]][column] == value, "wrong value", column=column)
        arrivals = [(after[entry["source"]]["arrived"], batch.index(entry)) for entry in good]
        for (one, earlier), (other, later) in pairwise(arrivals):
            attempt.expect(one < other, "another order", earlier=earlier, later=later)
        new = {source: row for source, row in after.items() if source not in {*before, own}}
        for entry in good:
            new.pop(entry["source"])
        self._compare_refused(attempt, refused, batch, said, new)

    def _compare_refused(
        self, attempt: Attempt, refused: dict[int, str | None], batch: list[Entry], said: dict[int, Any],
        stored: dict[str, Any],
    ) -> None:  # fmt: skip
        """``stored``: the rows that were not there before and are no good ones."""
        for index, name in refused.items():
            made = stored.get(batch[index]["source"], {})
            column = next((column for column, value in batch[index].items() if made and made[column] != value), "")
            attempt.expect(not column, "made fit", index=index, column=column, value=made.get(column))
            attempt.expect(index in said, "not reported", index=index)
            attempt.expect(said[index] == name, "wrong name", index=index, name=said[index])
        more = next((index for index in said if index not in refused), None)
        attempt.expect(more is None, "reported although stored", index=more)

    async def _lets_other_errors_through(self, attempt: Attempt, user_id: UUID) -> None:
        async with attempt.session() as session:
            await _caller_works(session, user_id, "own/last.md", new_name())
            try:
                await attempt.call(session, user_id, [_entry("z", title="a zero: \x00")])
                await session.flush()  # of what the answer has only planned
            except Wrong as wrong:
                if wrong.mistake != "raised":
                    raise
            except DBAPIError:
                return
            else:
                raise attempt.wrong("other error hidden")


def _entry(source: str, **other: Any) -> Entry:
    fields = {"title": f"Notes {token_hex(2)}", "status": "ready", "content_hash": token_bytes(32)}
    return {"source": source, **fields, **other}


def _mixed_batch() -> list[Entry]:
    """Good rows and refused ones. Some sources come twice: what was refused once may come again and be good.

    Two rows come twice as they are, one good, one refused.
    """
    again, twice = f"again/{token_hex(2)}.md", f"twice/{token_hex(2)}.md"
    repeated = [_entry(f"same/{token_hex(2)}.md"), _entry("g", status="old")]
    rows = [_entry(f"fresh/{n}.md", title=awkward_text(), status=status) for n, status in enumerate(GOOD)]
    rows += [_entry("it's 100%_\\", content_hash=None), _entry("there/0.md"), _entry("a", status="new")]
    rows += [_entry("b", content_hash=token_bytes(20)), _entry("c", title=None), _entry("d", title="")]
    rows += [_entry("e", title=None, status="new"), _entry("f", content_hash=b"", status="it's")]  # two rules broken
    rows += [_entry(again, status=token_hex(2)), _entry(twice), *repeated]
    SystemRandom().shuffle(rows)
    return [*rows, _entry(twice), _entry(again), *repeated, _entry("last/1.md")]


def _refused(batch: list[Entry], there: set[str]) -> dict[int, str | None]:
    """What the table refuses, by index, with the name of the constraint.

    The server asks for NULL first, then for its checks in the order of their names, and for uniqueness last.
    """
    refused: dict[int, str | None] = {}
    for index, entry in enumerate(batch):
        if entry["title"] is None:
            refused[index] = None
        elif entry["content_hash"] is not None and len(entry["content_hash"]) != 32:
            refused[index] = HASH
        elif entry["status"] not in GOOD:
            refused[index] = STATUS
        elif entry["source"] in there:
            refused[index] = SOURCE
        else:
            there.add(entry["source"])
    return refused


def _in_place_of(entry: Entry, after: dict[str, Any], batch: list[Entry]) -> bool:
    """True if the entry is not stored: nothing is, or another entry of the same source."""
    stored = after.get(entry["source"])
    rivals = [other for other in batch if other["source"] == entry["source"] and other != entry]
    return stored is None or any(other.items() <= stored.items() for other in rivals)


async def _caller_works(session: AsyncSession, user_id: UUID, source: str, name: str) -> Document:
    """Two changes that nobody else sees yet; the object that one of them made."""
    document = Document(user_id=user_id, source=source, title="The caller's own")
    session.add(document)
    await session.flush()
    await session.execute(text("UPDATE users SET name = :name WHERE id = :id"), {"name": name, "id": user_id})
    return document


async def _documents(attempt: Attempt, user_id: UUID) -> dict[str, Any]:
    """The user's documents by source."""
    rows = await attempt.sql(
        "SELECT source, id, title, status, content_hash, arrived FROM documents WHERE user_id = :id", id=user_id
    )
    return {row[0]: dict(zip(rows.columns, row, strict=True)) for row in rows}


async def _name(attempt: Attempt, user_id: UUID) -> str:
    name: str = await attempt.value("SELECT name FROM users WHERE id = :id", id=user_id)
    return name
