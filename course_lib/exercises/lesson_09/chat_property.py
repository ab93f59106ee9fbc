"""9.6: a property, which Hypothesis tries on the real database."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from course_lib.exercises.lesson_09.scenes.bad_chats import HOW, NEED_FORGETTING, NEED_NOTHING_THERE
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise
from course_lib.judging.testing.module import TestModule, answered
from course_lib.judging.testing.report import Case, Report, Tried
from course_lib.judging.testing.run import expect_no_error, expect_tests, run_tests

SCENES = "course_lib.exercises.lesson_09.scenes"
UNRELIABLE = {"Flaky", "FlakyFailure"}
MANY = 10  # chats, from which on it is examples that were tried, and not an example
BAD_LUCK = 2  # mutants that one may overlook by chance: they are tried again
TRIES_MORE = 2
RARE = ("twice", "by text", "strip")  # tried twice: whoever finds them by luck does not find both


class ChatProperty(Exercise):
    """A list as a model, steps that are drawn, and texts that are mean."""

    id = "9.6"
    title = "What was said is what is read"
    answer = "test_property"
    minutes = 20
    points = 3
    level = "senior"
    recipe = "migrated"
    crowded = False
    seconds = 120.0  # pytest
    hints: ClassVar = (
        "A chat is a list that lives in a database. Keep a list beside it and do to the list what you do to the chat: "
        "what has to be true after every step?",
        "Let Hypothesis draw the steps: `st.lists(st.one_of(…))`, where a list of texts is something to say and an "
        "integer is a place to forget, which may be one where nothing stands. A `RuleBasedStateMachine` inside the "
        "test does as well.",
        'Of all of Unicode two equal texts are rare. `st.text("aA ", max_size=2)` draws equal ones, ones that differ '
        "in case, and blanks at the ends, all the time. And `@settings(deadline=None)`: a database is slow now and "
        "then.",
    )
    why = (
        "The model is a list: two lines where the chat has a database. What is drawn is short and of few characters, "
        "since the mistakes lie where texts are alike and not where they are exotic. Time is no part of the property, "
        "so there is no deadline. In a project, `database=None` or `derandomize=True` leave no folder behind; what "
        "Hypothesis once found is better kept as an `@example`."
    )
    follow_up = (
        "Two people say something to the same chat at once, and both get the same number. Why does this test not find "
        "it, however many examples it tries?"
    )
    mistakes: ClassVar = {
        "never called": "`test_property` never said anything to a chat. "
        "| `chat = new_chat()` for each example, then `chat.say(…)`.",
        "not storable": "`test_property` said a text with a NUL in it, which no text in PostgreSQL can hold. "
        "| `st.text()` draws it too: name the characters, or leave it out.",
        "deadline": "`test_property` failed for a right chat that was slow once: {kind}. "
        "| An example has 200 ms if nothing else is said, and nobody promised that: `@settings(deadline=None)`.",
        "always fails": "`test_property` failed for every chat, a right one too. | It said: {message}.",
        "false alarm": "`test_property` failed for a right chat, {way}. | It said: {message}.",
        "few examples": "`test_property` passed for a chat that {how}, and tried {chats} chat(s). "
        "| `@given` calls the test once for each example: begin a chat inside it.",
        "never forgets": "`test_property` passed for a chat that {how}, and never made one forget anything. "
        "| Forgetting is a step too: draw it among the others.",
        "nothing there": "`test_property` passed for a chat that {how}, and never asked one for such a place. "
        "| What is promised of a place where there is nothing belongs to the property: `pytest.raises(IndexError)`.",
        "one at a time": "`test_property` passed for a chat that {how}, and never said two texts in one call. "
        "| `chat.say` takes several, in one transaction.",
        "lives": "`test_property` passed for a chat that {how}, after {chats} chats and {texts} texts. "
        "| Which texts and steps would show it, how often are they drawn, and what do you look at after each?",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        module = answered(attempt)
        cases = [
            Case("max", right=True), Case("close up", right=True), Case("max", right=True, options={"slow": True}),
            *[Case(name, until_no=True) for name in (*HOW, *RARE)],
        ]  # fmt: skip
        report = await self._tried(attempt, module, cases)
        print(report.printed, end="")
        self._draws_what_can_be_stored(attempt, report)
        expect_tests(report, module)
        self._calls_it(attempt, report)
        self._bears_with_right_ones(attempt, report, module)
        await self._try_again(attempt, module, report)
        self._finds_mistakes(attempt, report)

    async def _tried(self, attempt: Attempt, module: TestModule, cases: list[Case]) -> Report:
        return await run_tests(attempt, module, cases, f"{SCENES}.given", f"{SCENES}.chats")

    async def _try_again(self, attempt: Attempt, module: TestModule, report: Report) -> None:
        """What is drawn is chance: a good state machine of twelve steps overlooks one in thirty times a mutant."""
        for _ in range(TRIES_MORE):
            alive = [tried for tried in report.mutants if not tried.red and tried.case.name not in RARE]
            if not 0 < len(alive) <= BAD_LUCK:
                return
            again = await self._tried(attempt, module, [tried.case for tried in alive])
            for tried, later in zip(alive, again.tried, strict=True):
                tried.runs, tried.notes = later.runs, later.notes

    def _draws_what_can_be_stored(self, attempt: Attempt, report: Report) -> None:
        refused = any(_done(tried)["refused"] and not tried.green for tried in report.right)
        attempt.expect(not refused, "not storable")

    def _calls_it(self, attempt: Attempt, report: Report) -> None:
        if all(tried.green for tried in report.right):
            attempt.expect(any(_done(tried)["said"] for tried in report.tried), "never called")

    def _bears_with_right_ones(self, attempt: Attempt, report: Report, module: TestModule) -> None:
        alarms = [tried for tried in report.right if not tried.green]
        for tried in alarms:
            kind = tried.first_trouble.kind if tried.first_trouble else ""
            only_slow = bool(tried.case.options) and len(alarms) == 1  # else it is unreliable by itself
            late = kind == "DeadlineExceeded" or (kind in UNRELIABLE and (only_slow or "deadline" in tried.said))
            attempt.expect(not late, "deadline", kind=kind)
        asserted = [tried for tried in alarms if tried.asserted]
        if asserted:
            message = asserted[0].said
            attempt.expect(not all(tried.red for tried in report.tried), "always fails", message=message)
            close = asserted[0].case.name == "close up"
            way = "whose numbers close up after forgetting" if close else "whose numbers may have gaps"
            raise attempt.wrong("false alarm", way=way, message=message)
        expect_no_error(report, module)

    def _finds_mistakes(self, attempt: Attempt, report: Report) -> None:
        for tried in report.mutants:
            if tried.red:
                continue
            name, done = tried.case.name, _done(tried)
            chats, how = done["chats"], HOW[name]
            attempt.expect(chats >= MANY, "few examples", how=how, chats=chats)
            attempt.expect(done["forgot"] > 0 or name not in NEED_FORGETTING, "never forgets", how=how)
            attempt.expect(done["beyond"] > 0 or name not in NEED_NOTHING_THERE, "nothing there", how=how)
            attempt.expect(done["at once"] > 1 or name != "time", "one at a time", how=how)
            raise attempt.wrong("lives", how=how, chats=chats, texts=done["said"])


def _done(tried: Tried) -> Counter[str]:
    """What its chats were asked to do, and how often."""
    return Counter(next(iter(tried.noted("done")), {}))
