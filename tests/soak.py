"""Every solution judged again and again while a core is kept busy: a right answer is never refused. ``make soak``.

``make soak ARGS="service"`` puts load on the service instead, ``make soak ARGS=classroom`` on the server of a class.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from course_lib.cli.checks import server_in_memory
from course_lib.exercises import drills, find_exercise, judge_answer, manifest
from course_lib.exercises.book import solution_answer
from tests.classroom.load import soak_classroom
from tests.service.load import soak_service


@contextmanager
def a_busy_core() -> Iterator[None]:
    """Something else computes meanwhile."""
    burner = multiprocessing.get_context("spawn").Process(target=_burn, daemon=True)
    burner.start()
    try:
        yield
    finally:
        burner.terminate()


def _burn() -> None:
    while True:
        pass


async def soak(ids: list[str], times: int) -> int:
    """Judge the solutions of these exercises and drills, of all without ids; how many verdicts were not full.

    Raises:
        CourseError: one of the ids is no exercise's.
    """
    refused = 0
    for exercise in [find_exercise(id) for id in ids] or [*manifest(), *drills()]:
        answer = solution_answer(exercise)
        verdicts = [await judge_answer(exercise, answer) for _ in range(times)]
        wrong = [verdict for verdict in verdicts if not verdict.passed]
        refused += len(wrong)
        print(
            f"{exercise.id:5} {times - len(wrong)} of {times}", *sorted({str(verdict) for verdict in wrong}), sep="\n  "
        )
    return refused


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument(
        "ids", nargs="*", help="exercises and drills, for example 3.7 or M4; all by default; or: service, classroom"
    )
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--minutes", type=float, help="of the service (5), of the class (10)")
    parser.add_argument("--learners", type=int, default=30, help="of the class")
    arguments = parser.parse_args()
    if arguments.ids == ["service"]:
        with server_in_memory():
            sys.exit(asyncio.run(soak_service(arguments.minutes or 5)) and "Something was wrong.")
    if arguments.ids == ["classroom"]:
        sys.exit(soak_classroom(arguments.minutes or 10, arguments.learners) and "Something was wrong.")
    with server_in_memory(), a_busy_core():
        refused = asyncio.run(soak(arguments.ids, arguments.times))
    sys.exit(f"{refused} right answers were refused." if refused else 0)


if __name__ == "__main__":
    main()
