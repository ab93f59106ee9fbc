"""M5: a search over one's own and over shared documents, with a way past the condition that keeps tenants apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import shuffle
from secrets import randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.judging.asking import ask, expect_news, is_list
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user
from course_lib.models.documents import DIMENSIONS

BEGAN = datetime(2026, 4, 1, tzinfo=UTC)
VECTOR = str([1.0] + [0.0] * (DIMENSIONS - 1))
PAGE = 4  # fewer than there are
Pair = tuple[str, str]


class SharedSearch(Drill):
    """AND binds closer than OR, and each statement needs the condition."""

    id = "M5"
    title = "Somebody else's passage"
    answer = "search_passages"
    minutes = 12
    points = 2
    level = "mid"
    topics: ClassVar = ("tenants", "sql", "security", "search")
    faults: ClassVar = ("strangers", "total leaks")
    hints: ClassVar = (
        "Write down for which rows the WHERE is true, with all the parentheses that PostgreSQL sees. Which of AND and "
        "OR binds closer?",
        "A title that has the word is enough for a row, whatever else stands before the OR. Then look at the second "
        "statement with the same question: whose passages does it count?",
        "Keep what may be read apart from what is looked for: one subselect of the documents that this user may read, "
        "used in both statements, or one statement for both.",
    )
    why = (
        "`a AND b OR c` is `(a AND b) OR c`: the condition that keeps tenants apart held for one half of the search "
        "only. A number leaks as well as a text: whoever may count the passages with a word learns that it stands "
        "somewhere. When what may be read is written once and everything selects from that, no condition added later "
        "can get past it. Row-level security says the same in the database."
    )
    follow_up = (
        "How would you make sure that the next statement somebody writes over these tables cannot forget the condition?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`search_passages` returned None. | A dict with `passages` and `total`.",
        "not a page": "`search_passages` returned {kind}, and not a dict with a list of pairs as `passages` and an int "
        "as `total`. | As the code that was found did.",
        "strangers": "{count} of the passages belong to documents that the user may not read. "
        "| That is what was reported. For which rows is `a AND b OR c` true?",
        "total leaks": "`total` says {total}, and there are {count} such passages in documents that the user may read. "
        "| The others are somebody else's, and their number is none of the user's business.",
        "total of the page": "`total` says {total}, as many as `passages` holds, and the limit cut them off. "
        "| It counts all that were found.",
        "wrong total": "`total` says {total} for a search that finds another number of passages. "
        "| The same conditions as for the list, without the limit.",
        "not ready": "{count} of the passages belong to documents that are not `ready`. "
        "| It is a condition for a word in the title, too.",
        "without the word": "In {count} of the passages the word is neither in the text nor in the document's title. "
        "| One of the two is asked for.",
        "shared missing": "{count} passages of documents that others share with this user did not come. "
        "| `shared_with` names the user.",
        "titles missing": "{count} passages did not come whose document has the word in its title only. "
        "| A word in the title finds all passages of the document.",
        "missing": "{count} passages did not come that have the word and that the user may read. "
        "| In the text or in the title, in upper or lower case, of one's own documents and of shared ones.",
        "twice": "{count} passages came more than once. | Found by the title and by the text, it is still one.",
        "too many": "{count} passages came with a limit of {limit}. | The limit is for the list.",
        "too few": "{count} passages came with a limit of {limit}, and there are more. "
        "| What is left out after the LIMIT is missing on the page.",
        "order": "The right passages came in another order. "
        "| The document that was created last comes first, its passages by `chunk_index`.",
    }

    async def judge(self, attempt: Attempt) -> None:
        me, friend, stranger, nobody = [await add_user(attempt) for _ in range(4)]
        word = f"Lens_{token_hex(3)}"
        staged = await _stage(attempt, word, me, friend, stranger)
        before = await self._look_at(attempt, me, word, staged, len(staged) * 2)
        await self._look_at(attempt, me, word.lower(), staged, len(staged) * 2)
        await self._look_at(attempt, me, word, staged, PAGE)
        await self._finds_nothing(attempt, nobody, word)
        await self._finds_nothing(attempt, uuid4(), word)
        await self._finds_nothing(attempt, me, token_hex(8))
        staged += await _stage(attempt, word, me, friend, stranger, days=30)
        await self._look_at(attempt, me, word, staged, len(staged) * 2, before)
        await expect_errors_to_rise(attempt, me, word, PAGE)

    async def _ask(self, attempt: Attempt, *arguments: Any) -> tuple[list[Pair], int]:
        said = await ask(attempt, *arguments)
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, dict), "not a page", kind=article(said))
        passages, total = said.get("passages"), said.get("total")
        pairs = is_list(passages) and all(is_list(one) and len(one) == 2 for one in passages)
        attempt.expect(pairs and type(total) is int, "not a page", kind="a dict")
        return [(one[0], one[1]) for one in passages], total

    async def _finds_nothing(self, attempt: Attempt, user_id: UUID, word: str) -> None:
        found, total = await self._ask(attempt, user_id, word, PAGE)
        attempt.expect(not found, "strangers", count=len(found))
        attempt.expect(total == 0, "total leaks", total=total, count=0)

    async def _look_at(
        self, attempt: Attempt, user_id: UUID, word: str, staged: list[Passage], limit: int,
        before: list[Pair] | None = None,
    ) -> list[Pair]:  # fmt: skip
        found, total = await self._ask(attempt, user_id, word, limit)
        wanted = [passage for passage in sorted(staged, key=Passage.place) if passage.wanted]
        expect_news(attempt, before, found)
        self._nothing_else(attempt, found, staged)
        attempt.expect(len(found) <= limit, "too many", count=len(found), limit=limit)
        self._nothing_missing(attempt, found, wanted[:limit], limit)
        attempt.expect(found == [passage.pair for passage in wanted[:limit]], "order")
        attempt.expect(total == len(wanted) or total != len(found), "total of the page", total=total)
        attempt.expect(total <= len(wanted), "total leaks", total=total, count=len(wanted))
        attempt.expect(total == len(wanted), "wrong total", total=total)
        return found

    def _nothing_else(self, attempt: Attempt, found: list[Pair], staged: list[Passage]) -> None:
        kinds = {passage.pair: passage for passage in staged}
        odd = [kinds.get(pair) for pair in found]
        strangers = sum(passage is None or not passage.readable for passage in odd)
        attempt.expect(not strangers, "strangers", count=strangers)
        known = [passage for passage in odd if passage]
        unready = sum(not passage.ready for passage in known)
        attempt.expect(not unready, "not ready", count=unready)
        empty = sum(not passage.wanted for passage in known)
        attempt.expect(not empty, "without the word", count=empty)
        twice = sum(count > 1 for count in Counter(found).values())
        attempt.expect(not twice, "twice", count=twice)

    def _nothing_missing(self, attempt: Attempt, found: list[Pair], wanted: list[Passage], limit: int) -> None:
        missing = [passage for passage in wanted if passage.pair not in found]
        if not missing or len(found) == len(wanted):
            return  # as many in another order are the first of another order
        attempt.expect(len(wanted) < limit, "too few", count=len(found), limit=limit)
        shared, titles = [all(getattr(one, name) for one in missing) for name in ("shared", "title_only")]
        raise attempt.wrong(
            "shared missing" if shared else "titles missing" if titles else "missing", count=len(missing)
        )


@dataclass(frozen=True)
class Passage:
    """A passage on stage, and why it is or is not to be found."""

    title: str
    content: str
    created_at: datetime
    index: int
    readable: bool
    shared: bool
    ready: bool
    in_title: bool
    in_text: bool

    @property
    def pair(self) -> Pair:
        return self.title, self.content

    @property
    def wanted(self) -> bool:
        return self.readable and self.ready and (self.in_title or self.in_text)

    @property
    def title_only(self) -> bool:
        return self.in_title and not self.in_text

    def place(self) -> tuple[float, int]:
        """Where it stands in the list."""
        return -self.created_at.timestamp(), self.index


async def _stage(
    attempt: Attempt, word: str, me: UUID, friend: UUID, stranger: UUID, days: int = 0
) -> list[Passage]:  # fmt: skip
    """Documents of all kinds, each with the word in its title, in a text, in both and in none."""
    mine, others = {"shared_with": [str(me), str(stranger)]}, {"shared_with": [str(stranger)]}
    owners: list[tuple[UUID, dict[str, Any], bool, bool, str]] = [
        (me, {}, True, False, "ready"), (me, others, True, False, "ready"), (friend, mine, True, True, "ready"),
        (friend, {}, False, False, "ready"), (friend, others, False, False, "ready"),
        (stranger, {"shared_with": [], "reviewed_by": [str(me)]}, False, False, "ready"),
        (stranger, {"shared_with": None}, False, False, "ready"),
        (me, {}, True, False, "failed"), (friend, mine, True, True, "processing"),
    ]  # fmt: skip
    kinds = [
        (owner, *where) for owner in owners for where in ((True, False), (False, True), (True, True), (False,) * 2)
    ]
    shuffle(kinds)
    for kind in ((owners[3], True, True), (owners[7], True, True)):  # newest: whoever leaves out late leaves out these
        kinds.append(kinds.pop(kinds.index(kind)))
    documents, chunks, staged = [], [], []
    near = word.replace("_", "x")
    for place, ((owner, meta, readable, shared, status), in_title, in_text) in enumerate(kinds):
        title = f"{word.upper() if in_title else near} guide {token_hex(3)}"
        moment = BEGAN + timedelta(days=days, hours=place, microseconds=randbelow(999))
        documents.append({
            "id": uuid4(), "user_id": owner, "source": token_hex(6), "title": title, "status": status, "meta": meta,
            "created_at": moment,
        })  # fmt: skip
        for index in (0, 3):
            said = in_text and index == 3
            content = f"{token_hex(3)} {awkward_text()} {word if said else near}s"
            chunks.append({
                "document_id": documents[-1]["id"], "chunk_index": index, "content": content, "token_count": 5,
                "embedding": VECTOR, "embedding_model": "another-model",
            })  # fmt: skip
            staged.append(Passage(title, content, moment, index, readable, shared, status == "ready", in_title, said))
    await add_rows(attempt, "documents", documents[::-1])
    await add_rows(attempt, "document_chunks", chunks[::-1])
    return staged
