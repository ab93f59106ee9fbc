"""The warm-ups judge fairly: any right answer passes, every named mistake gets its own sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text

from course_lib.exercises import find_exercise, judge_answer
from course_lib.exercises.book import SOLUTIONS, exercise_notebook, solution_answer
from course_lib.models import Document, DocumentChunk, User

Answer = Callable[..., Any]


def own(vector: list[float], email: str) -> Any:
    """The user's own passages, nearest first."""
    statement = select(DocumentChunk.content).join(Document).join(User).where(User.email == email)
    return statement.order_by(DocumentChunk.embedding.cosine_distance(vector))


class Count:
    """Answers to 0.1."""

    class Right:
        async def in_sql(session):
            return (await session.execute(text("SELECT count(*) FROM users"))).scalar_one()

        async def by_the_key(session):
            return await session.scalar(select(func.count(User.id)))

        async def row_of_one(session):
            return (await session.execute(select(func.count()).select_from(User))).one()[0]

        async def distinct_mails(session):
            return await session.scalar(text("SELECT count(DISTINCT email) FROM users"))

    class Wrong:
        async def nothing_returned(session):
            await session.scalar(select(func.count()).select_from(User))

        async def not_a_number(session):
            return str(await session.scalar(select(func.count()).select_from(User)))

        async def remembered(session):
            return 8

        async def wrong_number(session):
            return await session.scalar(select(func.count()).select_from(User)) - 1

        async def counted_in_Python(session):
            return len((await session.scalars(select(User))).all())


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

        async def strangers(session, email):
            return (await session.scalars(select(Document.title).order_by(Document.title))).all()

        async def missing(session, email):
            statement = select(Document.title).join(User).where(User.email == email).order_by(Document.title)
            return (await session.scalars(statement.limit(5))).all()

        async def order__not_asked_for(session, email):
            statement = select(Document.title).join(User).where(User.email == email)
            return (await session.scalars(statement)).all()

        async def order(session, email):
            statement = select(Document.title).join(User).where(User.email == email).order_by(Document.title.desc())
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

        async def by_euclidean_distance_of_unit_vectors(session, email, vector, n):
            statement = select(DocumentChunk.content).join(Document).join(User).where(User.email == email)
            statement = statement.order_by(DocumentChunk.embedding.l2_distance(vector)).limit(n)
            return (await session.scalars(statement)).all()

    class Wrong:
        async def nothing_returned(session, email, vector, n):
            await session.scalars(own(vector, email).limit(n))

        async def not_a_list(session, email, vector, n):
            return await session.scalar(own(vector, email))

        async def rows_not_texts(session, email, vector, n):
            return (await session.execute(own(vector, email).limit(n))).all()

        async def wrong_length(session, email, vector, n):
            return (await session.scalars(own(vector, email))).all()

        async def strangers(session, email, vector, n):
            others = select(DocumentChunk.content).join(Document).join(User).where(User.email != email)
            return (await session.scalars(others.limit(n))).all()

        async def wrong_length__as_in_the_lesson(session, email, vector, n):
            return (await session.scalars(own(vector, email).limit(3))).all()

        async def strangers__everybody(session, email, vector, n):
            nearest = select(DocumentChunk.content).order_by(DocumentChunk.embedding.cosine_distance(vector))
            return (await session.scalars(nearest.limit(n))).all()

        async def strangers__as_in_the_lesson(session, email, vector, n):
            return (await session.scalars(own(vector, "bruno@example.org").limit(n))).all()

        async def far(session, email, vector, n):
            return (await session.scalars(own(vector, email))).all()[-n:]

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
