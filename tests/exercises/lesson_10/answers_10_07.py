"""Answers to 10.7, a decision with reasons."""

from __future__ import annotations

from tests.exercises.written import Answers

ANSWERS = Answers("10.7")


def counting(measured, option, axis):
    rows = [row for row in measured if (row.option, row.axis) == (option, axis)]
    return max(rows, key=lambda row: row.rows, default=None)


def at_size(row, product):
    """The number at the product's size, or None where nobody knows it."""
    if row is None:
        return None
    if row.axis.endswith("GB"):
        return row.value * product.rows / row.rows
    return row.value if product.rows <= 10 * row.rows else None


def is_met(need, number):
    return number <= need.limit if need.at == "at most" else number >= need.limit


def states(measured, product, find=counting, size=at_size, met=is_met):
    """For each option its state, and its reason where it has one."""
    found = {}
    for option in dict.fromkeys(row.option for row in measured):
        missed, unknown = [], []
        for need in product.needs:
            row = find(measured, option, need.axis)
            number = size(row, product)
            if number is None:
                unknown.append((need.axis, None, None))
            elif not met(need, number):
                missed.append((need.axis, number, row.row))
        found[option] = ("fails", missed[-1]) if missed else ("open", unknown[0]) if unknown else ("meets", None)
    return found


def decided(measured, product, first=0, **ways):
    """What most of the answers have in common."""
    found = states(measured, product, **ways)
    good = [option for option, (state, _) in found.items() if state == "meets"]
    is_open = any(state == "open" for state, _ in found.values())
    choice = good[first] if good else "measure" if is_open else None
    return choice, {option: reason for option, (_, reason) in found.items() if reason}


@ANSWERS.right
def by_states(measured, product):
    return decided(measured, product)


@ANSWERS.right
async def the_last_that_meets(measured, product):
    choice, reasons = decided(measured, product, first=-1)
    return [choice, {o: (axis, number and round(number, 3), row) for o, (axis, number, row) in reasons.items()}]


@ANSWERS.right
def in_one_pass(measured, product):
    largest = {}
    for row in sorted(measured, key=lambda row: row.rows):
        largest[row.option, row.axis] = row
    choice, reasons, maybe = None, {}, False
    for option in {row.option for row in measured}:
        reason = None
        for axis, at, limit in product.needs:
            row = largest.get((option, axis))
            known = row is not None and ("GB" in axis or product.rows <= 10 * row.rows)
            if not known:
                reason = reason or (axis, None, None)
                continue
            number = row.value * (product.rows / row.rows if "GB" in axis else 1)
            if (number > limit) if at == "at most" else (number < limit):
                reason = (axis, number, row.row)
                break
        if reason is None:
            choice = option
        else:
            reasons[option] = reason
            maybe = maybe or reason[1] is None
    return choice or ("measure" if maybe else None), reasons


@ANSWERS.wrong("nothing returned")
def all_to_nobody(measured, product):
    decided(measured, product)


@ANSWERS.wrong("not a pair")
def the_choice_alone(measured, product):
    return decided(measured, product)[0] or "none"


@ANSWERS.wrong("no such choice")
def in_words(measured, product):
    choice, reasons = decided(measured, product)
    return choice or "none of them", reasons


@ANSWERS.wrong("against its numbers")
def the_quickest(measured, product):
    choice, reasons = decided(measured, product)
    quick = min((row for row in measured if row.axis == "ms"), key=lambda row: row.value, default=None)
    return (quick.option if quick and choice not in (None, "measure") else choice), reasons


@ANSWERS.wrong("against its numbers")
def sizes_do_not_grow(measured, product):
    def size(row, product):
        return None if at_size(row, product) is None else row.value

    return decided(measured, product, size=size)


@ANSWERS.wrong("against its numbers")
def the_smaller_measurement(measured, product):
    def smallest(measured, option, axis):
        rows = [row for row in measured if (row.option, row.axis) == (option, axis)]
        return min(rows, key=lambda row: row.rows, default=None)

    def size(row, product):
        return None if row is None else row.value * product.rows / row.rows if "GB" in row.axis else row.value

    return decided(measured, product, find=smallest, size=size)


@ANSWERS.wrong("nobody knows")
def what_is_missing_is_well(measured, product):
    found = states(measured, product)
    good = [option for option, (state, _) in found.items() if state != "fails"]
    reasons = {option: reason for option, (state, reason) in found.items() if reason}
    return (good[0] if good else None), reasons


@ANSWERS.wrong("nobody knows")
def however_many_rows(measured, product):
    def size(row, product):
        return None if row is None else row.value * product.rows / row.rows if "GB" in row.axis else row.value

    return decided(measured, product, size=size)


@ANSWERS.wrong("nobody knows")
def up_to_eleven_times(measured, product):
    def size(row, product):
        known = row is not None and product.rows <= 11 * row.rows
        return row.value if known and "GB" not in row.axis else at_size(row, product)

    return decided(measured, product, size=size)


@ANSWERS.wrong("measured for nothing")
def below_ten_times(measured, product):
    def size(row, product):
        unknown = row is not None and "GB" not in row.axis and product.rows >= 10 * row.rows
        return None if unknown else at_size(row, product)

    return decided(measured, product, size=size)


@ANSWERS.wrong("gave up")
def never_measures(measured, product):
    choice, reasons = decided(measured, product)
    return (None if choice == "measure" else choice), reasons


@ANSWERS.wrong("gave up")
def the_limit_is_outside(measured, product):
    def met(need, number):
        return number < need.limit if need.at == "at most" else number > need.limit

    return decided(measured, product, met=met)


@ANSWERS.wrong("measured for nothing")
def whenever_something_is_missing(measured, product):
    choice, reasons = decided(measured, product)
    holes = [row for row in measured if at_size(row, product) is None]
    axes = [(o, need.axis) for o in {row.option for row in measured} for need in product.needs]
    holes += [pair for pair in axes if counting(measured, *pair) is None]
    return ("measure" if holes else choice), reasons


@ANSWERS.wrong("no reason")
def only_the_choice(measured, product):
    return decided(measured, product)[0], {}


@ANSWERS.wrong("reason against a good one")
def all_others_are_refused(measured, product):
    choice, reasons = decided(measured, product)
    others = dict.fromkeys(row.option for row in measured if row.option != choice)
    slow = {option: ("ms", 9.0, measured[0].row) for option in others}
    return choice, slow | reasons


@ANSWERS.wrong("not a reason")
def in_a_sentence(measured, product):
    choice, reasons = decided(measured, product)
    return choice, {option: f"{reason[0]} is {reason[1]}" for option, reason in reasons.items()}


@ANSWERS.wrong("does not decide")
def the_first_need(measured, product):
    choice, reasons = decided(measured, product)
    axis = product.needs[0].axis
    for option in reasons:
        row = counting(measured, option, axis)
        number = at_size(row, product)
        if number is not None:
            reasons[option] = (axis, number, row.row)
    return choice, reasons


@ANSWERS.wrong("wrong row")
def any_row_of_it(measured, product):
    choice, reasons = decided(measured, product)
    first = {(row.option, row.axis): row.row for row in sorted(measured, key=lambda row: -row.rows)}
    return choice, {o: (a, n, (n is not None and first[o, a]) or None) for o, (a, n, _) in reasons.items()}


@ANSWERS.wrong("wrong number")
def as_measured(measured, product):
    choice, reasons = decided(measured, product)
    values = {row.row: row.value for row in measured}
    return choice, {o: (a, values.get(r), r) for o, (a, _, r) in reasons.items()}


@ANSWERS.wrong("left unknown")
def the_unknown_first(measured, product):
    choice, reasons = decided(measured, product)
    for option in reasons:
        for need in product.needs:
            if at_size(counting(measured, option, need.axis), product) is None:
                reasons[option] = (need.axis, None, None)
    return choice, reasons


@ANSWERS.wrong("a number for the unknown")
def zero_where_nothing_is(measured, product):
    choice, reasons = decided(measured, product)
    return choice, {o: (a, n or 0, r) for o, (a, n, r) in reasons.items()}
