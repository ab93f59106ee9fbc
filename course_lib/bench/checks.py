"""How long a learner waits for a verdict, for every exercise."""

from __future__ import annotations

import asyncio
from statistics import median, quantiles
from time import perf_counter

from course_lib.bench.report import Measurement, write_report
from course_lib.exercises import judge_answer, manifest
from course_lib.exercises.book import solution_answer

HALF_SECONDS, MOST_SECONDS = 0.25, 0.8  # for half of all checks, and for 95 of 100


def measure(quick: bool) -> None:
    """Check every solution several times, print and write ``bench-results/checks``.

    ``course bench`` gives it a server in memory: on ext4 the hundredth database within minutes costs .3 s, which a
    learner's one check a minute does not.
    """
    asyncio.run(_measure(5 if quick else 20))


async def _measure(runs: int) -> None:
    everything: list[float] = []
    apart: list[float] = []
    found: list[Measurement] = []
    for exercise in manifest():
        answer = solution_answer(exercise)
        await judge_answer(exercise, answer)  # the first one may build a template
        seconds = []
        for _ in range(runs):
            start = perf_counter()
            verdict = await judge_answer(exercise, answer)
            seconds.append(perf_counter() - start)
            assert verdict.passed, str(verdict)
        (apart if exercise.second_process else everything).extend(seconds)
        found.append(Measurement.of(f"check {exercise.id} {exercise.title}", seconds))
    whole = [_half(everything), _most("95 of 100 checks", everything)]
    whole += [_most("95 of 100 checks with a second process", apart)] if apart else []
    write_report("checks", "From check to verdict", [*whole, *found])


def _half(seconds: list[float]) -> Measurement:
    half = median(seconds)
    return Measurement("half of all checks", half, min(seconds), half, len(seconds), HALF_SECONDS)


def _most(name: str, seconds: list[float]) -> Measurement:
    note = "fresh database, relay and crowd included; here the column 'worst' is what the limit is for"
    p95 = quantiles(seconds, n=20)[-1]
    return Measurement(name, p95, min(seconds), p95, len(seconds), MOST_SECONDS, note)
