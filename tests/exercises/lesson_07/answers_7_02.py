"""Answers to 7.2, a polite buyer of vectors."""

from __future__ import annotations

import asyncio
import time

import openai

from course_lib.llm import EMBEDDING_MODEL
from tests.exercises.written import Answers

ANSWERS = Answers("7.2")


async def create(client, texts):
    answer = await client.embeddings.create(model=EMBEDDING_MODEL, input=texts)
    return [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]


def wait_of(error):
    return float(error.response.headers["retry-after"])


def parts_of(texts, batch):
    return [texts[start : start + batch] for start in range(0, len(texts), batch)]


async def in_a_group(calls, at_once):
    """All of them, at most so many under way; the first error as it is."""
    gate = asyncio.Semaphore(at_once)

    async def one(call):
        async with gate:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in calls]
    except ExceptionGroup as errors:
        error = errors.exceptions[0]
    else:
        return [vector for task in tasks for vector in task.result()]
    raise error


class Polite:
    """A moment for all; what differs between answers are its methods."""

    tries = 5

    def __init__(self, client):
        self.client = client
        self.until = 0.0

    async def quiet(self):
        left = self.until - time.monotonic()
        if left > 0:
            await asyncio.sleep(left)
            await self.quiet()

    def refused(self, error):
        self.until = max(self.until, time.monotonic() + wait_of(error))

    async def ask(self, part):
        number = 0
        while True:
            await self.quiet()
            try:
                return await create(self.client, part)
            except openai.RateLimitError as error:
                self.refused(error)
                number += 1
                if number == self.tries:
                    raise

    async def all(self, texts, batch, at_once):
        parts = parts_of(texts, batch)
        return await in_a_group([lambda part=part: self.ask(part) for part in parts], at_once)


@ANSWERS.right
async def a_moment_for_all(client, texts, batch, at_once):
    return await Polite(client).all(texts, batch, at_once)


@ANSWERS.right
async def workers_with_a_queue(client, texts, batch, at_once):
    vectors = [None] * len(texts)
    waiting = list(range(0, len(texts), batch))[::-1]
    polite = Polite(client)

    async def work():
        while waiting:
            start = waiting.pop()
            vectors[start : start + batch] = await polite.ask(texts[start : start + batch])

    workers = [asyncio.create_task(work()) for _ in range(min(at_once, len(waiting)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return vectors


@ANSWERS.wrong("waits for the slowest")
async def rounds(client, texts, batch, at_once):
    """A round of at most so many; after a refusal the longest wait, and those that were refused are in the next one."""
    vectors, waiting = {}, [(start, 0) for start in range(0, len(texts), batch)]
    while waiting:
        now, waiting = waiting[:at_once], waiting[at_once:]
        said = await together([create(client, texts[start : start + batch]) for start, _ in now])
        pause, again = 0.0, []
        for (start, tries), rows in zip(now, said, strict=True):
            if not isinstance(rows, Exception):
                vectors[start] = rows
                continue
            if tries == 4:
                raise rows
            pause = max(pause, wait_of(rows))
            again.append((start, tries + 1))
        waiting = again + waiting
        await asyncio.sleep(pause)
    return [vector for start in sorted(vectors) for vector in vectors[start]]


async def together(calls):
    """What they said, a refusal as a value; any other error cancels the rest."""

    async def one(call):
        try:
            return await call
        except openai.RateLimitError as error:
            return error

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in calls]
    except ExceptionGroup as errors:
        error = errors.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise error


@ANSWERS.wrong("asked for nothing")
async def one_request_at_least(client, texts, batch, at_once):
    return await Polite(client).all(texts, batch, at_once) if texts else await create(client, ["x"])


@ANSWERS.wrong("asked for nothing")
async def none_for_nothing(client, texts, batch, at_once):
    return await Polite(client).all(texts, batch, at_once) if texts else None


@ANSWERS.wrong("not vectors")
async def vectors_in_batches(client, texts, batch, at_once):
    vectors = await Polite(client).all(texts, batch, at_once)
    return parts_of(vectors, batch)


@ANSWERS.wrong("wrong vector")
async def as_the_data_comes(client, texts, batch, at_once):
    async def ask(part):
        answer = await client.embeddings.create(model=EMBEDDING_MODEL, input=part)
        return [item.embedding for item in answer.data]

    return await in_a_group([lambda part=part: ask(part) for part in parts_of(texts, batch)], at_once)


@ANSWERS.wrong("wrong vector")
async def as_the_answers_come(client, texts, batch, at_once):
    polite, vectors = Polite(client), []
    gate = asyncio.Semaphore(at_once)

    async def ask(part):
        async with gate:
            vectors.extend(await polite.ask(part))

    for task in asyncio.as_completed([ask(part) for part in parts_of(texts, batch)[::-1]]):
        await task
    return vectors


@ANSWERS.wrong("batch too large")
async def all_in_one(client, texts, batch, at_once):
    return await Polite(client).ask(texts) if texts else []


@ANSWERS.wrong("too many requests")
async def one_by_one(client, texts, batch, at_once):
    return await Polite(client).all(texts, 1, at_once)


@ANSWERS.wrong("too many at once")
async def all_at_once(client, texts, batch, at_once):
    return await Polite(client).all(texts, batch, 100)


@ANSWERS.wrong("too few at once")
async def one_after_the_other(client, texts, batch, at_once):
    polite = Polite(client)
    return [vector for part in parts_of(texts, batch) for vector in await polite.ask(part)]


@ANSWERS.wrong("came too early")
async def each_waits_for_itself(client, texts, batch, at_once):
    async def ask(part):
        return await Polite(client).ask(part)

    return await in_a_group([lambda part=part: ask(part) for part in parts_of(texts, batch)], at_once)


@ANSWERS.wrong("came too early")
async def the_last_refusal_counts(client, texts, batch, at_once):
    class Overwriting(Polite):
        def refused(self, error):
            self.until = time.monotonic() + wait_of(error)

    return await Overwriting(client).all(texts, batch, at_once)


@ANSWERS.wrong("came too early")
async def looks_once(client, texts, batch, at_once):
    class Once(Polite):
        async def quiet(self):
            await asyncio.sleep(self.until - time.monotonic())

    return await Once(client).all(texts, batch, at_once)


@ANSWERS.wrong("came too early")
async def by_the_sdk(client, texts, batch, at_once):
    patient = client.with_options(max_retries=4)
    return await in_a_group([lambda part=part: create(patient, part) for part in parts_of(texts, batch)], at_once)


@ANSWERS.wrong("came too early")
async def a_pause_of_its_own(client, texts, batch, at_once):
    class Doubling(Polite):
        def refused(self, error):
            self.until = max(self.until, time.monotonic() + 0.05)

    return await Doubling(client).all(texts, batch, at_once)


@ANSWERS.wrong("stood still")
async def sleeps_without_await(client, texts, batch, at_once):
    class Blocking(Polite):
        async def quiet(self):
            time.sleep(max(0.0, self.until - time.monotonic()))  # noqa: ASYNC251

    return await Blocking(client).all(texts, batch, at_once)


@ANSWERS.wrong("stood still")
async def looks_at_the_clock(client, texts, batch, at_once):
    class Looking(Polite):
        async def quiet(self):
            while time.monotonic() < self.until:
                pass

    return await Looking(client).all(texts, batch, at_once)


@ANSWERS.wrong("gave up")
async def does_not_try_again(client, texts, batch, at_once):
    polite = Polite(client)
    polite.tries = 1
    return await polite.all(texts, batch, at_once)


@ANSWERS.wrong("gave up")
async def three_tries(client, texts, batch, at_once):
    polite = Polite(client)
    polite.tries = 3
    return await polite.all(texts, batch, at_once)


@ANSWERS.wrong("gave up")
async def five_refusals_of_all(client, texts, batch, at_once):
    class Counting(Polite):
        count = 0

        def refused(self, error):
            super().refused(error)
            self.count += 1
            if self.count == 5:
                raise error

    return await Counting(client).all(texts, batch, at_once)


@ANSWERS.wrong("never gave up")
async def until_it_works(client, texts, batch, at_once):
    polite = Polite(client)
    polite.tries = 1000
    return await polite.all(texts, batch, at_once)


@ANSWERS.wrong("error swallowed")
async def without_what_failed(client, texts, batch, at_once):
    class Forgiving(Polite):
        async def ask(self, part):
            try:
                return await super().ask(part)
            except openai.OpenAIError:
                return []

    return await Forgiving(client).all(texts, batch, at_once)


@ANSWERS.wrong("another error")
async def in_its_group(client, texts, batch, at_once):
    polite, gate = Polite(client), asyncio.Semaphore(at_once)

    async def ask(part):
        async with gate:
            return await polite.ask(part)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(part)) for part in parts_of(texts, batch)]
    return [vector for task in tasks for vector in task.result()]


@ANSWERS.wrong("not vectors")
async def equal_ones_once(client, texts, batch, at_once):
    return await Polite(client).all(list(dict.fromkeys(texts)), batch, at_once)


@ANSWERS.right
async def equal_ones_bought_once(client, texts, batch, at_once):
    different = list(dict.fromkeys(texts))
    vectors = dict(zip(different, await Polite(client).all(different, batch, at_once), strict=True))
    return [vectors[one] for one in texts]


@ANSWERS.wrong("came too early")
async def in_whole_seconds(client, texts, batch, at_once):
    class Whole(Polite):
        def refused(self, error):
            self.until = max(self.until, time.monotonic() + int(wait_of(error)))

    return await Whole(client).all(texts, batch, at_once)


@ANSWERS.wrong("tried again")
async def tries_whatever_failed(client, texts, batch, at_once):
    class Stubborn(Polite):
        async def ask(self, part):
            try:
                return await super().ask(part)
            except openai.InternalServerError:
                return await super().ask(part)

    return await Stubborn(client).all(texts, batch, at_once)


@ANSWERS.wrong("went on")
async def to_the_end_first(client, texts, batch, at_once):
    polite, gate = Polite(client), asyncio.Semaphore(at_once)

    async def ask(part):
        async with gate:
            return await polite.ask(part)

    said = await asyncio.gather(*map(ask, parts_of(texts, batch)), return_exceptions=True)
    for rows in said:
        if isinstance(rows, Exception):
            raise rows
    return [vector for rows in said for vector in rows]


@ANSWERS.wrong("still at work")
async def left_behind(client, texts, batch, at_once):
    polite, gate = Polite(client), asyncio.Semaphore(at_once)

    async def ask(part):
        async with gate:
            return await polite.ask(part)

    return [vector for rows in await asyncio.gather(*map(ask, parts_of(texts, batch))) for vector in rows]


@ANSWERS.wrong("left under way")
async def does_not_wait_for_what_it_cancels(client, texts, batch, at_once):
    polite, gate = Polite(client), asyncio.Semaphore(at_once)

    async def ask(part):
        async with gate:
            return await polite.ask(part)

    tasks = [asyncio.create_task(ask(part)) for part in parts_of(texts, batch)]
    try:
        said = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return [vector for rows in said for vector in rows]
