"""S2: tokens that were set aside for an answer, and how they come back."""

from __future__ import annotations

from secrets import randbelow
from typing import ClassVar

from course_lib.exercises.interview.scenes.paid_streams import MOST, REFUSAL, PaidStreams, PricedModel, Reading
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.metered import ModelDown
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.staging import add_user, other_rows


class StreamPaid(Drill):
    """A reservation is given back once, whichever way the stream ends."""

    id = "S2"
    title = "The limit that shrinks"
    answer = "stream_paid"
    minutes = 15
    points = 3
    level = "senior"
    topics: ClassVar = ("streaming", "async", "concurrency")
    faults: ClassVar = ("closed", "cancelled", "twice")
    seconds = 12.0
    hints: ClassVar = (
        "List the ways in which this generator can come to an end. Which of them pass through one of its calls of "
        "`book` with a negative number, and how often?",
        "A reader that closes the stream raises GeneratorExit at the `yield`; a request that is cancelled raises "
        "CancelledError at an `await`. What do the two not inherit from?",
        "There is one reservation, so one place settles it: outside of the loop over the tries. A `finally` around "
        "that loop sees every end once; what it has to know is how much was said by then. And the model's generator: "
        "`contextlib.aclosing` closes it, which `async for` does not.",
    )
    why = (
        "A reservation is a thing that is open and has to be closed, like a file: one `try … finally` from the moment "
        "it is made, around all that may happen with it. GeneratorExit and CancelledError are no `Exception`, so a "
        "stream that is left passes by every `except Exception`. What is given back inside a loop is given back each "
        "time. And a generator that is left early stays open until it is collected: who reads from one closes it."
    )
    follow_up = (
        "The server shuts down while a thousand answers are streaming, and each `finally` wants a connection of a "
        "pool of five. What happens to the reservations, and what would find those that stay?"
    )
    mistakes: ClassVar = {
        "not a generator": "`stream_paid` gave {kind}, which `async for` cannot take pieces from. "
        "| It is read as it was found: an `async def` with `yield` in it.",
        "not asked": "With {left} tokens left, the model was not asked. | All that is left may be reserved.",
        "above the limit": "With {left} tokens left, it {did}. "
        "| Where {most} do not fit, LimitReached is raised and the model is not asked.",
        "wrong question": "The model was given {kind} that is not the question. | The question, as it came.",
        "wrong pieces": "The model said {said} pieces, and the reader got {got}. | Each one as it comes, and once.",
        "not reserved": "While the model worked, others saw {reserved} tokens reserved. "
        "| Whenever it is at work, on a second try too, all {most} are.",
        "connection held": "While the model worked, {count} connection(s) were held. "
        "| A reservation is a number in a row, and not a transaction that is left open.",
        "not settled": "The stream came to its end, its pieces cost {paid}, and the user was charged {charged}. "
        "| What is left of the reservation goes back, once.",
        "closed": "The reader closed the stream before its end, and the user was charged {charged}, which is not what "
        "the pieces cost that the model had given. "
        "| That is what was reported. What does closing a generator raise in it, and where?",
        "cancelled": "The request was cancelled while it waited for the model, after pieces that cost {paid}, and the "
        "user was charged {charged}. | Which `except` does CancelledError pass by?",
        "twice": "The model failed before its first piece, {then}, and the user was charged {charged} for pieces that "
        "cost {paid}. | How often is one reservation given back?",
        "failed": "The model failed after pieces that cost {paid}, and the user was charged {charged}. "
        "| What was said is paid, and the rest goes back.",
        "not tried again": "The model failed before its first piece, and was not asked a second time. "
        "| Nobody has seen anything yet: once more, as it was found.",
        "asked again": "The model failed {when}, and was asked {times} times. "
        "| Once more, and only if it failed before its first piece.",
        "error swallowed": "The model failed {when}, and the reader was given {said}. "
        "| Give back, and let the model's error go on.",
        "cancelling swallowed": "The request was cancelled, and ended as if nothing were. "
        "| Who cancels waits for CancelledError. Give back, and let it go on.",
        "overwrote": "Another process booked {more} tokens of the same user while the {what} waited for the row, and "
        "they are lost. | Let the server add: what was read before the lock is old.",
        "model goes on": "The reader closed the stream before its end, and when `stream_paid` had ended, the model's "
        "generator was still open. | Leaving an `async for` does not close what it reads from.",
        "settled late": "{what}, and the user was charged the right amount only after that had reached the caller. "
        "| What is started and not awaited may never be done: the process may end before.",
        "others charged": "Rows of other users were changed too. | The user's id belongs into every WHERE.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        user_id = await add_user(attempt, limit=1_000_000, used=20_000 + randbelow(1_000))
        others = await other_rows(attempt, "users", "id", user_id)
        scene = PaidStreams(attempt, user_id)
        await self._to_the_end(attempt, scene)
        goes_on = await self._closed(attempt, scene)
        await self._cancelled(attempt, scene)
        await self._fails_at_first(attempt, scene)
        await self._fails_later(attempt, scene)
        await self._at_the_limit(attempt, scene)
        attempt.expect(await other_rows(attempt, "users", "id", user_id) == others, "others charged")
        attempt.expect(not goes_on, "model goes on")

    async def _to_the_end(self, attempt: Attempt, scene: PaidStreams) -> None:
        reading = await scene.read(PricedModel(scene, "ends"), busy="reservation")
        reading.look_at_pieces(attempt)
        await scene.expect_paid(reading, "not settled", "The stream came to its end")

    async def _closed(self, attempt: Attempt, scene: PaidStreams) -> bool:
        """Whether the model went on after one of them had ended."""
        goes_on = False
        for after, busy in ((2, ""), (1, ""), (3, "settling")):
            reading = await scene.read(PricedModel(scene, "ends"), leaves_after=after, busy=busy)
            await scene.expect_paid(reading, "closed", "The reader closed the stream")
            goes_on = goes_on or reading.goes_on
        return goes_on

    async def _cancelled(self, attempt: Attempt, scene: PaidStreams) -> None:
        for end in ("hangs", "hangs at once"):
            reading = await scene.read(PricedModel(scene, end))
            await scene.expect_paid(reading, "cancelled", "The request was cancelled")
            attempt.expect(reading.cancelled, "cancelling swallowed")

    async def _fails_at_first(self, attempt: Attempt, scene: PaidStreams) -> None:
        reading = await scene.read(PricedModel(scene, "fails at once", "ends"))
        attempt.expect(len(reading.model.asked) > 1, "not tried again")
        reading.look_at_pieces(attempt)
        await scene.expect_paid(reading, "twice", "The stream came to its end", then="answered the second time")
        reading = await scene.read(PricedModel(scene, "fails at once", "ends"), leaves_after=2)
        await scene.expect_paid(reading, "twice", "The reader closed the stream", then="and the reader left later")
        reading = await scene.read(PricedModel(scene, "fails at once", "hangs"))
        await scene.expect_paid(reading, "twice", "The request was cancelled", then="and the second try was cancelled")
        reading = await scene.read(PricedModel(scene, "fails at once", "fails at once", "ends"))
        self._expect_failure(attempt, reading, 2, "twice before its first piece")
        await scene.expect_paid(reading, "twice", "The model failed twice", then="the second time too")

    async def _fails_later(self, attempt: Attempt, scene: PaidStreams) -> None:
        for tries in (("fails", "ends"), ("fails at once", "fails", "ends")):
            reading = await scene.read(PricedModel(scene, *tries))
            self._expect_failure(attempt, reading, len(tries) - 1, "after some pieces")
            reading.look_at_pieces(attempt)
            await scene.expect_paid(reading, "failed", "The model failed")

    def _expect_failure(self, attempt: Attempt, reading: Reading, times: int, when: str) -> None:
        asked = len(reading.model.asked)
        attempt.expect(asked >= times, "not tried again")
        attempt.expect(asked == times, "asked again", when=when, times=asked)
        said = article(reading.error) if reading.error else "the end of the answer"
        attempt.expect(isinstance(reading.error, ModelDown), "error swallowed", when=when, said=said)

    async def _at_the_limit(self, attempt: Attempt, scene: PaidStreams) -> None:
        change = "UPDATE users SET token_limit = tokens_used + :left WHERE id = :id"
        await attempt.sql(change, left=MOST, id=scene.user_id)
        reading = await scene.read(PricedModel(scene, "ends"))
        attempt.expect(bool(reading.model.asked), "not asked", left=MOST)
        await scene.expect_paid(reading, "not settled", "The stream came to its end")
        await attempt.sql(change, left=MOST - 1, id=scene.user_id)
        reading = await scene.read(PricedModel(scene, "ends"))
        error = kind_of(reading.error) if reading.error else ""
        did = "asked the model" if reading.model.asked else f"raised {error}" if error else "raised nothing"
        refused = not reading.model.asked and error == REFUSAL
        attempt.expect(refused, "above the limit", left=MOST - 1, did=did, most=MOST)
        charged = await scene.used() - reading.before
        attempt.expect(charged == 0, "above the limit", left=MOST - 1, did=f"charged {charged} tokens", most=MOST)
