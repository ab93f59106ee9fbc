"""What the bank says is what the lessons show: each reference leads somewhere, and figures stand where they lead."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections import Counter
from configparser import ConfigParser

import pytest

from course_lib.errors import CourseError
from course_lib.exercises.manifest import drills, find_exercise
from course_lib.interview import TOPICS, bank, find_question, questions, stored_cell
from course_lib.interview.lookup import FOLDER, read_bank
from course_lib.interview.schema import LEVELS, Design, Question
from course_lib.settings import REPOSITORY
from tests.notebook_files import LESSONS

SANITIZED = ConfigParser(interpolation=None)
SANITIZED.read(REPOSITORY / "tests" / "sanitize.cfg")
VARIES = re.compile("|".join(SANITIZED[name]["regex"] for name in SANITIZED.sections()))
NUMBER = re.compile(r"(?<![\w.-])\d+(?:[.,]\d+)*(?![\w-])")
NAMES = re.compile(r"`[^`]*`|PostgreSQL 18|HTTP \d\d\d|\bSQLSTATE \w{5}|UUID v\d")

each_question = pytest.mark.parametrize("question", bank(), ids=lambda question: question.id)


def test_each_question_lies_in_the_file_of_its_first_topic() -> None:
    for path in FOLDER.glob("*.toml"):
        assert path.stem in TOPICS
        for question in read_bank([path]):
            assert question.topics[0] == path.stem, question.id


def test_every_lesson_is_asked_about() -> None:
    lessons = {path.name[:2] for path in LESSONS if path.parent.name == "notebooks"}
    assert {question.lesson for question in bank()} >= lessons


@each_question
def test_its_section_is_a_heading_of_the_lesson_that_teaches_it(question: Question) -> None:
    assert stored_cell(f"{question.lesson}:{question.section}").is_heading


@each_question
def test_something_of_what_it_says_stands_in_that_lesson(question: Question) -> None:
    shown = [*(point.cell or point.exercise or "" for point in question.points), *question.proof]
    assert any(reference.zfill(4).startswith(question.lesson) for reference in shown) or question.topics[0] == "design"


@each_question
def test_the_exercises_that_prove_it_exist(question: Question) -> None:
    for id in question.proof:
        assert find_exercise(id).id == id


@each_question
def test_it_is_written_as_the_course_writes(question: Question) -> None:
    texts = [
        question.ask,
        *(point.say for point in question.points),
        *(text for weak in question.weak for text in (weak.say, weak.wrong)),
        *(text for follow_up in question.follow_ups for text in (follow_up.ask, *follow_up.points)),
    ]
    for text in texts:
        assert "!" not in re.sub(r"`[^`]*`|!=", "", text)
    for text in (question.ask, *(follow_up.ask for follow_up in question.follow_ups)):
        assert "?" in text or text.endswith("."), text
    assert 1 <= len(re.findall(r"[.?](?=\s|$)", question.ask)) <= 3, question.ask


@each_question
def test_its_points_lead_to_what_shows_them(question: Question) -> None:
    for point in question.points:
        if point.exercise:
            assert find_exercise(point.exercise).id == point.exercise
        if point.cell:
            cell = stored_cell(point.cell)
            assert cell.output or cell.kind == "markdown", f"{point.cell} shows nothing"


@each_question
def test_most_of_what_it_says_can_be_seen(question: Question) -> None:
    assert 2 * sum(point.opinion for point in question.points) < len(question.points)


@each_question
def test_its_figures_stand_in_the_stored_output_that_the_point_names(question: Question) -> None:
    for point in question.points:
        if point.figures:
            shown = shown_everywhere(point.cell or "")
            for figure in point.figures:
                alone = rf"(?<![\w.,]){re.escape(figure)}(?!\w|[.,]\d)"
                assert re.search(alone, shown), f"{figure!r} is not in {point.cell}"


def shown_everywhere(reference: str) -> str:
    """What a cell shows on every machine and in every run: the gate compares it, and it is not replaced before."""
    cell = stored_cell(reference)
    assert not cell.varies, f"the gate does not compare the output of {reference}"
    return " ".join(VARIES.sub("", cell.output).split())


@each_question
def test_its_points_have_no_number_that_is_not_among_their_figures(question: Question) -> None:
    for point in question.points:
        rest = NAMES.sub("", point.say)
        for figure in sorted(point.figures, key=len, reverse=True):
            rest = rest.replace(figure, "")
        assert NUMBER.findall(rest) == [], point.say


def test_questions_are_found_by_id_level_topic_and_lesson() -> None:
    some = bank()[0]
    assert find_question(some.id) is some
    assert questions() == bank()
    assert some in questions(level=some.level, topic=some.topics[-1], lesson=some.lesson)
    assert {question.level for question in questions(level="junior")} == {"junior"}
    assert all("orm" in question.topics for question in questions(topic="orm"))
    assert Counter(question.id for question in bank()).most_common(1)[0][1] == 1


@pytest.mark.parametrize(
    ("look", "sentence"),
    [
        (lambda: find_question("n-plus-two"), "There is no question 'n-plus-two'."),
        (lambda: questions(level="boss"), "There is no level 'boss'."),
        (lambda: questions(topic="knitting"), "There is no topic 'knitting'."),
        (lambda: stored_cell("02:no-such-cell"), "Lesson 02 has no cell 'no-such-cell'."),
        (lambda: stored_cell("77:title"), "There is no lesson '77' here."),
    ],
)
def test_what_is_not_there_is_a_sentence(look: object, sentence: str) -> None:
    assert callable(look)
    with pytest.raises(CourseError) as caught:
        look()
    assert caught.value.sentence == sentence


def test_a_cell_knows_its_section_and_what_it_showed() -> None:
    raised = stored_cell("01:title")
    assert (raised.kind, raised.is_heading, raised.output) == ("markdown", True, "")
    assert stored_cell("00:users").section == "1 · One question, all the way"
    assert "Ada Merrow" in stored_cell("00:users").output


def test_importing_the_bank_reads_no_file_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, course_lib, course_lib.interview;"
        "print([m for m in ('pydantic', 'tomllib', 'sqlalchemy', 'nbformat') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_carries_the_files_of_the_bank() -> None:
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert build == {"targets": {"wheel": {"packages": ["course_lib"]}}}  # all that git does not ignore
    names = [path.relative_to(REPOSITORY).as_posix() for path in FOLDER.glob("*.toml")]
    ignored = subprocess.run(["git", "check-ignore", *names], cwd=REPOSITORY, capture_output=True, check=False)
    assert names
    assert ignored.stdout == b""


def test_the_readme_says_how_much_there_is() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    spoken = [question for question in bank() if not isinstance(question, Design)]
    designs = [question for question in bank() if isinstance(question, Design)]
    for what, tasks in (
        ("questions to answer aloud", spoken),
        ("repair drills", drills()),
        ("design questions", designs),
    ):
        counts = [sum(task.level == level for task in tasks) for level in LEVELS]
        assert f"| {what} | {' | '.join(map(str, counts))} |" in text
