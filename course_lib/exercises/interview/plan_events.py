"""M9: webhooks that come twice, late and two at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import randbelow
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from course_lib.judging.asking import calling_it
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.races import sessions_of
from course_lib.judging.staging import add_user
from course_lib.judging.turns import Race, run_race

BEGAN = datetime(2026, 5, 4, 10, tzinfo=UTC)
TABLE = """
    CREATE TABLE subscriptions (
        user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE, tier text NOT NULL, event_id bigint NOT NULL,
        changed_at timestamptz NOT NULL
    )
"""
KNOWN = """
    SELECT u.tier, s.tier, s.event_id, s.changed_at FROM users AS u LEFT JOIN subscriptions AS s ON s.user_id = u.id
    WHERE u.id = :id
"""
OTHERS = """
    SELECT (SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM users AS t WHERE id <> :id) AS users,
        (SELECT md5(string_agg(t::text, '' ORDER BY user_id)) FROM subscriptions AS t WHERE user_id <> :id)
        AS subscriptions
"""
ADD_USERS = """
    WITH new AS (
        INSERT INTO users (email, name, tier)
        SELECT n || '.' || md5(random()::text) || '@example.org', 'Somebody', 'pro' FROM generate_series(1, :count) AS n
        RETURNING id
    ), known AS (
        INSERT INTO subscriptions SELECT id, 'pro', 1, CAST(:moment AS timestamptz) FROM new LIMIT :known
    )
    SELECT id FROM new
"""
TURNS = (1, 2, 3, 4)
"""The first of two calls is stopped after so many statements and COMMITs, or where it ends."""


@dataclass(frozen=True)
class Event:
    """What the provider sends. ``second`` counts from 10 o'clock."""

    number: int
    tier: str
    second: int

    def of(self, user_id: UUID) -> dict[str, Any]:
        """As the answer is given it."""
        return {"id": self.number, "user_id": user_id, "tier": self.tier, "created": self.created}

    @property
    def created(self) -> datetime:
        return BEGAN + timedelta(seconds=self.second)

    @property
    def place(self) -> tuple[int, int]:
        """What tells which of two is later."""
        return self.second, self.number


class PlanEvents(Drill):
    """An upsert that is guarded by the wrong thing."""

    id = "M9"
    title = "The plan went back"
    answer = "apply_event"
    minutes = 15
    points = 2
    level = "mid"
    topics: ClassVar = ("sql", "idempotency", "concurrency")
    faults: ClassVar = ("went back", "two answers", "wrong return")
    hints: ClassVar = (
        "Write down three deliveries of one user, and let the first come again after the second. What does the code "
        "compare, and what would it have to compare?",
        "The condition is about order, not about being the same: (`changed_at`, `event_id`) as a pair. Then ask what "
        "the second statement does when the first has changed nothing.",
        "`DO UPDATE … WHERE (a.x, a.y) < (excluded.x, excluded.y)` changes no row for a late event, and RETURNING "
        "gives no row then. A SELECT before the write sees the same only if something is locked that is there already, "
        "such as the row of the user.",
    )
    why = (
        "A provider promises to deliver, not to deliver once or in order. So each event is compared with what was "
        "applied last, in the statement that writes: the upsert waits for the row, looks at it as it is then, and says "
        "by RETURNING whether it changed it. Whatever follows from the event hangs on that, in the same transaction."
    )
    follow_up = "An event is lost for good. How does the product find out, and how does it catch up?"
    mistakes: ClassVar = {
        "went back": "An event that is {seconds} seconds older than the one applied before it was delivered, and "
        "`subscriptions` holds it now. | That is what was reported. Which comparison tells late from new?",
        "same second": "Two events of the same second were delivered, the one with the greater id first, and "
        "`subscriptions` holds the other. | Where `created` is equal, the greater id is the later one.",
        "not applied": "A later event was delivered after an earlier one, and others do not see it in `subscriptions`. "
        "| The ids tell the order only within a second. And who commits?",
        "wrong record": "After an event `subscriptions` holds {found!r} as its `{column}`. "
        "| Tier, id and moment of the event itself.",
        "two answers": "After a delivery `subscriptions` says {there!r} and `users.tier` says {here!r}. "
        "| What happens to the user when the first statement changed nothing?",
        "wrong return": "For an event that {what} it returned {said!r}. "
        "| True if it was applied, False if it was late or a duplicate.",
        "not a bool": "`apply_event` returned {kind}. | True or False.",
        "others": "Rows of other users changed in `{table}`. | Is the user a condition of every statement?",
        "stale": "Two events of a user were delivered at the same time, and the earlier of them stayed. "
        "| Between looking and writing there is room for somebody else.",
        "collided": "Two events of a user were delivered at the same time, and one call raised {error}: {said}. "
        "| It is to wait, or to try again. The first two events of a user find no row to lock in `subscriptions`.",
        "both": "One event was delivered twice at the same time, and {count} of the calls returned True. "
        "| One of them applied it.",
    }  # fmt: skip

    async def judge(self, attempt: Attempt) -> None:
        await attempt.sql(TABLE)
        for first in (90, 1):
            await self._one_by_one(attempt, first)
        earlier, later = Event(11, "team", 20), Event(10, "free", 40)
        for pair in ((earlier, later), (later, earlier), (later, later)):
            await self._at_once(attempt, *pair)

    async def _one_by_one(self, attempt: Attempt, first: int) -> None:
        """Late ones, duplicates and equal times; ids that grow with time, and ids that do not."""
        base, user_id = 100 * randbelow(10_000), await add_user(attempt)
        begun, later, same = Event(base + first, "pro", 0), Event(base + 30, "team", 300), Event(base + 31, "free", 300)
        early, last = Event(base + 99, "free", -600), Event(base + 2, "pro", 360)
        others, applied = (await attempt.sql(OTHERS, id=user_id))[0], None
        for event in (begun, later, begun, same, later, same, early, last, same, last):
            said = await self._call(attempt, event.of(user_id))
            is_new = applied is None or event.place > applied.place
            await self._look(attempt, user_id, event, applied)
            attempt.expect(type(said) is bool, "not a bool", kind=article(said))
            what = "was applied" if is_new else "was late or a duplicate"
            attempt.expect(said is is_new, "wrong return", what=what, said=said)
            applied = event if is_new else applied
        now = (await attempt.sql(OTHERS, id=user_id))[0]
        for table, old, new in zip(("users", "subscriptions"), others, now, strict=True):
            attempt.expect(old == new, "others", table=table)

    async def _call(self, attempt: Attempt, event: dict[str, Any]) -> Any:
        said = await attempt.call(sessions_of(attempt), event)
        attempt.look_for_tasks()
        return said

    async def _look(self, attempt: Attempt, user_id: UUID, event: Event, before: Event | None) -> None:
        here, there, number, moment = (await attempt.sql(KNOWN, id=user_id))[0]
        wanted = event if before is None or event.place > before.place else before
        if number != wanted.number and before is not None and number == event.number:
            attempt.expect(event.second == before.second, "went back", seconds=before.second - event.second)
            raise attempt.wrong("same second")
        attempt.expect(wanted is not event or number == wanted.number, "not applied")
        for column, found, right in (
            ("event_id", number, wanted.number), ("tier", there, wanted.tier), ("changed_at", moment, wanted.created),
        ):  # fmt: skip
            attempt.expect(found == right, "wrong record", column=column, found=found)
        attempt.expect(here == there, "two answers", here=here, there=there)

    async def _at_once(self, attempt: Attempt, first: Event, second: Event) -> None:
        """Two calls of a user, half of the users with nothing applied before."""
        moment = BEGAN - timedelta(days=1)
        users = await attempt.sql(ADD_USERS, count=2 * len(TURNS), known=len(TURNS), moment=moment)
        for (user_id,), turns in zip(users, TURNS * 2, strict=True):
            said = await self._race(attempt, [first.of(user_id), second.of(user_id)], turns)
            here, there, number, _ = (await attempt.sql(KNOWN, id=user_id))[0]
            attempt.expect(number == max(first, second, key=lambda event: event.place).number, "stale")
            attempt.expect(here == there, "two answers", here=here, there=there)
            count = sum(value is True for value in said)
            attempt.expect(first is not second or count == 1, "both", count=count)

    async def _race(self, attempt: Attempt, events: Sequence[dict[str, Any]], turns: int) -> list[Any]:
        """The first call goes so many turns, then the second as far as it gets, then both to their end."""

        async def script(race: Race) -> list[Any]:
            await race.run_alone(race.start(attempt.answer, sessions_of(attempt), events[0]), turns)
            await race.run_alone(race.start(attempt.answer, sessions_of(attempt), events[1]))
            race.run_freely()
            return await race.results()

        with calling_it(attempt, "collided", DBAPIError):
            return await run_race(attempt, script)
