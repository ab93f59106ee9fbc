"""0.2: a filter and an order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from secrets import choice, token_hex
from typing import Any, ClassVar
from uuid import uuid4

from course_lib.exercises.lesson_00.scenes.owners import Owner, add_owners, expect_nothing, expect_texts
from course_lib.judging.asking import ask, calling_it, fetched
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import AWKWARD_TEXTS
from course_lib.judging.exercise import Exercise
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user, new_email
from course_lib.judging.threads import shuffled

DOCUMENTS = 101
ALIKE = 7  # titles of one name stand on both sides of whatever border between pages
MORE_ROWS = 10  # than the titles: for those who look the owner up first
STATUSES = ("ready", "uploaded", "processing", "failed")


class TitlesOf(Exercise):
    """A filter and an order."""

    id = "0.2"
    title = "Somebody's documents"
    answer = "titles_of"
    minutes = 4
    hints: ClassVar = (
        "Lesson 00 asked this question twice, in SQL and through the ORM. Either will do.",
        "Join documents to users, filter by e-mail, order by title: "
        "`select(Document.title).join(User).where(User.email == email).order_by(Document.title)`.",
        "`(await session.scalars(statement)).all()` gives the titles as a list.",
    )
    why = "Owner and order are conditions of the query. The e-mail travels as a value, so no text in it can become SQL."
    follow_up = "What happens to your query if the e-mail contains a quotation mark?"
    mistakes: ClassVar = {
        "nothing returned": "`titles_of` returned None. | Did you forget `return`?",
        "not a list": "`titles_of` returned {kind}; a list of titles was asked for. "
        "| `(await session.scalars(…)).all()` is a list.",
        "rows, not titles": "The list holds {kind}, and titles are texts. | Select the column, use `scalars`.",
        "not titles": "{count} of the texts are no document's title. "
        "| A title may hold any character: what is put together cannot always be taken apart again.",
        "strangers": "{count} of the titles belong to other users. | Is it this user, and nobody else, whose they are?",
        "too often": "{count} titles came more often than the owner has documents of that title. "
        "| Joins and products repeat rows: is there a table too many, or a condition missing?",
        "missing": "{count} of the owner's titles are missing. | Is there a limit, or a filter too many?",
        "only once": "Several documents have the same title, and {count} of them were left out. "
        "| A title for each document: two of the same name are two lines.",
        "order": "The titles are right, their order is not. | Let the server sort: `order_by`.",
        "remembered": "After a document was added and another one renamed, the titles were the same as before. "
        "| Ask the database each time.",
        "unknown user": "For {email}, whom nobody knows, it {did}. "
        "| An empty list was asked for; `one` insists on a row, `all` does not.",
        "no documents": "For {email}, who has no document, it {did}. "
        "| An empty list was asked for: an outer join gives a row to who has nothing.",
        "injection": "For {email} it raised {error}, and for an e-mail without quotation mark and colon it did not. "
        "| Pass the e-mail as a value, never inside the SQL text.",
        "loaded everything": "{rows} rows were fetched for {count} titles. | Let the server filter: `where`.",
    }

    async def judge(self, attempt: Attempt) -> None:
        owners = await add_owners(attempt)
        await add_rows(attempt, "documents", shuffled([*_documents(owners.plain), *_of(owners.lookalikes)]))
        await add_rows(attempt, "documents", [*_few(owners.quoted, "K")])
        before = await self._finds(attempt, owners.plain)
        rows = fetched(attempt.log)
        await _change(attempt, owners.plain)
        await self._finds(attempt, owners.plain, before)
        await expect_nothing(attempt, "unknown user", new_email("nobody"))
        new = new_email("newcomer")
        await add_user(attempt, new)
        await expect_nothing(attempt, "no documents", new)
        with calling_it(attempt, "injection", email=owners.quoted.email):
            await self._finds(attempt, owners.quoted)
        attempt.expect(rows <= len(before) + MORE_ROWS, "loaded everything", rows=rows, count=len(before))
        await expect_errors_to_rise(attempt, owners.plain.email)

    async def _finds(self, attempt: Attempt, owner: Owner, before: list[str] | None = None) -> list[str]:
        titles = expect_texts(attempt, await ask(attempt, owner.email), "rows, not titles")
        library = await _library(attempt, owner)
        if not library.is_told_by(titles):
            attempt.expect(titles != before, "remembered")
            self._tell_what_differs(attempt, titles, library)
        return titles

    def _tell_what_differs(self, attempt: Attempt, titles: list[str], library: _Library) -> None:
        mine = Counter(library.titles)
        more, fewer = Counter(titles) - mine, mine - Counter(titles)
        invented = sum(count for title, count in more.items() if title not in library.of_all)
        attempt.expect(not invented, "not titles", count=invented)
        strangers = sum(count for title, count in more.items() if title not in mine)
        attempt.expect(not strangers, "strangers", count=strangers)
        attempt.expect(not more, "too often", count=more.total())
        once = bool(fewer) and set(mine) == set(titles)
        attempt.expect(not once, "only once", count=fewer.total())
        attempt.expect(not fewer, "missing", count=fewer.total())
        raise attempt.wrong("order")


@dataclass
class _Library:
    """Titles of somebody's documents as the server sorts them, and those of everybody."""

    titles: list[str]
    of_all: set[str]

    def is_told_by(self, titles: list[str]) -> bool:
        """Whether these are the titles, sorted by the server, by code points, or without regard to capitals."""
        capitals = [title.casefold() for title in titles]
        in_order = titles in (self.titles, sorted(self.titles)) or capitals == sorted(capitals)
        return in_order and sorted(titles) == sorted(self.titles)


async def _library(attempt: Attempt, owner: Owner) -> _Library:
    rows = await attempt.sql("SELECT title, user_id FROM documents ORDER BY title")
    return _Library([title for title, user_id in rows if user_id == owner.id], {title for title, _ in rows})


def _documents(owner: Owner) -> Iterator[dict[str, Any]]:
    """Titles of every kind, many of them several times, whose order is neither that of the sources nor of the ids."""
    odd = iter(["", "  two  blanks  in a row ", *AWKWARD_TEXTS])
    for place in range(DOCUMENTS):
        alike, alone = f"{'BHRZ'[place // ALIKE % 4]} handbook", f"{choice('ACFKLPT')}, {token_hex(3)}"
        title = alike if place < 8 * ALIKE else alone
        yield _document(owner, next(odd, title) if place % 3 == 0 else title, STATUSES[place % len(STATUSES)])


def _of(owners: list[Owner]) -> Iterator[dict[str, Any]]:
    for owner in owners:
        yield from _few(owner, "Q")


def _few(owner: Owner, letter: str) -> Iterator[dict[str, Any]]:
    for title in (f"{letter} list, {token_hex(3)}", f"B {letter} list", f"{letter} list"):
        yield _document(owner, title, "ready")


def _document(owner: Owner, title: str, status: str) -> dict[str, Any]:
    now = "2026-03-01T10:00Z"
    return {
        "id": uuid4(), "user_id": owner.id, "source": f"notes/{token_hex(4)}.md", "title": title, "status": status,
        "error": "it's broken" if status == "failed" else None, "meta": {}, "created_at": now, "updated_at": now,
    }  # fmt: skip


async def _change(attempt: Attempt, owner: Owner) -> None:
    """One document more, and one with another title."""
    await attempt.sql(
        """
        WITH added AS (INSERT INTO documents (user_id, source, title) VALUES (:id, 'new', :added))
        UPDATE documents SET title = :renamed
        WHERE id = (SELECT id FROM documents WHERE user_id = :id ORDER BY id LIMIT 1)
        """,
        id=owner.id, added=f"M note {token_hex(3)}", renamed=f"D note {token_hex(3)}",
    )  # fmt: skip
