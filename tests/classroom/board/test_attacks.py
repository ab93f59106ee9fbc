"""What a learner can do to the board: tell verdicts of their own, at a person's pace, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from course_lib.classroom.board import forget_learner, install
from tests.classroom.board.classes import WORD, Class, make_class, tell, verdict

REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidAuthorizationSpecificationError)


async def test_a_verdict_stands_under_the_name_of_who_logged_in(friday: Class) -> None:
    """Whatever it says itself."""
    mallory = await friday.enter("mallory")
    forged = verdict() | {"learner": "friday_ada", "session_user": "friday_ada", "role": "friday_ada"}
    await tell(mallory, [forged])
    await mallory.close()
    assert friday.standings() == {("mallory", "1.3"): ("wrong", "nothing returned", 1)}


FORBIDDEN = {
    "read all": "SELECT * FROM board.standings",
    "read names": "SELECT * FROM board.learners",
    "read ids": "SELECT * FROM board.received",
    "change": "UPDATE board.standings SET state = 'right'",
    "insert": "INSERT INTO board.standings VALUES ('friday_ada', '1.1', 'wrong', '', 9, now(), NULL, now())",
    "delete": "DELETE FROM board.standings",
    "truncate": "TRUNCATE board.standings",
    "lock": "BEGIN; LOCK TABLE board.standings",
    "lock by a row": "SELECT * FROM board.learners FOR UPDATE",
    "inner function": "SELECT board.stand(now(), '1.1', 'right', '')",
    "inner row": "SELECT board.own_row()",
    "another function": "CREATE OR REPLACE FUNCTION board.report(v jsonb) RETURNS uuid[] LANGUAGE sql AS 'SELECT $2'",
    "a function there": "CREATE FUNCTION board.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT $1'",
    "a schema": "CREATE SCHEMA friday_mallory",
    "a table in public": "CREATE TABLE public.heap (bytes text)",
    "a temporary table": "CREATE TEMPORARY TABLE standings (learner name)",
    "drop": "DROP SCHEMA board CASCADE",
    "another's role": "SET ROLE friday_ada",
    "another's login": "SET SESSION AUTHORIZATION friday_ada",
    "the group's role": "SET ROLE course_class_friday",
    "the teacher's role": "SET ROLE teacher",
    "sequence": "SELECT setval(pg_get_serial_sequence('board.received', 'number'), 1)",
}


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_nothing_else_is_allowed_in_the_class_database(friday: Class, name: str) -> None:
    ada, mallory = await friday.enter("ada"), await friday.enter("mallory")
    await tell(ada, [verdict("1.1", "right")])
    with pytest.raises(REFUSED):
        await mallory.execute(FORBIDDEN[name])
    assert friday.standings() == {("ada", "1.1"): ("right", "", 1)}
    await ada.close()
    await mallory.close()


async def test_settings_of_a_caller_change_nothing(friday: Class) -> None:
    """Where names are looked for, and how text becomes a time, is fixed in the functions."""
    mallory = await friday.enter("mallory")
    for setting in ("search_path = ''", "search_path = pg_temp, board, pg_catalog", "datestyle = 'German'",
                    "standard_conforming_strings = off", "timezone = 'Asia/Kolkata'"):  # fmt: skip
        await mallory.execute(f"SET {setting}")
        await tell(mallory, [verdict("1.2")])
    await mallory.close()
    assert friday.standings() == {("mallory", "1.2"): ("wrong", "nothing returned", 5)}


async def test_each_sees_their_own_rows(friday: Class) -> None:
    ada, mallory = await friday.enter("ada"), await friday.enter("mallory")
    await tell(ada, [verdict("1.1", "right"), verdict("1.2")])
    await tell(mallory, [verdict("2.1")])
    assert {row["exercise"] for row in await ada.fetch("SELECT * FROM board.mine()")} == {"1.1", "1.2"}
    assert {row["learner"] for row in await mallory.fetch("SELECT * FROM board.mine()")} == {"friday_mallory"}
    await ada.close()
    await mallory.close()


async def test_a_role_outside_the_class_is_not_let_in(friday: Class) -> None:
    friday.server.execute(f"CREATE ROLE stranger LOGIN PASSWORD '{WORD}'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(friday.server.url("stranger", WORD, friday.database))
    friday.server.execute(f"GRANT CONNECT ON DATABASE {friday.database} TO stranger")  # and if it were
    stranger = await asyncpg.connect(friday.server.url("stranger", WORD, friday.database))
    for call in ("board.report('[]')", "board.show_me(false)", "board.mine()", "board.am_i_shown()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.execute(f"SELECT {call}")
    await stranger.close()
    friday.server.execute(f"REVOKE CONNECT ON DATABASE {friday.database} FROM stranger", "DROP ROLE stranger")


async def test_a_flood_is_let_in_by_drops(friday: Class) -> None:
    """More than anybody can check in a minute is left for later, and writes nothing meanwhile."""
    mallory = await friday.enter("mallory")
    flood = [verdict(f"{lesson}.{number}") for lesson in range(10) for number in range(30)]
    done = [id for start in range(0, 300, 100) for id in await tell(mallory, flood[start : start + 100])]
    assert len(done) == 120 and len(friday.standings()) == 120
    ((before,),) = friday.look("SELECT pg_total_relation_size('board.standings')")
    for _ in range(50):
        assert await tell(mallory, flood[200:]) == []
    ((after,),) = friday.look("SELECT pg_total_relation_size('board.standings')")
    assert after == before
    await mallory.close()


async def test_what_one_learner_can_fill_is_small(friday: Class) -> None:
    """Minute after minute: so many exercises and so many ids, whatever is sent."""
    mallory = await friday.enter("mallory")
    for lesson in range(8):
        friday.change("UPDATE board.learners SET window_began = '-infinity'")
        await tell(mallory, [verdict(f"{lesson}.{number}", mistake="x" * 40) for number in range(100)])
    ((standings,),) = friday.look("SELECT count(*) FROM board.standings")
    ((ids,),) = friday.look("SELECT count(*) FROM board.received")
    assert (standings, ids) == (200, 200)
    await mallory.close()


async def test_who_keeps_a_transaction_open_holds_up_nobody_else(friday: Class) -> None:
    ada, mallory = await friday.enter("ada"), await friday.enter("mallory")
    await mallory.execute("BEGIN")
    await tell(mallory, [verdict()])
    async with asyncio.timeout(5):
        await tell(ada, [verdict()])
    teacher = await friday.enter_as_teacher()
    async with asyncio.timeout(5):
        await install(teacher, friday.database)
    await mallory.execute("ROLLBACK")
    for connection in (ada, mallory, teacher):
        await connection.close()
    assert set(friday.standings()) == {("ada", "1.3")}


@pytest.mark.parametrize("verdicts", ["[]", '[{"id": null}]', "[{}]", "[7]", "{}", "7", "null", "[[]]"])
async def test_what_is_no_verdict_leaves_nothing(friday: Class, verdicts: str) -> None:
    mallory = await friday.enter("mallory")
    try:
        assert await mallory.fetchval("SELECT board.report($1)", verdicts) in ([], None)
    except asyncpg.PostgresError as error:
        assert str(error)
    await mallory.close()
    assert friday.standings() == {}


@pytest.mark.parametrize(
    "odd",
    [
        {"exercise": "<b>you are all fools</b>"}, {"exercise": "1.3\n"}, {"exercise": "S9999"}, {"exercise": None},
        {"state": "perfect"}, {"state": None}, {"mistake": "x" * 41}, {"mistake": None}, {"age": None},
    ],
    ids=str,
)  # fmt: skip
async def test_what_cannot_stand_on_the_board_is_done_with(friday: Class, odd: dict[str, Any]) -> None:
    """It need not be sent again, and the verdicts beside it are taken."""
    ada = await friday.enter("ada")
    sent = [verdict() | odd, verdict("1.4", "right")]
    assert {str(id) for id in await tell(ada, sent)} == {one["id"] for one in sent}
    await ada.close()
    assert friday.standings() == {("ada", "1.4"): ("right", "", 1)}


async def test_times_are_of_this_week_and_not_of_the_future(friday: Class) -> None:
    ada = await friday.enter("ada")
    await tell(ada, [verdict("1.1", age=-1e9), verdict("1.2", age=1e12)])
    await ada.close()
    (row,) = friday.look(
        "SELECT bool_and(seen_at <= now()), min(seen_at) > now() - interval '7 days 1 minute' FROM board.standings"
    )
    assert row == (True, True)


async def test_more_at_once_than_a_program_of_the_course_sends_is_refused(friday: Class) -> None:
    mallory = await friday.enter("mallory")
    with pytest.raises(asyncpg.PostgresError, match="at most 100"):
        await tell(mallory, [verdict() for _ in range(101)])
    await mallory.close()


# -- counting ----------------------------------------------------------------------------------------------


async def test_the_same_verdict_is_counted_once(friday: Class) -> None:
    """However often it is sent, by two programs at once too."""
    one, other = await friday.enter("ada"), await friday.enter("ada")
    batch = [verdict() for _ in range(20)]
    answers = await asyncio.gather(*(tell(connection, batch) for connection in (one, other)))
    assert all(len(answer) == 20 for answer in answers)
    assert len(await tell(one, batch)) == 20
    for connection in (one, other):
        await connection.close()
    assert friday.standings() == {("ada", "1.3"): ("wrong", "nothing returned", 20)}


async def test_right_stays_whatever_comes_after_it_and_before(friday: Class) -> None:
    ada = await friday.enter("ada")
    await tell(ada, [verdict(age=100)])
    await tell(ada, [verdict(state="right", age=60)])
    await tell(ada, [verdict(age=10)])  # tried again with something else
    await tell(ada, [verdict(age=300)])  # from a notebook that was offline
    await tell(ada, [verdict(state="not attempted", age=5)])
    await ada.close()
    assert friday.standings() == {("ada", "1.3"): ("right", "", 3)}, "tries up to the one that was right"
    (row,) = friday.look(
        "SELECT round(extract(epoch FROM now() - first_try) / 100), round(extract(epoch FROM now() - passed_at) / 60)"
        " FROM board.standings"
    )
    assert row == (3, 1)


async def test_the_latest_verdict_tells_the_mistake_though_it_came_first(friday: Class) -> None:
    ada = await friday.enter("ada")
    await tell(ada, [verdict(mistake="late", age=10)])
    await tell(ada, [verdict(mistake="early", age=500)])
    await ada.close()
    assert friday.standings() == {("ada", "1.3"): ("wrong", "late", 2)}


async def test_of_two_close_to_each_other_the_one_that_came_last_tells_the_mistake(friday: Class) -> None:
    """The first was long on its way; in one batch their order is that of their ages, whatever their ids are."""
    ada = await friday.enter("ada")
    await tell(ada, [verdict(mistake="first", age=0)])
    await tell(ada, [verdict(mistake="second", age=1)])
    assert friday.standings() == {("ada", "1.3"): ("wrong", "second", 2)}
    batch = [verdict("1.4", mistake=f"{age}", age=age / 100) for age in range(30)]
    await tell(ada, batch)
    assert friday.standings()["ada", "1.4"] == ("wrong", "0", 30)
    await ada.close()


async def test_what_was_not_attempted_is_no_try(friday: Class) -> None:
    """Whoever runs a whole notebook has not tried all its exercises."""
    ada = await friday.enter("ada")
    await tell(ada, [verdict(state="not attempted", mistake="not attempted")])
    await ada.close()
    assert friday.look("SELECT tries, first_try FROM board.standings") == [(0, None)]


# -- leaving, and being removed ----------------------------------------------------------------------------


async def test_who_has_left_is_taken_off_and_nothing_more_is_taken(friday: Class) -> None:
    ada, bruno = await friday.enter("ada"), await friday.enter("bruno")
    await tell(ada, [verdict()])
    await tell(bruno, [verdict()])
    await ada.execute("SELECT board.show_me(false)")
    assert await ada.fetchval("SELECT board.am_i_shown()") is False
    sent = [verdict()]
    assert [str(id) for id in await tell(ada, sent)] == [sent[0]["id"]], "it need not be sent again"
    assert set(friday.standings()) == {("bruno", "1.3")}
    await ada.execute("SELECT board.show_me(true)")
    await tell(ada, [verdict("1.5")])
    assert set(friday.standings()) == {("ada", "1.5"), ("bruno", "1.3")}
    for connection in (ada, bruno):
        await connection.close()


async def test_a_learner_is_forgotten_and_a_board_made_anew_keeps_its_rows(friday: Class) -> None:
    ada = await friday.enter("ada")
    await tell(ada, [verdict()])
    teacher = await friday.enter_as_teacher()
    await install(teacher, friday.database)
    assert set(friday.standings()) == {("ada", "1.3")}
    await tell(ada, [verdict()])
    await forget_learner(teacher, "friday_ada")
    assert friday.standings() == {} and friday.look("SELECT 1 FROM board.learners WHERE learner = 'friday_ada'") == []
    for connection in (ada, teacher):
        await connection.close()


async def test_two_classes_have_nothing_to_do_with_each_other(friday: Class) -> None:
    monday = await asyncio.to_thread(make_class, friday.server, "monday")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(friday.server.url("monday_ada", WORD, friday.database))
    ada = await monday.enter("ada")
    await tell(ada, [verdict()])
    await ada.close()
    assert friday.standings() == {} and set(monday.standings()) == {("ada", "1.3")}
