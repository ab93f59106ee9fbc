"""J4: where a day begins and ends, and that it need not have 24 hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import sample
from typing import Any, ClassVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from course_lib.judging.asking import ask, expect_news
from course_lib.judging.attempt import Attempt
from course_lib.judging.exercise import Drill
from course_lib.judging.quoting import article
from course_lib.judging.rising import expect_errors_to_rise
from course_lib.judging.staging import add_rows, add_user
from course_lib.judging.threads import shuffled

Days = dict[date, int]
MICROSECOND = timedelta(microseconds=1)
QUIET = ("Asia/Kathmandu", date(2026, 2, 9)), ("America/Denver", date(2026, 2, 9))
"""Zones and first days of five that have 24 hours each."""
CHANGES = (
    ("Europe/Berlin", date(2026, 3, 28)),
    ("Europe/Berlin", date(2025, 10, 25)),
    ("America/New_York", date(2025, 11, 1)),
)
"""The clocks change on the second of five days."""
MOST = 30  # messages in a scene: each has a power of two of tokens, so that a sum tells which were counted


@dataclass(frozen=True)
class Said:
    """A message on stage. ``bit`` names it: it took 2 ** bit tokens."""

    moment: datetime
    bit: int
    mine: bool


@dataclass(frozen=True)
class Scene:
    """A user's messages around five days of a zone."""

    user_id: UUID
    zone: str
    first: date
    messages: list[Said]

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=place) for place in range(6)]

    def day_of(self, said: Said) -> date:
        return said.moment.astimezone(ZoneInfo(self.zone)).date()

    def local(self, said: Said) -> str:
        return said.moment.astimezone(ZoneInfo(self.zone)).strftime("%H:%M:%S.%f").removesuffix(".000000")


class TokensByDay(Drill):
    """Half-open ranges between midnights of the user's own clock."""

    id = "J4"
    title = "The days are more than the month"
    answer = "tokens_by_day"
    minutes = 10
    level = "junior"
    topics: ClassVar = ("sql", "modelling")
    faults: ClassVar = ("counted twice", "wrong after a change")
    hints: ClassVar = (
        "Follow one message that was written at midnight exactly. On which days is it counted? What does BETWEEN "
        "include?",
        "A day is from its midnight up to the next one, which is not part of it: `>=` and `<`. Then see how the next "
        "midnight is found: which clock says that it comes 24 hours later?",
        "Make each midnight from its date, in the user's zone: `datetime.combine(day, time.min, tzinfo=…)`, for the "
        "day and for the day after. Or let PostgreSQL say the date: `created_at AT TIME ZONE 'Europe/Berlin'`.",
    )
    why = (
        "Days that follow each other share one moment, and it may belong to one of them only: a range that includes "
        "its start and leaves out its end can be laid side by side without gap or overlap. And a day is a matter of "
        "the calendar: from midnight to midnight of a place it has 23, 24 or 25 hours, so its end is made from the "
        "next date and not by adding hours in UTC."
    )
    follow_up = (
        "The condition `(created_at AT TIME ZONE zone)::date = day` is right as well. What does it do to an index on "
        "`created_at`?"
    )
    mistakes: ClassVar = {
        "not a dict": "`tokens_by_day` returned {kind}, and a dict was asked for. | `{{date: int}}`",
        "wrong days": "Asked for {first} to {last}, it returned {count} days that were not asked for or lack. "
        "| Each from the first to the last, both included, as a `date`, also without a message.",
        "not numbers": "For {day} it returned {kind}. | An int, which is 0 on a day without messages.",
        "counted twice": "A message of {local} on {day} by the user's clock was counted on {count} days. "
        "| That is what was reported. Which day does a moment belong to that ends one and begins the next?",
        "wrong after a change": "In a week in which the clocks of {zone} change, a message of {local} on {day} by the "
        "user's clock was {counted}. "
        "| How many hours has such a day?",
        "lost": "A message of {local} on {day} by the user's clock was counted on no day. "
        "| The last moment before midnight still belongs to the day, and so does the first.",
        "another day": "A message of {local} on {day} by the clock of {zone} was counted on {counted}. "
        "| By which clock do the days of this user begin and end?",
        "outside": "A message of {day} was counted, and the days were {first} to {last}. | Neither before nor after.",
        "strangers": "A message of another user was counted. | Is the owner a condition?",
        "wrong sum": "For {day} it returned {said}, which is no sum of messages that are there. "
        "| Each counts once, with its `token_count`.",
    }

    async def judge(self, attempt: Attempt) -> None:
        seen: Any = None
        for place, (zone, first) in enumerate(QUIET + CHANGES):
            scene = await _stage(attempt, zone, first)
            found = await self._look_at(attempt, scene, changes=place >= len(QUIET))
            seen = seen or (scene, found)
        scene, found = seen
        await attempt.sql(
            "UPDATE messages SET token_count = 0 WHERE conversation_id IN "
            "(SELECT id FROM conversations WHERE user_id = :mine)", mine=scene.user_id,
        )  # fmt: skip
        empty = await self._ask(attempt, scene)
        expect_news(attempt, found, empty)
        nobodys = Scene(uuid4(), scene.zone, scene.first, [])
        await self._ask(attempt, nobodys)
        await expect_errors_to_rise(attempt, nobodys.user_id, scene.first, scene.days[-1], scene.zone)

    async def _ask(self, attempt: Attempt, scene: Scene) -> Days:
        first, last = scene.days[0], scene.days[-1]
        found = await ask(attempt, scene.user_id, first, last, scene.zone)
        attempt.expect(isinstance(found, Mapping), "not a dict", kind=article(found))
        wrong = set(found) ^ set(scene.days)
        odd = wrong | {day for day in found if type(day) is not date}
        attempt.expect(not odd, "wrong days", first=f"{first}", last=f"{last}", count=len(odd))
        for day, tokens in found.items():
            attempt.expect(type(tokens) is int, "not numbers", day=f"{day}", kind=article(tokens))
        return dict(found)

    async def _look_at(self, attempt: Attempt, scene: Scene, changes: bool) -> Days:
        found = await self._ask(attempt, scene)
        wanted = _sums(scene)
        if found == wanted:
            return found
        times = {tokens / wanted[day] if wanted[day] else tokens for day, tokens in found.items()} - {0}
        attempt.expect(len(times) != 1, "wrong sum", day=f"{scene.first}", said=found[scene.first])
        counted = {said: [day for day, tokens in found.items() if tokens >> said.bit & 1] for said in scene.messages}
        attempt.expect(not any(days for said, days in counted.items() if not said.mine), "strangers")
        read = Counter({day: sum(2**said.bit for said in counted if day in counted[said]) for day in scene.days})
        odd = next((day for day in scene.days if read[day] != found[day]), None)
        attempt.expect(odd is None, "wrong sum", day=f"{odd}", said=found.get(odd or scene.first))
        mine = {said: days for said, days in counted.items() if said.mine}
        ordered = sorted(mine.items(), key=lambda item: (len(item[1]) < 2, not item[1], item[0].moment))
        said, days = next(item for item in ordered if item[1] != [d for d in scene.days if d == scene.day_of(item[0])])
        raise self._misplaced(attempt, scene, said, days, changes)

    def _misplaced(self, attempt: Attempt, scene: Scene, said: Said, days: list[date], changes: bool) -> Exception:
        day = scene.day_of(said)
        told = {"local": scene.local(said), "day": f"{day}", "zone": scene.zone}
        if changes:
            counted = f"counted on {' and '.join(map(str, days))}" if days else "not counted"
            return attempt.wrong("wrong after a change", counted=counted, **told)
        if len(days) > 1:
            return attempt.wrong("counted twice", count=len(days), **told)
        if not days:
            return attempt.wrong("lost", **told)
        if day not in scene.days and days[0] not in (day - timedelta(days=1), day + timedelta(days=1)):
            return attempt.wrong("outside", day=f"{day}", first=f"{scene.first}", last=f"{scene.days[-1]}")
        return attempt.wrong("another day", counted=f"{days[0]}", **told)


def _sums(scene: Scene) -> Days:
    days = dict.fromkeys(scene.days, 0)
    for said in scene.messages:
        if said.mine and (day := scene.day_of(said)) in days:
            days[day] += 2**said.bit
    return days


def _moments(zone: str, first: date) -> list[datetime]:
    """Around each midnight; the last day but one has nothing at all."""
    midnights = [datetime.combine(first + timedelta(days=n), time.min, tzinfo=ZoneInfo(zone)) for n in range(7)]
    starts = [midnight.astimezone(UTC) for midnight in midnights]
    moments = [start + offset for start in starts[:4] for offset in (-MICROSECOND, timedelta(), timedelta(minutes=20))]
    moments += [start + timedelta(hours=12) for start in starts[:3]]
    moments += [starts[place + 1] - timedelta(minutes=40) for place in range(3)]
    return [*moments, starts[5] + timedelta(hours=12), starts[0] - timedelta(days=40), starts[6]]


async def _stage(attempt: Attempt, zone: str, first: date) -> Scene:
    mine, stranger = await add_user(attempt), await add_user(attempt)
    moments = _moments(zone, first)
    theirs = moments[2::3]
    bits = sample(range(MOST), MOST)
    messages = [Said(moment, bits.pop(), True) for moment in moments]
    messages += [Said(moment, bits.pop(), False) for moment in theirs]
    threads = {True: [uuid4(), uuid4()], False: [uuid4()]}
    owners = {id: mine if own else stranger for own, ids in threads.items() for id in ids}
    await add_rows(
        attempt, "conversations",
        [{"id": id, "user_id": owner, "title": "Nightly", "created_at": first - timedelta(days=50),
          "updated_at": first + timedelta(days=50)} for id, owner in owners.items()],
    )  # fmt: skip
    rows = [
        {"id": uuid4(), "conversation_id": threads[said.mine][said.bit % len(threads[said.mine])],
         "seq": said.bit + 1, "role": ("user", "assistant", "tool")[said.bit % 3], "content": "again",
         "status": ("complete", "aborted")[said.bit % 2], "token_count": 2**said.bit, "meta": {},
         "created_at": said.moment}
        for said in messages
    ]  # fmt: skip
    await add_rows(attempt, "messages", shuffled(rows))
    return Scene(mine, zone, first, messages)
