"""The judge keeps its word whatever an answer does, and the next check is unaffected."""

from __future__ import annotations

import asyncio
import builtins
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from course_lib.errors import CourseError
from course_lib.exercises import CheckFailed, check, hint, judge_answer, solution
from course_lib.judging.record import Record
from course_lib.models import User
from course_lib.settings import get_settings
from tests.exercises.tortured import CountUsers, right, verdict_on


async def test_a_right_answer_is_worth_its_points() -> None:
    verdict = await verdict_on(right)
    assert verdict == 1.0
    assert verdict.passed
    assert repr(verdict) == "1.0"


async def test_twice_the_same_verdict() -> None:
    assert [str(await judge_answer(CountUsers(), right)) for _ in range(2)] == [str(await verdict_on(right))] * 2


async def test_a_value_learnt_by_heart_is_wrong() -> None:
    async def count(session: AsyncSession) -> int:
        return 8

    verdict = await verdict_on(count)
    assert verdict.mistake == "wrong number"
    assert "8" in str(verdict)
    assert "9" not in str(verdict).replace("0.9", ""), "the expected value is never told"


def plain(session: AsyncSession) -> int:
    return 8


async def forgotten_await_of_the_result(session: AsyncSession) -> Any:
    return session.scalar(text("SELECT 1"))


async def forgotten_return(session: AsyncSession) -> None:
    await session.scalar(text("SELECT count(*) FROM users"))


async def times_out_itself(session: AsyncSession) -> None:
    async with asyncio.timeout(0.01):
        await asyncio.sleep(1)


async def fails_as_tests_do(session: AsyncSession) -> None:
    pytest.fail("not my day")


async def raises(session: AsyncSession) -> None:
    raise ValueError("no such thing")


async def busy_for_ever(session: AsyncSession) -> None:
    while True:
        pass


async def busy_and_stubborn(session: AsyncSession) -> None:
    while True:
        try:
            sum(range(1000))
        except Exception:
            continue


async def asleep_for_ever(session: AsyncSession) -> None:
    await asyncio.sleep(1e9)


async def asleep_and_stubborn(session: AsyncSession) -> None:
    for _ in range(2):
        try:
            await asyncio.sleep(1e9)
        except asyncio.CancelledError:
            continue


async def recursive(session: AsyncSession) -> Any:
    return await recursive(session)


async def leaves_the_program(session: AsyncSession) -> None:
    sys.exit(1)


async def interrupts(session: AsyncSession) -> None:
    raise KeyboardInterrupt


async def wrong_arguments() -> int:
    return 8


async def fails_in_sql(session: AsyncSession) -> Any:
    return await session.scalar(text("SELECT count(*) FROM userz"))


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (plain, "not async", "plain function"),
        (forgotten_await_of_the_result, "forgotten await", "`await` is missing"),
        (forgotten_return, "wrong number", "None"),
        (raises, "raised", "ValueError: no such thing"),
        (times_out_itself, "raised", "TimeoutError"),
        (fails_as_tests_do, "raised", "Failed: not my day"),
        (busy_for_ever, "endless", "2 seconds"),
        (busy_and_stubborn, "endless", "2 seconds"),
        (asleep_for_ever, "endless", "2 seconds"),
        (asleep_and_stubborn, "endless", "2 seconds"),
        (recursive, "raised", "RecursionError"),
        (leaves_the_program, "ended", "end the program"),
        (interrupts, "ended", "end the program"),
        (wrong_arguments, "raised", "TypeError"),
        (fails_in_sql, "raised", 'relation "userz" does not exist'),
        ("text", "not a function", "a str"),
        (42, "not a function", "an int"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_each_kind_of_trouble_gets_its_sentence(answer: Any, mistake: str, words: str) -> None:
    verdict = await verdict_on(answer)
    assert verdict == 0.0
    assert verdict.state == "wrong"
    assert (verdict.mistake, words in f"{verdict.finding.sentence}") == (mistake, True), str(verdict)


async def test_the_learners_own_line_is_named() -> None:
    verdict = await verdict_on(raises)
    assert 'raise ValueError("no such thing")' in verdict.finding.look


@pytest.mark.parametrize("body", ["...", "pass", "'''Count.'''", "raise NotImplementedError('your code')"])
async def test_a_stub_is_not_attempted(body: str, tmp_path: Any) -> None:
    module = tmp_path / "answer.py"
    module.write_text(f"async def count(session):\n    {body}\n")
    namespace: dict[str, Any] = {}
    exec(compile(module.read_text(), str(module), "exec"), namespace)
    verdict = await verdict_on(namespace["count"])
    assert verdict.state == "not attempted"
    assert "Not yet" not in str(verdict)


async def test_not_implemented_half_way_is_not_attempted() -> None:
    async def count(session: AsyncSession) -> None:
        if session:
            raise NotImplementedError

    assert (await verdict_on(count)).state == "not attempted"


async def test_anything_callable_that_gives_the_right_rows_is_right() -> None:
    import functools

    class Counter:
        async def __call__(self, session: AsyncSession) -> Any:
            return await right(session)

    async def with_default(session: AsyncSession, table: str = "users") -> Any:
        return await session.scalar(text(f"SELECT count(*) FROM {table}"))

    async def in_python(session: AsyncSession) -> int:
        return len((await session.scalars(select(User))).all())

    for answer in (
        Counter(),
        lambda session: right(session),
        functools.partial(with_default, table="users"),
        in_python,
    ):
        assert (await verdict_on(answer)).passed, answer


async def test_a_statement_that_waits_for_a_lock_is_stopped() -> None:
    async def count(session: AsyncSession) -> Any:
        await session.execute(text("UPDATE users SET name = name"))
        async with create_async_engine(session.bind.url).connect() as other:  # type: ignore[union-attr]
            return await other.scalar(text("UPDATE users SET name = name RETURNING 1"))

    exercise = CountUsers()
    exercise.seconds = 8.0  # type: ignore[misc]
    verdict = await judge_answer(exercise, count)
    assert verdict.mistake == "stopped"
    assert "waited for a lock" in str(verdict)
    assert (await judge_answer(CountUsers(), right)).passed


async def test_dropped_tables_and_changed_rows_do_not_reach_the_next_check() -> None:
    async def count(session: AsyncSession) -> Any:
        number = await right(session)
        await session.execute(text("DROP TABLE messages, document_chunks, jobs CASCADE"))
        await session.execute(text("DROP SCHEMA public CASCADE"))
        await session.commit()
        return number

    assert (await verdict_on(count)).mistake == "database broken"


async def test_an_open_transaction_is_noticed() -> None:
    kept = []

    async def count(session: AsyncSession) -> Any:
        engine = create_async_engine(session.bind.url)  # type: ignore[union-attr]
        connection = await engine.connect()
        kept.append(connection)
        return await connection.scalar(text("SELECT count(*) FROM users"))

    verdict = await verdict_on(count)
    assert verdict.mistake == "transaction open"


async def test_a_leaked_connection_is_noticed() -> None:
    kept = []

    async def count(session: AsyncSession) -> Any:
        connection = await session.bind.connect()  # type: ignore[union-attr]
        kept.append(connection)
        return await connection.scalar(text("SELECT count(*) FROM users"))

    assert (await verdict_on(count)).mistake == "connection held"


async def test_an_engine_of_ones_own_is_noticed_unless_it_is_disposed_of() -> None:
    async def careless(session: AsyncSession) -> Any:
        engine = create_async_engine(session.bind.url)  # type: ignore[union-attr]
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT count(*) FROM users"))

    async def careful(session: AsyncSession) -> Any:
        engine = create_async_engine(session.bind.url)  # type: ignore[union-attr]
        async with engine.connect() as connection:
            number = await connection.scalar(text("SELECT count(*) FROM users"))
        await engine.dispose()
        return number

    assert (await verdict_on(careless)).mistake == "own engine"
    assert (await verdict_on(careful)).passed


async def test_nothing_is_written_to_stderr_whatever_the_answer_writes(capfd: pytest.CaptureFixture[str]) -> None:
    async def count(session: AsyncSession) -> Any:
        print("a trace", file=sys.stderr)
        logging.getLogger("learner").error("a logged line")
        warnings.warn("a warning", stacklevel=1)
        session.scalar(text("SELECT 1"))  # never awaited
        return await right(session)

    verdict = await judge_answer(CountUsers(), count)
    assert verdict.passed
    assert capfd.readouterr().err == ""


async def test_what_the_answer_prints_stands_in_the_verdict(capfd: pytest.CaptureFixture[str]) -> None:
    async def count(session: AsyncSession) -> int:
        print("here I am")
        return 0

    verdict = await judge_answer(CountUsers(), count)
    assert "here I am" in str(verdict)
    assert capfd.readouterr().out == ""


async def test_a_forgotten_await_is_remarked_on_when_the_answer_is_wrong() -> None:
    async def count(session: AsyncSession) -> int:
        session.scalar(text("SELECT count(*) FROM users"))
        return 0

    assert "never awaited" in str(await judge_answer(CountUsers(), count))


async def test_redefined_builtins_do_not_disturb_the_judge() -> None:
    honest = builtins.len
    builtins.len = lambda _: 0  # type: ignore[assignment]
    try:
        assert (await judge_answer(CountUsers(), right)).passed
        assert builtins.len is not honest, "the learner's notebook stays as it was"
    finally:
        builtins.len = honest


async def test_no_database_and_no_connection_is_left() -> None:
    from course_lib.postgres import find_server, list_databases

    async def ours() -> set[str]:
        server = await find_server()
        async with server.connection() as connection:
            import os

            return {d.name for d in await list_databases(connection) if d.mark and d.mark.pid == os.getpid()}

    before = {name for name in await ours() if name.startswith("lesson_00")}
    for answer in (right, raises, asleep_for_ever, forgotten_return):
        await judge_answer(CountUsers(), answer)
    assert {name for name in await ours() if name.startswith("lesson_00")} == before


async def test_every_form_of_a_verdict_says_the_same() -> None:
    import re
    from html import unescape

    for answer in (right, raises, ...):
        verdict = await judge_answer(CountUsers(), answer)
        html = unescape(re.sub(r"<[^>]+>", "", verdict._repr_html_()))
        for _, words in verdict.paragraphs:
            first = words.split()[0]
            assert first.strip("`") in str(verdict)
            assert first.strip("`") in html
            assert first in verdict._repr_markdown_()


async def test_markup_in_an_answers_message_is_escaped() -> None:
    async def count(session: AsyncSession) -> None:
        raise ValueError("<script>alert(1)</script>")

    assert "<script>" not in (await judge_answer(CountUsers(), count))._repr_html_()


async def test_what_is_not_right_yet_has_its_hints_below_it_each_a_click_away() -> None:
    """The next one in the fold of the one before, and the plain form says how to ask."""
    for answer in (raises, ...):
        verdict = await judge_answer(CountUsers(), answer)
        for form in (verdict._repr_html_(), verdict._repr_markdown_()):
            summaries = [form.index(f"<summary>Hint {n} of {len(CountUsers.hints)}</summary>") for n in (1, 2)]
            assert form.count("<details>") == form.count("</details>") == len(CountUsers.hints)
            assert summaries == sorted(summaries) and "</details>" not in form[summaries[0] : summaries[1]]
            assert "open" not in form[summaries[0] - 20 : summaries[0]], "folded"
        assert '  next: hint("0.9") or, asked twice, solution("0.9")' in str(verdict)
        assert "Hint 1" not in str(verdict)
        assert repr(verdict) == "0.0"
    right_one = await verdict_on(right)
    assert "<details>" not in right_one._repr_html_() + right_one._repr_markdown_()


async def test_hints_in_a_verdict_are_none_that_were_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_WORK", str(tmp_path))
    get_settings.cache_clear()
    before = (await verdict_on(raises))._repr_html_()
    assert Record.load().hints == {}
    hint("0.1")
    assert (await verdict_on(raises))._repr_html_() == before, "so that a stored verdict is told again"


async def test_a_strict_check_raises_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "count_users", plain)
    with pytest.raises(CheckFailed, match="plain function"):
        await check("0.1", strict=True)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(CheckFailed):
        await check("0.1")
    monkeypatch.delenv("NBGRADER_EXECUTION")
    assert await check("0.1") == 0.0


@pytest.mark.parametrize("ask", [check, hint, solution])
@pytest.mark.parametrize(
    ("id", "mend"),
    [
        (1.10, 'Put quotes around it: "1.1" or "1.10"'),
        (1.3, 'Put quotes around it: "1.3"'),
        (3, 'Write it like this: "1.3"'),
        (float("nan"), 'Put quotes around it: "1.3"'),
    ],
)
def test_a_number_for_a_name_is_a_sentence(ask: Any, id: Any, mend: str) -> None:
    with pytest.raises(CourseError, match="An exercise has a name in quotes") as caught:
        ask(id)
    assert caught.value.mend == mend


@pytest.mark.parametrize("number", [9, -1, 1.5, "2", "one"])
def test_a_hint_that_is_not_there_is_a_sentence(number: Any) -> None:
    with pytest.raises(CourseError, match=r"1\.3 has 3 hints\.") as caught:
        hint("1.3", number)
    assert caught.value.mend == 'Try: hint("1.3", 1)'


async def test_an_unknown_exercise_is_a_sentence() -> None:
    with pytest.raises(CourseError, match="There is no exercise"):
        await check("7.99")
