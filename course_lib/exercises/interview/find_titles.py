"""J6: what a user types is no pattern."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import ClassVar
from uuid import UUID

from course_lib.judging.asking import ask, calling_it, expect_list, expect_news
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user
from course_lib.judging.threads import shuffled

BEGAN = datetime(2026, 3, 1, 8, tzinfo=UTC)
TRAPS = ("user-id or user_id", "1000 of 100%", "Our Refunds", "No refunds", "A user_id")
"""The newest: they hold what is typed, and begin with it only to a pattern, or not at all."""
SHAPES = (
    "100% cotton", "Only 100% cotton", "100 shades of %", "1000 nights", "Room 100 and 99%",
    "user_id", "user-id", "userXid", "The user-id and the user_id", "ser_id",
    "C:\\temp", "In C:\\temp", "C:temp", "C:\\\\temp", "Ends with \\",
    "What's new", "not: what's old", "Whats new", "[a-z]+", "see [A-Z]+", "abc", "a.c", "(x", "$1 :name {0}",
    "  two blanks", "x two blanks", "REFUNDS", "refunds", "Refunds 2026",
)  # fmt: skip
TYPED = (
    "100%", "%", "_", "user_id", "R_", "C:\\temp", "\\", "\\\\", "What's", "'", "[a-z]+", ".", "a.c", "(", "$1",
    ":name", "{0}", "  ", "refunds", "REFUNDS", "reFunds 2", "user-ID", "nothing like it", "%_%", "*", "^a", "|",
)  # fmt: skip
MANY, LIMIT = 30, 7


@dataclass(frozen=True)
class Titled:
    """A document on stage; ``age`` orders them, the newest has 0."""

    title: str
    age: int


class FindTitles(Drill):
    """LIKE takes a pattern, and a search box takes a text."""

    id = "J6"
    title = "100% finds everything"
    answer = "find_titles"
    minutes = 10
    level = "junior"
    topics: ClassVar = ("search", "sql")
    faults: ClassVar = ("no match", "capitals", "first ones")
    hints: ClassVar = (
        "Print the pattern that is sent for `100%` and for `user_id`. Which of its signs mean themselves?",
        "`%` and `_` stand for other signs, and a backslash takes that from the sign after it. What is typed has to go "
        "through that before it becomes a pattern, at every place where there is one. And what does LIKE say of `A` "
        "and `a`?",
        "`icontains(text, autoescape=True)` and `istartswith(text, autoescape=True)` do both. Without patterns there "
        "is `strpos(lower(title), lower(text))`, which is 1 for a title that begins with it.",
    )
    why = (
        "A bound parameter keeps a text from becoming SQL; it does not keep it from becoming a pattern, which LIKE "
        "reads a second time. So the text is escaped, or compared by a function that knows no patterns. The order is a "
        "condition like any other, and needs the same repair as the WHERE."
    )
    follow_up = "The table has grown to ten million titles. Which index can serve `ILIKE '%text%'`, and which cannot?"
    mistakes: ClassVar = {
        "not a list": "`find_titles` returned {kind}, and a list of titles was asked for. | `.all()` makes one.",
        "not titles": "The list holds {kind}, and titles were asked for. | `scalars` gives the only column itself.",
        "no match": "For {typed!r} it found {title!r}, and that text does not stand in it. "
        "| That is what was reported. Which signs of a pattern mean something else than themselves?",
        "strangers": "For {typed!r} it found a title of another user. | An `or` beside it can undo a condition.",
        "fails": "For {typed!r} it raised {error}. | Any text may be typed, and is looked for as it is.",
        "capitals": "For {typed!r} it did not find {title!r}. | Capital and small letters are the same to a search.",
        "missed": "For {typed!r} it did not find {title!r}. "
        "| What was typed stands in it, sign for sign, blanks and backslashes too.",
        "too many": "For {typed!r} and a limit of {limit} it returned {count} titles. | At most as many as the limit.",
        "too few": "For {typed!r} and a limit of {limit} it returned {count} titles, and more fit. "
        "| The limit comes after all conditions.",
        "twice": "For {typed!r} it returned {title!r} {count} times. | One line for each document.",
        "first ones": "For {typed!r} the title {title!r} was preferred to {other!r}, which begins with what was typed, "
        "and the first does not. | In the order, too, it is a text and no pattern, and capitals do not matter.",
        "order": "For {typed!r} the title {title!r} was preferred to {other!r}, which is newer. "
        "| Among those that begin with the text the newest first, then among the others.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        mine, stranger = await add_user(attempt), await add_user(attempt)
        documents = await _stage(attempt, mine, SHAPES)
        documents += await _stage(attempt, mine, TRAPS, newer=1)
        await add_double(attempt, mine)
        theirs = {f"{shape} of somebody {token_hex(2)}" for shape in SHAPES}
        await _stage(attempt, stranger, tuple(theirs))
        said = {typed: await self._look_at(attempt, mine, documents, typed, theirs) for typed in TYPED}
        documents += await _stage(attempt, mine, tuple(f"Refunds {token_hex(3)}" for _ in range(MANY)), newer=2)
        found = await self._look_at(attempt, mine, documents, "refunds", theirs, limit=100)
        expect_news(attempt, said["refunds"], found)
        for typed in ("refunds", "e"):
            await self._look_at(attempt, mine, documents, typed, theirs, limit=LIMIT)
        await expect_errors_to_rise(attempt, mine, "refunds", 20)

    async def _look_at(
        self, attempt: Attempt, mine: UUID, documents: list[Titled], typed: str, theirs: set[str], limit: int = 50
    ) -> list[str]:
        found = await self._ask(attempt, mine, typed, limit)
        self._only_matches(attempt, found, documents, typed, theirs)
        wanted = _wanted(documents, typed)
        self._all_matches(attempt, found, wanted, typed, limit)
        self._in_order(attempt, found, wanted[:limit], typed)
        return found

    async def _ask(self, attempt: Attempt, mine: UUID, typed: str, limit: int) -> list[str]:
        with calling_it(attempt, "fails", typed=typed):
            found = await ask(attempt, mine, typed, limit)
        attempt.expect(found is not None, "not a list", kind="None")
        found = list(expect_list(attempt, found))
        odd = next((title for title in found if not isinstance(title, str)), "")
        attempt.expect(isinstance(odd, str), "not titles", kind=article(odd))
        return found

    def _only_matches(
        self, attempt: Attempt, found: list[str], documents: list[Titled], typed: str, theirs: set[str]
    ) -> None:
        odd = min((title for title in found if typed.lower() not in title.lower()), default=None)
        attempt.expect(odd is None, "no match", typed=typed, title=odd)
        attempt.expect(not theirs & set(found), "strangers", typed=typed)
        own = {document.title for document in documents}
        attempt.expect(own >= set(found), "strangers", typed=typed)
        twice = next((title for title in found if found.count(title) > 1), None)
        attempt.expect(twice is None, "twice", typed=typed, title=twice, count=found.count(twice or ""))

    def _all_matches(self, attempt: Attempt, found: list[str], wanted: list[str], typed: str, limit: int) -> None:
        attempt.expect(len(found) <= limit, "too many", typed=typed, limit=limit, count=len(found))
        if len(wanted) > limit:
            attempt.expect(len(found) == limit, "too few", typed=typed, limit=limit, count=len(found))
            return
        missing = [title for title in wanted if title not in found]
        exact = [title for title in missing if typed in title]
        attempt.expect(not exact, "missed", typed=typed, title=exact[0] if exact else "")
        attempt.expect(not missing, "capitals", typed=typed, title=missing[0] if missing else "")

    def _in_order(self, attempt: Attempt, found: list[str], wanted: list[str], typed: str) -> None:
        if found == wanted:
            return
        first = typed.lower()
        begin = [title.lower().startswith(first) for title in found]
        beginning = [title for title in wanted if title.lower().startswith(first)]
        if not all(begin[: len(beginning)]):
            place = begin.index(False)
            other = next(title for title in beginning if title not in found[:place])
            raise attempt.wrong("first ones", typed=typed, title=found[place], other=other)
        place = next(n for n, title in enumerate(found) if title != wanted[n])
        raise attempt.wrong("order", typed=typed, title=found[place], other=wanted[place])


def _wanted(documents: list[Titled], typed: str) -> list[str]:
    text = typed.lower()
    matching = [document for document in documents if text in document.title.lower()]
    matching.sort(key=lambda document: (not document.title.lower().startswith(text), document.age))
    return [document.title for document in matching]


async def _stage(attempt: Attempt, user_id: UUID, titles: tuple[str, ...], newer: int = 0) -> list[Titled]:
    """In a random order of age; those of a higher ``newer`` are newer than all of a lower one."""
    documents = [Titled(row, place - 100 * newer) for place, row in enumerate(_mixed(titles))]
    rows = [
        {"user_id": user_id, "source": f"upload/{token_hex(6)}", "title": document.title, "status": "ready",
         "meta": {}, "created_at": BEGAN - timedelta(hours=document.age), "updated_at": BEGAN}
        for document in documents
    ]  # fmt: skip
    await add_rows(attempt, "documents", shuffled(rows))
    return documents


def _mixed(titles: tuple[str, ...]) -> list[str]:
    return [row["title"] for row in shuffled([{"title": title} for title in titles])]
