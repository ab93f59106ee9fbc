"""J1: a list that NULL empties, and one that NULL shortens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import shuffle
from secrets import choice, randbelow, token_hex
from typing import Any, ClassVar
from uuid import UUID

from course_lib.judging.asking import ask, expect_list, expect_news
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.staging import add_rows, add_user

BEGAN = datetime(2026, 3, 1, 8, tzinfo=UTC)
METAS: dict[str, tuple[dict[str, Any], ...]] = {
    "foreign": ({"language": "de"}, {"language": "en-GB"}, {"language": "EN", "pages": 2}),
    "unsaid": ({}, {"pages": 3}, {"language": None}, {"author": "en"}),
    "english": ({"language": "en"}, {"language": "en", "pages": 9}),
    "has a job": ({"language": "fr"}, {}, {"language": "es"}),
    "not ready": ({"language": "it"}, {}),
}
"""Of each kind of document on stage what its ``meta`` says."""
WANTED, UNWANTED = ("foreign", "unsaid"), ("english", "has a job", "not ready")


class ToTranslate(Drill):
    """NOT IN and != where there are NULLs."""

    id = "J1"
    title = "The translators have nothing to do"
    answer = "to_translate"
    minutes = 8
    level = "junior"
    topics: ClassVar = ("sql",)
    faults: ClassVar = ("empty", "unsaid")
    hints: ClassVar = (
        "Run the inner SELECT by itself on the tables that the product has today: which values come out of it?",
        "`x NOT IN (1, NULL)` is never true: whether x equals the unknown value is unknown. What asks for rows that "
        "have no counterpart, and is not confused by that?",
        "`NOT EXISTS`, or `IS NOT NULL` in the inner SELECT. Then look at the other comparison: what is "
        "`NULL != 'en'`?",
    )
    why = (
        "A comparison with NULL is neither true nor false, and WHERE keeps what is true. One job without a document "
        "puts a NULL into the list, and NOT IN is true for no row any more. `!=` has the same trap on a smaller scale: "
        "it drops the rows whose language is not set. NOT EXISTS and IS DISTINCT FROM mean what one says aloud."
    )
    follow_up = "Which of `NOT IN`, `NOT EXISTS` and a LEFT JOIN with `IS NULL` can PostgreSQL run as an anti-join?"
    mistakes: ClassVar = {
        "nothing returned": "`to_translate` returned None. | The code as it was found returned a list.",
        "not a list": "`to_translate` returned {kind}, and a list of titles was asked for. | `.all()` makes one.",
        "not titles": "The list holds {kind}, and titles were asked for. | `scalars` gives the only column itself.",
        "empty": "`to_translate` returned no title for a user who has {count} documents to translate. "
        "| That is what was reported. Which value can make the condition on `id` true for nobody?",
        "unsaid": "{count} of {total} documents are missing, all of them without a language in `meta`. "
        "| What is `NULL != 'en'`?",
        "strangers": "{count} titles came that the user does not have. | Is the owner still a condition?",
        "english": "{count} titles came of documents whose `meta` says that they are English. "
        "| Only that language is left out, and only where it is said.",
        "has a job": "{count} titles came of documents that a job is for. | Whatever the state of that job.",
        "not ready": "{count} titles came of documents that are not `ready`. | The status is a condition, too.",
        "missing": "{count} of {total} documents did not come. "
        "| Those of each language but English and of no language, if no job is for them.",
        "twice": "{count} titles came twice. | A join gives a row for each pair.",
        "order": "The right titles came in another order. | Oldest first by `created_at`, as before.",
    }

    async def judge(self, attempt: Attempt) -> None:
        mine, stranger = await add_user(attempt), await add_user(attempt)
        await attempt.sql("INSERT INTO jobs (kind) SELECT 'sweep' FROM generate_series(1, 3)")
        others = {document.title for document in await _stage(attempt, stranger)}
        staged = await _stage(attempt, mine)
        before = await self._look_at(attempt, mine, staged, others)
        staged += await _stage(attempt, mine, hours=1)
        await self._look_at(attempt, mine, staged, others, before)

    async def _look_at(
        self, attempt: Attempt, user_id: UUID, staged: list[Staged], others: set[str], before: list[str] | None = None
    ) -> list[str]:
        found = list(expect_list(attempt, await ask(attempt, user_id)))
        odd = next((item for item in found if not isinstance(item, str)), None)
        attempt.expect(odd is None, "not titles", kind=article(odd))
        wanted = [document.title for document in staged if document.kind in WANTED]
        attempt.expect(bool(found), "empty", count=len(wanted))
        expect_news(attempt, before, found)
        strangers = others & set(found)
        attempt.expect(not strangers, "strangers", count=len(strangers))
        kinds = {document.title: document.kind for document in staged}
        for kind in UNWANTED:
            odd_ones = [title for title in found if kinds.get(title) == kind]
            attempt.expect(not odd_ones, kind, count=len(odd_ones))
        attempt.expect(len(set(found)) == len(found), "twice", count=len(found) - len(set(found)))
        missing = [title for title in wanted if title not in found]
        unsaid = {kinds[title] for title in missing} == {"unsaid"}
        attempt.expect(not missing, "unsaid" if unsaid else "missing", count=len(missing), total=len(wanted))
        attempt.expect(found == wanted, "order")
        return found


@dataclass(frozen=True)
class Staged:
    """A document on stage, and why it is or is not to be translated."""

    title: str
    kind: str


async def _stage(attempt: Attempt, user_id: UUID, hours: int = 0) -> list[Staged]:
    """Documents of all kinds, oldest first; written in another order."""
    kinds = [(kind, meta) for kind, metas in METAS.items() for meta in metas]
    shuffle(kinds)
    rows, staged = [], []
    for place, (kind, meta) in enumerate(kinds):
        moment = BEGAN + timedelta(hours=hours, minutes=place, microseconds=randbelow(1000))
        status = choice(("uploaded", "processing", "failed")) if kind == "not ready" else "ready"
        staged.append(Staged(f"Draft {token_hex(4)}", kind))
        rows.append({
            "user_id": user_id, "title": staged[-1].title, "source": f"upload/{token_hex(6)}", "status": status,
            "meta": meta, "content_hash": f"\\x{token_hex(32)}", "created_at": moment,
        })  # fmt: skip
    await add_rows(attempt, "documents", rows[::-1])
    busy = [document.title for document in staged if document.kind == "has a job"]
    await attempt.sql(  # each in another state
        "INSERT INTO jobs (kind, document_id, status) SELECT 'embed', id, "
        "(ARRAY['queued', 'done', 'failed'])[array_position(CAST(:busy AS text[]), title)] "
        "FROM documents WHERE title = ANY(CAST(:busy AS text[]))", busy=busy,
    )  # fmt: skip
    return staged
