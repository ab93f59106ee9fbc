"""7.8: recall@k and the mean reciprocal rank."""

import asyncio
from bisect import bisect_right
from fractions import Fraction
from statistics import fmean

import numpy as np

from tests.exercises.written import Answers

ANSWERS = Answers("7.8")
KEPT = {}


def nearest_of(found):
    nearest = {}
    for id, distance in found:
        nearest[id] = min(distance, nearest.get(id, distance))
    return nearest


def places_of(found, right):
    nearest = nearest_of(found)
    return [sum(other <= nearest[id] for other in nearest.values()) for id in right if id in nearest]


def means(scores):
    return tuple(fmean(column) for column in zip(*scores, strict=True)) if scores else (None, None)


def score(places, right, k):
    return sum(place <= k for place in places) / len(right), 1 / min(places) if places else 0


async def scored(search, questions, k, places_of=places_of, score=score):
    return means([score(places_of(await search(q), right), right, k) for q, right in questions if right])


@ANSWERS.right
async def place_by_place(search, questions, k):
    recalls, ranks = [], []
    for question, right in questions:
        if not right:
            continue
        nearest = {}
        for id, distance in await search(question):
            nearest.setdefault(id, distance)  # nearest first
        order = sorted(nearest.values())
        places = [bisect_right(order, nearest[id]) for id in right if id in nearest]
        recalls.append(sum(place <= k for place in places) / len(right))
        ranks.append(1 / min(places, default=float("inf")))
    return (fmean(recalls), fmean(ranks)) if recalls else (None, None)


@ANSWERS.right
async def all_searches_at_once(search, questions, k):
    founds = await asyncio.gather(*(search(question) for question, _ in questions))
    scores = [
        score(places_of(found, right), right, k) for found, (_, right) in zip(founds, questions, strict=True) if right
    ]
    return list(means(scores))


@ANSWERS.right
async def with_numpy(search, questions, k):
    recall, ranks = [], []
    for question, right in questions:
        if right:
            nearest = nearest_of(await search(question))
            distances = np.array(list(nearest.values()))
            places = np.array([(distances <= nearest[id]).sum() for id in right if id in nearest])
            recall.append((places <= k).sum() / len(right))
            ranks.append(1 / places.min() if places.size else 0)
    if not ranks:
        return None, None
    return np.mean(recall), np.mean(ranks)


@ANSWERS.right
async def in_fractions(search, questions, k):
    recall, rank, count = Fraction(0), Fraction(0), 0
    for question, right in questions:
        if right:
            places = places_of(await search(question), right)
            recall += Fraction(sum(place <= k for place in places), len(right))
            rank += Fraction(1, min(places)) if places else 0
            count += 1
    return (recall / count, rank / count) if count else (None, None)


@ANSWERS.wrong("nothing returned")
async def returns_nothing(search, questions, k):
    await scored(search, questions, k)


@ANSWERS.wrong("not a pair")
async def returns_recall_alone(search, questions, k):
    return (await scored(search, questions, k))[0]


@ANSWERS.wrong("not a pair")
async def returns_a_score_for_each_question(search, questions, k):
    return [score(places_of(await search(q), right), right, k) for q, right in questions]


@ANSWERS.wrong("wrong question")
async def strips_the_question(search, questions, k):
    return await scored(search, [(question.strip(), right) for question, right in questions], k)


@ANSWERS.wrong("not searched")
async def takes_a_sample(search, questions, k):
    return await scored(search, questions[:1], k)


@ANSWERS.wrong("wrong value")
async def counts_from_zero(search, questions, k):
    return await scored(search, questions, k, lambda *a: [place - 1 or 0.5 for place in places_of(*a)])


@ANSWERS.wrong("wrong value")
async def leaves_the_last_one_out(search, questions, k):
    return await scored(search, questions, k - 1)


@ANSWERS.wrong("wrong value")
async def gives_the_mean_rank(search, questions, k):
    def rank(places, right, k):
        return score(places, right, k)[0], min(places, default=0)

    return await scored(search, questions, k, score=rank)


@ANSWERS.wrong("wrong value")
async def divides_by_k(search, questions, k):
    def precision(places, right, k):
        return sum(place <= k for place in places) / k, score(places, right, k)[1]

    return await scored(search, questions, k, score=precision)


@ANSWERS.wrong("beyond k")
async def cuts_the_list_for_both(search, questions, k):
    return await scored(search, questions, k, lambda *a: [place for place in places_of(*a) if place <= k])


@ANSWERS.wrong("beyond k")
async def recall_of_all(search, questions, k):
    return await scored(search, questions, 10_000)


@ANSWERS.wrong("several right")
async def any_hit_will_do(search, questions, k):
    def hit(places, right, k):
        return float(min(places, default=k + 1) <= k), score(places, right, k)[1]

    return await scored(search, questions, k, score=hit)


@ANSWERS.wrong("several right")
async def pools_the_questions(search, questions, k):
    hits, rights, ranks = 0, 0, []
    for question, right in questions:
        if right:
            places = places_of(await search(question), right)
            hits, rights = hits + sum(place <= k for place in places), rights + len(right)
            ranks.append(score(places, right, k)[1])
    return (hits / rights, fmean(ranks)) if ranks else (None, None)


@ANSWERS.wrong("several right")
async def mean_of_all_ranks(search, questions, k):
    def rank(places, right, k):
        return score(places, right, k)[0], fmean([1 / place for place in places]) if places else 0

    return await scored(search, questions, k, score=rank)


@ANSWERS.wrong("several right")
async def divides_by_what_was_found(search, questions, k):
    def share(places, right, k):
        return sum(place <= k for place in places) / max(1, len(places)), score(places, right, k)[1]

    return await scored(search, questions, k, score=share)


@ANSWERS.wrong("several right")
async def divides_by_at_most_k(search, questions, k):
    def share(places, right, k):
        return sum(place <= k for place in places) / min(k, len(right)), score(places, right, k)[1]

    return await scored(search, questions, k, score=share)


@ANSWERS.wrong("nothing found")
async def skips_a_question_without_places(search, questions, k):
    scores = []
    for question, right in questions:
        if places := places_of(await search(question), right):
            scores.append(score(places, right, k))
    return means(scores)


@ANSWERS.wrong("nothing found")
async def skips_an_empty_list(search, questions, k):
    scores = []
    for question, right in questions:
        if right and (found := await search(question)):
            scores.append(score(places_of(found, right), right, k))
    return means(scores)


@ANSWERS.wrong("nothing found")
async def takes_a_miss_for_the_next_place(search, questions, k):
    def rank(places, right, k):
        return score(places, right, k)[0], 1 / min(places, default=k + 1)

    return await scored(search, questions, k, score=rank)


@ANSWERS.wrong("ties")
async def goes_by_the_order_of_the_list(search, questions, k):
    def by_order(found, right):
        order = list(dict.fromkeys(id for id, _ in found))
        return [order.index(id) + 1 for id in right if id in order]

    return await scored(search, questions, k, by_order)


@ANSWERS.wrong("ties")
async def counts_only_nearer_ones(search, questions, k):
    def best(found, right):
        nearest = nearest_of(found)
        return [1 + sum(other < nearest[id] for other in nearest.values()) for id in right if id in nearest]

    return await scored(search, questions, k, best)


@ANSWERS.wrong("ties")
async def counts_different_distances(search, questions, k):
    def dense(found, right):
        nearest = nearest_of(found)
        return [sorted(set(nearest.values())).index(nearest[id]) + 1 for id in right if id in nearest]

    return await scored(search, questions, k, dense)


@ANSWERS.wrong("found twice")
async def counts_entries(search, questions, k):
    def entries(found, right):
        nearest = nearest_of(found)
        return [sum(other <= nearest[id] for _, other in found) for id in right if id in nearest]

    return await scored(search, questions, k, entries)


@ANSWERS.wrong("found twice")
async def counts_a_right_one_twice(search, questions, k):
    def twice(found, right):
        distances = list(nearest_of(found).values())
        return [sum(other <= distance for other in distances) for id, distance in found if id in right]

    return await scored(search, questions, k, twice)


@ANSWERS.wrong("found twice")
async def keeps_the_last_distance(search, questions, k):
    def last(found, right):
        distances = dict(found)
        return [sum(other <= distances[id] for other in distances.values()) for id in right if id in distances]

    return await scored(search, questions, k, last)


@ANSWERS.wrong("no right ones")
async def divides_by_zero(search, questions, k):
    return means([score(places_of(await search(question), right), right, k) for question, right in questions])


@ANSWERS.wrong("no right ones")
async def counts_it_as_a_miss(search, questions, k):
    scores = []
    for question, right in questions:
        places = places_of(await search(question), right)
        scores.append(score(places, right, k) if right else (0, 0))
    return means(scores)


@ANSWERS.wrong("no right ones")
async def counts_it_as_found(search, questions, k):
    scores = []
    for question, right in questions:
        places = places_of(await search(question), right)
        scores.append(score(places, right, k) if right else (1, 1))
    return means(scores)


@ANSWERS.wrong("asked twice")
async def keeps_questions_in_a_dict(search, questions, k):
    return await scored(search, list(dict(questions).items()), k)


@ANSWERS.wrong("nothing to score")
async def lets_the_mean_raise(search, questions, k):
    scores = [score(places_of(await search(q), right), right, k) for q, right in questions if right]
    return fmean(recall for recall, _ in scores), fmean(rank for _, rank in scores)


@ANSWERS.wrong("nothing to score")
async def calls_it_zero(search, questions, k):
    recall, rank = await scored(search, questions, k)
    return recall or 0.0, rank or 0.0


@ANSWERS.wrong("error swallowed")
async def takes_a_failure_for_nothing_found(search, questions, k):
    async def patient(question):
        try:
            return await search(question)
        except Exception:
            return []

    return await scored(patient, questions, k)


@ANSWERS.wrong("error swallowed")
async def raises_what_nobody_expects(search, questions, k):
    try:
        return await scored(search, questions, k)
    except Exception as error:
        raise ValueError("cannot be evaluated") from error


@ANSWERS.wrong("remembered")
async def keeps_what_was_found(search, questions, k):
    async def kept(question):
        if question not in KEPT:
            KEPT[question] = await search(question)
        else:
            await search(question)
        return KEPT[question]

    return await scored(kept, questions, k)
