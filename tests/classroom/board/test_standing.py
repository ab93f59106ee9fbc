"""What is read off the board: who is stuck, which mistakes are made now, what to say, and under which names."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from course_lib.classroom.board.choosing import MOST, all_exercises, chosen_lessons, columns
from course_lib.classroom.board.names import readable, shown_names
from course_lib.classroom.board.reading import enter_class, read_board
from course_lib.classroom.board.saying import OF_ALL, UNKNOWN, what_to_say
from course_lib.classroom.board.standing import Board, Learner, Standing
from course_lib.errors import CourseError
from course_lib.judging.verdict import State
from course_lib.settings import REPOSITORY
from tests.classroom.board.classes import Class, SitDown, tell, verdict

NOW = datetime(2027, 3, 5, 14, 0, tzinfo=UTC)
ADA, BRUNO = Learner("friday_ada", "Ada"), Learner("friday_bruno", "Bruno")
EXERCISES = all_exercises()


def standing(
    state: State = "wrong", tries: int = 1, first: int = 0, last: int = 0, mistake: str = "raised"
) -> Standing:
    """First tried and last seen so many minutes ago."""
    ago = [NOW - timedelta(minutes=minutes) for minutes in (first, last)]
    return Standing(state, mistake, tries, ago[0] if tries else None, ago[1])


def board(standings: Mapping[tuple[Learner, str], Standing]) -> Board:
    found = {(learner.role, id): one for (learner, id), one in standings.items()}
    return Board("friday", NOW, [ADA, BRUNO], [EXERCISES["1.1"], EXERCISES["1.2"]], found, EXERCISES)


def look(one: Standing | None, **more: Standing) -> str | None:
    others = {(ADA, id.replace("_", ".")): other for id, other in more.items()}
    return board(({(ADA, "1.1"): one} if one else {}) | others).look(ADA, EXERCISES["1.1"])


MINUTES = EXERCISES["1.1"].minutes


def test_who_tries_often_or_for_longer_than_it_takes_is_stuck() -> None:
    assert look(None) is None
    assert look(standing("right", 9, 200, 100)) == "right"
    assert look(standing("not attempted", 0)) == "seen"
    assert look(standing(tries=3, first=MINUTES - 1)) == "tried"
    assert look(standing(tries=1, first=MINUTES + 1, last=MINUTES + 1)) == "stuck"
    assert look(standing(tries=4, first=1)) == "stuck"
    assert look(standing(tries=9, first=90, last=50)) == "tried", "who has not tried for so long is at lunch"


def test_who_goes_on_to_another_exercise_is_not_stuck() -> None:
    stuck = standing(tries=5, first=20, last=10)
    assert look(stuck, **{"1_2": standing(tries=1, last=5)}) == "tried"
    assert look(stuck, **{"1_2": standing("not attempted", 0, last=5)}) == "stuck", "the whole notebook was run"
    assert look(stuck, **{"1_2": standing(tries=1, last=15)}) == "stuck"


def test_the_longest_stuck_come_first_with_tries_and_minutes() -> None:
    found = board({
        (ADA, "1.1"): standing(tries=4, first=6, last=2, mistake="endless"),
        (BRUNO, "2.3"): standing(tries=2, first=30, last=7),
    }).stuck()  # fmt: skip
    assert [(one.learner.name, one.exercise.id, one.tries, one.minutes, one.quiet, one.mistake) for one in found] == [
        ("Bruno", "2.3", 2, 30, 7, "raised"),
        ("Ada", "1.1", 4, 6, 2, "endless"),
    ]


def test_mistakes_of_the_last_quarter_are_counted_by_learners() -> None:
    found = board({
        (ADA, "1.1"): standing(tries=9), (BRUNO, "1.1"): standing(last=14), (ADA, "1.2"): standing(mistake="endless"),
        (BRUNO, "1.2"): standing(last=16), (ADA, "1.3"): standing("right"),
    }).mistakes()  # fmt: skip
    assert [(one.exercise.id, one.said.name, one.learners) for one in found] == [
        ("1.1", "raised", 2),
        ("1.2", "endless", 1),
    ]


def test_of_thirty_learners_and_a_hundred_exercises_the_board_is_read_at_once() -> None:
    learners = [Learner(f"friday_{number}", f"{number}") for number in range(30)]
    standings = {(learner.role, id): standing(tries=5, last=3) for learner in learners for id in EXERCISES}
    whole = Board("friday", NOW, learners, columns(["01", "02", "03"], []), standings, EXERCISES)
    began = datetime.now(UTC)
    assert len(whole.stuck()) == 30 * len(EXERCISES) and whole.mistakes()
    assert (datetime.now(UTC) - began).total_seconds() < 2


# -- what to say -------------------------------------------------------------------------------------------


def test_there_is_something_to_say_on_every_mistake_and_no_learners_number_in_it() -> None:
    for exercise in EXERCISES.values():
        for name in [*exercise.mistakes, *OF_ALL, "you are all fools"]:
            said = what_to_say(exercise, name)
            assert said.ask and not re.search(r"\{\w", said.seen + said.ask), (exercise.id, name, said)
            assert said.name == name or (name == "you are all fools" and said.name == UNKNOWN)


def test_nothing_said_is_nearer_to_the_answer_than_a_question_or_the_first_hint() -> None:
    for exercise in EXERCISES.values():
        for name in exercise.mistakes:
            ask = what_to_say(exercise, name).ask
            assert "?" in ask or ask == exercise.hints[0], (exercise.id, name)


def test_every_mistake_that_the_judging_itself_tells_has_its_sentence() -> None:
    told = set()
    judging, exercises = (REPOSITORY / "course_lib" / room for room in ("judging", "exercises"))
    for path in [*judging.rglob("*.py"), *exercises.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Wrong" and node.args:
                name = node.args[0]
                told |= {name.value} if isinstance(name, ast.Constant) else set()
    assert len(told) > 15 and told <= OF_ALL.keys()


# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ada", "Ada"),
        ("Zoë  Łukasiewicz", "Zoë Łukasiewicz"),
        ("\x1b[2J\x07Eve\n\x9b31m", "[2J Eve 31m"),
        ("\u202eada\u2066", "ada"),
        ("a" + "\u0301" * 50, "á\u0301\u0301"),
        ("x" * 500, "x" * 23 + "…"),
        ("[bold]Ada[/]", "[bold]Ada[/]"),
    ],
)
def test_names_are_letters_on_one_line(name: str, shown: str) -> None:
    assert readable(name) == shown


def test_two_of_one_name_are_told_apart_and_who_has_none_has_that_of_the_role() -> None:
    names = {"friday_ada": "Ada", "friday_ada_2": "Ada", "friday_bo": "", "friday_x": "\x00\u202e"}
    assert shown_names(names, "friday") == {
        "friday_ada": "Ada (ada)", "friday_ada_2": "Ada (ada_2)", "friday_bo": "bo", "friday_x": "x",
    }  # fmt: skip


# -- columns -----------------------------------------------------------------------------------------------


def test_lessons_are_named_in_ranges() -> None:
    assert chosen_lessons("03-05, 8,drills") == ["03", "04", "05", "08", "drills"]


@pytest.mark.parametrize("text", ["", "3-x", "77", "1.3", "-", "1-", "0" * 50, "\x1b[2J", "05-03", "³"])
def test_what_names_no_lessons_is_a_sentence(text: str) -> None:
    with pytest.raises(CourseError) as caught:
        chosen_lessons(text)
    assert "\x1b" not in str(caught.value) and "03-05,08" in caught.value.mend


def test_the_columns_are_the_latest_lessons_that_were_tried_and_no_more_than_can_be_read() -> None:
    assert {one.lesson for one in columns(None, [])} == {"00"}
    assert {one.lesson for one in columns(None, ["2.3", "3.1"])} == {"02", "03"}
    assert {one.lesson for one in columns(None, ["1.1", "3.1", "4.1", "8.1"])} == {"03", "04", "08"}
    assert len(columns(["01", "02", "03", "04"], [])) == MOST
    assert {one.id[0] for one in columns(None, ["M4"])} == {"J", "M", "S"}


# -- from a class's database -------------------------------------------------------------------------------


async def test_the_teacher_reads_who_is_in_the_class_and_what_they_did(friday: Class, sit_down: SitDown) -> None:
    ada, mallory = await friday.enter("ada"), await friday.enter("mallory")
    await tell(ada, [verdict("3.1", age=700), verdict("3.1", age=300)])
    await tell(mallory, [verdict("99.99", "right"), verdict("3.2", mistake="you are all fools")])
    await mallory.execute("SELECT board.show_me(false)")
    teacher = await friday.enter_as_teacher()
    await tell(teacher, [verdict("3.1", "right")])  # trying out what learners will see
    for connection in (ada, mallory, teacher):
        await connection.close()
    sit_down("teacher")
    async with enter_class("friday") as connection:
        seen = await read_board(connection, "friday")
    assert [(one.name, one.shown) for one in seen.learners] == [
        ("Ada Lovelace", True),
        ("bruno", True),
        ("mallory", False),
    ]
    assert [seen.tries(learner, EXERCISES["3.1"]) for learner in seen.learners] == [2, 0, 0]
    assert [seen.quiet(learner) for learner in seen.learners] == [5, None, None]
    assert {one.lesson for one in seen.exercises} == {"03"}


async def test_a_class_that_is_not_there_and_a_board_that_is_not_for_you(friday: Class, sit_down: SitDown) -> None:
    sit_down("teacher")
    with pytest.raises(CourseError, match=r"There is no class tuesday on 127\.0\.0\.1") as caught:
        async with enter_class("tuesday"):
            pass
    assert "friday" in caught.value.mend
    sit_down("mallory")
    with pytest.raises(CourseError, match="is for its teacher, and this role is not"):
        async with enter_class("friday"):
            pass
