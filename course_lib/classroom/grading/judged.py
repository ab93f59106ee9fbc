"""A submission judged by nbgrader's autograder in processes of its own, and not in the kernel that also grades it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade
from traitlets import Float

from course_lib.errors import CourseError
from course_lib.exercises import find_exercise
from course_lib.exercises.book import CELL_ID
from course_lib.exercises.following import follow, trouble
from course_lib.judging.apart.process import Outcome
from course_lib.judging.apart.verdicts import of_a_cell, verdict_of
from course_lib.judging.exercise import Exercise
from course_lib.judging.verdict import Finding, Verdict
from course_lib.postgres.server import enter_server

Cell = nbformat.NotebookNode
NOT_OURS = "This test is not one of the course's checks and was not run: grade it by hand, or see nbgrader_config.py."


class JudgeApart(NbGraderPreprocessor):  # type: ignore[misc]
    """In the place of nbgrader's ``Execute``: each check cell shows its verdict, whose number are the points.

    Raises:
        CourseError: no server is there to judge on.
    """

    seconds = Float(30.0, help="Seconds for each cell that is no check; checks have their own limits.").tag(config=True)

    def preprocess(self, nb: Cell, resources: dict[str, Any]) -> tuple[Cell, dict[str, Any]]:
        wanted = {}
        for number, cell in enumerate(nb.cells):
            if is_grade(cell) and cell.cell_type == "code":
                part = CELL_ID.match(cell.metadata["nbgrader"]["grade_id"])
                if part and part[1] == "check":
                    wanted[number] = find_exercise(part[2].replace("-", "."))
                else:
                    cell.outputs = [_error("NotJudged", NOT_OURS)]
        self._judge(nb.cells, wanted, Path(resources["metadata"]["path"]))
        return nb, resources

    def _judge(self, cells: list[Cell], wanted: dict[int, Exercise], folder: Path) -> None:
        sources = [cell.source if cell.cell_type == "code" else "" for cell in cells]
        above: Outcome | None = None
        left = dict(wanted)
        for outcome in follow(sources, wanted, folder.absolute(), seconds=self.seconds, past_the_end=True):
            number = outcome.number
            if number in left:
                verdict = _waited_for(_verdict(left.pop(number), outcome, above, sources))
                cells[number].outputs = [_shown(verdict)]
                self.log.info("%s: %s", verdict.exercise.id, verdict.state)
            elif said := trouble(outcome):
                cells[number].outputs = [_error("NotRun", f"This cell did not run to its end: {said}")]
                above = outcome
        if left:
            ids = ", ".join(exercise.id for exercise in left.values())
            raise CourseError(f"The process that judges ended without a word on {ids}.", "Grade this submission again.")


async def _verdict(exercise: Exercise, outcome: Outcome, above: Outcome | None, sources: list[str]) -> Verdict:
    """What the check came to; ``above`` is the last cell before it that did not run to its end."""
    missing = above is not None and outcome.found is not None and outcome.found.get("missing")
    if above and missing and above.ended:
        return Verdict.of(exercise, await of_a_cell(exercise, above, sources[above.number]))
    try:
        verdict = await verdict_of(exercise, outcome)
    except CourseError as error:
        async with enter_server():  # without a server nobody is graded; with one it is this answer's doing
            sentence = f"`{exercise.answer}` was not judged: {error.sentence}"
        return Verdict.of(exercise, Finding("wrong", "not judged", sentence, error.mend))
    if above and missing:
        verdict.finding.remarks.append(f"A cell above it did not run to its end: {trouble(above)}")
    return verdict


def _waited_for(verdict: Coroutine[Any, Any, Verdict]) -> Verdict:
    """In a thread of its own: nbgrader's pages call us from inside of an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, verdict).result()


def _shown(verdict: Verdict) -> Cell:
    wrapped = f'<div style="overflow-wrap:anywhere">{verdict._repr_html_()}</div>'  # whatever was printed
    data = {"text/plain": repr(verdict), "text/html": wrapped}
    output: Cell = nbformat.v4.new_output("execute_result", data=data, execution_count=None)
    return output


def _error(name: str, sentence: str) -> Cell:
    output: Cell = nbformat.v4.new_output("error", ename=name, evalue=sentence, traceback=[sentence])
    return output
