"""3.9: a request that may be sent again."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from course_lib.exercises.lesson_03.idempotency import CREATE, KeyReused
from course_lib.exercises.lesson_03.scenes.posted import (
    Request,
    count_messages,
    new_conversation,
    new_request,
    stored_as,
)
from course_lib.judging.asking import CHECK, DEADLOCK, SERIALIZATION, calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.crowd import awkward_text
from course_lib.judging.exercise import Exercise, Wrong
from course_lib.judging.quoting import article, kind_of
from course_lib.judging.races import sessions_of
from course_lib.judging.second_process import SecondProcess, second_process
from course_lib.judging.trouble import behind, sqlstate_of
from course_lib.judging.turns import Race, in_turns, run_race

SECONDS = 2  # for a call that nothing holds up
COMMITS = 4  # so many COMMITs of a call are told apart
REFUSE = "ALTER TABLE messages ADD CONSTRAINT out_of_order CHECK (content = '') NOT VALID"
ACCEPT = "ALTER TABLE messages DROP CONSTRAINT out_of_order"


class PostOnce(Exercise):
    """An idempotent POST: the key, the message and the answer are committed together."""

    id = "3.9"
    title = "Post once"
    answer = "post_once"
    minutes = 18
    points = 3
    level = "senior"
    second_process = True
    hints: ClassVar = (
        "Looking whether the key is there and then inserting it leaves a moment in between. Which statement does both, "
        "and makes the second one of two wait?",
        "`insert(idempotency_keys)…on_conflict_do_nothing().returning(…)` brings a row if the key was new, and none if "
        "it was there. While another transaction holds the same new key, it waits for that transaction's end.",
        "Key, message and stored answer belong into one transaction: then a failure takes the key back with the rest.",
        "If the key was there, read its row: another `request_hash` is a conflict, the same one is answered from "
        "`response`. The hash is of all that makes the request: the conversation and the content.",
    )
    why = (
        "The primary key lets one of two transactions insert the key, and makes the other wait until that one has "
        "ended: then there is either an answer to give again, or no key and the way is free. Since key and message "
        "commit together, there is no state in which one exists without the other."
    )
    follow_up = "Keys pile up. When may a key be deleted, and what does a client see that sends its request after that?"
    mistakes: ClassVar = {
        "nothing returned": "`post_once` returned None. | Did you forget `return`?",
        "not a number": "`post_once` returned {kind}, and the `seq` was asked for as an int. "
        "| `message.seq`; an answer that is kept as JSON has to come back as what it was.",
        "not stored": "It returned {seq}, and no other connection sees a message of that number. | What makes it last?",
        "wrong message": "The message number {seq} was stored with {column} {stored!r}. "
        "| The content is an argument, and it is the user who says it.",
        "stored again": "The same request came twice, one after the other, and {count} messages were stored. "
        "| What must be looked up before anything is stored?",
        "replay failed": "The same request came a second time, and it raised {error}. "
        "| The key is there: give the answer that was given.",
        "another answer": "The same request came twice: it was told {first} and then {second}. "
        "| Keep the first answer, or where its message is.",
        "merged": "A request with a key of its own {did}, because its content had been posted before. "
        "| People say the same thing twice. Only the key tells whether it is the same request.",
        "conflict unnoticed": "The key came again with another {what}, and it returned {said}. "
        "| Compare with what was asked the first time, and raise `KeyReused`.",
        "conflict stored": "The key came again with another {what}, and a message was stored. "
        "| A conflict changes nothing.",
        "another error": "The key came again with another {what}, and it raised {error}. | `KeyReused` was asked for.",
        "keys mixed": "After a request with the key {key!r}, another request with the key {near!r} {did}. "
        "| A key is a text, and two texts are equal or they are not.",
        "another process": "A request that had been answered came again in a second process of the service, and there "
        "it {did}. "
        "| What a process keeps in memory the others do not know, and `hash()` of a text differs between them.",
        "users mixed": "Another user's request with the same key {did}. "
        "| A key belongs to a user: the two of them together say which request it is.",
        "error swallowed": "The table refused the message, and `post_once` returned {said}. "
        "| The caller has to know: let the error go on.",
        "another refusal": "The table refused the message, and out of `post_once` came {error}. "
        "| What refused: the key or the message? Only a key that is there is answered from its row.",
        "key burned": "After the table had refused the message once, the same call {did}. "
        "| A key that is committed without its message stays. Put both into one transaction.",
        "killed half-way": "The process was killed after COMMIT number {number} of a call, and the same call {did}. "
        "| No code runs after a kill. Key and message belong into one transaction.",
        "failed at once": "Two equal requests came at the same moment, and one raised {error}. "
        "| Who comes second has to wait for the end of the first, and gives its answer.",
        "stored twice": "Two equal requests came at the same moment, and {count} messages were stored. "
        "| Let the primary key decide who is first; what is only looked up may be there a moment later.",
        "told differently": "Two equal requests came at the same moment: they were told {first} and {second}. "
        "| Who comes second has to wait until the answer is there.",
        "not tried again": "Two equal requests came at the same moment, and one failed with {error}, SQLSTATE 40001. "
        "| This isolation level asks for another try: begin anew, with the reading.",
        "deadlock": "Two requests came at the same moment, and one failed with {error}. "
        "| Each held what the other wanted: lock the same things in the same order.",
        "locked in this process": "While one request had not committed yet, the other waited for something that is no "
        "lock of the database. "
        "| The service runs in several processes, and Python's locks are known to one of them.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(CREATE)
        async with second_process(attempt) as other:
            await self._answers_again(attempt)
            await self._tells_keys_apart(attempt)
            await self._tells_users_apart(attempt)
            await self._gives_the_key_back(attempt)
            await self._two_equal_ones(attempt)
            await self._two_that_differ(attempt)
            await self._survives_a_kill(attempt)
            if other is not None:
                await self._answers_in_another_process(attempt, other)

    async def _answers_again(self, attempt: Attempt) -> None:
        user_id, id, highest = await new_conversation(attempt)
        request = new_request(user_id, id)
        seq = await self._post(attempt, request)
        rows = await attempt.sql(
            "SELECT role, content FROM messages WHERE conversation_id = :id AND seq = :n", id=id, n=seq
        )
        attempt.expect(len(rows) == 1 and seq == highest + 1, "not stored", seq=seq)
        for place, (column, value) in enumerate((("role", "user"), ("content", request.content))):
            stored = rows[0][place]
            attempt.expect(stored == value, "wrong message", seq=seq, column=column, stored=stored)
        await self._replays(attempt, request, seq)
        another = new_request(user_id, id, request.content)
        with calling_it(attempt, "merged", did="raised an error"):
            said = await self._post(attempt, another)
        attempt.expect(said == seq + 1, "merged", did=f"was told {said}")
        await self._replays(attempt, request, seq)
        await self._replays(attempt, another, said)
        _, other_id, _ = await new_conversation(attempt, user_id)
        for content in (request.content.replace("é", "ê"), request.content.swapcase(), f"{request.content} "):
            await self._refuses(attempt, request._replace(content=content), "content")
        await self._refuses(attempt, request._replace(conversation_id=other_id), "conversation")
        await self._replays(attempt, request, seq)

    async def _tells_keys_apart(self, attempt: Attempt) -> None:
        user_id, id, _ = await new_conversation(attempt)
        request = new_request(user_id, id, f"{awkward_text()} {'and so on ' * 200}")
        seq = await self._post(attempt, request)
        await self._refuses(attempt, request._replace(content=f"{request.content[:-1]}."), "content, at its end")
        for near in (request.key.swapcase(), f"{request.key} "):
            with calling_it(attempt, "keys mixed", key=request.key, near=near, did="raised an error"):
                said = await self._post(attempt, request._replace(key=near, content="Something else."))
            seq += 1
            attempt.expect(said == seq, "keys mixed", key=request.key, near=near, did=f"was told {said}")

    async def _answers_in_another_process(self, attempt: Attempt, other: SecondProcess) -> None:
        user_id, id, _ = await new_conversation(attempt)
        request = new_request(user_id, id)
        seq = await self._post(attempt, request)
        told = await other.call(*request)
        if told is None:
            return
        stored = await stored_as(attempt, request)
        did = (
            f"raised {told.raised}" if told.raised else "did not come to an end" if told.late
            else f"stored the message once more, as number {stored[-1]}" if len(stored) > 1
            else f"was told {told.value!r}, after {seq} here" if told.value != seq else ""
        )  # fmt: skip
        attempt.expect(not did, "another process", did=did)

    async def _replays(self, attempt: Attempt, request: Request, seq: int) -> None:
        before = await count_messages(attempt)
        with calling_it(attempt, "replay failed"):
            said = await attempt.call(sessions_of(attempt), *request)
        stored = await count_messages(attempt) - before
        attempt.expect(stored == 0, "stored again", count=stored + 1)
        same = said == seq and isinstance(said, int) and not isinstance(said, bool)
        attempt.expect(same, "another answer", first=seq, second=repr(said))

    async def _refuses(self, attempt: Attempt, request: Request, what: str) -> None:
        before, said = await count_messages(attempt), None
        try:
            said = await attempt.call(sessions_of(attempt), *request)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            error = wrong.__cause__
            if not isinstance(error, KeyReused):
                raise attempt.wrong("another error", what=what, error=kind_of(error)) from error
        else:
            stored = await count_messages(attempt) - before
            raise attempt.wrong("conflict stored" if stored else "conflict unnoticed", what=what, said=repr(said))
        attempt.expect(await count_messages(attempt) == before, "conflict stored", what=what)

    async def _tells_users_apart(self, attempt: Attempt) -> None:
        user_id, id, _ = await new_conversation(attempt)
        request = new_request(user_id, id)
        seq = await self._post(attempt, request)
        other_user, other_id, highest = await new_conversation(attempt)
        with calling_it(attempt, "users mixed", did="raised an error"):
            said = await self._post(attempt, request._replace(user_id=other_user, conversation_id=other_id))
        attempt.expect(said == highest + 1, "users mixed", did=f"was told {said}")
        stored = await attempt.value("SELECT max(seq) FROM messages WHERE conversation_id = :id", id=other_id)
        attempt.expect(stored == said, "users mixed", did="stored nothing")
        with calling_it(attempt, "users mixed", did="made the first one raise an error when it came again"):
            again = await attempt.call(sessions_of(attempt), *request)
        attempt.expect(
            again == seq, "users mixed", did=f"made the first one, told {seq}, be told {again} when it came again"
        )

    async def _gives_the_key_back(self, attempt: Attempt) -> None:
        user_id, id, highest = await new_conversation(attempt)
        request = new_request(user_id, id)
        await attempt.sql(REFUSE)
        try:
            said = await attempt.call(sessions_of(attempt), *request)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            refused = any(sqlstate_of(error) == CHECK for error in behind(wrong.__cause__))
            attempt.expect(refused, "another refusal", error=article(wrong.__cause__))
        else:
            raise attempt.wrong("error swallowed", said=repr(said))
        await attempt.sql(ACCEPT)
        did = await self._does_it_again(attempt, request, highest)
        attempt.expect(not did, "key burned", did=did)

    async def _does_it_again(self, attempt: Attempt, request: Request, highest: int) -> str:
        """Call it, now that nothing is in the way; what is wrong with what it did, in words."""

        async def script(race: Race) -> tuple[bool, Any]:
            race.run_freely()
            call = race.start(attempt.answer, sessions_of(attempt), *request)
            await asyncio.wait({call.task}, timeout=SECONDS)
            stopped = call.task.cancel()
            return stopped, None if stopped else call.task.result()

        try:
            stopped, said = await run_race(attempt, script)
        except Wrong as wrong:
            if wrong.mistake != "raised":
                raise
            return f"raised {kind_of(wrong.__cause__)}"
        if stopped:
            return f"had not come to an end after {SECONDS} seconds"
        stored = await stored_as(attempt, request)
        if len(stored) != 1:
            return f"left {len(stored)} messages"
        return "" if said == stored[0] == highest + 1 else f"returned {said!r}"

    async def _two_equal_ones(self, attempt: Attempt) -> None:
        user_id, id, _ = await new_conversation(attempt)
        request = new_request(user_id, id)
        with (
            calling_it(attempt, "failed at once"),
            calling_it(attempt, "not tried again", saying=SERIALIZATION),
            calling_it(attempt, "deadlock", saying=DEADLOCK),
        ):
            in_the_database, (first, second) = await in_turns(attempt, request, request)
        stored = await stored_as(attempt, request)
        attempt.expect(len(stored) == 1, "stored twice", count=len(stored))
        attempt.expect(first == second == stored[0], "told differently", first=repr(first), second=repr(second))
        attempt.expect(in_the_database, "locked in this process")

    async def _two_that_differ(self, attempt: Attempt) -> None:
        user_id, id, _ = await new_conversation(attempt)
        request = new_request(user_id, id)
        before = await count_messages(attempt)

        async def script(race: Race) -> list[Any]:
            race.start(attempt.answer, sessions_of(attempt), *request)
            race.start(attempt.answer, sessions_of(attempt), *request._replace(content="Or rather: why?"))
            await race.take_turns()
            return await race.outcomes()

        outcomes = await run_race(attempt, script)
        what = "content, in the same moment"
        stored = await count_messages(attempt) - before
        attempt.expect(stored < 2, "conflict stored", what=what)
        told = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        attempt.expect(len(told) < 2, "conflict unnoticed", what=what, said=repr(told[-1] if told else None))
        errors = [kind_of(outcome) for outcome in outcomes if not isinstance(outcome, int | KeyReused)]
        attempt.expect(not errors, "another error", what=what, error="".join(errors[:1]))

    async def _survives_a_kill(self, attempt: Attempt) -> None:
        """Whoever commits more than once is stopped after each COMMIT but the last, and asked again."""
        for number in range(1, COMMITS):
            user_id, id, highest = await new_conversation(attempt)
            request = new_request(user_id, id)

            async def script(race: Race, request: Request = request, number: int = number) -> bool:
                call = race.start(attempt.answer, sessions_of(attempt), *request)
                while await race.settle() and not call.ended and call.commits < number:
                    call.go_on()
                return call.task.cancel()

            if not await run_race(attempt, script):
                return
            did = await self._does_it_again(attempt, request, highest)
            attempt.expect(not did, "killed half-way", number=number, did=did)

    async def _post(self, attempt: Attempt, request: Request) -> int:
        seq = await attempt.call(sessions_of(attempt), *request)
        attempt.expect(seq is not None, "nothing returned")
        attempt.expect(isinstance(seq, int) and not isinstance(seq, bool), "not a number", kind=article(seq))
        return int(seq)
