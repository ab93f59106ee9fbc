"""2.5: some of the children, in a session that may know all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from course_lib.exercises.lesson_02.scenes.belongings import give_belongings
from course_lib.exercises.lesson_02.scenes.going_on import go_on
from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, NOT_UNIQUE, naming_lazy_loads
from course_lib.judging.asking import ask, expect_list, expect_news, fetched, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article_of_pair, kind_of
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user
from course_lib.judging.threads import Groups, Thread, add_threads, is_group
from course_lib.models import Conversation, Message

CONVERSATIONS = 24
CUT = 7  # one message of so many was cut off
STATEMENTS = 2
KINDS: dict[str, Any] = {"aborted": CUT, "tied": False, "gap": 3, "awkward": True}
Cuts = list[tuple[Thread, list[str]]]
Look = tuple[dict[str, Any], list[dict[str, Any]]]  # columns of a conversation, and of each of its messages


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
        "strangers": "{count} titles or texts came that are in no conversation of the user. "
        "| Is the owner a condition of the query?",
        "pieces": "{count} texts came that are a piece of a message's text, and not the whole. "
        "| Cut off, or joined and split again: whatever separates texts can stand in one. Gather them in an array.",
        "whole messages too": "{count} texts came that were not cut off. "
        "| Only what is `aborted` is asked for, and a condition on conversations says nothing of their messages.",
        "empty groups": "{count} conversations came without any text. "
        "| Only those in which something was cut off are asked for.",
        "twice": "{count} texts came more often than once. "
        "| A second join multiplies rows. A condition on conversations can be an `exists`, or `.any(…)`.",
        "merged": "{count} lines hold texts of several conversations. "
        "| Group by the id. A title is no key.",
        "incomplete": "{count} texts that were cut off did not come. | All of them, in every conversation.",
        "torn apart": "A conversation came as several lines. | One line for each, with all its texts.",
        "order of messages": "The texts of {count} conversations are not in the order of `seq`. "
        "| A join has no order of its own: `order_by`.",
        "order": "The right texts came, but not in lines that are newest first by `updated_at`. "
        "| Order by it, descending.",
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
        threads = await add_threads(attempt, mine, sizes, **KINDS)
        await add_threads(attempt, stranger, [20] * 3, aborted=2)
        await give_belongings(attempt)
        await add_double(attempt, mine)
        wanted = _cuts(threads)
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
        threads = await go_on(attempt, threads, **KINDS)
        await self._leaves_a_session_in_use_alone(attempt, mine, threads, found)
        await expect_errors_to_rise(attempt, mine)

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
        said = Counter(text for _, texts in found for text in texts)
        own = {text for thread in threads for text in (thread.title, *thread.contents)}
        home = {text: thread.id for thread, cut in wanted for text in cut}
        strangers = [text for title, texts in found for text in (title, *texts) if text not in own]
        pieces = sum(any(text in whole for whole in own) for text in strangers)
        attempt.expect(pieces < len(strangers) or not strangers, "pieces", count=pieces)
        attempt.expect(not strangers, "strangers", count=len(strangers))
        whole = sum(times for text, times in said.items() if text not in home)
        attempt.expect(not whole, "whole messages too", count=whole)
        empty = sum(not texts for _, texts in found)
        attempt.expect(not empty, "empty groups", count=empty)
        cut_off = Counter(text for _, cut in wanted for text in cut)
        twice = (said - cut_off).total()
        attempt.expect(not twice, "twice", count=twice)
        merged = sum(len({home[text] for text in texts}) > 1 for _, texts in found)
        attempt.expect(not merged, "merged", count=merged)
        missing = (cut_off - said).total()
        attempt.expect(not missing, "incomplete", count=missing)
        attempt.expect(len(found) == len(wanted), "torn apart")
        cuts = {thread.id: cut for thread, cut in wanted}
        unordered = sum(texts != cuts[home[texts[0]]] for _, texts in found)
        attempt.expect(not unordered, "order of messages", count=unordered)
        raise attempt.wrong("order")

    async def _leaves_a_session_in_use_alone(
        self, attempt: Attempt, user_id: UUID, threads: list[Thread], before: Groups
    ) -> None:
        wanted = _cuts(threads)
        statement = select(Conversation).where(Conversation.user_id == user_id)
        async with attempt.session() as session:
            held = (await session.scalars(statement.options(selectinload(Conversation.messages)))).all()
            await session.commit()
            as_it_was = [_look_of(conversation) for conversation in held]
            found = await self._ask(attempt, user_id, session)
            expect_news(attempt, before, found)
            known = {text for _, cut in wanted for text in cut}
            whole = sum(text not in known for _, texts in found for text in texts)
            attempt.expect(whole == 0, "already loaded", count=whole)
            self._compare(attempt, found, wanted, threads)
            try:
                await session.commit()
            except SQLAlchemyError as error:
                raise attempt.wrong("commit fails", error=kind_of(error)) from error
            what = _damage(held, as_it_was, session)
            attempt.expect(not what, "damaged", what=what)


def _cuts(threads: list[Thread]) -> Cuts:
    """Those in which something was cut off, with the texts of that."""
    cuts = [
        (thread, [message["content"] for message in thread.messages if message["status"] == "aborted"])
        for thread in threads
    ]
    return [(thread, texts) for thread, texts in cuts if texts]


def _look_of(conversation: Conversation) -> Look:
    """What its holder sees of it and of its messages; columns that have to be loaded again are not among it."""
    messages = vars(conversation).get("messages", ())
    return _columns(conversation), [_columns(message) for message in messages]


def _columns(item: Conversation | Message) -> dict[str, Any]:
    return {name: value for name, value in vars(item).items() if name in item.__table__.columns}


def _damage(held: Sequence[Conversation], as_it_was: list[Look], session: AsyncSession) -> str:
    """What happened to the objects that were in the session before; empty when nothing did."""
    gone = sum(conversation not in session for conversation in held)
    if gone:
        return f"{gone} of {len(held)} conversations had left the session"
    unreadable = sum("messages" in inspect(conversation).unloaded for conversation in held)
    if unreadable:
        return f"the messages of {unreadable} of {len(held)} conversations had to be loaded again"
    pairs = list(zip(held, as_it_was, strict=True))
    short = sum(len(conversation.messages) < len(messages) for conversation, (_, messages) in pairs)
    if short:
        return f"{short} of {len(held)} conversations had lost messages"
    changed = sum(_look_of(conversation) != look for conversation, look in pairs)
    return f"{changed} of {len(held)} conversations were not the same as before" if changed else ""
