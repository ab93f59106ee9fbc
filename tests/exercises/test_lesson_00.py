"""The warm-ups judge fairly: any right answer passes, every named mistake gets its own sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import SOLUTIONS, exercise_notebook, solution_answer
from course_lib.models import Document, DocumentChunk, User

Answer = Callable[..., Any]


def nearness(vector: list[float]) -> Any:
    return DocumentChunk.embedding.cosine_distance(vector)


def own(vector: list[float], email: str, order: Any = None) -> Any:
    """The user's own passages, nearest first."""
    statement = select(DocumentChunk.content).join(Document).join(User).where(User.email == email)
    return statement.order_by(nearness(vector) if order is None else order)


NUMBERED = "(SELECT row_number() OVER (ORDER BY id) AS n FROM users) AS numbered"


class Count:
    """Answers to 0.1."""

    class Right:
        async def in_sql(session):
            return (await session.execute(text("SELECT count(*) FROM users"))).scalar_one()

        async def by_the_key(session):
            return await session.scalar(select(func.count(User.id)))

        async def row_of_one(session):
            return (await session.execute(select(func.count()).select_from(User))).one()[0]

        async def summed_over_tiers(session):
            per_tier = (await session.scalars(select(func.count()).select_from(User).group_by(User.tier))).all()
            return sum(per_tier)

    class Wrong:
        async def nothing_returned(session):
            await session.scalar(select(func.count()).select_from(User))

        async def not_a_number(session):
            return str(await session.scalar(select(func.count()).select_from(User)))

        async def remembered(session):
            return 8

        async def wrong_number(session):
            return await session.scalar(select(func.count()).select_from(User)) - 1

        async def nobody(session):
            return await session.scalar(select(func.max(text("n"))).select_from(text(NUMBERED)))

        async def counted_in_Python(session):
            return len((await session.scalars(select(User))).all())

        async def counted_in_Python__in_one_row(session):
            return len(await session.scalar(text("SELECT array_agg(id) FROM users")) or [])

        async def skipped(session):
            free = select(User.id).with_for_update(skip_locked=True).subquery()
            return await session.scalar(select(func.count()).select_from(free))


class Titles:
    """Answers to 0.2."""

    class Right:
        async def in_sql(session, email):
            sql = "SELECT title FROM documents JOIN users ON users.id = user_id WHERE email = :email ORDER BY title"
            return [title for (title,) in await session.execute(text(sql), {"email": email})]

        async def through_the_owner(session, email):
            user = await session.scalar(select(User).where(User.email == email))
            if user is None:
                return []
            return sorted(document.title for document in await user.awaitable_attrs.documents)

        async def as_a_tuple(session, email):
            statement = select(Document).join(User).where(User.email == email).order_by(Document.title)
            return tuple(document.title for document in await session.scalars(statement))

    class Wrong:
        async def nothing_returned(session, email):
            await session.scalars(select(Document.title))

        async def not_a_list(session, email):
            return await session.scalars(select(Document.title).join(User).where(User.email == email))

        async def rows_not_titles(session, email):
            statement = select(Document.title).join(User).where(User.email == email).order_by(Document.title)
            return (await session.execute(statement)).all()

        async def not_titles(session, email):
            titles = select(func.string_agg(Document.title, text("', ' ORDER BY documents.title"))).join(User)
            return (await session.scalar(titles.where(User.email == email)) or "").split(", ")

        async def strangers(session, email):
            return (await session.scalars(select(Document.title).order_by(Document.title))).all()

        async def strangers__by_a_pattern(session, email):
            statement = select(Document.title).join(User).where(User.email.ilike(email)).order_by(Document.title)
            return (await session.scalars(statement)).all()

        async def too_often(session, email):
            other = aliased(Document)
            statement = select(Document.title).join(User).where(User.email == email).order_by(Document.title)
            return (await session.scalars(statement.join(other, other.title == Document.title))).all()

        async def only_once(session, email):
            statement = select(Document.title).distinct().join(User).where(User.email == email)
            return (await session.scalars(statement.order_by(Document.title))).all()

        async def remembered(session, email, known={}):  # noqa: B006
            if email not in known:
                statement = select(Document.title).join(User).where(User.email == email).order_by(Document.title)
                known[email] = (await session.scalars(statement)).all()
            return known[email]

        async def unknown_user(session, email):
            user = (await session.scalars(select(User).where(User.email == email))).one()
            return sorted(document.title for document in await user.awaitable_attrs.documents)

        async def unknown_user__None(session, email):
            statement = select(func.array_agg(aggregate_order_by(Document.title, Document.title))).join(User)
            return await session.scalar(statement.where(User.email == email))

        async def no_documents(session, email):
            statement = select(Document.title).select_from(User).outerjoin(Document).where(User.email == email)
            return (await session.scalars(statement.order_by(Document.title))).all()

        async def loaded_everything(session, email):
            documents = await session.execute(select(Document.title, User.email).join(User))
            return sorted(title for title, owner in documents if owner == email)

        async def missing(session, email):
            statement = select(Document.title).join(User).where(User.email == email).order_by(Document.title)
            return (await session.scalars(statement.limit(5))).all()

        async def order__not_asked_for(session, email):
            statement = select(Document.title).join(User).where(User.email == email)
            return (await session.scalars(statement)).all()

        async def order(session, email):
            statement = select(Document.title).join(User).where(User.email == email).order_by(Document.title.desc())
            return (await session.scalars(statement)).all()

        async def order__of_the_sources(session, email):
            statement = select(Document.title).join(User).where(User.email == email).order_by(Document.source)
            return (await session.scalars(statement)).all()

        async def injection(session, email):
            sql = f"SELECT title FROM documents d JOIN users u ON u.id = user_id WHERE email = '{email}' ORDER BY title"
            return (await session.scalars(text(sql))).all()


class Near:
    """Answers to 0.3."""

    class Right:
        async def in_sql(session, email, vector, n):
            sql = """
                SELECT content FROM document_chunks c JOIN documents d ON d.id = document_id
                JOIN users u ON u.id = user_id WHERE email = :email
                ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :n
            """
            return (await session.scalars(text(sql), {"email": email, "vector": str(vector), "n": n})).all()

        async def cut_in_python(session, email, vector, n):
            return (await session.scalars(own(vector, email))).all()[:n]

        async def by_ids_of_documents(session, email, vector, n):
            mine = (await session.scalars(select(Document.id).join(User).where(User.email == email))).all()
            statement = select(DocumentChunk.content).where(DocumentChunk.document_id.in_(mine))
            return (await session.scalars(statement.order_by(nearness(vector)).limit(n))).all()

    class Wrong:
        async def nothing_returned(session, email, vector, n):
            await session.scalars(own(vector, email).limit(n))

        async def not_a_list(session, email, vector, n):
            return await session.scalar(own(vector, email))

        async def rows_not_texts(session, email, vector, n):
            return (await session.execute(own(vector, email).limit(n))).all()

        async def not_passages(session, email, vector, n):
            titles = select(Document.title).join(DocumentChunk).join(User).where(User.email == email)
            return (await session.scalars(titles.order_by(nearness(vector)).limit(n))).all()

        async def too_many(session, email, vector, n):
            return (await session.scalars(own(vector, email))).all()

        async def strangers(session, email, vector, n):
            others = select(DocumentChunk.content).join(Document).join(User).where(User.email != email)
            return (await session.scalars(others.limit(n))).all()

        async def too_few__as_in_the_lesson(session, email, vector, n):
            return (await session.scalars(own(vector, email).limit(3))).all()

        async def strangers__everybody(session, email, vector, n):
            nearest = select(DocumentChunk.content).order_by(nearness(vector))
            return (await session.scalars(nearest.limit(n))).all()

        async def too_few(session, email, vector, n):
            everybody = select(DocumentChunk.content, User.email).select_from(DocumentChunk).join(Document).join(User)
            rows = await session.execute(everybody.order_by(nearness(vector)).limit(n))
            return [row.content for row in rows if row.email == email]

        async def too_few__each_text_once(session, email, vector, n):
            return list(dict.fromkeys(await session.scalars(own(vector, email).limit(n))))

        async def injection(session, email, vector, n):
            owned = text(f"users.email = '{email}'")
            statement = select(DocumentChunk.content).join(Document).join(User).where(owned)
            return (await session.scalars(statement.order_by(nearness(vector)).limit(n))).all()

        async def loaded_everything(session, email, vector, n):
            everybody = select(DocumentChunk.content, User.email).select_from(DocumentChunk).join(Document).join(User)
            rows = await session.execute(everybody.order_by(nearness(vector)))
            return [row.content for row in rows if row.email == email][:n]

        async def far__euclidean(session, email, vector, n):
            order = DocumentChunk.embedding.l2_distance(vector)
            return (await session.scalars(own(vector, email, order).limit(n))).all()

        async def far(session, email, vector, n):
            return (await session.scalars(own(vector, email))).all()[-n:]

        async def no_passages(session, email, vector, n):
            found = (await session.scalars(own(vector, email).limit(n))).all()
            return found or None

        async def too_many__equally_near(session, email, vector, n):
            return (await session.scalars(own(vector, email).fetch(n, with_ties=True))).all()

        async def order__of_a_vector_cut_to_four_digits(session, email, vector, n):
            return (await session.scalars(own([round(number, 4) for number in vector], email).limit(n))).all()

        async def order(session, email, vector, n):
            return (await session.scalars(own(vector, email).limit(n))).all()[::-1]


ANSWERS = {"0.1": Count, "0.2": Titles, "0.3": Near}


def answers(kind: str) -> list[Any]:
    """(exercise id, name, answer) of all right or all wrong ones."""
    return [
        pytest.param(id, name.partition("__")[0], answer, id=f"{id} {name}")
        for id, group in ANSWERS.items()
        for name, answer in vars(getattr(group, kind)).items()
        if not name.startswith("__")
    ]


def plain(name: str) -> str:
    return name.replace("_", " ").replace(",", "")


@pytest.mark.parametrize("id", ANSWERS)
async def test_the_solution_passes_twice(id: str) -> None:
    exercise = find_exercise(id)
    for _ in range(2):
        verdict = await judge_answer(exercise, solution_answer(exercise))
        assert verdict.passed, str(verdict)


@pytest.mark.parametrize("id", ANSWERS)
async def test_the_stub_is_not_attempted(id: str) -> None:
    from course_lib.exercises.book import answer_of

    exercise = find_exercise(id)
    notebook = exercise_notebook(next(SOLUTIONS.glob("00_*.ipynb")))
    stub = next(cell.source for cell in notebook.cells if cell.id == f"answer-{id.replace('.', '-')}")
    assert (await judge_answer(exercise, answer_of(exercise, stub))).state == "not attempted"


@pytest.mark.parametrize(("id", "name", "answer"), answers("Right"))
async def test_other_right_answers_pass(id: str, name: str, answer: Answer) -> None:
    verdict = await judge_answer(find_exercise(id), answer)
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize(("id", "name", "answer"), answers("Wrong"))
async def test_each_mistake_gets_its_own_sentence(id: str, name: str, answer: Answer) -> None:
    verdict = await judge_answer(find_exercise(id), answer)
    assert plain(verdict.mistake) == plain(name), str(verdict)
    assert verdict == 0.0


@pytest.mark.parametrize("id", ANSWERS)
def test_every_named_mistake_is_tried(id: str) -> None:
    tried = {plain(name.partition("__")[0]) for name in vars(ANSWERS[id].Wrong) if not name.startswith("__")}
    assert tried == {plain(name) for name in find_exercise(id).mistakes}
