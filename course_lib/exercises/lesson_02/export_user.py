"""2.6: a whole user, from several tables, without multiplying them with each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID, uuid4

from course_lib.exercises.lesson_02.scenes.going_on import go_on
from course_lib.exercises.lesson_02.scenes.lazy_loads import LOADED_ON_ACCESS, NOT_UNIQUE, naming_lazy_loads
from course_lib.exercises.lesson_02.scenes.papers import Paper, add_papers
from course_lib.judging.asking import ask, calling_it, expect_news, fetched, is_list, sent_most
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import add_double
from course_lib.judging.exercise import Exercise
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_user
from course_lib.judging.threads import Thread, add_threads, insert_threads, new_threads

STATEMENTS = 5
SIZES = (0, 4, 9, 2, 7, 12, 5, 3, 6, 8)  # messages of the conversations
MOST = 500  # conversations of one user
CHUNKS = (12, 0, 9, 15, 11, 8, 14, 10, 13)
BYTES = 400  # per row, beside the texts; a chunk's embedding alone has over 2,000
KINDS: dict[str, Any] = {"tied": False, "gap": 3, "awkward": True}
KEYS = ("name", "email", "documents", "conversations")
Export = dict[str, Any]


class ExportUser(Exercise):
    """Several collections of one parent, and a count."""

    id = "2.6"
    title = "Everything of a user"
    answer = "export_user"
    minutes = 15
    points = 2
    level = "mid"
    hints: ClassVar = (
        "A user has documents and conversations, and the two have nothing to do with each other. What does one join "
        "over both give?",
        "One query per collection is a fixed number of queries: the user, the documents with a count each, the "
        "conversations with `selectinload(Conversation.messages)`.",
        "Chunks are only counted: `select(Document.title, func.count(DocumentChunk.id)).outerjoin(Document.chunks)`, "
        "grouped by the document's id.",
    )
    why = (
        "Two collections in one join give every document with every message: rows multiply, counts with them. A query "
        "per collection adds up instead. Four or five round trips that never grow are cheap, and each query stays "
        "simple."
    )
    follow_up = (
        "Another session adds a conversation while yours is between two of these queries. Can the export contradict "
        "itself, and which isolation level would prevent it?"
    )
    mistakes: ClassVar = {
        "nothing returned": "`export_user` returned None for a user who exists. | Did you forget `return`? "
        "Or does a join drop a user who has nothing?",
        "not a dict": "`export_user` returned {kind}, and a dict was asked for. "
        "| `name`, `email`, `documents` and `conversations` are its keys.",
        "other shape": "{where} is {kind}, and {wanted} was asked for. | Compare with the example.",
        "keys": "{where} has no `{missing}`, only {keys}. | Compare with the example.",
        "not plain": "`json.dumps` refused the export: {error}. "
        "| Dicts, lists, texts and numbers only, no objects and no rows.",
        "loaded on access": LOADED_ON_ACCESS,
        "not unique": NOT_UNIQUE,
        "unknown user": "For an id that nobody has, it {did}. | None was asked for.",
        "profile": "The export says {said}, and that is not what the user's row says. "
        "| `name` and `email` are columns of `users`.",
        "strangers": "The export holds {count} titles of {what} that the user does not have. "
        "| Is the user a condition of this query?",
        "twice": "The export repeats {count} of the {what}. "
        "| A join over two collections repeats both.",
        "missing": "Of the user's {what}, {count} cannot be found in the export. "
        "| Those of every status, those without chunks or messages, and each of several with the same title.",
        "wrong chunks": "`chunks` is wrong in {count} of {total} documents, in one of them it is {said}. "
        "| Joined with something else, every chunk is counted several times; with nothing, `count(*)` is 1.",
        "other messages": "In {count} of {total} conversations the messages are not those that belong to it. "
        "| All of them, whatever their role and status, in the conversation of their `conversation_id`.",
        "order": "The {what} came in another order than asked for. | Documents by `title`, conversations by "
        "`created_at`, messages by `seq`.",
        "too many statements": "{count} statements were sent for one user with {conversations} conversations; "
        "the budget is {budget}. "
        "| Sent most often: `{repeated}`.",
        "multiplied": "{rows} rows were fetched for {documents} documents, {conversations} conversations and "
        "{messages} messages, {most} of them by one statement. "
        "| A join over two collections has a row for every pair. Ask for each on its own.",
        "loaded everything": "{rows} rows were fetched for {documents} documents, {conversations} conversations and "
        "{messages} messages. | Nothing is needed of a chunk but how many there are: let the server count.",
        "chunks travelled": "{bytes:,} bytes came for an export of {text:,} characters. "
        "| What is gathered in an array or a JSON is sent as well: let the server count the chunks.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        mine, stranger, newcomer = await add_user(attempt), await add_user(attempt), await add_user(attempt)
        papers = await add_papers(attempt, mine, [size + randbelow(3) * bool(size) for size in CHUNKS], words=3)
        sizes = [size + randbelow(2) * bool(size) for size in SIZES]
        threads = new_threads(mine, sizes + [int(place % 9 == 0) for place in range(MOST - len(sizes))], **KINDS)
        few, more = threads[: len(sizes)], threads[len(sizes) :]
        await insert_threads(attempt, few)
        await add_papers(attempt, stranger, [30], words=3)
        await add_threads(attempt, stranger, [30, 30, 30])
        await add_double(attempt, mine)
        before = await self._look_at(attempt, mine, papers, few)
        await self._compare(attempt, newcomer, await self._ask(attempt, newcomer), [], [])
        await self._knows_nobody(attempt)
        await insert_threads(attempt, more)
        gone, *papers = papers
        await attempt.sql("DELETE FROM documents WHERE id = :id", id=gone.id)
        await self._look_at(attempt, mine, papers, await go_on(attempt, threads, **KINDS), before)
        await expect_errors_to_rise(attempt, mine)

    async def _look_at(
        self, attempt: Attempt, user_id: UUID, papers: list[Paper], threads: list[Thread], before: Export | None = None
    ) -> Export:
        """What the answer says of the user, which is right; it said ``before`` when other rows were there."""
        export = await self._ask(attempt, user_id)
        log = attempt.log
        expect_news(attempt, before, export)
        await self._compare(attempt, user_id, export, papers, threads)
        attempt.expect(
            log.count <= STATEMENTS, "too many statements",
            count=log.count, conversations=len(threads), budget=STATEMENTS, repeated=sent_most(log),
        )  # fmt: skip
        rows, most = fetched(log), max((statement.received for statement in log.statements), default=0)
        messages = sum(len(thread.messages) for thread in threads)
        sizes = {"documents": len(papers), "conversations": len(threads), "messages": messages}
        few = rows <= 5 + 2 * (len(papers) + len(threads)) + messages
        pairs = len(papers) * max(1, messages)
        attempt.expect(few or most < pairs, "multiplied", rows=rows, most=most, **sizes)
        attempt.expect(few, "loaded everything", rows=rows, **sizes)
        text, received = len(json.dumps(export)), log.bytes_received
        light = received <= 2 * text + BYTES * (len(papers) + len(threads) + messages + 5)
        attempt.expect(light, "chunks travelled", bytes=received, text=text)
        return export

    async def _ask(self, attempt: Attempt, user_id: UUID) -> Export:
        with naming_lazy_loads(attempt):
            found = await ask(attempt, user_id)
        attempt.expect(found is not None, "nothing returned")
        attempt.expect(isinstance(found, Mapping), "not a dict", kind=article(found))
        try:
            export = json.loads(json.dumps(found))
        except (TypeError, ValueError) as error:
            raise attempt.wrong("not plain", error=str(error)) from error
        _expect_keys(attempt, "The export", export, KEYS)
        for document in _items(attempt, export, "documents"):
            _expect_keys(attempt, "A document", document, ("title", "chunks"))
            chunks = document["chunks"]
            is_number = isinstance(chunks, int)
            attempt.expect(is_number, "other shape", where="`chunks`", kind=article(chunks), wanted="a number")
        for conversation in _items(attempt, export, "conversations"):
            _expect_keys(attempt, "A conversation", conversation, ("title", "messages"))
            for message in _items(attempt, conversation, "messages"):
                _expect_keys(attempt, "A message", message, ("role", "content"))
        found_export: Export = export
        return found_export

    async def _compare(
        self, attempt: Attempt, user_id: UUID, export: Export, papers: list[Paper], threads: list[Thread]
    ) -> None:
        row = await attempt.sql("SELECT name, email FROM users WHERE id = :id", id=user_id)
        said = {"name": export["name"], "email": export["email"]}
        attempt.expect((said["name"], said["email"]) == row[0], "profile", said=said)
        titles = [document["title"] for document in export["documents"]]
        _expect_same(attempt, "documents", titles, [paper.title for paper in papers])
        counts = Counter((document["title"], document["chunks"]) for document in export["documents"])
        wrong = list((counts - Counter((paper.title, len(paper.chunks)) for paper in papers)).elements())
        said_of_one = wrong[0][1] if wrong else None
        attempt.expect(not wrong, "wrong chunks", count=len(wrong), total=len(papers), said=said_of_one)
        self._compare_conversations(attempt, export["conversations"], threads)

    def _compare_conversations(self, attempt: Attempt, found: Sequence[Export], threads: list[Thread]) -> None:
        threads = sorted(threads, key=lambda thread: thread.created_at)
        titles = [conversation["title"] for conversation in found]
        _expect_same(attempt, "conversations", titles, [thread.title for thread in threads])
        pairs = [
            (
                [(message["role"], message["content"]) for message in conversation["messages"]],
                [(message["role"], message["content"]) for message in thread.messages],
            )
            for conversation, thread in zip(found, threads, strict=True)
        ]
        other = sum(sorted(said, key=repr) != sorted(wanted, key=repr) for said, wanted in pairs)
        attempt.expect(not other, "other messages", count=other, total=len(pairs))
        attempt.expect(all(said == wanted for said, wanted in pairs), "order", what="messages")

    async def _knows_nobody(self, attempt: Attempt) -> None:
        with calling_it(attempt, "unknown user", did="raised an error"):
            found = await ask(attempt, uuid4())
        attempt.expect(found is None, "unknown user", did=f"returned {article(found)}")


def _expect_keys(attempt: Attempt, where: str, value: Any, keys: Sequence[str]) -> None:
    attempt.expect(isinstance(value, dict), "other shape", where=where, kind=article(value), wanted="a dict")
    missing = next((key for key in keys if key not in value), None)
    attempt.expect(missing is None, "keys", where=where, missing=missing, keys=", ".join(value) or "nothing")


def _items(attempt: Attempt, value: Export, key: str) -> Sequence[Any]:
    items: Any = value[key]
    attempt.expect(is_list(items), "other shape", where=f"`{key}`", kind=article(items), wanted="a list")
    found: Sequence[Any] = items
    return found


def _expect_same(attempt: Attempt, what: str, said: list[Any], wanted: list[str]) -> None:
    if said == wanted:
        return
    said = [str(title) for title in said]
    strangers = len(set(said) - set(wanted))
    attempt.expect(not strangers, "strangers", count=strangers, what=what)
    twice = sum(said.count(title) > wanted.count(title) for title in set(said))
    attempt.expect(not twice, "twice", count=twice, what=what)
    missing = len(wanted) - len(said)
    attempt.expect(missing == 0, "missing", count=missing, what=what)
    raise attempt.wrong("order", what=what)
