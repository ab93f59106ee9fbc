"""7.2: many texts embedded in batches, some at once, by a server that is busy at times."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from course_lib.exercises.lesson_07.scenes.busy import EARLY, Busy, Refusing, Slow, Together
from course_lib.exercises.lesson_07.scenes.model import Model, some_texts, vectors_of
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of

TRIES = 5
WAITS = {1: 0.25, 0: 0.5, 2: 0.2}  # seconds that three batches are told to wait for, in the order of the refusals
SHORT = 0.05  # and what a batch is told later on
UNDER_WAY = 0.05  # seconds for a request that had been called to begin


class EmbedPolitely(Exercise):
    """Bounded at once, in order, and silent for as long as the server asks for."""

    id = "7.2"
    title = "Embed politely"
    answer = "embed_all"
    minutes = 20
    points = 3
    level = "senior"
    recipe = "empty"
    hints: ClassVar = (
        "What is limited is the account. Which of your requests has to know that one of them was refused?",
        "A semaphore bounds what is under way. One moment that all tasks share, until which nobody asks, is moved by "
        "whoever is refused, and only ever forward.",
        "After a pause the shared moment may have moved on: look at it again in a `while` before you ask.",
        "`TaskGroup` cancels the others at the first error and waits for them, and packs the error into a group. Take "
        "it out (`except*`), and raise it outside of that block.",
    )
    why = (
        "A refusal is an answer to the account. Were each request to wait for itself, the others would go on being "
        "refused, and some services lengthen the wait for that. One moment for all is enough, since in one event loop "
        "nobody is interrupted between reading and writing it. And an error that nothing can mend ends what else was "
        "being bought: nobody will use it."
    )
    follow_up = (
        "The service runs in four processes, which know nothing of each other's refusals. Where would you put the "
        "moment until which nobody asks, and what is it worth when reading it takes a round trip?"
    )
    mistakes: ClassVar = {
        "asked for nothing": "Without texts it sent {count} request(s), or returned {said!r}. "
        "| No texts, no request, and an empty list.",
        "not vectors": "For {count} texts it returned {said}. | A list with a list of numbers for each text.",
        "wrong vector": "Vector number {number} is not that of text number {number}. "
        "| An answer's `data` may have any order, and answers come in any order: `index` counts within one request.",
        "batch too large": "A request had {count} texts, with batch={batch}. | Slices of `batch` texts.",
        "too many requests": "For {texts} texts with batch={batch} it sent {count} requests. "
        "| All of them but the last are full.",
        "too many at once": "{count} requests were under way at the same time, with at_once={at_once}. "
        "| A semaphore, or so many workers.",
        "too few at once": "No more than {count} request(s) were under way at the same time, with at_once={at_once} "
        "and more batches than that. "
        "| A loop that awaits each request has one under way; tasks have several.",
        "waits for the slowest": "While one request took long, {count} of {n} others began, with at_once={at_once}. "
        "| As soon as one has ended the next one begins, whichever that was: no rounds, and no fixed shares.",
        "came too early": "{after:.2f} seconds after a refusal that asked for {wait} a request began. "
        "| The wait counts for all batches from the moment of the refusal, and of two refusals the later end.",
        "stood still": "In the {wait} seconds of silence after a refusal this process did nothing else: a timer of the "
        "event loop that was due before their end came after it. "
        "| `await asyncio.sleep(…)` lets others go on meanwhile; `time.sleep`, or a loop that looks at the clock, does "
        "not.",
        "gave up": "A batch was refused {count} time(s), and {error} reached the caller. "
        "| Up to five requests for a batch, whatever became of others.",
        "never gave up": "A batch was refused again and again, and {count} requests were sent. "
        "| The fifth refusal is the caller's.",
        "error swallowed": "The server answered with status {status}, and `embed_all` returned {said}. "
        "| The caller has to know.",
        "another error": "The server's last answer raised {error}, and out of `embed_all` came {raised}. "
        "| As it is: a TaskGroup packs errors into a group.",
        "tried again": "After status {status} the same texts were sent again. "
        "| Only of a `RateLimitError` it is said that one may come again; any other error is the caller's at once.",
        "left under way": "When an error had reached the caller, {count} request(s) were still under way. "
        "| To cancel a task is to ask it to end: wait until it has.",
        "went on": "After status {status}, {count} more request(s) began. "
        "| The call has failed; what else it buys is of no use to anybody.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        model = Model(attempt, looks=False)
        said = await attempt.call(model.client, [], 4, 2)
        nothing = not model.requests and isinstance(said, list) and not said
        attempt.expect(nothing, "asked for nothing", count=len(model.requests), said=said)
        await self._in_order(attempt, texts=23, batch=4, at_once=3)
        await self._in_order(attempt, texts=3, batch=1, at_once=1)
        await self._in_order(attempt, texts=5, batch=9, at_once=4)
        await self._keeps_going(attempt, at_once=3, batches=6)
        await self._waits(attempt)
        await self._gives_up(attempt)
        for status, error in ((400, "BadRequestError"), (500, "InternalServerError")):
            await self._fails(attempt, status, error)

    async def _in_order(self, attempt: Attempt, texts: int, batch: int, at_once: int) -> None:
        needed = math.ceil(texts / batch)
        model = Model(attempt, Together(min(at_once, needed)), looks=False)
        model.reversed = True
        given = some_texts(texts)
        given[9:10], given[14:15] = given[1:2] * (texts > 9), given[13:14]  # twice, in other batches and in one
        said = await attempt.call(model.client, list(given), batch, at_once)
        attempt.look_for_tasks()
        largest = max((len(request.inputs) for request in model.requests), default=0)
        attempt.expect(largest <= batch, "batch too large", count=largest, batch=batch)
        count = len(model.requests)
        attempt.expect(count <= needed, "too many requests", texts=texts, batch=batch, count=count)
        attempt.expect(model.most <= at_once, "too many at once", count=model.most, at_once=at_once)
        self._compare(attempt, given, said)
        enough = model.most >= min(at_once, count)
        attempt.expect(enough, "too few at once", count=model.most, at_once=at_once)

    async def _keeps_going(self, attempt: Attempt, at_once: int, batches: int) -> None:
        slow = Slow(batches)
        model = Model(attempt, slow, looks=False)
        given = some_texts(2 * batches)
        self._compare(attempt, given, await attempt.call(model.client, list(given), 2, at_once))
        others = batches - 1
        attempt.expect(slow.others == others, "waits for the slowest", count=slow.others, n=others, at_once=at_once)

    def _compare(self, attempt: Attempt, texts: list[str], said: Any) -> None:
        right = len(said) == len(texts) if isinstance(said, list) else False
        shown = f"a list of {len(said)}" if isinstance(said, list) else article(said)
        attempt.expect(right, "not vectors", count=len(texts), said=shown)
        for number, (vector, wanted) in enumerate(zip(said, vectors_of(texts), strict=True), 1):
            try:
                found = [float(value) for value in vector]
            except (TypeError, ValueError):
                raise attempt.wrong(
                    "not vectors", count=len(texts), said=f"a list with {article(vector)} in it"
                ) from None
            attempt.expect(found == wanted, "wrong vector", number=number)

    async def _waits(self, attempt: Attempt) -> None:
        """Three are refused, the second one for longest; one of them is refused as often as it may be."""
        texts = some_texts(12)
        busy = Busy({texts[3 * at]: [wait, *[SHORT] * ((TRIES - 2) * (at == 0))] for at, wait in WAITS.items()})
        model = Model(attempt, busy, looks=False)
        try:
            said = await attempt.call(model.client, list(texts), 3, 3)
        except Wrong as wrong:
            self._look_at_pauses(attempt, busy)
            if wrong.mistake == "raised" and busy.refusals:
                count = busy.count(texts[0])
                raise attempt.wrong("gave up", count=count, error=article(wrong.__cause__)) from wrong
            raise
        attempt.look_for_tasks()
        self._look_at_pauses(attempt, busy)
        self._compare(attempt, texts, said)

    def _look_at_pauses(self, attempt: Attempt, busy: Busy) -> None:
        for ended, wait, refused in busy.refusals:
            for began, text in busy.began:  # what was refused was not called before that
                start = ended + UNDER_WAY * (text != refused)
                early = start < began < ended + wait - EARLY
                attempt.expect(not early, "came too early", after=began - ended, wait=f"{wait:g}")
        attempt.expect(busy.stood_still is None, "stood still", wait=f"{busy.stood_still or 0:g}")

    async def _gives_up(self, attempt: Attempt) -> None:
        texts = some_texts(2)
        model = Model(attempt, Busy({texts[0]: [0.01] * (4 * TRIES)}), looks=False)
        said, error = await self._failing(attempt, model, texts)
        count = len(model.requests)
        early = count < TRIES and error is not None
        attempt.expect(not early, "gave up", count=count, error=article(error))
        attempt.expect(count <= TRIES, "never gave up", count=count)
        self._expect_error(attempt, 429, "RateLimitError", said, error)

    async def _fails(self, attempt: Attempt, status: int, kind: str) -> None:
        texts = some_texts(16)
        refusing = Refusing(texts[2], status)
        model = Model(attempt, refusing, looks=False)
        said, error = await self._failing(attempt, model, texts)
        more = sum(request.began > refusing.refused for request in model.requests)
        again = sum(texts[2] in request.inputs for request in model.requests) > 1
        attempt.expect(not again, "tried again", status=status)
        attempt.expect(more <= 1, "went on", status=status, count=more)
        self._expect_error(attempt, status, kind, said, error)

    async def _failing(self, attempt: Attempt, model: Model, texts: list[str]) -> tuple[Any, BaseException | None]:
        """What it returned, or the error that came out of it."""
        said, error = None, None
        try:
            said = await attempt.call(model.client, list(texts), 2, 3)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            error = wrong.__cause__
        left = model.at_work
        attempt.look_for_tasks()
        attempt.expect(left == 0, "left under way", count=left)
        return said, error

    def _expect_error(self, attempt: Attempt, status: int, kind: str, said: Any, error: BaseException | None) -> None:
        attempt.expect(error is not None, "error swallowed", status=status, said=article(said))
        right = kind_of(error) == kind
        name = f"an {kind}" if kind[0] in "AEIOU" else f"a {kind}"
        attempt.expect(right, "another error", error=name, raised=article(error))
