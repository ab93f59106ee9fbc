"""Answers to J4, the days are more than the month."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Date, and_, cast, func, or_, select, text

from course_lib.models import Conversation, Message
from tests.exercises.written import Answers

ANSWERS = Answers("J4")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OF_USER = select(func.coalesce(func.sum(Message.token_count), 0)).join(Conversation)
IN_SQL = text("""
    SELECT CAST(day AS date), coalesce(sum(token_count), 0)
    FROM generate_series(CAST(:first AS timestamp), CAST(:last AS timestamp), '1 day') AS day
    LEFT JOIN (messages AS m JOIN conversations AS c ON c.id = conversation_id AND c.user_id = :user_id)
        ON m.created_at >= day AT TIME ZONE :zone AND m.created_at < (day + interval '1 day') AT TIME ZONE :zone
    GROUP BY day
""")


def days(first, last):
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def midnight(day, zone):
    return datetime.combine(day, time.min, tzinfo=ZoneInfo(zone))


async def by_ranges(session, user_id, ranges, owner=True):
    """``ranges``: conditions by day."""
    used = OF_USER.where(Conversation.user_id == user_id) if owner else OF_USER
    return {day: await session.scalar(used.where(*conditions)) for day, conditions in ranges.items()}


def half_open(begins, ends):
    return Message.created_at >= begins, Message.created_at < ends


@ANSWERS.right
async def grouped_by_the_date_there(session, user_id, first, last, zone):
    day = cast(func.timezone(zone, Message.created_at), Date).label("day")
    used = select(day, func.sum(Message.token_count)).join(Conversation).where(Conversation.user_id == user_id)
    used = used.where(*half_open(midnight(first, zone), midnight(last + DAY, zone)))
    return dict.fromkeys(days(first, last), 0) | dict((await session.execute(used.group_by(text("1")))).all())


@ANSWERS.right
async def in_sql(session, user_id, first, last, zone):
    values = {"first": datetime.combine(first, time.min), "last": datetime.combine(last, time.min), "zone": zone}
    return dict((await session.execute(IN_SQL, {"user_id": user_id, **values})).all())


@ANSWERS.right
async def in_python(session, user_id, first, last, zone):
    tokens = dict.fromkeys(days(first, last), 0)
    said = select(Message.created_at, Message.token_count).join(Conversation).where(Conversation.user_id == user_id)
    for moment, count in await session.execute(said):
        day = moment.astimezone(ZoneInfo(zone)).date()
        if day in tokens:
            tokens[day] += count
    return tokens


@ANSWERS.right
async def wall_clock_arithmetic(session, user_id, first, last, zone):
    begins, tokens = midnight(first, zone), {}
    for day in days(first, last):
        ends = begins + DAY  # of the wall clock, as long as it is not turned into UTC
        tokens |= await by_ranges(session, user_id, {day: half_open(begins, ends)})
        begins = ends
    return tokens


@ANSWERS.right
async def between_with_the_last_microsecond(session, user_id, first, last, zone):
    last_moment = timedelta(microseconds=1)
    ends = {day: midnight(day + DAY, zone).astimezone(UTC) - last_moment for day in days(first, last)}
    ranges = {day: [Message.created_at.between(midnight(day, zone), end)] for day, end in ends.items()}
    return await by_ranges(session, user_id, ranges)


@ANSWERS.wrong("wrong sum")
async def until_the_last_midnight(session, user_id, first, last, zone):
    found = await grouped_by_the_date_there(session, user_id, first, last, zone)
    return found | {last: 0}


@ANSWERS.wrong("counted twice")
async def midnights_alone(session, user_id, first, last, zone):
    ranges = {
        day: [Message.created_at.between(midnight(day, zone), midnight(day + DAY, zone))] for day in days(first, last)
    }
    return await by_ranges(session, user_id, ranges)


@ANSWERS.wrong("wrong after a change")
async def the_bounds_alone(session, user_id, first, last, zone):
    start = midnight(first, zone).astimezone(UTC)
    begins = {day: start + number * DAY for number, day in enumerate(days(first, last))}
    return await by_ranges(session, user_id, {day: half_open(begin, begin + DAY) for day, begin in begins.items()})


@ANSWERS.wrong("wrong after a change")
async def from_each_midnight_24_hours(session, user_id, first, last, zone):
    begins = {day: midnight(day, zone).astimezone(UTC) for day in days(first, last)}
    return await by_ranges(session, user_id, {day: half_open(begin, begin + DAY) for day, begin in begins.items()})


@ANSWERS.wrong("wrong after a change")
async def offset_of_the_first_day(session, user_id, first, last, zone):
    offset = midnight(first, zone).utcoffset()
    begins = {day: datetime.combine(day, time.min, tzinfo=UTC) - offset for day in days(first, last)}
    return await by_ranges(session, user_id, {day: half_open(begin, begin + DAY) for day, begin in begins.items()})


@ANSWERS.wrong("lost")
async def until_the_last_second(session, user_id, first, last, zone):
    end = time(23, 59, 59)
    ranges = {
        day: [Message.created_at.between(midnight(day, zone), datetime.combine(day, end, tzinfo=ZoneInfo(zone)))]
        for day in days(first, last)
    }
    return await by_ranges(session, user_id, ranges)


@ANSWERS.wrong("lost")
async def after_midnight(session, user_id, first, last, zone):
    ranges = {
        day: [Message.created_at > midnight(day, zone), Message.created_at < midnight(day + DAY, zone)]
        for day in days(first, last)
    }
    return await by_ranges(session, user_id, ranges)


@ANSWERS.wrong("another day")
async def midnight_to_the_day_before(session, user_id, first, last, zone):
    ranges = {
        day: [Message.created_at > midnight(day, zone), Message.created_at <= midnight(day + DAY, zone)]
        for day in days(first, last)
    }
    return await by_ranges(session, user_id, ranges)


@ANSWERS.wrong("another day")
async def days_of_utc(session, user_id, first, last, zone):
    ranges = {day: half_open(midnight(day, "UTC"), midnight(day + DAY, "UTC")) for day in days(first, last)}
    return await by_ranges(session, user_id, ranges)


@ANSWERS.wrong("another day")
async def days_of_the_server(session, user_id, first, last, zone):
    ranges = {day: [cast(Message.created_at, Date) == day] for day in days(first, last)}
    return await by_ranges(session, user_id, ranges)


@ANSWERS.wrong("outside")
async def all_that_is_older(session, user_id, first, last, zone):
    ranges = {day: half_open(midnight(day, zone), midnight(day + DAY, zone)) for day in days(first, last)}
    long_ago = Message.created_at < midnight(first - DAY, zone)
    ranges[first] = [or_(and_(*ranges[first]), long_ago)]
    return await by_ranges(session, user_id, ranges)


@ANSWERS.wrong("strangers")
async def of_everybody(session, user_id, first, last, zone):
    ranges = {day: half_open(midnight(day, zone), midnight(day + DAY, zone)) for day in days(first, last)}
    return await by_ranges(session, user_id, ranges, owner=False)


@ANSWERS.wrong("wrong sum")
async def both_sides_of_a_conversation(session, user_id, first, last, zone):
    found = await in_python(session, user_id, first, last, zone)
    return {day: 2 * tokens for day, tokens in found.items()}


@ANSWERS.wrong("wrong sum")
async def how_many_messages(session, user_id, first, last, zone):
    found = await in_python(session, user_id, first, last, zone)
    return {day: tokens.bit_count() << 31 for day, tokens in found.items()}


@ANSWERS.wrong("wrong days")
async def days_with_messages(session, user_id, first, last, zone):
    found = await in_python(session, user_id, first, last, zone)
    return {day: tokens for day, tokens in found.items() if tokens}


@ANSWERS.wrong("wrong days")
async def without_the_last(session, user_id, first, last, zone):
    return await in_python(session, user_id, first, last - DAY, zone)


@ANSWERS.wrong("not numbers")
async def none_on_a_quiet_day(session, user_id, first, last, zone):
    found = await in_python(session, user_id, first, last, zone)
    return {day: tokens or None for day, tokens in found.items()}


@ANSWERS.wrong("not a dict")
async def a_list(session, user_id, first, last, zone):
    return list((await in_python(session, user_id, first, last, zone)).items())
