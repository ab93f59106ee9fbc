"""5.3: Little's law, headroom, and what the server has left."""

import math
from fractions import Fraction
from statistics import mean, median

from tests.exercises.written import Answers

ANSWERS = Answers("5.3")


def checked(size, overflow, processes, max_connections, reserved):
    if (size + overflow) * processes > max_connections - reserved:
        raise ValueError("the server has not so many")
    return size, overflow


@ANSWERS.right
def half_as_much_again(holds, per_second, processes, max_connections, reserved):
    wanted = max(1, math.ceil(1.5 * mean(holds) * per_second / processes))
    return checked(wanted, 0, processes, max_connections, reserved)


@ANSWERS.right
def headroom_as_overflow(holds, per_second, processes, max_connections, reserved):
    in_use = sum(holds) / len(holds) * per_second / processes
    size = max(1, math.ceil(in_use))
    overflow = max(0, math.ceil(1.5 * in_use) - size)
    return checked(size, overflow, processes, max_connections, reserved)


@ANSWERS.right
def twice_as_many_where_there_is_room(holds, per_second, processes, max_connections, reserved):
    in_use = mean(holds) * per_second / processes
    room = (max_connections - reserved) // processes
    least = max(1, math.ceil(1.5 * in_use))
    if least > room:
        raise ValueError(f"{least} are needed, and there is room for {room}")
    return least, min(room, max(2, math.ceil(2 * in_use))) - min(least, room) if room > least else 0


@ANSWERS.right
def as_many_as_there_may_be(holds, per_second, processes, max_connections, reserved):
    in_use = mean(holds) * per_second / processes
    room = (max_connections - reserved) // processes
    if room < max(1, 1.5 * in_use):
        raise ValueError
    return min(room, max(5, math.floor(4 * in_use))), 0


@ANSWERS.right
def exactly(holds, per_second, processes, max_connections, reserved):
    share = Fraction(per_second) / processes
    in_use = share * Fraction(str(round(sum(holds), 6))) / len(holds)
    total = max(1, math.ceil(in_use * Fraction(3, 2)))
    if total * processes > max_connections - reserved:
        raise ValueError("too little room")
    return [total, 0]


@ANSWERS.right
async def to_be_awaited(holds, per_second, processes, max_connections, reserved):
    return half_as_much_again(holds, per_second, processes, max_connections, reserved)


@ANSWERS.wrong("nothing returned")
def without_return(holds, per_second, processes, max_connections, reserved):
    half_as_much_again(holds, per_second, processes, max_connections, reserved)


@ANSWERS.wrong("not a pair")
def one_number(holds, per_second, processes, max_connections, reserved):
    return half_as_much_again(holds, per_second, processes, max_connections, reserved)[0]


@ANSWERS.wrong("not a pair")
def names(holds, per_second, processes, max_connections, reserved):
    size, overflow = half_as_much_again(holds, per_second, processes, max_connections, reserved)
    return {"pool_size": size, "max_overflow": overflow}


@ANSWERS.wrong("not whole")
def not_rounded(holds, per_second, processes, max_connections, reserved):
    return 1.5 * mean(holds) * per_second / processes, 0


@ANSWERS.wrong("without a bound")
def all_overflow(holds, per_second, processes, max_connections, reserved):
    return 0, math.ceil(1.5 * mean(holds) * per_second / processes)


@ANSWERS.wrong("without a bound")
def unlimited(holds, per_second, processes, max_connections, reserved):
    return max(1, math.ceil(1.5 * mean(holds) * per_second / processes)), -1


@ANSWERS.wrong("refused")
def compares_all_with_one(holds, per_second, processes, max_connections, reserved):
    in_use = mean(holds) * per_second
    wanted = math.ceil(1.5 * in_use)
    if wanted > (max_connections - reserved) / processes:
        raise ValueError("too little room")
    return half_as_much_again(holds, per_second, processes, max_connections, reserved)


@ANSWERS.wrong("refused")
def three_times_as_many(holds, per_second, processes, max_connections, reserved):
    return checked(max(1, math.ceil(3 * mean(holds) * per_second / processes)), 0, processes, max_connections, reserved)


@ANSWERS.wrong("too large")
def for_the_slowest(holds, per_second, processes, max_connections, reserved):
    return checked(math.ceil(max(holds) * per_second / processes), 0, processes, max_connections, reserved)


@ANSWERS.wrong("too small")
def by_the_median(holds, per_second, processes, max_connections, reserved):
    return checked(
        max(1, math.ceil(1.5 * median(holds) * per_second / processes)), 0, processes, max_connections, reserved
    )


@ANSWERS.wrong("too small")
def without_headroom(holds, per_second, processes, max_connections, reserved):
    return checked(math.ceil(mean(holds) * per_second / processes), 0, processes, max_connections, reserved)


@ANSWERS.wrong("too small")
def the_default(holds, per_second, processes, max_connections, reserved):
    return 5, 0


@ANSWERS.wrong("too large")
def for_all_processes(holds, per_second, processes, max_connections, reserved):
    in_use = mean(holds) * per_second
    return min(math.ceil(2 * in_use), (max_connections - reserved) // processes), 0


@ANSWERS.wrong("too large")
def all_there_are(holds, per_second, processes, max_connections, reserved):
    in_use = mean(holds) * per_second / processes
    if 1.5 * in_use > (max_connections - reserved) // processes:
        raise ValueError
    return math.ceil(in_use), (max_connections - reserved) // processes - math.ceil(in_use)


@ANSWERS.wrong("over the budget")
def forgets_what_is_reserved(holds, per_second, processes, max_connections, reserved):
    room = max_connections // processes
    in_use = mean(holds) * per_second / processes
    if room < max(1, 1.5 * in_use):
        raise ValueError
    return min(room, max(4, math.floor(4 * in_use))), 0


@ANSWERS.wrong("over the budget")
def the_overflow_comes_on_top(holds, per_second, processes, max_connections, reserved):
    size, _ = half_as_much_again(holds, per_second, processes, max_connections, reserved)
    return size, size


@ANSWERS.wrong("mostly overflow")
def keeps_one(holds, per_second, processes, max_connections, reserved):
    size, _ = half_as_much_again(holds, per_second, processes, max_connections, reserved)
    return 1, size - 1


@ANSWERS.wrong("not refused")
def takes_what_there_is(holds, per_second, processes, max_connections, reserved):
    room = (max_connections - reserved) // processes
    return max(1, min(room, math.ceil(1.5 * mean(holds) * per_second / processes))), 0


@ANSWERS.wrong("not refused")
def refuses_in_words(holds, per_second, processes, max_connections, reserved):
    try:
        return half_as_much_again(holds, per_second, processes, max_connections, reserved)
    except ValueError:
        return None


@ANSWERS.wrong("raised")
def takes_a_list_for_an_array(holds, per_second, processes, max_connections, reserved):
    return math.ceil(1.5 * holds.mean() * per_second / processes), 0


@ANSWERS.wrong("too large")
def requests_rounded_up(holds, per_second, processes, max_connections, reserved):
    share = math.ceil(per_second / processes)
    return checked(max(1, math.ceil(1.5 * mean(holds) * share)), 0, processes, max_connections, reserved)


@ANSWERS.wrong("too small")
def requests_rounded_down(holds, per_second, processes, max_connections, reserved):
    share = per_second // processes
    return checked(max(1, math.ceil(1.5 * mean(holds) * share)), 0, processes, max_connections, reserved)
