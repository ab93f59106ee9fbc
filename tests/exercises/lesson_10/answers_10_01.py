"""Answers to 10.1, how large will it be."""

from __future__ import annotations

import math
from decimal import Decimal

from sqlalchemy import text

from course_lib.instruments import index_size, table_size
from tests.exercises.written import Answers

ANSWERS = Answers("10.1")
BYTES = {"vector": 4, "halfvec": 2, "bit": 1 / 8}
OPERATORS = {"vector": "vector_cosine_ops", "halfvec": "halfvec_ip_ops", "bit": "bit_hamming_ops"}
NUMBERS = "(SELECT array_agg(random() - 0.5) FROM generate_series(1, {n}) WHERE i > 0)::vector({n})"


def aligned(size):
    return -(-size // 8) * 8


def laid_out(rows, dimensions, kind, m):
    element = aligned(72 + 8 + math.ceil(dimensions * BYTES[kind])) + 4
    neighbours = aligned(4 + 2 * m * 6) + 4
    pairs = 8160 // (element + neighbours)
    return 8192 * (1 + (math.ceil(rows / pairs) if pairs else 2 * rows))


async def measured(session, dimensions, kind, m, rows=500, size="pg_relation_size('sample_index')"):
    """Bytes of an index over random vectors."""
    numbers = NUMBERS.format(n=dimensions)
    value = f"binary_quantize({numbers})" if kind == "bit" else numbers
    for statement in (
        "DROP TABLE IF EXISTS sample",
        f"CREATE TEMP TABLE sample (embedding {kind}({dimensions}))",
        f"INSERT INTO sample SELECT ({value})::{kind}({dimensions}) FROM generate_series(1, {rows}) AS i",
        f"CREATE INDEX sample_index ON sample USING hnsw (embedding {OPERATORS[kind]})"
        f" WITH (m = {m}, ef_construction = {max(4, 2 * m)})",
    ):
        await session.execute(text(statement))
    return await session.scalar(text(f"SELECT {size}"))


@ANSWERS.right
async def by_layout(session, rows, dimensions, kind, m):
    return laid_out(rows, dimensions, kind, m)


@ANSWERS.right
async def from_a_sample(session, rows, dimensions, kind, m):
    return await measured(session, dimensions, kind, m) * rows / 500


@ANSWERS.right
async def from_two_samples(session, rows, dimensions, kind, m):
    small, large = [await measured(session, dimensions, kind, m, count) for count in (150, 450)]
    return Decimal(large + (large - small) / 300 * (rows - 450))


@ANSWERS.right
async def by_the_instrument(session, rows, dimensions, kind, m):
    return index_size(rows, dimensions, kind, m=m).total


@ANSWERS.wrong("payload")
async def the_rule_of_slides(session, rows, dimensions, kind, m):
    return rows * dimensions * BYTES[kind]


@ANSWERS.wrong("off")
async def payload_and_links(session, rows, dimensions, kind, m):
    return rows * (dimensions * BYTES[kind] + 2 * m * 6 + 8)


@ANSWERS.wrong("type left out")
async def always_four_bytes(session, rows, dimensions, kind, m):
    return laid_out(rows, min(dimensions, 2000), "vector", m)


@ANSWERS.wrong("links left out")
async def always_sixteen(session, rows, dimensions, kind, m):
    return laid_out(rows, dimensions, kind, 16)


@ANSWERS.wrong("links left out")
async def a_sample_with_the_default(session, rows, dimensions, kind, m):
    return await measured(session, dimensions, kind, 16) * rows / 500


@ANSWERS.wrong("last step")
async def one_page_at_the_most(session, rows, dimensions, kind, m):
    return min(laid_out(rows, dimensions, kind, m), 8192 * rows)


@ANSWERS.wrong("whole table")
async def table_and_index(session, rows, dimensions, kind, m):
    return (table_size(rows, dimensions, kind) + index_size(rows, dimensions, kind, m=m)).total


@ANSWERS.wrong("whole table")
async def the_sample_with_its_table(session, rows, dimensions, kind, m):
    return await measured(session, dimensions, kind, m, size="pg_total_relation_size('sample')") * rows / 500


@ANSWERS.wrong("unit")
async def megabytes(session, rows, dimensions, kind, m):
    return laid_out(rows, dimensions, kind, m) / 2**20


@ANSWERS.wrong("unit")
async def pages(session, rows, dimensions, kind, m):
    return laid_out(rows, dimensions, kind, m) // 8192


@ANSWERS.wrong("not scaled")
async def the_sample_itself(session, rows, dimensions, kind, m):
    return await measured(session, dimensions, kind, m, 300)


@ANSWERS.wrong("off")
async def without_steps(session, rows, dimensions, kind, m):
    """Elements and neighbours end to end, as if pages had no end."""
    return rows * (aligned(80 + math.ceil(dimensions * BYTES[kind])) + aligned(4 + 12 * m) + 8)


@ANSWERS.wrong("not a number")
async def forgotten(session, rows, dimensions, kind, m):
    laid_out(rows, dimensions, kind, m)


@ANSWERS.wrong("not a number")
async def in_words(session, rows, dimensions, kind, m):
    return await session.scalar(text(f"SELECT pg_size_pretty({laid_out(rows, dimensions, kind, m)}::numeric)"))
