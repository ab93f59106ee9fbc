"""2.5: some of the children, in a session that may know all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID, uuid4

from sqlalchemy import inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, NOT_UNIQUE, naming_lazy_loads
from course_lib.judging.asking import ask, expect_list, fetched, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article_of_pair, kind_of
from course_lib.judging.staging import add_user
from course_lib.judging.threads import Groups, Thread, add_threads, is_group
from course_lib.models import Conversation

CONVERSATIONS = 24
CUT = 7  # one message of so many was cut off
STATEMENTS = 2
Cuts = list[tuple[Thread, list[str]]]


class CutOffAnswers(Exercise):
    """Matching children only, without touching what a session holds."""

    id = "2.5"
    title = "Only what was cut off"
    answer = "cut_off_answers"
    minutes = 12
    points = 2
    level = "mid"
    hints: ClassVar = (
        "A relationship's collection means *all* of its rows. What would the rest of the program believe if it held "
        "only some of them?",
        "You need no `Conversation` objects to answer. Messages joined with their conversation are enough: title and "
        "content per row, in the right order.",
        "Rows of `(conversation id, title, content)`, ordered by `updated_at` descending and `seq`. Group them in "
        "Python by the id, since titles are not unique.",
    )
    why = (
        "Rows of columns belong to nobody: filtering them harms nothing. A filtered collection (`contains_eager`, "
        "`selectinload(….and_(…))`) sits in the session as if it were complete, and an object that is there already "
        "keeps the collection it has, so the filter is not even seen."
    )
    follow_up = (
        "You do want objects with a filtered list. Which ways do you know to keep it apart from the full relationship?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`cut_off_answers` returned None. | Did you forget `return`?",
        "not a list": "`cut_off_answers` returned {kind}, and a list was asked for. "
        "| `[(title, [content, …]), …]`; a dict loses conversations that have the same title.",
        "not pairs": "The list holds {kind}, and pairs of a title and a list of texts were asked for. "
        "| `(title, [content, …])`, plain values, no objects.",
        "loaded on access": LOADED_ON_ACCESS,
        "not unique": NOT_UNIQUE,
        "strangers": "{count} of the texts are from conversations of other users. "
        "| Is the owner a condition of the query?",
        "whole messages too": "{count} texts came that were not cut off. "
        "| A condition on which conversations come says nothing about which of their messages do.",
        "empty groups": "{count} conversations came without any text. "
        "| Only those in which something was cut off are asked for.",
        "twice": "{count} texts came more often than once. "
        "| A second join multiplies rows. A condition on conversations can be an `exists`, or `.any(…)`.",
        "merged": "Texts of several conversations with the same title came as one. "
        "| Group by the id. A title is no key.",
        "incomplete": "{count} texts that were cut off did not come. | All of them, in every conversation.",
        "torn apart": "A conversation came as several lines. | One line for each, with all its texts.",
        "order of messages": "The texts of {count} conversations are not in the order of `seq`. "
        "| A join has no order of its own: `order_by`.",
        "order": "The right conversations came, but not newest first by `updated_at`. | Order by it, descending.",
        "too many statements": "{count} statements were sent for {total} lines; the budget is {budget}. "
        "| Sent most often: `{repeated}`.",
        "loaded everything": "{rows} rows were fetched to find {cut} texts in {total} of {all} conversations. "
        "| The status is a condition of the query.",
        "already loaded": "In a session that held the user's conversations already, {count} texts came that were not "
        "cut off. | An object keeps the collection it has, whatever you filter. Select columns instead.",
        "damaged": "After the call the objects of its caller were no longer as they had been: {what}. "
        "| The session is its caller's: do not end or empty it, and fill no relationship with a part of its rows.",
        "commit fails": "After the call its caller's commit failed with {error}. "
        "| Assigning to `.messages` changes the relationship: it takes the others out.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        mine, stranger, newcomer = await add_user(attempt), await add_user(attempt), await add_user(attempt)
        sizes = [(18, 0, 11, 4, 25)[place % 5] for place in range(CONVERSATIONS)]
        threads = await add_threads(attempt, mine, sizes, aborted=CUT, tied=False)
        await add_threads(attempt, stranger, [20] * 3, aborted=2)
        wanted = [(thread, cut) for thread in threads if (cut := _cut(thread))]
        found = await self._ask(attempt, mine)
        log = attempt.log
        self._compare(attempt, found, wanted, threads)
        total, texts = len(wanted), sum(len(cut) for _, cut in wanted)
        attempt.expect(
            log.count <= STATEMENTS, "too many statements",
            count=log.count, total=total, budget=STATEMENTS, repeated=sent_most(log),
        )  # fmt: skip
        rows, all = fetched(log), len(threads)
        attempt.expect(rows <= all + texts, "loaded everything", rows=rows, cut=texts, total=total, all=all)
        lines = await self._ask(attempt, newcomer if total % 2 else uuid4())
        attempt.expect(not lines, "strangers", count=len(lines))
        await self._leaves_a_session_in_use_alone(attempt, mine, wanted, threads)

    async def _ask(self, attempt: Attempt, user_id: UUID, session: AsyncSession | None = None) -> Groups:
        with naming_lazy_loads(attempt):
            found = await (ask(attempt, user_id) if session is None else attempt.call(session, user_id))
        found = expect_list(attempt, found)
        odd = [line for line in found if not is_group(line)]
        attempt.expect(not odd, "not pairs", kind=article_of_pair(odd[0]) if odd else "")
        return [(title, list(texts)) for title, texts in found]

    def _compare(self, attempt: Attempt, found: Groups, wanted: Cuts, threads: list[Thread]) -> None:
        if found == [(thread.title, cut) for thread, cut in wanted]:
            return
        said = [text for _, texts in found for text in texts]
        own = {text for thread in threads for text in thread.contents}
        home = {text: thread.id for thread, cut in wanted for text in cut}
        strangers = sum(text not in own for text in said)
        attempt.expect(not strangers, "strangers", count=strangers)
        whole = sum(text not in home for text in said)
        attempt.expect(not whole, "whole messages too", count=whole)
        empty = sum(not texts for _, texts in found)
        attempt.expect(not empty, "empty groups", count=empty)
        twice = len(said) - len(set(said))
        attempt.expect(not twice, "twice", count=twice)
        attempt.expect(all(len({home[text] for text in texts}) == 1 for _, texts in found), "merged")
        missing = len(set(home) - set(said))
        attempt.expect(not missing, "incomplete", count=missing)
        attempt.expect(len(found) == len(wanted), "torn apart")
        cuts = {thread.id: cut for thread, cut in wanted}
        unordered = sum(texts != cuts[home[texts[0]]] for _, texts in found)
        attempt.expect(not unordered, "order of messages", count=unordered)
        raise attempt.wrong("order")

    async def _leaves_a_session_in_use_alone(
        self, attempt: Attempt, user_id: UUID, wanted: Cuts, threads: list[Thread]
    ) -> None:
        contents = {thread.id: thread.contents for thread in threads}
        statement = select(Conversation).where(Conversation.user_id == user_id)
        async with attempt.session() as session:
            held = (await session.scalars(statement.options(selectinload(Conversation.messages)))).all()
            await session.commit()
            found = await self._ask(attempt, user_id, session)
            known = {text for _, cut in wanted for text in cut}
            whole = sum(text not in known for _, texts in found for text in texts)
            attempt.expect(whole == 0, "already loaded", count=whole)
            self._compare(attempt, found, wanted, threads)
            try:
                await session.commit()
            except SQLAlchemyError as error:
                raise attempt.wrong("commit fails", error=kind_of(error)) from error
            what = _damage(held, contents, session)
            attempt.expect(not what, "damaged", what=what)


def _cut(thread: Thread) -> list[str]:
    return [message["content"] for message in thread.messages if message["status"] == "aborted"]


def _damage(held: Sequence[Conversation], contents: dict[UUID, list[str]], session: AsyncSession) -> str:
    """What happened to the objects that were in the session before; empty when nothing did."""
    gone = sum(conversation not in session for conversation in held)
    if gone:
        return f"{gone} of {len(held)} conversations had left the session"
    unreadable = sum("messages" in inspect(conversation).unloaded for conversation in held)
    if unreadable:
        return f"the messages of {unreadable} of {len(held)} conversations had to be loaded again"
    short = sum(
        Counter(message.content for message in conversation.messages) != Counter(contents[conversation.id])
        for conversation in held
    )
    return f"{short} of {len(held)} conversations had lost messages" if short else ""
