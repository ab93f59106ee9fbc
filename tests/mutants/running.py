"""One run: which mutants are judged, side by side, and what is remembered of an earlier run."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from course_lib.exercises.manifest import lesson_exercises
from tests.mutants.answers import SOLUTION, RightAnswer, right_answers
from tests.mutants.judge import Judge
from tests.mutants.mutate import Mutant, is_among, mutants_of
from tests.mutants.results import Record, Result, digest


@dataclass(frozen=True)
class Choice:
    """What to judge. ``most`` mutants of each answer, of many kinds, are taken by ``seed``; 0 means all."""

    lesson: str
    exercises: tuple[str, ...] = ()
    operator: str = ""
    answers: str = "all"
    """``all``, ``solution``, ``others``, or the name of an answer."""
    most: int = 0
    seed: int = 0
    resume: bool = False
    """Leave out what an earlier run has judged."""
    survivors: bool = False
    """Judge only what passed in the last run."""

    def takes(self, exercise: str, answer: str) -> bool:
        """Whether an answer is among the chosen ones."""
        if self.exercises and exercise not in self.exercises:
            return False
        return self.answers in ("all", answer) or (self.answers == "others" and answer != SOLUTION)


def of_many_kinds(mutants: list[Mutant], most: int, seed: str) -> list[Mutant]:
    """At most so many of them, by chance: one of each kind of mistake, then a second of each, and so on."""
    used: Counter[str] = Counter()
    turns: list[tuple[int, Mutant]] = []
    for mutant in random.Random(seed).sample(mutants, len(mutants)):
        turns.append((used[mutant.operator], mutant))
        used[mutant.operator] += 1
    return [mutant for _, mutant in sorted(turns, key=lambda turn: turn[0])][:most]


class Run:
    """All chosen mutants of a lesson, judged by ``jobs`` processes."""

    def __init__(self, choice: Choice, jobs: int = 1, say: Callable[[str], None] = print) -> None:
        self.choice, self.jobs, self.say = choice, jobs, say
        self.record = Record(choice.lesson)
        self.known = self.record.read()
        self.lock = threading.Lock()
        self.results: dict[str, Result] = {}
        self.refused: list[str] = []
        self.stopped = False
        self._local = threading.local()
        self._judges: list[Judge] = []

    def go(self) -> list[Result]:
        """Judge them all; the results, those of the earlier run included where it is taken up."""
        if not (self.choice.resume or self.choice.survivors):
            chosen = self.choice
            self.record.forget(
                lambda one: chosen.takes(one.exercise, one.answer) and is_among(one.operator, chosen.operator)
            )
            self.known = {}
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                list(pool.map(self._answer, list(self._answers())))
            finally:  # Ctrl-C too: what has not begun does not
                self.stopped = True
                pool.shutdown(wait=True, cancel_futures=True)
                for judge in self._judges:
                    judge.end()
        return list(self.results.values())

    def _answers(self) -> Iterator[RightAnswer]:
        for exercise in lesson_exercises(self.choice.lesson):
            if not self.choice.exercises or exercise.id in self.choice.exercises:
                answers = right_answers(exercise)
                yield from (answer for answer in answers if self.choice.takes(exercise.id, answer.name))

    def _answer(self, answer: RightAnswer) -> None:
        """The mutants of one answer, if it passes itself."""
        mutants = mutants_of(answer, self.choice.operator)
        if self.choice.most:
            mutants = of_many_kinds(mutants, self.choice.most, f"{self.choice.seed} {answer.title}")
        waiting = [mutant for mutant in mutants if not self._is_known(mutant)]
        if not waiting:
            return
        judge = self._judge()
        if not self._passes(judge, answer):
            with self.lock:
                self.refused.append(answer.title)
            self.say(f"{answer.title} is refused itself, so its mutants say nothing.")
            return
        for mutant in waiting:
            if self.stopped:
                return
            self._keep(mutant, judge)
        self.say(f"{answer.title}: {len(waiting)} judged.")

    def _passes(self, judge: Judge, answer: RightAnswer) -> bool:
        """Whether the answer as it is passes: at the second try by a new process, should a mutant have left traces."""
        if not judge.judge(answer, answer.source).killed:
            return True
        judge.renew()
        return not judge.judge(answer, answer.source).killed

    def _is_known(self, mutant: Mutant) -> bool:
        known = self.known.get(mutant.key)
        if known is None or known.source != digest(mutant):
            return self.choice.survivors
        if self.choice.survivors and not known.outcome.killed:
            return False
        with self.lock:
            self.results[mutant.key] = known
        return True

    def _keep(self, mutant: Mutant, judge: Judge) -> None:
        begun = time.perf_counter()
        outcome = judge.judge(mutant.answer, mutant.source)
        seconds = round(time.perf_counter() - begun, 2)
        result = Result(mutant.key, mutant.answer.exercise, mutant.line, digest(mutant), seconds, outcome)
        with self.lock:
            self.results[mutant.key] = result
            self.record.add(result)

    def _judge(self) -> Judge:
        """The process of this thread."""
        if not hasattr(self._local, "judge"):
            self._local.judge = Judge()
            with self.lock:
                self._judges.append(self._local.judge)
        judge: Judge = self._local.judge
        return judge
