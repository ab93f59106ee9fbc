"""7.5: an answer with sources that were given, from passages that fit a budget."""

import re

import openai

from course_lib.llm import CHAT_MODEL
from tests.exercises.written import Answers

ANSWERS = Answers("7.5")
CITED = re.compile(r'"([^"]*)"(?:\s*\[(\d+)\])?|\[(\d+)\]')


def fitting(passages, budget):
    given = {}
    for id, text, tokens in passages:
        if tokens <= budget:
            given[len(given) + 1] = (id, text)
            budget -= tokens
    return given


def prompt_of(question, given):
    texts = [f"[{number}] {text}" for number, (_, text) in given.items()]
    return "\n\n".join([*texts, f"Question: {question}"])


async def reply_to(client, prompt):
    message = {"role": "user", "content": prompt}
    response = await client.chat.completions.create(model=CHAT_MODEL, messages=[message])
    return response.choices[0].message.content


def plain(text):
    return " ".join(text.split())


def sources_of(text, given):
    sources = {}
    for quotation, quoted, alone in CITED.findall(text):
        number = int(quoted or alone or 0)
        if number in given:
            id, passage = given[number]
            quotations = sources.setdefault(id, [])
            if plain(quotation) and plain(quotation) in plain(passage):
                quotations.append(quotation)
    return list(sources.items())


async def answered(client, question, passages, budget, *, fitting=fitting, prompt_of=prompt_of, sources_of=sources_of):
    if not (given := fitting(passages, budget)):
        return None, []
    text = await reply_to(client, prompt_of(question, given))
    return text, sources_of(text, given)


@ANSWERS.right
async def read_by_one_pattern(client, question, passages, budget):
    return await answered(client, question, passages, budget)


@ANSWERS.right
async def sign_by_sign(client, question, passages, budget):
    given = fitting(passages, budget)
    if not given:
        return (None, ())
    messages = [
        {"role": "system", "content": "Answer from the passages."},
        {"role": "user", "content": [{"type": "text", "text": prompt_of(question, given)}]},
    ]
    stream = await client.chat.completions.create(model=CHAT_MODEL, messages=messages, stream=True)
    text = ""
    async for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
    sources, quotation = [], ""
    for place, part in enumerate(text.split('"')):
        if place % 2:
            quotation = plain(part)
            continue
        for match in re.finditer(r"\[(\d+)\]", part):
            right_behind = not part[: match.start()].strip()
            if passage := given.get(int(match[1])):
                source = next((s for s in sources if s[0] == passage[0]), None)
                if source is None:
                    source = (passage[0], [])
                    sources.append(source)
                if right_behind and quotation and quotation in plain(passage[1]):
                    source[1].append(quotation)
    return text, sources


@ANSWERS.right
async def in_two_messages(client, question, passages, budget):
    kept, left = [], budget
    for passage in passages:
        if passage[2] <= left:
            kept.append(passage)
            left -= passage[2]
    if not kept:
        return None, []
    context = "\n".join(f"<passage>\n[{n}] {text}\n</passage>" for n, (_, text, _) in enumerate(kept, start=1))
    said = await client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "system", "content": context}, {"role": "user", "content": question}],
    )
    text = said.choices[0].message.content
    found = {}
    for match in CITED.finditer(text):
        number = int(match[2] or match[3] or 0)
        if not 1 <= number <= len(kept):
            continue
        id, passage, _ = kept[number - 1]
        found.setdefault(id, [])
        words = (match[1] or "").split()
        if words and re.search(r"\s+".join(map(re.escape, words)), passage):
            found[id].append(" ".join(words))
    return [text, [[id, quotations] for id, quotations in found.items()]]


@ANSWERS.wrong("not asked")
async def keeps_below_the_budget(client, question, passages, budget):
    if sum(tokens for *_, tokens in passages) > budget:
        return None, []
    return await answered(client, question, passages, budget)


@ANSWERS.wrong("left out too many")
async def leaves_no_token(client, question, passages, budget):
    return await answered(client, question, passages, budget - 1)


@ANSWERS.wrong("left out too many")
async def stops_at_the_first_too_long(client, question, passages, budget):
    def prefix(passages, budget):
        given = {}
        for number, (id, text, tokens) in enumerate(passages, 1):
            budget -= tokens
            if budget < 0:
                break
            given[number] = (id, text)
        return given

    return await answered(client, question, passages, budget, fitting=prefix)


@ANSWERS.wrong("left out too many")
async def cuts_the_prompt(client, question, passages, budget):
    def all_but_the_end(question, given):
        return prompt_of(question, {n: (id, text[:60]) for n, (id, text) in given.items()})

    return await answered(client, question, passages, budget, prompt_of=all_but_the_end)


@ANSWERS.wrong("asked too often")
async def asks_about_each_passage(client, question, passages, budget):
    given = fitting(passages, budget)
    if not given:
        return None, []
    texts = [await reply_to(client, prompt_of(question, given)) for _ in given]
    return texts[0], sources_of(texts[0], given)


@ANSWERS.wrong("asked too often")
async def asks_again(client, question, passages, budget):
    text, sources = await answered(client, question, passages, budget)
    return (text, sources) if sources else await answered(client, question, passages, budget)


@ANSWERS.wrong("asked in vain")
async def asks_without_passages(client, question, passages, budget):
    given = fitting(passages, budget)
    text = await reply_to(client, prompt_of(question, given))
    return text, sources_of(text, given)


@ANSWERS.wrong("asked in vain")
async def gives_the_nearest_in_any_case(client, question, passages, budget):
    def at_least_one(passages, budget):
        return fitting(passages, budget) or {1: passages[0][:2]}

    return await answered(client, question, passages, budget, fitting=at_least_one)


@ANSWERS.wrong("asked in vain")
async def returns_none_alone(client, question, passages, budget):
    if not fitting(passages, budget):
        return None
    return await answered(client, question, passages, budget)


@ANSWERS.wrong("question missing")
async def sends_the_passages_alone(client, question, passages, budget):
    return await answered(client, question, passages, budget, prompt_of=lambda _, given: prompt_of("", given))


@ANSWERS.wrong("question missing")
async def shows_the_question(client, question, passages, budget):
    return await answered(client, repr(question), passages, budget)


@ANSWERS.wrong("above the budget")
async def gives_all(client, question, passages, budget):
    if not fitting(passages, budget):
        return None, []
    return await answered(client, question, passages, 10**9)


@ANSWERS.wrong("above the budget")
async def compares_each_with_the_whole_budget(client, question, passages, budget):
    def each(passages, budget):
        kept = [passage[:2] for passage in passages if passage[2] <= budget]
        return dict(enumerate(kept, 1))

    return await answered(client, question, passages, budget, fitting=each)


@ANSWERS.wrong("numbered otherwise")
async def numbers_from_zero(client, question, passages, budget):
    def from_zero(passages, budget):
        return {number - 1: passage for number, passage in fitting(passages, budget).items()}

    return await answered(client, question, passages, budget, fitting=from_zero)


@ANSWERS.wrong("numbered otherwise")
async def numbers_before_leaving_out(client, question, passages, budget):
    def by_place(passages, budget):
        given = {}
        for place, (id, text, tokens) in enumerate(passages, 1):
            if tokens <= budget:
                given[place] = (id, text)
                budget -= tokens
        return given

    return await answered(client, question, passages, budget, fitting=by_place)


@ANSWERS.wrong("numbered otherwise")
async def farthest_first(client, question, passages, budget):
    def turned(passages, budget):
        return dict(enumerate(reversed(fitting(passages, budget).values()), 1))

    return await answered(client, question, passages, budget, fitting=turned)


@ANSWERS.wrong("nothing returned")
async def takes_an_empty_reply_for_none(client, question, passages, budget):
    text, sources = await answered(client, question, passages, budget)
    return (text, sources) if text or text is None else None


@ANSWERS.wrong("nothing returned")
async def forgets_to_return(client, question, passages, budget):
    await answered(client, question, passages, budget)


@ANSWERS.wrong("not a pair")
async def returns_the_text_alone(client, question, passages, budget):
    return (await answered(client, question, passages, budget))[0]


@ANSWERS.wrong("not a pair")
async def returns_ids_alone(client, question, passages, budget):
    text, sources = await answered(client, question, passages, budget)
    return text, [id for id, _ in sources]


@ANSWERS.wrong("wrong text")
async def takes_the_numbers_out(client, question, passages, budget):
    text, sources = await answered(client, question, passages, budget)
    return text and re.sub(r"\s*\[\d+\]", "", text), sources


@ANSWERS.wrong("wrong sources")
async def all_that_were_given(client, question, passages, budget):
    text, sources = await answered(client, question, passages, budget)
    return text, [(id, dict(sources).get(id, [])) for id, _ in fitting(passages, budget).values()]


@ANSWERS.wrong("wrong sources")
async def in_the_order_of_the_passages(client, question, passages, budget):
    text, sources = await answered(client, question, passages, budget)
    ids = [id for id, *_ in passages]
    return text, sorted(sources, key=lambda source: ids.index(source[0]))


@ANSWERS.wrong("wrong sources")
async def only_with_a_quotation(client, question, passages, budget):
    text, sources = await answered(client, question, passages, budget)
    return text, [source for source in sources if source[1]]


@ANSWERS.wrong("not given")
async def goes_by_the_list(client, question, passages, budget):
    def by_place(text, given):
        sources = {}
        for quotation, quoted, alone in CITED.findall(text):
            if number := quoted or alone:
                id, passage, _ = passages[int(number) - 1]
                sources.setdefault(id, []).extend([quotation] if quotation and quotation in passage else [])
        return list(sources.items())

    return await answered(client, question, passages, budget, sources_of=by_place)


@ANSWERS.wrong("not given")
async def trusts_every_number(client, question, passages, budget):
    def trusting(text, given):
        numbers = {int(quoted or alone): None for _, quoted, alone in CITED.findall(text) if quoted or alone}
        found = dict(sources_of(text, given))
        return [(id, found.get(id, [])) for id in (given[number][0] for number in numbers)]

    return await answered(client, question, passages, budget, sources_of=trusting)


@ANSWERS.wrong("not given")
async def takes_zero_for_the_last(client, question, passages, budget):
    def wraps_around(text, given):
        kept = list(given.values())
        around = {number - len(kept): kept[number - 1] for number in given} | given
        sources = {}
        for quotation, quoted, alone in CITED.findall(text):
            if (quoted or alone) and int(quoted or alone) in around:
                id, passage = around[int(quoted or alone)]
                good = plain(quotation) and plain(quotation) in plain(passage)
                sources.setdefault(id, []).extend([quotation] if good else [])
        return list(sources.items())

    return await answered(client, question, passages, budget, sources_of=wraps_around)


@ANSWERS.wrong("not given")
async def takes_the_nearest_number(client, question, passages, budget):
    def clamped(text, given):
        return sources_of(re.sub(r"\[(\d+)\]", lambda m: f"[{min(int(m[1]), len(given))}]", text), given)

    return await answered(client, question, passages, budget, sources_of=clamped)


@ANSWERS.wrong("cited twice")
async def a_source_for_each_citation(client, question, passages, budget):
    def each(text, given):
        sources = []
        for match in CITED.finditer(text):
            number = int(match[2] or match[3] or 0)
            if number in given:
                sources += sources_of(match[0], given)
        return sources

    return await answered(client, question, passages, budget, sources_of=each)


@ANSWERS.wrong("cited twice")
async def keeps_the_first_quotation(client, question, passages, budget):
    text, sources = await answered(client, question, passages, budget)
    return text, [(id, quotations[:1]) for id, quotations in sources]


@ANSWERS.wrong("number in a quotation")
async def looks_for_numbers_alone(client, question, passages, budget):
    def anywhere(text, given):
        quotations = dict(sources_of(text, given))
        numbers = dict.fromkeys(int(number) for number in re.findall(r"\[(\d+)\]", text))
        ids = [given[number][0] for number in numbers if number in given]
        return [(id, quotations.get(id, [])) for id in ids]

    return await answered(client, question, passages, budget, sources_of=anywhere)


@ANSWERS.wrong("invented")
async def believes_quotations(client, question, passages, budget):
    def believing(text, given):
        sources = {}
        for quotation, quoted, alone in CITED.findall(text):
            if (number := int(quoted or alone or 0)) in given:
                sources.setdefault(given[number][0], []).extend([quotation] if quotation else [])
        return list(sources.items())

    return await answered(client, question, passages, budget, sources_of=believing)


@ANSWERS.wrong("invented")
async def for_every_number_in_a_row(client, question, passages, budget):
    def in_rows(text, given):
        sources = {}
        for quotation, row, alone in re.findall(r'"([^"]*)"((?:\s*\[\d+\])*)|(\[\d+\])', text):
            for number in map(int, re.findall(r"\d+", row or alone)):
                if number in given:
                    id, passage = given[number]
                    good = plain(quotation) and plain(quotation) in plain(passage)
                    sources.setdefault(id, []).extend([quotation] if good else [])
        return list(sources.items())

    return await answered(client, question, passages, budget, sources_of=in_rows)


@ANSWERS.wrong("invented")
async def finds_them_anywhere(client, question, passages, budget):
    def anywhere(text, given):
        everything = plain(" ".join(passage for _, passage in given.values()))
        sources = {}
        for quotation, quoted, alone in CITED.findall(text):
            if (number := int(quoted or alone or 0)) in given:
                good = plain(quotation) and plain(quotation) in everything
                sources.setdefault(given[number][0], []).extend([quotation] if good else [])
        return list(sources.items())

    return await answered(client, question, passages, budget, sources_of=anywhere)


@ANSWERS.wrong("invented")
async def finds_the_empty_one(client, question, passages, budget):
    def empty_too(text, given):
        sources = {}
        for match in CITED.finditer(text):
            if (number := int(match[2] or match[3] or 0)) in given:
                id, passage = given[number]
                good = match[1] is not None and plain(match[1]) in plain(passage)
                sources.setdefault(id, []).extend([match[1]] if good else [])
        return list(sources.items())

    return await answered(client, question, passages, budget, sources_of=empty_too)


@ANSWERS.wrong("invented")
async def from_anywhere_before_the_number(client, question, passages, budget):
    def lasting(text, given):
        sources, last = {}, ""
        for match in CITED.finditer(text):
            last = match[1] or ("" if match[1] == "" else last)
            if (number := int(match[2] or match[3] or 0)) in given:
                id, passage = given[number]
                good = plain(last) and plain(last) in plain(passage)
                sources.setdefault(id, []).extend([last] if good and last not in sources.get(id, []) else [])
                last = "" if match[2] else last
        return list(sources.items())

    return await answered(client, question, passages, budget, sources_of=lasting)


@ANSWERS.wrong("quotation lost")
async def compares_white_space_too(client, question, passages, budget):
    def exact(text, given):
        found = {id: passage for id, passage in given.values()}
        sources = sources_of(text, given)
        return [(id, [q for q in quotations if q in found[id]]) for id, quotations in sources]

    return await answered(client, question, passages, budget, sources_of=exact)


@ANSWERS.wrong("quotation lost")
async def keeps_no_quotation(client, question, passages, budget):
    text, sources = await answered(client, question, passages, budget)
    return text, [(id, []) for id, _ in sources]


@ANSWERS.wrong("error swallowed")
async def says_that_there_is_nothing(client, question, passages, budget):
    try:
        return await answered(client, question, passages, budget)
    except openai.OpenAIError:
        return None, []


@ANSWERS.wrong("error swallowed")
async def raises_another_error(client, question, passages, budget):
    try:
        return await answered(client, question, passages, budget)
    except openai.APIStatusError as error:
        raise RuntimeError("no answer") from error


@ANSWERS.wrong("raised")
async def without_a_role(client, question, passages, budget):
    """Which the API demands."""
    if not (given := fitting(passages, budget)):
        return None, []
    messages = [{"content": prompt_of(question, given)}]
    response = await client.chat.completions.create(model=CHAT_MODEL, messages=messages)
    text = response.choices[0].message.content
    return text, sources_of(text, given)
