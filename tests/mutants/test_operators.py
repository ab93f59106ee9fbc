"""The mutator makes the mistakes it is meant to make, each once, and nothing that is no Python."""

from __future__ import annotations

import ast

import pytest

from course_lib.exercises.manifest import find_exercise
from tests.mutants import judge as judging
from tests.mutants.answers import RightAnswer, right_answers
from tests.mutants.judge import Judge
from tests.mutants.mutate import Mutant, mutants_of
from tests.mutants.results import Equal
from tests.mutants.running import of_many_kinds
from tests.mutants.sql_changes import changes_of

QUERY = """
async def answer(session, email, n):
    statement = select(User).join(Document).where(User.email == email, User.tier > 1)
    statement = statement.order_by(User.name, User.id.desc()).limit(n).with_for_update()
    await session.commit()
    return (await session.scalars(statement)).all()
"""
SQL = """
async def answer(session, email, n):
    found = await session.scalars(text("SELECT id FROM users WHERE email = :email LIMIT :n"), {"email": email, "n": n})
    return found.all()
"""
FLOW = """
async def answer(sessions, work):
    for _ in range(5):
        try:
            async with sessions.begin() as session:
                return await work(session)
        except DBAPIError as error:
            if error.late:
                raise
    moment = datetime.now(UTC)
    return left - right, items[:n], moment, row.id is None
"""
STATEMENT = """SELECT DISTINCT a.id FROM a LEFT JOIN b ON b.id = a.id AND b.kind = 'x, y'
    WHERE (a.n <= 3 OR a.n BETWEEN 5 AND 7) AND user_id = :me
    UNION SELECT id FROM c ORDER BY id DESC, (SELECT 1 LIMIT 1) LIMIT 10 FOR UPDATE SKIP LOCKED"""


def small(source: str) -> RightAnswer:
    return RightAnswer("0.1", "small", source.lstrip(), "", ("answer",))


def made(source: str) -> list[Mutant]:
    return mutants_of(small(source))


@pytest.mark.parametrize(
    ("source", "operator", "line"),
    [
        (QUERY, "drop WHERE", "statement = select(User).join(Document)"),
        (QUERY, "drop the owner", "statement = select(User).join(Document).where(User.tier > 1)"),
        (QUERY, "drop a condition", "statement = select(User).join(Document).where(User.email == email)"),
        (QUERY, "shift a bound", "where(User.email == email, User.tier >= 1)"),
        (QUERY, "turn a comparison", "where(User.email == email, User.tier < 1)"),
        (QUERY, "bind to f-string", """where(text(f"users.email = '{email}'"), User.tier > 1)"""),
        (QUERY, "a pattern", "where(User.email.ilike(email), User.tier > 1)"),
        (QUERY, "inner/outer join", "select(User).outerjoin(Document)"),
        (QUERY, "drop ORDER BY", "statement = statement.limit(n).with_for_update()"),
        (QUERY, "drop a key of ORDER BY", "statement.order_by(User.name).limit(n)"),
        (QUERY, "asc/desc", "statement.order_by(User.name.desc(), User.id.desc())"),
        (QUERY, "asc/desc", "statement.order_by(User.name, User.id)"),
        (QUERY, "drop LIMIT", "statement.order_by(User.name, User.id.desc()).with_for_update()"),
        (QUERY, "shift a bound", ".limit(n + 1)"),
        (QUERY, "drop a lock", ".limit(n)"),
        (QUERY, "weaken a lock", ".with_for_update(read=True)"),
        (QUERY, "drop a commit", "await session.flush()"),
        (QUERY, "drop a commit", "pass"),
        (QUERY, "distinct", "select(User).distinct()"),
        (QUERY, "rows for values", "await session.execute(statement)"),
        (QUERY, "relax a type", "return tuple("),
        (QUERY, "swallow", "except Exception: ⏎ pass"),
        (SQL, "drop the owner", "SELECT id FROM users  LIMIT :n"),
        (SQL, "bind to f-string", "f\"SELECT id FROM users WHERE email = '{email}' LIMIT :n\""),
        (SQL, "shift a bound", "LIMIT :n - 1"),
        (FLOW, "retry once", "for _ in range(1):"),
        (FLOW, "widen an except", "except exc.SQLAlchemyError as error:"),
        (FLOW, "narrow an except", "except exc.IntegrityError as error:"),
        (FLOW, "swallow", "return None"),
        (FLOW, "drop a guard", "if True:"),
        (FLOW, "first only", "break"),
        (FLOW, "drop a commit", "async with sessions() as session:"),
        (FLOW, "aware to naive", "moment = datetime.now()"),
        (FLOW, "swap operands", "return (right - left), items[:n]"),
        (FLOW, "shift a bound", "items[:n + 1]"),
        (FLOW, "turn a comparison", "row.id is not None"),
        (FLOW, "truth for None", "(not row.id)"),
        (FLOW, "relax a type", "return list((left - right"),
    ],
)
def test_a_mistake_is_made(source: str, operator: str, line: str) -> None:
    found = [mutant.change for mutant in made(source) if mutant.operator == operator]
    assert [change for change in found if line in change.partition(" → ")[2]], found


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("distinct", "SELECT a.id FROM a LEFT JOIN"),
        ("inner/outer join", "FROM a JOIN b"),
        ("drop a condition", "ON b.id = a.id\n"),
        ("drop a condition", "WHERE (a.n BETWEEN 5 AND 7) AND user_id"),
        ("drop a condition", "WHERE user_id = :me"),
        ("drop the owner", "BETWEEN 5 AND 7)\n"),
        ("drop WHERE", "'x, y'\n    \n    UNION"),
        ("union", "UNION ALL SELECT"),
        ("asc/desc", "ORDER BY id ASC, ("),
        ("drop a key of ORDER BY", "ORDER BY id DESC LIMIT 10"),
        ("drop a key of ORDER BY", "ORDER BY (SELECT 1 LIMIT 1) LIMIT 10"),
        ("drop LIMIT", "LIMIT 1)  FOR UPDATE"),
        ("drop a lock", "LIMIT 1) LIMIT 10"),
        ("weaken a lock", "FOR SHARE SKIP LOCKED"),
        ("weaken a lock", "FOR UPDATE NOWAIT"),
        ("shift a bound", "a.n < 3"),
        ("shift a bound", "BETWEEN 5 AND 8"),
        ("and/or", "WHERE (a.n <= 3 AND a.n"),
    ],
)
def test_a_mistake_is_made_in_sql(kind: str, text: str) -> None:
    found = [changed for name, changed in changes_of(STATEMENT) if name == kind]
    assert [changed for changed in found if text in changed or changed.endswith(text)], found


def test_the_and_of_a_between_and_what_stands_in_quotes_are_left_alone() -> None:
    assert all("BETWEEN 5 OR" not in changed for _, changed in changes_of(STATEMENT))
    assert all("'x, y'" in changed for kind, changed in changes_of(STATEMENT) if "kind =" in changed)


@pytest.mark.parametrize("source", [QUERY, SQL, FLOW])
def test_all_mutants_are_python_and_no_two_are_the_same(source: str) -> None:
    found = made(source)
    assert len({mutant.source for mutant in found} | {small(source).source}) == len(found) + 1
    assert len({mutant.key for mutant in found}) == len(found)
    for mutant in found:
        ast.parse(mutant.source)


def test_docstrings_and_decorators_are_left_alone() -> None:
    source = '@keep(5)\ndef answer():\n    """WHERE is it? AND why: 7."""\n    return 3\n'
    assert all(
        '@keep(5)\ndef answer():\n    """WHERE is it? AND why: 7."""' in mutant.source for mutant in made(source)
    )


def test_an_answer_in_a_file_keeps_the_other_names_of_the_file() -> None:
    answer = next(one for one in right_answers(find_exercise("3.1")) if one.name == "one_tree_of_objects")
    mutant = next(one for one in mutants_of(answer) if one.operator == "drop a commit")
    loaded = answer.load(mutant.source)
    assert loaded.__name__ == "one_tree_of_objects"
    assert loaded.__globals__["begin_inside_the_session"] is not None
    assert mutant.source.count("\n") in (answer.source.count("\n"), answer.source.count("\n") + 1)


def test_a_helper_is_changed_with_the_first_answer_that_uses_it() -> None:
    owners = [one.name for one in right_answers(find_exercise("3.7")) if ("can_be_taken",) in one.own]
    assert owners == ["Right"]
    owned = {path for one in right_answers(find_exercise("1.2")) for path in one.own}
    assert ("row_unpacked",) in owned
    assert ("row",) not in owned, "a local name is no use of a definition of that name"


def test_a_mutant_that_ends_its_process_or_never_ends_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with Judge() as judge:
        assert judge.judge(small("answer = ..."), "raise ValueError").mistake == "does not load"
        assert judge.judge(small("answer = ..."), "__import__('os')._exit(0)").mistake == "ended the process"
        assert judge.judge(small("answer = ..."), "raise ValueError").mistake == "does not load"
        monkeypatch.setattr(judging, "SECONDS", 1)
        assert judge.judge(small("answer = ..."), "while True: pass").mistake == "never ended"


def test_a_reason_means_the_mutants_it_describes_and_no_others() -> None:
    one = Equal(("0.1",), "relax a type", ("return tuple(",), "A tuple is a list.", ("small",))
    assert one.means("0.1 · small · relax a type · return x.all() → return tuple(x.all())")
    assert not one.means("0.1 · other · relax a type · return x.all() → return tuple(x.all())")
    assert not one.means("0.2 · small · relax a type · return x.all() → return tuple(x.all())")
    whole = Equal(("0.1",), "relax a type", ("return 1 → return 2",), "As the statement says.")
    assert whole.means("0.1 · small · relax a type · return 1 → return 2")
    assert not whole.means("0.1 · small · relax a type · return 1 → return 2 #2")
    assert not one.means("0.1 · small · swallow · return x.all() → return tuple(x.all())")


def test_several_kinds_may_be_asked_for() -> None:
    assert {mutant.operator for mutant in mutants_of(small(QUERY), "lock,asc")} == {
        "drop a lock",
        "weaken a lock",
        "asc/desc",
    }


def test_a_few_of_an_answer_are_of_many_kinds() -> None:
    found = of_many_kinds(made(QUERY), 5, "a seed")
    assert len({mutant.operator for mutant in found}) == 5
    assert found == of_many_kinds(made(QUERY), 5, "a seed")


def test_no_break_comes_behind_the_last_word_of_a_loop() -> None:
    loop = "def answer(items):\n    for item in items:\n        print(item)\n        {last}\n"
    assert [mutant for mutant in made(loop.format(last="item += 1")) if mutant.operator == "first only"]
    assert not [mutant for mutant in made(loop.format(last="break")) if mutant.operator == "first only"]
