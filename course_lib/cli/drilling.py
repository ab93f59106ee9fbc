"""A repair drill in the terminal: the code lies in a plain file, for any editor, and is judged from there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from textwrap import fill
from time import monotonic

from course_lib.cli.screen import show, show_text
from course_lib.cli.speaking import Left, clock, read_line, yes_or_no
from course_lib.errors import CourseError
from course_lib.exercises import hint, solution
from course_lib.exercises.book import cell_source
from course_lib.exercises.check import take_note
from course_lib.files import answering_for, write_whole
from course_lib.interview.drafts import draft_of, drop_draft, keep_draft
from course_lib.interview.evening import now
from course_lib.interview.grading import grade_drill
from course_lib.interview.memory import Review, folder
from course_lib.judging.apart.verdicts import judge_apart
from course_lib.judging.exercise import Drill
from course_lib.judging.verdict import Verdict

WIDTH = 88
KEPT = "Your repair is kept, and offered when this drill comes again."
ABOUT_NOTEBOOKS = ("next", "again")  # the choices below say it
CHOICES = "Enter: judge it · h: a hint · s: the solution · q: give up   "


@dataclass(frozen=True)
class Repair:
    """What became of a drill: the code in the end, and how it came about. ``verdict`` is empty where none was asked."""

    code: str
    passed: bool
    verdict: str
    seconds: float
    hints: int
    saw_solution: bool


def repair(drill: Drill, place: str) -> Review | None:
    """Repair a drill against the clock. None where it was given up before it was judged.

    Raises:
        Left: the learner has gone.
    """
    moment = now()
    done = repair_for(drill, place)
    if not (done.verdict or done.saw_solution):
        return None
    show(f"It took {clock(done.seconds)} of {drill.minutes}:00.", [])
    grade = grade_drill(done.passed, done.seconds, drill.minutes, done.hints, done.saw_solution)
    return Review(id=drill.id, at=moment, grade=grade, seconds=round(done.seconds, 1))


def repair_for(drill: Drill, place: str) -> Repair:
    """Lay out the code, judge what is saved as often as asked, until it is right or given up.

    Raises:
        Left: the learner has gone. A repair that was begun is kept, and offered the next time.
    """
    show(f"{place} · {drill.id} · {drill.title} · {drill.level} · {drill.minutes} minutes", _report(drill))
    draft = draft_of(drill.id)
    file = lay_out(drill, draft if draft and yes_or_no("You have begun a repair. Go on with it? y or n: ") else "")
    try:
        done = _repaired(drill, file)
    except (Left, KeyboardInterrupt):
        with suppress(CourseError):
            code = read(file)
            if code.strip() != _as_found(drill).strip() and keep_draft(drill.id, code):
                show(KEPT, [])
        raise
    drop_draft(drill.id)
    return done


def _repaired(drill: Drill, file: Path) -> Repair:
    show(f"The code is in {file}", [("", "Repair it there with any editor, save it, and come back.")])
    began = monotonic()
    verdict, hints, saw_solution = None, 0, False
    while not (verdict and verdict.passed):
        said = read_line(CHOICES).lower()
        if said == "q":
            break
        if said == "h":
            show_text(hint(drill.id))
            hints += 1
        elif said == "s":
            show_text(solution(drill.id))
            saw_solution = saw_solution or solution_is_shown(drill)
        else:
            verdict = judge(drill, file)
            show(verdict.headline, [part for part in verdict.paragraphs if part[0] not in ABOUT_NOTEBOOKS])
    seconds = monotonic() - began
    passed, told = (verdict.passed, verdict.paragraphs[0][1]) if verdict else (False, "")
    return Repair(read(file), passed, told, seconds, hints, saw_solution)


def solution_is_shown(drill: Drill) -> bool:
    """Whether asking once more has shown it: it takes two times, or a pass."""
    from course_lib.judging.record import Record

    record = Record.load()
    return drill.id in record.passed or record.asked.get(drill.id, 0) >= 2


def _report(drill: Drill) -> list[tuple[str, str]]:
    """The statement without its heading and its marks, a paragraph each."""
    parts = cell_source(drill, f"statement-{drill.id}").split("\n\n")[2:]
    return [("", part.replace("**", "")) for part in parts]


def lay_out(drill: Drill, begun: str = "") -> Path:
    """Write ``work/interview/M4.py``; what is there and differs is kept beside it.

    Args:
        drill: whose code.
        begun: a repair to go on with; without one, the code as it was found.

    Raises:
        CourseError: the folder cannot be written.
    """
    file = folder() / f"{drill.id}.py"
    text = f"{begun}\n" if begun else _as_found(drill)
    with answering_for(folder(), "COURSE_WORK"):
        if file.is_file() and file.read_text(encoding="utf-8", errors="replace").strip() != text.strip():
            file.replace(file.with_name(f"{file.stem}.{datetime.now():%Y-%m-%d_%H-%M-%S_%f}.py"))
        write_whole(file, text)
    return file


def _as_found(drill: Drill) -> str:
    """Its code below its statement."""
    told = "\n\n".join(
        fill(part, WIDTH) for part in [f"{drill.id} · {drill.title}", *(text for _, text in _report(drill))]
    )
    comment = "\n".join(f"# {line}".rstrip() for line in told.splitlines())
    return f"{comment}\n\n{cell_source(drill, f'given-{drill.id}')}\n"


def judge(drill: Drill, file: Path) -> Verdict:
    """The verdict on what is saved in the file.

    Raises:
        CourseError: it cannot be read, or there is no server.
    """
    verdict = asyncio.run(judge_apart(drill, [read(file)]))
    take_note(verdict)
    return verdict


def read(file: Path) -> str:
    """What is saved in it. Raises CourseError where it cannot be read."""
    with answering_for(folder(), "COURSE_WORK"):
        return file.read_text(encoding="utf-8-sig", errors="replace")
