"""10.7: a decision by numbers: which option does, which number speaks against each of the others, what to measure."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from course_lib.exercises.lesson_10.scenes.decisions import Finding, Task, tasks
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.foreign import plain
from course_lib.judging.quoting import article

MEASURE = "measure"
ROUNDED = 0.02  # of a number, which may be told rounded


class Decide(Exercise):
    """Three states of an option, the largest measurement, and nothing that was not measured taken for good."""

    id = "10.7"
    title = "Decide, with reasons"
    answer = "decide"
    minutes = 20
    points = 3
    level = "senior"
    recipe = "empty"
    hints: ClassVar = (
        "Look at one option and one need first: a function that says whether it is met, missed, or not known, and by "
        "which row. What are the three states of an option, then, over all its needs?",
        "An option meets the needs when all are met; it fails when one is missed, whatever else is unknown; else it is "
        'open. Choose one that meets them. If there is none and one is open, `"measure"`; if all fail, None.',
        "The row that counts is the one with the most rows. An axis in GB: `value * product.rows / row.rows`. For the "
        "others nothing is known when there is no row, or when `product.rows > 10 * row.rows`.",
    )
    why = (
        "Most debates about databases end when three states are kept apart: it does, it does not, nobody knows. What "
        "nobody measured is no reason for an option, and none against it; it is a task. A size grows with the rows, so "
        "it can be computed; a recall or a time was true of the size it was measured at. And speed decides nothing "
        "among options that are quick enough."
    )
    follow_up = (
        "Two options meet every need. Your team knows one of them, and the other costs half. How do you put both into "
        "this table, and who sets the limits?"
    )
    mistakes: ClassVar = {
        "nothing returned": "For *{product}* `decide` returned None alone. "
        "| A choice and the reasons: `return None, reasons` when every option fails.",
        "not a pair": "For *{product}* `decide` returned {what}. | A choice, and a dict of reasons.",
        "no such choice": "For *{product}* `decide` chose {choice!r}. "
        '| The name of an option in the table, `"measure"`, or None.',
        "against its numbers": "For *{product}* `decide` chose *{choice}*, whose {axis} is {number} by row {row}, and "
        "{at} {limit} is needed. "
        "| A choice meets every need, by the row with the most rows, at the product's size.",
        "nobody knows": "For *{product}*, of {rows} rows, `decide` chose *{choice}*, and nobody knows its {axis}: "
        "it was measured with {measured} rows. "
        "| Without a row nothing is known, and beyond ten times its rows neither.",
        "gave up": "For *{product}* `decide` chose nothing, and not every option fails. "
        "| Only a number that misses its limit speaks against an option.",
        "measured for nothing": "For *{product}* `decide` said `\"measure\"`, and the table answers already. "
        "| Something is to be measured when no option meets all needs, and one is left that fails none.",
        "no reason": "For *{product}* there is no reason why *{option}* was not chosen. "
        "| Each option that does not meet all needs gets its reason.",
        "reason against a good one": "For *{product}* there is a reason against *{option}*, which meets every need. "
        "| It would do as well, and speed or taste is no need.",
        "not a reason": "For *{product}* the reason for *{option}* is {what}. | A triple: axis, number, row.",
        "does not decide": "For *{product}* the reason against *{option}* is its {axis}, and that misses no limit. "
        "| Which need does it miss, or, if it misses none, which does nobody know?",
        "wrong row": "For *{product}* the reason against *{option}* is its {axis} by row {row}, and that row is about "
        "{what}. "
        "| The row of this option and axis that has the most rows.",
        "wrong number": "For *{product}* the {axis} of *{option}* is told to be {number}, by row {row}: {value} with "
        "{measured} rows. "
        "| GB grow with the rows, to those of the product; all else is as it was measured.",
        "left unknown": "For *{product}* the reason for *{option}* says that its {axis} is to be measured, and a "
        "number speaks against it already. "
        "| What fails by one need does not have to be measured for another.",
        "a number for the unknown": "For *{product}* nobody knows the {axis} of *{option}*, and the reason gives the "
        "number {number}. "
        "| `(axis, None, None)`",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        """Choices before reasons, and what contradicts a number before what is not known."""
        said = [(task, await self._asked(attempt, task)) for task in tasks()]
        for expected in (self._expect_numbers_met, self._expect_known, self._expect_to_go_on, self._expect_an_end):
            for task, (choice, _) in said:
                expected(attempt, task, choice)
        for task, (choice, reasons) in said:
            for option in task.findings:
                if option != choice:
                    self._expect_reason(attempt, task, option, reasons.get(option))

    async def _asked(self, attempt: Attempt, task: Task) -> tuple[str | None, dict[Any, Any]]:
        said, name = await _ask(attempt, task), task.product.name
        attempt.expect(said is not None, "nothing returned", product=name)
        pair = isinstance(said, Sequence) and not isinstance(said, str | bytes) and len(said) == 2
        attempt.expect(pair and isinstance(said[1], Mapping), "not a pair", product=name, what=_what(said))
        choice, reasons = said
        known = choice is None or (isinstance(choice, str) and (choice in task.findings or choice == MEASURE))
        attempt.expect(known, "no such choice", product=name, choice=choice)
        return choice, dict(reasons)

    def _expect_numbers_met(self, attempt: Attempt, task: Task, choice: str | None) -> None:
        for finding in task.findings.get(choice or "", ()):
            right = finding.met is not False
            attempt.expect(right, "against its numbers", choice=choice, **_numbers(task, finding))

    def _expect_known(self, attempt: Attempt, task: Task, choice: str | None) -> None:
        for finding in task.findings.get(choice or "", ()):
            attempt.expect(finding.met is True, "nobody knows", choice=choice, **_numbers(task, finding))

    def _expect_to_go_on(self, attempt: Attempt, task: Task, choice: str | None) -> None:
        all_fail = task.count("fails") == len(task.findings)
        attempt.expect(choice is not None or all_fail, "gave up", product=task.product.name)

    def _expect_an_end(self, attempt: Attempt, task: Task, choice: str | None) -> None:
        to_measure = not task.count("meets") and task.count("open") > 0
        attempt.expect(choice != MEASURE or to_measure, "measured for nothing", product=task.product.name)

    def _expect_reason(self, attempt: Attempt, task: Task, option: str, reason: Any) -> None:
        state, asked = task.state(option), {"product": task.product.name, "option": option}
        if state == "meets":
            attempt.expect(reason is None, "reason against a good one", **asked)
            return
        attempt.expect(reason is not None, "no reason", **asked)
        triple = isinstance(reason, Sequence) and not isinstance(reason, str | bytes) and len(reason) == 3
        attempt.expect(triple, "not a reason", **asked, what=_what(reason))
        axis, number, row = reason
        finding = next((f for f in task.findings[option] if f.need.axis == axis), None)
        attempt.expect(finding is not None, "does not decide", **asked, axis=axis)
        assert finding is not None
        if finding.met is None:
            attempt.expect(state == "open", "left unknown", **asked, axis=axis)
            attempt.expect(
                number is None and row is None, "a number for the unknown", **asked, axis=axis, number=number
            )
            return
        attempt.expect(finding.met is False, "does not decide", **asked, axis=axis)
        self._expect_number(attempt, task, option, finding, number, row)

    def _expect_number(
        self, attempt: Attempt, task: Task, option: str, finding: Finding, number: Any, row: Any
    ) -> None:
        """The row may be told by its number or as it is."""
        counting = finding.row
        assert counting is not None and finding.number is not None
        asked = {"product": task.product.name, "option": option, "axis": finding.need.axis}
        given = getattr(row, "row", row)
        cited = next((one for one in task.measured if one.row == given), None)
        what = f"{cited.axis} of {cited.option} with {cited.rows:,} rows" if cited else "nothing in the table"
        attempt.expect(cited == counting, "wrong row", **asked, row=given, what=what)
        told = {"number": number, "row": given, "value": counting.value, "measured": f"{counting.rows:,}"}
        attempt.expect(_is_told(finding, number), "wrong number", **asked, **told)


async def _ask(attempt: Attempt, task: Task) -> Any:
    """What the answer says: a plain function, or one to be awaited."""

    async def script() -> Any:
        said = attempt.answer(list(task.measured), task.product)
        return plain(await said if inspect.isawaitable(said) else said, attempt.exercise.answer)

    script.__name__ = attempt.exercise.answer  # the name that a message gives
    return await attempt.call(function=script)


def _is_told(finding: Finding, number: Any) -> bool:
    """Whether ``number`` is the finding's, which may be rounded."""
    assert finding.number is not None
    rounded = 0.005 if finding.need.axis == "recall" else ROUNDED
    try:
        return math.isclose(float(number), finding.number, rel_tol=ROUNDED, abs_tol=rounded)
    except (TypeError, ValueError, OverflowError):
        return False


def _what(said: Any) -> str:
    if isinstance(said, Sequence) and not isinstance(said, str | bytes):
        return f"{article(said)} of {len(said)}"
    return article(said)


def _numbers(task: Task, finding: Finding) -> dict[str, object]:
    row, need = finding.row, finding.need
    measured = f"{row.rows:,}" if row else "no"
    number = None if finding.number is None else float(f"{finding.number:.4g}")
    return {
        "product": task.product.name, "axis": need.axis, "at": need.at, "limit": need.limit, "number": number,
        "row": row.row if row else None, "rows": f"{task.product.rows:,}", "measured": measured,
    }  # fmt: skip
