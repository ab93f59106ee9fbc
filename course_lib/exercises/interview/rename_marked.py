"""J5: an UPDATE that finds its rows by what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from random import sample
from secrets import token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.judging.asking import ask
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double, awkward_text
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user

TITLES = ("New conversation", "Refunds", "Notes")
EACH = 4  # conversations of each title
TITLES_BY_ID = "SELECT id, user_id, title FROM conversations"
PRINT = """
    SELECT md5(coalesce(string_agg(c::text, '' ORDER BY c.id), '')) FROM conversations AS c
    WHERE NOT id = ANY(CAST(:ids AS uuid[]))
"""


@dataclass(frozen=True)
class Marked:
    """What is handed to the answer, and how it comes about."""

    what: str
    ids: list[UUID]
    own: set[UUID]
    """Those of ``ids`` that the user has."""
    title: str = ""
    """One that nobody has, if it is not said."""


class RenameMarked(Drill):
    """The rows to change are the user's, by their keys, and the count is the server's."""

    id = "J5"
    title = "Everybody's title changed"
    answer = "rename_marked"
    minutes = 8
    level = "junior"
    topics: ClassVar = ("sql", "tenants", "security")
    faults: ClassVar = ("strangers", "own others", "wrong count")
    hints: ClassVar = (
        "Two conversations of two users are called `New conversation`, and one of them is marked. Write down the "
        "UPDATE that is sent, with its values. Which rows does it meet?",
        "A title is no key. Which columns say that a row is one of those marked, and which that it is the user's? The "
        "statement that changes needs both, whatever a SELECT before it has looked at.",
        "One UPDATE with two conditions, on `id` and on `user_id`. How many rows it met is in the result: `rowcount`, "
        "or count what `returning` gives.",
    )
    why = (
        "A check in one statement does not bind the next one: the SELECT asked whose the conversations are, and the "
        "UPDATE asked something else. With key and owner in the UPDATE itself there is nothing to remember in between, "
        "and the server knows how many rows it met, which the length of the request does not say."
    )
    follow_up = (
        "The ids come from a browser. What does the answer tell who sends the ids of others, and what should it?"
    )
    mistakes: ClassVar = {
        "strangers": "{count} conversations of other users have another title now. "
        "| That is what was reported. Is the owner a condition of the statement that changes?",
        "own others": "{count} conversations of the user that were not marked have another title now. "
        "| Two may be called the same.",
        "not renamed": "Of {total} marked conversations of the user {count} do not have the new title, called with "
        "{what}. | What the user does not have is passed over, and the others are renamed.",
        "not stored": "It returned, and for other connections no conversation has the new title. "
        "| What makes it last?",
        "wrong count": "Called with {what}, it returned {said}, and it renamed another number of conversations. "
        "| What was asked for is not what was done.",
        "not a number": "It returned {kind}, and a number was asked for. | How many were renamed.",
        "others changed": "Called with {what}, it removed conversations, or changed another column of some. "
        "| Only titles of marked conversations change.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        mine, stranger = await add_user(attempt), await add_user(attempt)
        own, theirs = await _stage(attempt, mine), await _stage(attempt, stranger)
        await add_double(attempt, mine)
        marked = [ids[place] for ids in own.values() for place in (0, 2)]
        some = {marked[0], marked[2], *marked[4:]}
        foreign = [ids[1] for ids in theirs.values()]
        title = _new_title()
        for scene in (
            Marked("conversations of the user", [*some], some, title),
            Marked("the same conversations and title again", [*some], some, title),
            Marked("one id twice", [marked[0], marked[0], marked[1]], {marked[0], marked[1]}),
            Marked("two of the user's and some of another user's", [*foreign, *marked[:2]], {*marked[:2]}),
            Marked("one of the user's and one that is gone", [uuid4(), marked[3]], {marked[3]}),
            Marked("conversations of another user", foreign, set()),
            Marked("no conversation at all", [], set()),
        ):
            await self._renames(attempt, mine, scene)
        await expect_errors_to_rise(attempt, mine, marked, "Never")

    async def _renames(self, attempt: Attempt, mine: UUID, marked: Marked) -> None:
        title = marked.title or _new_title()
        before, print_ = await _titles(attempt), await _print(attempt, marked)
        said = await ask(attempt, mine, list(marked.ids), title)
        after = await _titles(attempt)
        changed = {id for id, (owner, old) in before.items() if after.get(id, (owner, old))[1] != old}
        strangers = [id for id in changed if before[id][0] != mine]
        attempt.expect(not strangers, "strangers", count=len(strangers))
        beside = changed - marked.own
        attempt.expect(not beside, "own others", count=len(beside))
        untouched = await _print(attempt, marked) == print_ and before.keys() == after.keys()
        attempt.expect(untouched, "others changed", what=marked.what)
        missing = [id for id in marked.own if after[id][1] != title]
        nothing = bool(missing) and not changed and set(marked.ids) == marked.own
        attempt.expect(not nothing, "not stored")
        attempt.expect(not missing, "not renamed", count=len(missing), total=len(marked.own), what=marked.what)
        attempt.expect(type(said) is int, "not a number", kind=article(said))
        attempt.expect(said == len(marked.own), "wrong count", said=said, what=marked.what)


def _new_title() -> str:
    return f"Archive {token_hex(3)}{awkward_text()}"


async def _stage(attempt: Attempt, user_id: UUID) -> dict[str, list[UUID]]:
    """Conversations by title; many have the same."""
    own = {title: [uuid4() for _ in range(EACH)] for title in TITLES}
    rows = [{"id": id, "user_id": user_id, "title": title} for title, ids in own.items() for id in ids]
    moments = {"created_at": "2026-03-01T08:00Z", "updated_at": "2026-03-01T09:00Z"}
    await add_rows(attempt, "conversations", [row | moments for row in sample(rows, len(rows))])
    return own


async def _titles(attempt: Attempt) -> dict[UUID, tuple[UUID, str]]:
    """Owner and title of every conversation."""
    return {id: (owner, title) for id, owner, title in await attempt.sql(TITLES_BY_ID)}


async def _print(attempt: Attempt, marked: Marked) -> Any:
    """It changes with any conversation that is not marked."""
    return await attempt.value(PRINT, ids=[str(id) for id in marked.own])
