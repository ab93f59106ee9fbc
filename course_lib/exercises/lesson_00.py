"""Warm-ups: how checks, hints and progress work, on the smallest possible tasks."""

from __future__ import annotations

import json
from secrets import choice, randbelow, token_hex
from typing import ClassVar

from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import kind_of


class CountUsers(Exercise):
    """One value, computed and not remembered."""

    id = "0.1"
    title = "Count the users"
    answer = "count_users"
    minutes = 3
    hints: ClassVar = (
        "`await session.scalar(statement)` runs a statement and gives the first value of the first row.",
        'Let the server count: `select(func.count()).select_from(User)`, or `text("SELECT count(*) FROM users")`.',
    )
    why = "The server counts without sending a single user. Counting in Python would fetch every row to throw it away."
    follow_up = "When is `SELECT count(*)` slow in PostgreSQL, and what would you show instead on a page?"
    mistakes: ClassVar = {
        "nothing returned": "`count_users` returned None. | Did you forget `return`?",
        "not a number": "`count_users` returned {kind}, and a count is an int. | `scalar` gives the value itself.",
        "remembered": "It said {said} both before and after {added} users were added. | Ask the database each time.",
        "wrong number": "It said {said}, and that is not how many rows the table has. | Count rows of `users`.",
        "counted in Python": "{rows} rows were fetched in order to count them. | Let the server count: `count(*)`.",
    }

    async def judge(self, attempt: Attempt) -> None:
        before = await self._ask(attempt)
        added = 1 + randbelow(5)
        for _ in range(added):
            await attempt.sql(
                "INSERT INTO users (email, name) VALUES (:email, 'New')", email=f"{token_hex(4)}@example.org"
            )
        after = await self._ask(attempt)
        attempt.expect(after != before, "remembered", said=after, added=added)
        attempt.expect(after == await attempt.value("SELECT count(*) FROM users"), "wrong number", said=after)
        attempt.expect(attempt.log.rows <= 1, "counted in Python", rows=attempt.log.rows)

    async def _ask(self, attempt: Attempt) -> int:
        async with attempt.session() as session:
            said = await attempt.call(session)
        attempt.expect(said is not None, "nothing returned")
        attempt.expect(isinstance(said, int) and not isinstance(said, bool), "not a number", kind=kind_of(said))
        count: int = said
        return count


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
        "not a list": "`titles_of` returned {kind}; a list of titles was asked for. | Call `.all()` on the result.",
        "rows, not titles": "The list holds {kind} objects, and titles are texts. | Select the column, use `scalars`.",
        "strangers": "{count} of the titles belong to other users. | Filter by the owner's e-mail.",
        "missing": "{count} of the owner's titles are missing. | Is there a limit, or a filter too many?",
        "order": "The titles are right, their order is not. | Let the server sort: `order_by`.",
        "injection": "An e-mail with a quotation mark in it made the statement fail. "
        "| Pass the e-mail as a value, never inside the SQL text.",
    }

    async def judge(self, attempt: Attempt) -> None:
        email = await attempt.value("SELECT email FROM users ORDER BY random() LIMIT 1")
        await self._add_documents(attempt, email)
        wanted = (
            await attempt.sql(
                "SELECT title FROM documents JOIN users ON users.id = user_id WHERE email = :email ORDER BY title",
                email=email,
            )
        ).column("title")
        titles = await self._ask(attempt, email)
        strangers = [title for title in titles if title not in wanted]
        attempt.expect(not strangers, "strangers", count=len(strangers))
        attempt.expect(len(titles) >= len(wanted), "missing", count=len(wanted) - len(titles))
        attempt.expect(titles == wanted, "order")
        try:
            attempt.expect(await self._ask(attempt, "o'brien@example.org") == [], "strangers", count="some")
        except Wrong as wrong:
            raise (attempt.wrong("injection") if wrong.mistake == "raised" else wrong) from wrong

    async def _add_documents(self, attempt: Attempt, email: str) -> None:
        for letter in ("Z", choice("FKP"), "A"):  # stored in no order, whoever is drawn
            title = f"{letter} note {token_hex(3)}"
            await attempt.sql(
                """
                INSERT INTO documents (user_id, source, title)
                SELECT id, :title, :title FROM users WHERE email = :email
                """,
                title=title, email=email,
            )  # fmt: skip

    async def _ask(self, attempt: Attempt, email: str) -> list[str]:
        async with attempt.session() as session:
            titles = await attempt.call(session, email)
        attempt.expect(titles is not None, "nothing returned")
        attempt.expect(isinstance(titles, list | tuple), "not a list", kind=kind_of(titles))
        odd = next((title for title in titles if not isinstance(title, str)), None)
        attempt.expect(odd is None, "rows, not titles", kind=kind_of(odd))
        return list(titles)


class Nearest(Exercise):
    """The search of lesson 00, with its WHERE."""

    id = "0.3"
    title = "The nearest of one's own"
    answer = "nearest"
    points = 2
    minutes = 6
    hints: ClassVar = (
        "Two conditions and an order: the owner's e-mail, then distance to the vector, then a limit.",
        "`DocumentChunk.embedding.cosine_distance(vector)` is the ORM's `<=>`.",
        "Start from `select(DocumentChunk.content).join(Document).join(User)`.",
    )
    why = "The owner is a condition, the meaning is an order. One statement holds both, so neither can be forgotten."
    follow_up = "The user owns 1% of ten million passages, and there is an HNSW index. What can go wrong?"
    mistakes: ClassVar = {
        "nothing returned": "`nearest` returned None. | Did you forget `return`?",
        "not a list": "`nearest` returned {kind}; a list of texts was asked for. | Call `.all()` on the result.",
        "rows, not texts": "The list holds {kind} objects, not texts. | Select `DocumentChunk.content`, use `scalars`.",
        "wrong length": "{count} passages came back for n = {n}. | `limit(n)`.",
        "strangers": "{count} of the passages belong to somebody else. | Filter by the owner's e-mail.",
        "far": "The passages are the user's own, but nearer ones were left out. "
        "| Order by the distance, smallest first.",
        "order": "The right passages came back, not nearest first. | Let the server sort by distance.",
    }

    async def judge(self, attempt: Attempt) -> None:
        emails = await attempt.sql("SELECT email FROM users ORDER BY random() LIMIT 2")
        for email, n in zip(emails.column("email"), (4, 5 + randbelow(3)), strict=True):
            await self._search(attempt, email, n)

    async def _search(self, attempt: Attempt, email: str, n: int) -> None:
        """The nearest of one's own to a passage of somebody else, so that not all of the nearest are one's own."""
        vector = await attempt.value(
            """
            SELECT embedding::text FROM document_chunks AS c
            JOIN documents AS d ON d.id = c.document_id JOIN users AS u ON u.id = d.user_id
            WHERE email <> :email ORDER BY random() LIMIT 1
            """,
            email=email,
        )
        own = await attempt.sql(
            """
            SELECT content, embedding <=> CAST(:vector AS vector) AS distance FROM document_chunks AS c
            JOIN documents AS d ON d.id = c.document_id JOIN users AS u ON u.id = d.user_id
            WHERE email = :email ORDER BY 2
            """,
            vector=vector, email=email,
        )  # fmt: skip
        async with attempt.session() as session:
            found = await attempt.call(session, email, json.loads(vector), n)
        attempt.expect(found is not None, "nothing returned")
        attempt.expect(isinstance(found, list | tuple), "not a list", kind=kind_of(found))
        odd = next((text for text in found if not isinstance(text, str)), None)
        attempt.expect(odd is None, "rows, not texts", kind=kind_of(odd))
        attempt.expect(len(found) == n, "wrong length", count=len(found), n=n)
        strangers = [text for text in found if text not in own.column("content")]
        attempt.expect(not strangers, "strangers", count=len(strangers))
        wanted = own.column("content")[:n]
        attempt.expect(sorted(found) == sorted(wanted), "far")
        attempt.expect(list(found) == wanted, "order")


EXERCISES = [CountUsers, TitlesOf, Nearest]
