"""7.4: a cache of vectors in which two who need one at once buy it once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any, ClassVar

import httpx2

from course_lib.exercises.lesson_07.scenes.cached import (
    Vectors,
    being_claimed,
    key_of,
    look,
    numbers,
    put_claims,
    put_vectors,
    rows_of_others,
    texts_in_two_orders,
)
from course_lib.exercises.lesson_07.scenes.model import Model, Request, refusal, some_texts, vectors_of
from course_lib.judging.asking import calling_it, until_blocked
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import OTHER_MODEL
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.held import out_of
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import at_once, sessions_of
from course_lib.judging.turns import in_turns, one_overtaken

WAITS, LOOKS = 0.4, 40  # seconds that another process takes for what it has claimed, and looks at the pool meanwhile
OFTEN = 0.7  # of the looks: who sleeps in a session gives it back for a moment between two
LAST_MODEL = f"z-{OTHER_MODEL}"  # comes behind the course's, as the other one comes before it
MINUTES = (50, 310)  # seconds from one minute to five: the clock of a service and that of its server may differ


class SharedCache(Exercise):
    """Claim, commit, buy, fill; and wait for what somebody else has claimed."""

    id = "7.4"
    title = "A cache that two ingests share"
    answer = "vectors_for"
    minutes = 25
    points = 3
    level = "senior"
    hints: ClassVar = (
        "To look and then to insert lets two look before either inserts. Which statement does both, and says what it "
        "has inserted?",
        "`INSERT … ON CONFLICT DO UPDATE … WHERE` there is no vector and the time is over, `RETURNING content_hash`: "
        "what comes back is yours to buy. Rows in the same order for all, or two wait for each other.",
        "The claim is worth something once it is committed; so the transaction ends before the model is asked. A loop "
        "around it all looks again for what others are buying: it is there one day, or theirs has run out.",
        "`except BaseException` (the task may be cancelled) deletes those of your claims that have no vector yet, in a "
        "transaction of its own, and raises again.",
    )
    why = (
        "A lock would do while it is held, and to hold one is to hold a connection for as long as the model takes. A "
        "claim is a lock written down: committed, seen by all, with a time at which it ends, so that who dies with it "
        "stands in nobody's way. The unique key decides between two, and the one who gets nothing back waits."
    )
    follow_up = (
        "A claim lasts a minute, and one request took two. Somebody else has bought the text meanwhile: what do the "
        "late vectors overwrite, and what would a token in the claim change?"
    )
    mistakes: ClassVar = {
        "not vectors": "For {count} different texts it returned {said}. | A dict with a vector for each text.",
        "wrong vector": "The vector of text {text!r} is not that of {where}. "
        "| Answers name texts by their `index` in the request; what is in the cache is returned as it is.",
        "asked for nothing": "All vectors were there already, or no text was given, and {count} request(s) reached the "
        "model. "
        "| Where nothing is missing there is nothing to ask.",
        "bought too much": "The model was sent {count} texts, of which {new} were missing. "
        "| A row with a vector needs no buying, whatever its `claimed_until`; equal texts are one.",
        "vector of another": "Text {text!r} was in the cache for another model only, and it was not bought. "
        "| The model's name is a part of the key.",
        "taken from another": "For text {text!r} it returned the vector that the cache has for another model. "
        "| The model's name is a part of the key, wherever the cache is read.",
        "too many requests": "{count} requests reached the model for {new} missing texts that nobody else had claimed. "
        "| One request for all that a call has claimed.",
        "not claimed": "While the model was at work, others saw claims for {count} of the {n} texts that it was sent. "
        "| A claim is a committed row with `claimed_until` in the future, and it comes before the request.",
        "not minutes": "While the model was at work, a claim was to end {seconds} seconds later. "
        "| One minute to five: who dies with a claim keeps the others waiting for that long.",
        "connection held": "While the model was at work, {count} connection(s) were held. "
        "| Commit the claims and leave the session before you ask.",
        "not stored": "It returned, and others see vectors for {count} of {n} texts. | What is bought is committed.",
        "still claimed": "It returned, and {count} of the stored vectors still have a `claimed_until`. "
        "| With its vector a row is no claim any more: NULL.",
        "error swallowed": "The model failed, and it returned {said}. | The caller has to know.",
        "another error": "The model failed with {error}, and out of it came {raised}. | Let it out as it is.",
        "claim kept": "The model failed, and {count} claim(s) are still there. "
        "| Nobody buys for a minute what nobody is buying: delete your claims, then raise.",
        "vectors lost": "The model failed, and {count} vector(s) of others are gone or changed. "
        "| Delete what you have claimed and not yet filled, and nothing else.",
        "claims lost": "The model failed, and {count} claim(s) of another process are gone. "
        "| It is still buying them. Delete what you have claimed yourself, and nothing else.",
        "rows of another": "{when}, rows of other models, for the same texts, were changed or gone. "
        "| Rows of other models are none of your business: the model's name belongs into every WHERE.",
        "bought another's": "Another process had claimed {count} of the texts for a minute, and they were sent to the "
        "model here. "
        "| An unexpired claim belongs to somebody: wait for the vector.",
        "held while waiting": "While it waited for another process, a connection was held at {count} of {n} looks. "
        "| Leave the session before you sleep.",
        "not taken over": "A claim had run out, and its text was not bought: {what}. "
        "| Whoever made it is gone; take it over in the statement that claims.",
        "bought twice": "Two calls at once bought {count} text(s) twice. "
        "| Between a look and an INSERT somebody else looks. Let one INSERT with ON CONFLICT decide.",
        "failed at once": "Two calls at once: one raised {error}. "
        "| Who comes second has to wait. Rows in the same order for all, or two wait for each other.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        model = Model(attempt)
        said = await attempt.call(sessions_of(attempt), model.client, [])
        attempt.expect(not model.requests, "asked for nothing", count=len(model.requests))
        attempt.expect(said == {}, "not vectors", count=0, said=article(said))
        texts = some_texts(6)
        await self._buys(attempt, [*texts, texts[2]], {}, texts)
        known = await put_vectors(attempt, texts[:4]) | await put_vectors(attempt, texts[4:], seconds=-9)
        await self._buys(attempt, texts, known, [])
        more = some_texts(4)
        await put_vectors(attempt, more[:1], OTHER_MODEL)
        await put_claims(attempt, more[1:2], seconds=-1)
        theirs = some_texts(2)
        await put_claims(attempt, theirs, seconds=60)
        await self._fails(attempt, [*more, theirs[0], *texts], known, theirs)
        await put_claims(attempt, more[1:2], seconds=-1)
        await self._buys(attempt, [*more[::-1], *texts[:2]], known, more)
        await self._beside_others(attempt)
        await self._waits(attempt)
        await self._takes_over(attempt)
        await self._two_at_once(attempt)
        await self._overtaken(attempt)
        await self._in_any_order(attempt)

    async def _buys(self, attempt: Attempt, texts: list[str], known: Vectors, new: list[str]) -> None:
        claimed: list[float] = []

        async def watch(request: Request) -> None:
            rows = await look(attempt)
            mine = [rows.get(key_of(text)) for text in request.inputs]
            claimed.extend(row.seconds or 0 for row in mine if row and row.is_claimed)

        model, of_others = Model(attempt, watch), await rows_of_others(attempt)
        said = await attempt.call(sessions_of(attempt), model.client, list(texts))
        missing = [text for text in new if text not in model.inputs]
        if missing and said_all(said, texts):
            raise attempt.wrong("vector of another", text=missing[0])
        requests, count = len(model.requests), len(model.inputs)
        attempt.expect(new != [] or not requests, "asked for nothing", count=requests)
        attempt.expect(count <= len(new), "bought too much", count=count, new=len(new))
        attempt.expect(requests <= 1, "too many requests", count=requests, new=len(new))
        attempt.expect(model.held == 0, "connection held", count=model.held)
        attempt.expect(len(claimed) == count, "not claimed", count=len(claimed), n=count)
        other = next((one for one in claimed if not MINUTES[0] <= one <= MINUTES[1]), None)
        attempt.expect(other is None, "not minutes", seconds=round(other or 0))
        self._compare(attempt, texts, said, known)
        await self._look_at_rows(attempt, texts, known, new)
        same = await rows_of_others(attempt) == of_others
        attempt.expect(same, "rows of another", when="When the vectors were stored")

    async def _beside_others(self, attempt: Attempt) -> None:
        """Each text has another vector as well, of a model that comes before the course's or behind it."""
        texts = some_texts(4)
        others = await put_vectors(attempt, texts[:2], OTHER_MODEL)
        known = await put_vectors(attempt, texts)
        others |= await put_vectors(attempt, texts[2:], LAST_MODEL)
        said = await attempt.call(sessions_of(attempt), Model(attempt, looks=False).client, list(texts))
        if said_all(said, texts):
            taken = next((text for text in texts if numbers(said[text]) == others[text]), None)
            attempt.expect(taken is None, "taken from another", text=taken)
        self._compare(attempt, texts, said, known)

    def _compare(self, attempt: Attempt, texts: list[str], said: Any, known: Vectors) -> None:
        count = len(set(texts))
        shown = f"a dict of {len(said)}" if isinstance(said, dict) else article(said)
        attempt.expect(said_all(said, texts), "not vectors", count=count, said=shown)
        for text, right in _right(texts, known).items():
            where = "the cache" if text in known else "the model"
            attempt.expect(numbers(said[text]) == right, "wrong vector", text=text, where=where)

    async def _look_at_rows(self, attempt: Attempt, texts: list[str], known: Vectors, new: list[str]) -> None:
        rows = await look(attempt)
        right = _right(texts, known)
        stored = [row for text in right if (row := rows.get(key_of(text))) and numbers(row.embedding) == right[text]]
        attempt.expect(len(stored) == len(right), "not stored", count=len(stored), n=len(right))
        claims = sum(not rows[key_of(text)].is_kept for text in new)
        attempt.expect(claims == 0, "still claimed", count=claims)

    async def _fails(self, attempt: Attempt, texts: list[str], known: Vectors, theirs: list[str]) -> None:
        """The model fails; the claims on `theirs` are another process's, also where the call wants these texts."""

        async def refuse(_: Request) -> httpx2.Response:
            return refusal(500, "It's late.")

        await put_claims(attempt, texts[::2], 60, LAST_MODEL)
        await put_claims(attempt, texts[1::2], -1, LAST_MODEL)
        of_others = await rows_of_others(attempt)
        model = Model(attempt, refuse)
        said, error = None, None
        with calling_it(attempt, "not taken over", saying="duplicate key", what="it raised an error"):
            try:
                said = await attempt.call(sessions_of(attempt), model.client, list(texts))
            except Wrong as wrong:
                if wrong.mistake != "raised" or not model.requests:
                    raise
                error = wrong.__cause__
        attempt.expect(bool(model.requests), "vector of another", text=texts[0])
        bought = set(theirs) & set(model.inputs)
        attempt.expect(not bought, "bought another's", count=len(bought))
        attempt.expect(error is not None, "error swallowed", said=article(said))
        right = kind_of(error) == "InternalServerError"
        attempt.expect(right, "another error", error="an InternalServerError", raised=article(error))
        rows = await look(attempt)
        claims = {key for key, row in rows.items() if row.is_claimed and row.embedding is None}
        others = set(map(key_of, theirs))
        attempt.expect(not claims - others, "claim kept", count=len(claims - others))
        kept = [text for text in known if (row := rows.get(key_of(text))) and numbers(row.embedding) == known[text]]
        attempt.expect(len(kept) == len(known), "vectors lost", count=len(known) - len(kept))
        attempt.expect(others <= claims, "claims lost", count=len(others - claims))
        same = await rows_of_others(attempt) == of_others
        attempt.expect(same, "rows of another", when="The model had failed, and")

    async def _waits(self, attempt: Attempt) -> None:
        """Another process has claimed the texts, and stores their vectors after a while."""
        texts = some_texts(3)
        await put_claims(attempt, texts, seconds=60)
        model = Model(attempt, looks=False)
        held: list[int] = []

        async def other() -> Vectors:
            for _ in range(LOOKS):
                await asyncio.sleep(WAITS / LOOKS)
                held.append(out_of(attempt.engine))
            return await put_vectors(attempt, texts)

        storing = asyncio.ensure_future(other())
        try:
            said = await attempt.call(sessions_of(attempt), model.client, list(texts))
        finally:
            theirs = await storing
        bought = [text for text in model.inputs if text in theirs]
        attempt.expect(not bought, "bought another's", count=len(bought))
        self._compare(attempt, texts, said, theirs)
        later = held[LOOKS // 2 :]  # by then it waits
        count = sum(out > 0 for out in later)
        attempt.expect(count < OFTEN * len(later), "held while waiting", count=count, n=len(later))

    async def _takes_over(self, attempt: Attempt) -> None:
        """A claim runs out while it is waited for."""
        texts = some_texts(3)
        await put_claims(attempt, texts[:1], seconds=WAITS)
        model = Model(attempt, looks=False)
        with calling_it(attempt, "not taken over", what="it raised an error"):
            try:
                said = await attempt.call(sessions_of(attempt), model.client, list(texts))
            except Wrong as wrong:
                if wrong.mistake == "endless" and texts[0] not in model.inputs:
                    raise attempt.wrong("not taken over", what="it waited on") from wrong
                raise
        self._compare(attempt, texts, said, {})
        await self._look_at_rows(attempt, texts, {}, texts)

    async def _two_at_once(self, attempt: Attempt) -> None:
        """They need some of the same texts, in opposite orders; on some of them there are claims that have run out."""
        texts = some_texts(6)
        await put_claims(attempt, texts[2:4], seconds=-1)
        wanted = [texts[:5], texts[:0:-1]]
        model = Model(attempt, looks=False)
        with calling_it(attempt, "failed at once"):
            _, said = await in_turns(attempt, *((model.client, list(texts)) for texts in wanted))
        self._expect_each_once(attempt, model)
        for given, returned in zip(wanted, said, strict=True):
            self._compare(attempt, given, returned, {})

    async def _overtaken(self, attempt: Attempt) -> None:
        for turns in (1, 2):
            texts = some_texts(3)
            await put_claims(attempt, texts, seconds=-1)
            model = Model(attempt, looks=False)
            with calling_it(attempt, "failed at once"):
                said = await one_overtaken(attempt, turns, (model.client, texts), (model.client, texts[::-1]))
            self._expect_each_once(attempt, model)
            for returned in said:
                self._compare(attempt, texts, returned, {})

    def _expect_each_once(self, attempt: Attempt, model: Model) -> None:
        twice = sum(count > 1 for count in Counter(model.inputs).values())
        attempt.expect(twice == 0, "bought twice", count=twice)

    async def _in_any_order(self, attempt: Attempt) -> None:
        """Each stands at the text in the middle, which somebody else is about to claim, and then that one does not."""
        wanted = texts_in_two_orders()
        model = Model(attempt, looks=False)
        with calling_it(attempt, "failed at once"):
            async with being_claimed(attempt, wanted[0][1]) as other:
                running = asyncio.ensure_future(at_once(attempt, *((model.client, list(texts)) for texts in wanted)))
                try:
                    await until_blocked(attempt, running, 2)
                    await other.rollback()
                finally:
                    with suppress(Wrong):
                        await asyncio.wait({running})
                said = await running
        self._expect_each_once(attempt, model)
        for given, returned in zip(wanted, said, strict=True):
            self._compare(attempt, given, returned, {})


def said_all(said: Any, texts: list[str]) -> bool:
    return isinstance(said, dict) and said.keys() == set(texts)


def _right(texts: list[str], known: Vectors) -> Vectors:
    """The vector that each text has to get."""
    unknown = [text for text in dict.fromkeys(texts) if text not in known]
    bought = dict(zip(unknown, vectors_of(unknown), strict=True))
    return {text: known[text] if text in known else bought[text] for text in dict.fromkeys(texts)}
