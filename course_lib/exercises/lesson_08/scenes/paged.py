"""Pages of documents, and the documents between which they end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from secrets import randbelow
from typing import Any, NamedTuple, Self
from uuid import UUID, uuid4

from course_lib.exercises.lesson_08.scenes.asking import asked_by
from course_lib.exercises.lesson_08.scenes.serving import Reply, Serving
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.quoting import article, one_line
from course_lib.judging.staging import add_rows

SAME = 6  # documents of one moment
MOMENT = timedelta(microseconds=1)

Item = tuple[str, str]  # id and title


class Page(NamedTuple):
    items: list[Item]
    next: str | None


class Pages:
    """One user's way through the pages of an app that is mounted at ``place``."""

    def __init__(self, attempt: Attempt, served: Serving, place: str, user: UUID) -> None:
        self.attempt, self.served, self.place, self.user = attempt, served, place, user

    async def ask(self, place: str = "", **asked: Any) -> Reply:
        """The response to a request, whatever it is, and whatever came out of the app."""
        path = f"{place or self.place}/documents"
        return await self.served.ask_anyway("GET", path, params=asked, headers=asked_by(self.user))

    async def get(self, **asked: Any) -> Page:
        """A page.

        Raises:
            Wrong: "not a page", which the exercise has to name.
        """
        reply = await self.served.ask("GET", f"{self.place}/documents", params=asked, headers=asked_by(self.user))
        what = "GET /documents" + (f" with {', '.join(asked)}" if asked else "")
        said = one_line(reply.text) if reply.status == 200 else f"status {reply.status}"
        try:
            page = Page([(str(item["id"]), item["title"]) for item in reply.json["items"]], reply.json["next"])
        except (TypeError, KeyError):
            raise self.attempt.wrong("not a page", what=what, said=said) from None
        self.attempt.expect(reply.status == 200, "not a page", what=what, said=said)
        text = page.next is None or isinstance(page.next, str)
        self.attempt.expect(text, "not a page", what=what, said=f"{article(page.next)} for `next`")
        return page


class Row(NamedTuple):
    """As the list is sorted, the other way round."""

    moment: datetime
    id: UUID
    title: str

    @property
    def item(self) -> Item:
        return str(self.id), self.title


class Shelf:
    """A user's documents, of which many came at the same moment and the others a microsecond later.

    The methods that change something say in words what they did, for the page that ends with ``last``.
    """

    def __init__(self, attempt: Attempt, user: UUID) -> None:
        self._attempt, self._user = attempt, user
        self._rows: list[Row] = []
        self._gone: list[Row] = []

    @classmethod
    async def filled(cls, attempt: Attempt, user: UUID, count: int) -> Self:
        shelf = cls(attempt, user)
        first = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=randbelow(10**7), microseconds=randbelow(10**6))
        rows = [Row(first + MOMENT * (number // SAME), uuid4(), awkward_text()) for number in range(count)]
        await shelf._add(*Random(randbelow(10**6)).sample(rows, count))
        return shelf

    def listed(self) -> list[Item]:
        """All of them, as the pages have them."""
        return [row.item for row in sorted(self._rows, reverse=True)]

    def behind(self, last: Item) -> list[Item]:
        """Those that stand behind this one now, whether it is still there or not."""
        place = self._known(last)
        return [row.item for row in sorted(self._rows, reverse=True) if row < place]

    async def add_on_top(self, _: Item) -> str:
        newest = max(self._rows).moment
        await self._add(*(Row(newest + MOMENT * more, uuid4(), awkward_text()) for more in (0, 1, 1)))
        return "newer documents were added"

    async def remove(self, last: Item) -> str:
        row = self._known(last)
        await self._attempt.sql("DELETE FROM documents WHERE id = :id", id=row.id)
        self._rows.remove(row)
        self._gone.append(row)
        return "the document at which the page ended was deleted"

    async def add_behind(self, last: Item) -> str:
        """The next one from now on."""
        row = self._known(last)
        others = [other.id.int for other in self._rows if other < row and other.moment == row.moment]
        await self._add(Row(row.moment, UUID(int=(row.id.int + max(others, default=0)) // 2), awkward_text()))
        return "a document of the same moment was added behind that at which the page ended"

    def _known(self, item: Item) -> Row:
        return next(row for row in (*self._rows, *self._gone) if row.item == item)

    async def _add(self, *rows: Row) -> None:
        self._rows += rows
        kept = {"user_id": self._user, "status": "ready", "meta": {}}
        columns = [
            {"id": row.id, "source": f"{row.id}.md", "title": row.title}
            | dict.fromkeys(("created_at", "updated_at"), row.moment.isoformat())
            | kept
            for row in rows
        ]
        await add_rows(self._attempt, "documents", columns)
